"""A checkpoint to be damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from famcli_models.checkpoint import CONFIG_FILE


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that a test may damage."""
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


@pytest.fixture
def change(folder: Path) -> Callable[..., None]:
    """A function that sets fields of the config of :func:`folder`; those of ``model`` are merged into it."""

    def edit(**fields: Any) -> None:
        config = json.loads((folder / CONFIG_FILE).read_text())
        if isinstance(fields.get("model"), dict):
            fields["model"] = config["model"] | fields["model"]
        (folder / CONFIG_FILE).write_text(json.dumps(config | fields))

    return edit
