"""What the service counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
STAGES = ("upload", "decode", "wait", "fill", "encode")


class Metrics:
    """Of one application; ``requests`` and ``held`` are asked for when they are read."""

    def __init__(self, requests: Callable[[], float], held: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self.answers = Counter("lbam_answers", "Answers, by path and status.", ["path", "status"], registry=self._registry)
        self.seconds = Histogram("lbam_request_seconds", "Seconds of filled requests.", buckets=SECONDS, registry=self._registry)
        self.stages = Histogram(
            "lbam_stage_seconds", "Seconds of each stage of filled requests.", ["stage"], buckets=SECONDS, registry=self._registry
        )
        self.batches = Histogram(
            "lbam_batch_pictures",
            "Pictures that go through the network together.",
            buckets=(1, 2, 3, 4, 8, 16, 32),
            registry=self._registry,
        )
        self.pixels = Counter("lbam_pixels", "Pixels of filled pictures.", registry=self._registry)
        Gauge("lbam_requests", "Requests at the moment.", registry=self._registry).set_function(requests)
        Gauge("lbam_request_bytes", "Bytes of these requests.", registry=self._registry).set_function(held)

    def text(self) -> bytes:
        return generate_latest(self._registry)
