"""List every model within reach: packaged, in the cache, in the catalogue; and show the card of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import constants, scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from famcli.hub.card import LONG, Measured, names, printable, read_header
from famcli.hub.names import CATALOG, ORG_VARIABLE, HubModel, look_up
from famcli.hub.packaged import CardFacts
from famcli.hub.pull import CARD_FILE, FILES, Say, cached, fetch_card, silent
from famcli.results.io import JSON_NAME, read_all
from famcli_models.checkpoint import CONFIG_FILE, WEIGHTS_FILE, packaged, read_config, resolve
from famcli_models.config import MethodConfig
from famcli_models.errors import DataError, WeightsError, short

PACKAGED, CACHE, CATALOGUE = "packaged", "cache", "catalogue"


@dataclass(frozen=True, slots=True)
class Listed:
    """One model."""

    name: str  # what --model takes
    where: str  # packaged, cache or catalogue
    backbone: str
    data: str
    size: int | None  # bytes on this machine
    terms: str  # in a few words, or the license that its card names
    revision: str  # branches and commit of the Hub
    measured: tuple[Measured, ...] = ()  # from the files beside the weights; of a model of the Hub, what its card names
    folder: Path | None = None
    purpose: str = ""  # what to take it for, in a few words
    input_size: int | None = None  # side of the square input in pixels
    classes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        measured = [measured.to_dict() for measured in self.measured]
        return {**asdict(self), "measured": measured, "folder": str(self.folder) if self.folder else None}


def all_models(say: Say = silent) -> list[Listed]:
    """Packaged models, then those in the cache, then those of the catalogue that are in neither.

    ``say`` is called with a sentence on each checkpoint in the cache that is left out because it is damaged.
    """
    here = [*map(packaged_model, packaged().values()), *_cached(say)]
    known, org = {model.name.partition("@")[0] for model in here}, os.environ.get(ORG_VARIABLE)
    rows = [
        Listed(facts.name, CATALOGUE, facts.backbone, facts.data, None, facts.terms, "not published")
        for name, facts in CATALOG.items()
        # Another organisation's repository of this name is another model.
        if not known & {name, f"{org}/{name}" if org else name}
    ]
    return [*here, *rows]


def card_of(name: str, org: str | None = None) -> str:
    """The card of a model: of one that is here its file, of one on the Hub that file alone is fetched.

    A model of the catalogue that is not published yet has no card; what the catalogue knows is said instead.
    """
    try:
        found = look_up(name, org)
    except WeightsError as error:
        facts = CATALOG[name.partition("@")[0]]
        about = f"{facts.backbone}, trained on {facts.data}; terms: {facts.terms}"
        return f"# {facts.name}\n\n{about}\n\nNo card: {error}.\n"
    if isinstance(found, HubModel):
        folder = cached(found)
        path = folder / CARD_FILE if folder and (folder / CARD_FILE).is_file() else fetch_card(found)
    else:
        path = resolve(found) / CARD_FILE
    if not path.is_file():
        raise WeightsError(f"'{name}' has no card: there is no {path}")
    with path.open(encoding="utf-8", errors="replace") as file:
        return printable(file.read(FILES[CARD_FILE]))


def packaged_model(folder: Path) -> Listed:
    """A packaged model, or one in any folder; what others measured, on photographs kept apart, comes first."""
    facts, measured = None, list[Measured]()
    with suppress(DataError):
        facts = CardFacts.from_folder(folder)
        measured += facts.held_out.measured() if facts.held_out else ()
    with suppress(DataError):
        measured += map(Measured.from_results, read_all(folder / JSON_NAME))
    terms, purpose = (facts.terms_in_short, facts.purpose) if facts else ("", "")
    found = _here(folder.name, PACKAGED, folder, terms, "with this version", tuple(measured))
    return replace(found, purpose=purpose)


def _cached(say: Say) -> Iterator[Listed]:
    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return
    except (ValueError, OSError, RuntimeError) as error:  # the last if no home folder is known
        why = (
            "it is no folder" if isinstance(error, ValueError) else short(getattr(error, "strerror", "") or str(error))
        )
        say(f"the cache of the Hub, '{constants.HF_HUB_CACHE}', cannot be read ({why}); HF_HOME names another")
        return
    pairs = [(repo.repo_id, revision) for repo in repos if repo.repo_type == "model" for revision in repo.revisions]
    for repo_id, revision in sorted(pairs, key=lambda pair: (pair[0], -pair[1].last_modified)):
        refs, folder = sorted(revision.refs), revision.snapshot_path
        name = repo_id if "main" in refs else f"{repo_id}@{refs[0] if refs else revision.commit_hash}"
        try:
            if _is_checkpoint(folder):
                from famcli_models.loading import check_checkpoint  # imports PyTorch

                check_checkpoint(folder)
                license_, measured = read_header(folder / CARD_FILE)
                where = f"{', '.join(refs)} {revision.commit_hash[:12]}".strip()
                yield _here(name, CACHE, folder, license_, where, measured)
        except Exception as error:  # noqa: BLE001  (anybody's files must not hide everybody else's)
            say(f"left out {name}, which cannot be used: {short(str(error), LONG)}")


def _is_checkpoint(folder: Path) -> bool:
    """Whether there is a checkpoint of ours, and not a model of another library, which is what most others are."""
    try:
        return all((folder / file).is_file() for file in (CONFIG_FILE, WEIGHTS_FILE)) and bool(read_config(folder))
    except WeightsError:
        return False


def _here(name: str, where: str, folder: Path, terms: str, revision: str, measured: tuple[Measured, ...]) -> Listed:
    stored = read_config(folder)
    backbone, data = names(stored["model"].get("backbone")), names(stored["provenance"].get("data"))
    size = sum((folder / file).stat().st_size for file in FILES if (folder / file).is_file())
    config = MethodConfig.shared(stored["model"])
    return Listed(
        name,
        where,
        ", ".join(backbone),
        ", ".join(data),
        size,
        terms,
        revision,
        measured,
        folder,
        input_size=config.size,
        classes=config.num_classes,
    )
