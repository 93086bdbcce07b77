"""A recipe: one flat TOML file with a ``[model]`` and a ``[train]`` table, and overrides typed by hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from famcli.train import TrainConfig
from famcli_models.config import FAMConfig
from famcli_models.errors import ConfigError, UnknownNameError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES_DIR = Path(__file__).parent / "recipes"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides a training run, but the data.

    Attributes:
        name: Where it came from.
        model: The model.
        train: How it is trained.
    """

    name: str
    model: FAMConfig
    train: TrainConfig

    def to_toml(self) -> str:
        """The resolved recipe; read back, it gives an equal one."""
        tables = {"model": self.model.to_dict(), "train": asdict(self.train)}
        # JSON's numbers, strings, booleans and flat lists are TOML's too.
        lines = [
            line
            for table, values in tables.items()
            for line in (f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), "")
        ]
        return "\n".join(lines)


def recipes() -> dict[str, Path]:
    """Recipes that are installed with the package: name to file."""
    return {path.stem: path for path in sorted(RECIPES_DIR.glob("*.toml"))}


def load_recipe(
    name_or_path: str | None, overrides: Sequence[str] = (), model: Mapping[str, Any] | None = None
) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        name_or_path: A name in :func:`recipes`, the path of a TOML file, or ``None`` for the defaults.
        overrides: ``key=value`` pairs; the key is a field of ``FAMConfig`` or ``TrainConfig``, the value is TOML
            or a bare word.
        model: Fields of ``FAMConfig`` that come before the overrides and after the recipe.

    Raises:
        UnknownNameError: No such recipe or field.
        ConfigError: The file is not TOML or a value is not allowed.
    """
    tables: dict[str, dict[str, Any]] = {"model": {}, "train": {}}
    if name_or_path is not None:
        path = recipes().get(name_or_path, Path(name_or_path))
        if not path.is_file():
            raise UnknownNameError("recipe", name_or_path, recipes(), "or give the path of a TOML file")
        tables |= _parse(path.read_text(encoding="utf-8"), str(path))
    tables["model"] |= dict(model or {})
    known = {"model": {f.name for f in fields(FAMConfig)}, "train": {f.name for f in fields(TrainConfig)}}
    if stray := sorted(set(tables) - set(known)):
        kind = "table in the recipe"
        raise UnknownNameError(kind, stray[0], known)
    for pair in overrides:
        key, equals, text = pair.partition("=")
        table = next((t for t, names in known.items() if key in names), None)
        if not equals or table is None:
            raise UnknownNameError("setting", key, known["model"] | known["train"], "settings are written key=value")
        tables[table][key] = _value(text)
    for table, values in tables.items():
        if unknown := sorted(set(values) - known[table]):
            kind = f"field of [{table}]"
            raise UnknownNameError(kind, unknown[0], known[table])
    model_config, train_config = FAMConfig.from_dict(tables["model"]), TrainConfig(**tables["train"])
    return Recipe(name_or_path or "defaults", model_config, train_config)


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        msg = f"{where} is not TOML: {error}"
        raise ConfigError(msg) from error


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
