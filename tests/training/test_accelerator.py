"""Where training runs."""

from __future__ import annotations

import pytest

from famcli.training.accelerator import make_accelerator
from famcli_models.errors import ConfigError, FamError


def test_one_run_after_another() -> None:
    """Within one Python each run has the precision it asks for, whatever ran before."""
    for precision, theirs in (("fp32", "no"), ("bf16", "bf16"), ("fp32", "no")):
        accelerator = make_accelerator("cpu", precision)
        assert accelerator.device.type == "cpu"
        assert accelerator.mixed_precision == theirs
        assert (accelerator.num_processes, accelerator.is_main_process) == (1, True)


def test_half_precision_needs_a_gpu() -> None:
    """fp16 on the CPU is refused with what works there, and the next run is not harmed by it."""
    with pytest.raises(ConfigError, match="bf16"):
        make_accelerator("cpu", "fp16")
    assert make_accelerator("cpu").mixed_precision == "no"


def test_an_unknown_device() -> None:
    """A device that is not there is an error of ours."""
    with pytest.raises(FamError, match="cuda:99|tpu"):
        make_accelerator("tpu")
