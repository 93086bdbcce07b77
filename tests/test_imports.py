"""What importing costs and gives."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

HEAVY = ("torch", "timm", "cv2", "numpy", "huggingface_hub", "requests")
HELP = """
from famcli.cli.app import app
for a in (["--help"], ["predict", "--help"], ["data", "--help"], ["data", "download", "--help"]):
    try: app(a)
    except SystemExit: pass
"""
MODEL = """
import torch
from famcli_models import FAM, FAMConfig
FAM(FAMConfig(backbone="test_efficientnet", num_classes=2)).eval()(torch.zeros(1, 3, 64, 64))
"""


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import famcli", HEAVY),
        ("import famcli_models", HEAVY),
        ("import famcli.cli.app", HEAVY),
        ("import famcli_models.preprocess", ("torch",)),  # an engine without PyTorch can use the same resize
        ("import famcli.hub.listing", ("torch",)),  # fam models
        ("import famcli.report.page", ("torch",)),  # takes most of a gigabyte and more seconds than a small report
        ("import famcli.training.resume, famcli.training.catalog", ("torch",)),  # a finished run, fam recipes
        (HELP, ("torch", "numpy")),
        (MODEL, ("famcli", "typer")),  # the model stands alone
    ],
    ids=["famcli", "famcli_models", "command line", "resizing", "models", "page", "finished run", "help", "model"],
)
def test_what_is_not_loaded(code: str, absent: tuple[str, ...]) -> None:
    """In a new interpreter each of these loads no more than it needs."""
    code += f"\nimport sys\nprint('LOADED', [m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("LOADED []")


@pytest.mark.parametrize("package", ["famcli", "famcli_models"])
def test_public_names(package: str) -> None:
    """dir() shows the public names, sorted __all__ and nothing else, and each of them resolves."""
    module = importlib.import_module(package)
    assert dir(module) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("package", ["famcli", "famcli_models"])
def test_other_names_are_attribute_errors(package: str) -> None:
    """A name that is not there is the usual AttributeError, which names the package."""
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        importlib.import_module(package).nothing  # noqa: B018
