"""Every Python block of the README and of the documentation is typed code that a strict checker accepts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from famcli_models import METHODS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_python_blocks_pass_strict_type_checks(tmp_path: Path) -> None:
    """mypy --strict accepts each block as a file of its own."""
    pytest.importorskip("mypy")
    for page in PAGES:
        for number, code in enumerate(BLOCK.findall(page.read_text(encoding="utf-8"))):
            (tmp_path / f"{page.stem.replace('-', '_')}_{number}.py").write_text(code, encoding="utf-8")
    files = sorted(str(path) for path in tmp_path.iterdir())
    assert len(files) >= 5
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), *files]
    # Not in the checkout: the installed packages are what a user has.
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_api_page_names_public_things_alone() -> None:
    """The page of the Python API documents what the packages export, and the submodules that it says are public."""
    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    named = re.findall(r"^::: ([\w.]+)", page, re.MULTILINE)
    said = page[: page.index("Everything else may change")]
    allowed = {"famcli", "famcli_models", *re.findall(r"`(famcli(?:_models)?\.[\w.]+)`", said)}
    assert len(allowed) <= 8
    assert {name.rpartition(".")[0] for name in named} <= allowed


def test_settings_and_methods_of_every_method() -> None:
    """The page of the settings has the config of each method, and the page of the methods says what each is."""
    settings, methods = (
        (ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("reference/settings.md", "concepts/rivals.md")
    )
    for name, method in METHODS.items():
        assert f'`method = "{name}"`' in settings
        assert f".{method.config_class.__name__}\n" in settings
        assert f"| `{name}` |" in methods
