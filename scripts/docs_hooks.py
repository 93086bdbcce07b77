"""Hooks of the documentation site."""

from __future__ import annotations

import re
from typing import Any

ROLE = re.compile(r":(?:class|func|meth|data|mod):(?=<code>)")


def on_page_content(html: str, **_: Any) -> str:
    """Docstrings name things as ``:class:`FAM```; pages show the name alone."""
    return ROLE.sub("", html)
