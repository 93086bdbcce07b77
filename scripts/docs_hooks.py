"""Hooks of the documentation site."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROLE = re.compile(r":(?:class|func|meth|data|mod):(?=<code>)")
NOT_RUN = re.compile(r"^<!-- not run: ([^\n]*) -->\n((?:<!-- [^\n]* -->\n)*```.*?^```\n)", re.MULTILINE | re.DOTALL)
NOTEBOOK = re.compile(r"^<!-- (\w+\.ipynb) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Commands that no test runs have the reason below them; the name of a notebook is replaced by its cells."""
    folder = Path(page.file.abs_src_path).parent
    markdown = NOT_RUN.sub(r"\2\n<small>Not run by the tests: \1.</small>\n", markdown)
    return NOTEBOOK.sub(lambda found: "\n\n".join([*_cells(folder / found[1])][1:]), markdown)


def _cells(path: Path) -> Iterator[str]:
    """The title of a notebook, then text, code, and what it printed and drew, as Markdown."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield from source.split("\n\n", 1)
            continue
        yield f"```python\n{source}\n```"
        for output in cell["outputs"]:
            if "text" in output:
                yield f"```text\n{''.join(output['text']).strip()}\n```"
            else:
                yield f"![What the cell draws](data:image/jpeg;base64,{output['data']['image/jpeg'].strip()})"


def on_page_content(html: str, **_: Any) -> str:
    """Docstrings name things as ``:class:`FAM```; pages show the name alone."""
    return ROLE.sub("", html)
