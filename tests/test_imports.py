"""What importing costs and gives."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

HEAVY = ("torch", "timm", "cv2", "numpy", "huggingface_hub", "requests")


def fresh(code: str) -> str:
    """Standard output of code in a new interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["famcli", "famcli_models", "famcli.cli.app"])
def test_imports_are_cheap(module: str) -> None:
    """Importing the packages and the command line loads no torch and nothing else that takes long."""
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert fresh(code) == "[]"


def test_a_report_needs_no_torch() -> None:
    """Pages are made without torch, which takes most of a gigabyte and more seconds than a small report."""
    assert fresh("import sys, famcli.report.page; print('torch' in sys.modules)") == "False"


def test_help_needs_no_torch() -> None:
    """Help for the program and for a command is printed without torch."""
    code = (
        "import sys\nfrom famcli.cli.app import app\n"
        "for a in (['--help'], ['predict', '--help'], ['data', '--help'], ['data', 'download', '--help']):\n"
        "    try: app(a)\n"
        "    except SystemExit: pass\n"
        "print('LOADED', [m for m in ('torch', 'numpy') if m in sys.modules])"
    )
    assert fresh(code).endswith("LOADED []")


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


def test_the_model_stands_alone() -> None:
    """famcli_models works without the toolkit: building and running a model loads no famcli, typer or rich."""
    code = (
        "import sys, torch\nfrom famcli_models import FAM, FAMConfig\n"
        "FAM(FAMConfig(backbone='test_efficientnet', num_classes=2)).eval()(torch.zeros(1, 3, 64, 64))\n"
        "print([m for m in ('famcli', 'typer') if m in sys.modules])"
    )
    assert fresh(code) == "[]"
