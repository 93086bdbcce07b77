"""The folder of a run: what is in it, and what becomes of an earlier run's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from famcli.training.recipe import Recipe, load_recipe
from famcli.training.resume import BEST, LAST
from famcli_models.checkpoint import CONFIG_FILE, WEIGHTS_FILE, method_of
from famcli_models.errors import ConfigError, DataError
from famcli_models.files import PREFIX, write_atomic

RUNS = Path("runs")
EVENTS = "events.out.tfevents.*"  # what TensorBoard calls its files


class RunFolder:
    """The folder of a run, a checkpoint of its last epoch; each file is whole at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.toml"  # the resolved recipe
        self.environment = path / "environment.json"  # versions, device and commit of each session
        self.metrics = path / "metrics.csv"  # a line for each epoch
        self.curves = path / "curves.png"  # of what the metrics say
        self.samples = path / "samples.jpg"  # maps of the same images over the epochs
        self.tensorboard = path / "tensorboard"
        self.last = path / LAST  # what resuming needs
        self.best = path / BEST  # checkpoint of the best epoch

    @staticmethod
    def stem(recipe: Recipe) -> str:
        """``BACKBONE-DATA``, with the method if it is not the default."""
        method = [recipe.model.method] if recipe.model.method != method_of({}) else []
        return "-".join([recipe.model.backbone, *method, *(Path(name).stem for name in recipe.run.data)])

    @classmethod
    def fresh(cls, recipe: Recipe) -> RunFolder:
        """A folder in ``runs`` that is named by :meth:`stem`; ``-2`` and so on if that exists."""
        stem = cls.stem(recipe)
        path, number = RUNS / stem, 1
        while path.exists():
            number += 1
            path = RUNS / f"{stem}-{number}"
        return cls(path)

    def check(self, exist_ok: bool) -> None:
        """Make sure that a new run may begin here, or raise a ``ConfigError``; nothing is written."""
        if self.path.is_dir() and any(not p.name.startswith(PREFIX) for p in self.path.iterdir()) and not exist_ok:
            raise ConfigError(
                f"'{self.path}' exists and is not empty; choose another --out, go on with --resume {self.path}, or "
                "start anew in it with --exist-ok"
            )
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"'{self.path}' is a file; choose another --out")

    def begin(self, recipe: Recipe) -> None:
        """Keep the recipe that repeats the run; of an earlier run everything goes, a model beside a new recipe too."""
        if self.recipe.is_file():
            names = (CONFIG_FILE, WEIGHTS_FILE)
            models = [folder / name for folder in (self.path, self.best) for name in names]
            files = (self.last, self.metrics, self.environment, self.curves, self.samples)
            for file in (*models, *files, *self.tensorboard.glob(EVENTS)):
                file.unlink(missing_ok=True)
            for folder in (self.best, self.tensorboard):
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
        text = recipe.to_toml()
        write_atomic(self.recipe, lambda path: path.write_text(text, encoding="utf-8"))

    def read_recipe(self) -> Recipe:
        """The recipe of the run in this folder; a ``DataError`` if there is none."""
        if not self.recipe.is_file():
            raise DataError(f"'{self.path}' is not a run folder: it has no {self.recipe.name}")
        return load_recipe(str(self.recipe))

    def add_environment(self, facts: dict[str, Any]) -> None:
        """Note one more session."""
        sessions = json.loads(self.environment.read_text(encoding="utf-8")) if self.environment.is_file() else []
        text = json.dumps([*sessions, facts], indent=2, ensure_ascii=False) + "\n"
        write_atomic(self.environment, lambda path: path.write_text(text, encoding="utf-8", errors="backslashreplace"))
