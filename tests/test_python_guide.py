"""scripts/python_guide.py: what runs the code of the page "From Python"."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

CODE = "from pathlib import Path\n\nprint(len(list(Path().glob('*.jpg'))), 0.25)\n"
PAGE = f"One\n\n```python\n{CODE}```\n\n```text\n```\nEnd\n"


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    """The script as a module; scripts import each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent.parent / "scripts")
        return load_script("python_guide.py")


def test_outputs_are_those_of_the_code(script: ModuleType, tmp_path: Path) -> None:
    """Each block of text is replaced by what the code before it prints beside the photographs, however often."""
    new = script.run(PAGE, tmp_path)
    assert new == PAGE.replace("```text\n", "```text\n3 0.25\n")
    assert script.run(new, tmp_path) == new


@pytest.mark.parametrize(
    ("new", "alike"),
    [
        ("cat 0.87 [34. 389.]", True),
        ("cat 0.86 [35. 388.]", True),  # another machine
        ("cat 0.81 [34. 389.]", False),  # another model
        ("cat 0.87 [34. 395.]", False),
        ("dog 0.87 [34. 389.]", False),
        ("cat 0.87 [34.]", False),
    ],
)
def test_what_counts_as_current(script: ModuleType, new: str, alike: bool) -> None:
    """Numbers may differ by rounding and corners by two pixels, words may not."""
    assert script.same("cat 0.87 [34. 389.]", new) is alike
