"""Hooks of the documentation site."""

from __future__ import annotations

import re
from typing import Any

ROLE = re.compile(r":(?:class|func|meth|data|mod):(?=<code>)")
NOT_RUN = re.compile(r"^<!-- not run: ([^\n]*) -->\n((?:<!-- [^\n]* -->\n)*```.*?^```\n)", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Commands that no test runs have the reason below them."""
    return NOT_RUN.sub(r"\2\n<small>Not run by the tests: \1.</small>\n", markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Docstrings name things as ``:class:`FAM```; pages show the name alone."""
    return ROLE.sub("", html)
