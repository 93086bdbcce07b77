"""Where the work is done."""

from __future__ import annotations

import torch

from famcli_models.errors import ConfigError


def pick_device(name: str = "auto") -> torch.device:
    """A device by name: ``auto`` is CUDA, else MPS, else the CPU.

    Raises:
        ConfigError: The device is not there or the name is unknown.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind = name.split(":")[0]
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    try:
        device = torch.device(name)
    except RuntimeError as error:
        msg = f"unknown device '{name}'; use auto, cpu, cuda, cuda:N or mps"
        raise ConfigError(msg) from error
    if not present.get(kind) or (kind == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        msg = f"device '{name}' is not available here; use --device auto or cpu"
        raise ConfigError(msg)
    return device
