"""Which device a name means."""

from __future__ import annotations

import torch

from lbam_fast.config import ConfigError


def resolve_device(name: str | torch.device) -> torch.device:
    """The device of that name; "auto" is the GPU where there is one, else the CPU. Raises ConfigError if it cannot be used."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("it holds no values")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"the device {str(name)!r} cannot be used: {reason}; use auto, cpu or cuda") from None
    return device
