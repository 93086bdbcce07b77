"""Where training runs: one process or many, which device, which precision.

Hugging Face Accelerate does the work; whoever launches the processes (``torchrun``, ``accelerate launch``)
says how many there are.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from famcli.inference.torch_engine import pick_device
from famcli_models.errors import ConfigError

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # ours: Accelerate's


def make_accelerator(device: str = "auto", precision: str = "fp32") -> Accelerator:
    """The processes and devices of this run.

    Args:
        device: See :func:`famcli.inference.torch_engine.pick_device`; several processes take one GPU each, or ``cpu``.
        precision: ``fp32``, ``bf16`` or ``fp16``.

    Raises:
        ConfigError: The device cannot compute in the precision.
    """
    where = pick_device(device)
    if where.type == "cuda" and where.index is not None:
        torch.cuda.set_device(where)
    # One process may train several times, with another precision each time.
    AcceleratorState._reset_state()  # noqa: SLF001  (Accelerate has no public way)
    try:
        accelerator = Accelerator(mixed_precision=PRECISIONS[precision], cpu=where.type == "cpu")
    except (ValueError, NotImplementedError) as error:
        msg = f"cannot train on '{where}' in {precision}: {error}"
        raise ConfigError(msg) from error
    if precision == "fp16" and accelerator.device.type == "cpu":
        msg = "fp16 needs a GPU; on the CPU use precision = 'bf16' or 'fp32'"
        raise ConfigError(msg)
    return accelerator


def leave(accelerator: Accelerator) -> None:
    """End together with the other processes; one that just exits may abort while it still talks to them."""
    accelerator.wait_for_everyone()
    accelerator.end_training()
