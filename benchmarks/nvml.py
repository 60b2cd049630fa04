"""What NVIDIA's management library says of a GPU while it works: clocks, power, temperature, memory, energy."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import threading
from importlib.util import find_spec
from types import TracebackType
from typing import Any

import numpy as np


def unavailable() -> str:
    """Why there is nothing to sample; empty where there is."""
    if find_spec("pynvml") is None:
        return "nvidia-ml-py is not installed"
    import pynvml  # type: ignore[import-untyped]

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return f"NVML: {error}"
    return ""


def driver() -> str:
    """The driver's version; empty without one."""
    if unavailable():
        return ""
    import pynvml

    return str(pynvml.nvmlSystemGetDriverVersion())


class Sampler:
    """Samples one GPU from a thread while the ``with`` block runs.

    >>> with Sampler() as sampler:
    ...     work()
    >>> sampler.summary()   # {"sm_mhz": median, "memory_mhz", "watts", "celsius", "memory_bytes": largest, "joules": in all}

    Where NVML is unavailable the summary is ``{"nvml": reason}``. A figure that the card does not give is left out.
    """

    def __init__(self, index: int = 0, period: float = 0.02) -> None:
        self._index, self._period = index, period
        self._reason = unavailable()
        self._samples: dict[str, list[float]] = {}
        self._stop = threading.Event()
        self._joules: float | None = None

    def __enter__(self) -> Sampler:
        if not self._reason:
            import pynvml

            self._handle = pynvml.nvmlDeviceGetHandleByIndex(self._index)
            self._joules = self._energy()
            self._thread = threading.Thread(target=self._sample, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._reason:
            self._stop.set()
            self._thread.join()
            end = self._energy()
            self._joules = None if end is None or self._joules is None else end - self._joules

    def summary(self) -> dict[str, Any]:
        """The figures in SI units but for clocks in MHz."""
        if self._reason:
            return {"nvml": self._reason}
        pick = {"memory_bytes": np.max}
        figures: dict[str, Any] = {name: float(pick.get(name, np.median)(values)) for name, values in self._samples.items()}
        return figures if self._joules is None else {**figures, "joules": self._joules}

    def _energy(self) -> float | None:
        import pynvml

        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3
        except pynvml.NVMLError:
            return None

    def _sample(self) -> None:
        import pynvml as n

        readings = {
            "sm_mhz": lambda: n.nvmlDeviceGetClockInfo(self._handle, n.NVML_CLOCK_SM),
            "memory_mhz": lambda: n.nvmlDeviceGetClockInfo(self._handle, n.NVML_CLOCK_MEM),
            "watts": lambda: n.nvmlDeviceGetPowerUsage(self._handle) / 1e3,
            "celsius": lambda: n.nvmlDeviceGetTemperature(self._handle, n.NVML_TEMPERATURE_GPU),
            "memory_bytes": lambda: n.nvmlDeviceGetMemoryInfo(self._handle).used,
        }
        while True:
            for name, read in list(readings.items()):
                try:
                    self._samples.setdefault(name, []).append(float(read()))
                except n.NVMLError:
                    self._samples.pop(name, None)
                    del readings[name]
            if self._stop.wait(self._period):
                return
