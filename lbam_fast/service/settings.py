"""Every setting of the service, once: the flags of ``lbam-fast serve`` and the environment variables are made from this list."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import urlsplit

from lbam_fast.service.errors import ServiceError

ENVIRONMENT = "LBAM_SERVE_"
MEBI = 1 << 20


def _setting(default: Any, help: str, *, low: float | None = None, high: float | None = None) -> Any:
    return field(default=default, metadata={"help": help, "low": low, "high": high})


@dataclass(frozen=True)
class Settings:
    """Where the service listens, what it accepts and what it computes with. Raises ServiceError for what cannot be."""

    host: str = _setting("127.0.0.1", "Address to listen on; by default this machine alone. 0.0.0.0: all that reach it.")
    port: int = _setting(8000, "Port to listen on; 0: a free one, which is named.", low=0, high=65535)
    api_key: str | None = _setting(
        None, "Ask for this key, as Authorization: Bearer KEY. Better in the environment, where other users cannot list it."
    )
    hosts: str = _setting(
        "",
        "Host names that requests may ask for beside localhost, separated by commas; by default none where it listens on this "
        "machine alone, against pages that point their own name here, and else any.",
    )
    cors_origins: str = _setting("", "Origins of other pages that may call, separated by commas, such as https://example.org.")

    max_body: int = _setting(64 * MEBI, "Bytes of a request; more are answered with 413.", low=1)
    max_pixels: int = _setting(50_000_000, "Pixels of a picture and of a mask; more are answered with 422.", low=1)
    queue: int = _setting(64, "Requests at a time; one more is answered with 503.", low=1)
    queue_bytes: int = _setting(512 * MEBI, "Bytes of all requests at a time; what is beyond is answered with 503.", low=1)
    connections: int = _setting(512, "Connections at a time; one more is answered with 503.", low=1)
    seconds: float = _setting(120.0, "Seconds from a request's arrival to its answer; then it is answered with 503.", low=0)
    upload_seconds: float = _setting(60.0, "Seconds that the upload of a request may take; then it is answered with 408.", low=0)
    header_seconds: float = _setting(10.0, "Seconds until a connection has sent its request line and headers.", low=0)
    keep_alive: float = _setting(15.0, "Seconds that a connection may idle after an answer.", low=0)
    stop_seconds: float = _setting(300.0, "Seconds that a stop waits for what was accepted.", low=0)

    batch: int = _setting(4, "Pictures of one padded size that go through the network together, at most.", low=1, high=256)
    batch_wait: float = _setting(
        0.01, "Seconds that a picture waits for others to join it, at most; not where none is on its way.", low=0, high=10
    )
    device: str = _setting("auto", "auto: all GPUs, else the CPU; cpu, cuda, cuda:1, or several separated by commas.")
    dtype: str = _setting("float32", "float32, bfloat16, float16 or float64.")
    weights: str | None = _setting(None, "Weights file; by default the network in the package.")
    preset: str | None = _setting(None, "The network that the weights belong to, where several fit.")
    threads: int | None = _setting(None, "CPU threads of the network; all by default.", low=1)
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "What is logged, as a line of JSON each.")

    def __post_init__(self) -> None:
        for each in fields(self):
            value, low, high = getattr(self, each.name), each.metadata["low"], each.metadata["high"]
            if value is None or low is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= (high or float("inf")):
                reach = f"from {low} to {high}" if high else f"{low} or more"
                raise ServiceError(f"{each.name} is {value!r}, expected a number, {reach}")
        if len(set(self.devices)) < len(self.devices):
            raise ServiceError(f"device is {self.device!r}, which names one twice; expected each device once")
        if self.api_key == "":
            raise ServiceError("api_key is empty: expected a key, or none to let everybody in")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable() and " " not in self.api_key):
            raise ServiceError("api_key holds spaces or characters beyond ASCII, which the header Authorization cannot carry")

    @property
    def origins(self) -> list[str]:
        return [origin.rstrip("/") for origin in _listed(self.cors_origins)]

    @property
    def devices(self) -> list[str]:
        return _listed(self.device)

    def answers_to(self, host: str) -> bool:
        """Whether requests with this header Host are for this service."""
        if not self.hosts and not is_local(self.host):
            return True
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return is_local(name) or name in _listed(self.hosts.lower())


def is_local(name: str) -> bool:
    """Whether a host name or an address is that of this machine as it sees itself."""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]
