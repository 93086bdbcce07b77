"""The folder of a training run: its files by name, each of them whole at any time."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from famcli.training.monitor import Epoch
from famcli.training.recipe import Recipe, load_recipe
from famcli_models.checkpoint import CONFIG_FILE, WEIGHTS_FILE
from famcli_models.errors import ConfigError, DataError
from famcli_models.files import write_atomic

RUNS = Path("runs")
EVENTS = "events.out.tfevents.*"  # what TensorBoard calls its files


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where a run keeps what it makes.

    The model of the last epoch lies in the folder itself, so that the folder is a checkpoint.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.toml"

    @property
    def environment(self) -> Path:
        """Versions, device and commit of each session that worked on the run."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """A line for each epoch."""
        return self.path / "metrics.csv"

    @property
    def tensorboard(self) -> Path:
        """The same for TensorBoard."""
        return self.path / "tensorboard"

    @property
    def last(self) -> Path:
        """What ``--resume`` needs."""
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        """Checkpoint of the best epoch."""
        return self.path / "best"

    @classmethod
    def fresh(cls, stem: str) -> RunFolder:
        """``runs/STEM``, or the first of ``runs/STEM-2``, ``runs/STEM-3`` and so on that does not exist."""
        path, number = RUNS / stem, 1
        while path.exists():
            number += 1
            path = RUNS / f"{stem}-{number}"
        return cls(path)

    def check(self, exist_ok: bool) -> None:
        """Make sure that a new run may begin here; nothing is written.

        Raises:
            ConfigError: The folder has something in it and ``exist_ok`` is false.
        """
        if self.path.is_dir() and any(self.path.iterdir()) and not exist_ok:
            msg = (
                f"'{self.path}' exists and is not empty; choose another --out, go on with --resume {self.path}, or "
                "start anew in it with --exist-ok"
            )
            raise ConfigError(msg)
        if self.path.exists() and not self.path.is_dir():
            msg = f"'{self.path}' is a file; choose another --out"
            raise ConfigError(msg)

    def begin(self, recipe: Recipe) -> None:
        """Keep the recipe that repeats the run, and remove what an earlier run has left."""
        if self.recipe.is_file():
            self._clear()
        text = recipe.to_toml()
        write_atomic(self.recipe, lambda path: path.write_text(text, encoding="utf-8"))

    def _clear(self) -> None:
        """Remove the files of an earlier run, its model too: a new recipe beside an old model would be a lie."""
        for folder in (self.path, self.best):
            for name in (CONFIG_FILE, WEIGHTS_FILE):
                (folder / name).unlink(missing_ok=True)
        for file in (self.last, self.metrics, self.environment, *self.tensorboard.glob(EVENTS)):
            file.unlink(missing_ok=True)
        for folder in (self.best, self.tensorboard):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def read_recipe(self) -> Recipe:
        """The recipe of the run in this folder.

        Raises:
            DataError: There is no run here.
        """
        if not self.recipe.is_file():
            msg = f"'{self.path}' is not a run folder: it has no {self.recipe.name}"
            raise DataError(msg)
        return load_recipe(str(self.recipe))

    def add_environment(self, facts: dict[str, Any]) -> None:
        """Note one more session."""
        sessions = json.loads(self.environment.read_text(encoding="utf-8")) if self.environment.is_file() else []
        text = json.dumps([*sessions, facts], indent=2, ensure_ascii=False) + "\n"
        write_atomic(self.environment, lambda path: path.write_text(text, encoding="utf-8", errors="backslashreplace"))

    def write_metrics(self, history: Sequence[Epoch]) -> None:
        """Write all epochs."""
        rows = [epoch.row() for epoch in history]

        def write(path: Path) -> None:
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)

        write_atomic(self.metrics, write)
