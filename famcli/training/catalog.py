"""The packaged recipes, and what their headers say of them; needs no torch."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from famcli_models.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES_DIR = Path(__file__).parent / "recipes"
OWN_DATA = "own-data"  # the recipe of data that have none of their own
FACTS = ("command", "hardware", "time", "score")


@dataclass(frozen=True, slots=True)
class RecipeNote:
    """What a recipe is for, and how it went."""

    name: str
    title: str
    backbone: str
    data: tuple[str, ...]  # none if they are to be given
    command: str
    hardware: str
    time: str
    score: str  # or "not run"

    @classmethod
    def from_file(cls, path: Path) -> RecipeNote:
        """The note of a recipe: a title, a line for each of :data:`FACTS`, all commented, then the settings."""
        text = path.read_text(encoding="utf-8")
        facts: dict[str, str] = {}
        last = "title"
        for line in text.splitlines():
            if not line.startswith("#") or (line == "#" and facts.keys() >= set(FACTS)):
                break  # what follows is said to who reads the file
            said = line[1:].strip()
            word = said.partition(" ")[0]
            if line.startswith("# ") and word in FACTS:
                last, said = word, said.removeprefix(word).strip()
            elif not said:
                last = "title" if "title" not in facts else ""
                continue
            if last:
                facts[last] = f"{facts[last]} {said}" if last in facts else said
        if missing := [fact for fact in ("title", *FACTS) if fact not in facts]:
            raise ConfigError(f"{path}: its header does not say {', '.join(missing)}")
        tables = tomllib.loads(text)
        backbone = tables.get("model", {}).get("backbone", "")
        return cls(name=path.stem, backbone=backbone, data=tuple(tables.get("run", {}).get("data", ())), **facts)


def recipes() -> dict[str, Path]:
    """Recipes that are installed with the package: name to file."""
    return {path.stem: path for path in sorted(RECIPES_DIR.glob("*.toml"))}
