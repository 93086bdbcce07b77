"""Every model within reach: packaged, in the cache, in the catalogue."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from famcli.hub.header import read_header
from famcli.hub.measured import Measured
from famcli.hub.names import CATALOG, ORG_VARIABLE, HubModel, ModelFacts, look_up
from famcli.hub.pull import CARD_FILE, FILES, Say, cached, fetch_card, silent
from famcli.hub.text import LONG, names, one_line
from famcli.results.io import JSON_NAME, read_all
from famcli_models.checkpoint import CONFIG_FILE, WEIGHTS_FILE, packaged, read_config, resolve
from famcli_models.errors import DataError, WeightsError
from famcli_models.loading import check_checkpoint

PACKAGED, CACHE, CATALOGUE = "packaged", "cache", "catalogue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One model.

    Attributes:
        name: What ``--model`` takes.
        where: ``packaged``, ``cache`` or ``catalogue``.
        backbone: Name of the network.
        data: What it was trained on.
        size: Bytes on this machine; ``None`` if it is not here.
        terms: In a few words, or the license its card names.
        revision: Branches and commit of the Hub, or ``not published``.
        measured: Numbers from the files beside the weights; of a model of the Hub, those its card names.
        folder: Where it is, if it is here.
    """

    name: str
    where: str
    backbone: str
    data: str
    size: int | None
    terms: str
    revision: str
    measured: tuple[Measured, ...] = field(default=(), repr=False)
    folder: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "name": self.name,
            "where": self.where,
            "backbone": self.backbone,
            "data": self.data,
            "size": self.size,
            "terms": self.terms,
            "revision": self.revision,
            "measured": [measured.to_dict() for measured in self.measured],
            "folder": str(self.folder) if self.folder else None,
        }


def all_models(say: Say | None = None) -> list[Listed]:
    """Packaged models, then those in the cache, then those of the catalogue that are in neither.

    Args:
        say: Told in a sentence which checkpoint in the cache is left out because it is damaged.
    """
    here = [*_packaged(), *_cached(say or silent)]
    known = {model.name.split("@")[0] for model in here}
    org = os.environ.get(ORG_VARIABLE)
    rows = []
    for name, facts in CATALOG.items():
        if not known & {
            name,
            f"{org}/{name}" if org else name,
        }:  # another organisation's repository of this name is another model
            rows.append(_of_catalogue(facts))
    return [*here, *rows]


def card_of(name: str, org: str | None = None) -> str:
    """The card of a model: of one that is here its file, of one on the Hub that file alone is fetched.

    A model of the catalogue that is not published yet has no card; what the catalogue knows is said instead.

    Raises:
        UnknownNameError: There is no such model.
        WeightsError: It has no card, or the card cannot be had.
    """
    facts = CATALOG.get(name)
    if facts and not org and name not in packaged() and not Path(name).exists():
        try:
            look_up(name, org)
        except WeightsError as error:
            about = f"{facts.backbone}, trained on {facts.data}; terms: {facts.terms}"
            return _printable(f"# {name}\n\n{about}\n\nNo card: {error}.\n")
    found = look_up(name, org)
    if isinstance(found, HubModel):
        folder = cached(found)
        path = folder / CARD_FILE if folder and (folder / CARD_FILE).is_file() else fetch_card(found)
    else:
        path = resolve(found) / CARD_FILE
    if not path.is_file():
        msg = f"'{name}' has no card: there is no {path}"
        raise WeightsError(msg)
    with path.open(encoding="utf-8", errors="replace") as file:
        return _printable(file.read(FILES[CARD_FILE]))


def _packaged() -> Iterator[Listed]:
    for name, folder in packaged().items():
        facts = CATALOG.get(name)
        yield _here(name, PACKAGED, folder, facts.terms if facts else "", "with this version", _beside(folder))


def _cached(say: Say) -> Iterator[Listed]:
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return
    except (ValueError, OSError) as error:
        why = "it is no folder" if isinstance(error, ValueError) else one_line(error.strerror or error)
        say(f"the cache of the Hub, '{constants.HF_HUB_CACHE}', cannot be read ({why}); HF_HOME names another")
        return
    for repo in sorted(repos, key=lambda repo: repo.repo_id):
        if repo.repo_type != "model":
            continue
        for revision in sorted(repo.revisions, key=lambda r: -r.last_modified):
            refs = sorted(revision.refs)
            name = repo.repo_id if "main" in refs else f"{repo.repo_id}@{refs[0] if refs else revision.commit_hash}"
            said = f"{', '.join(refs)} {revision.commit_hash[:12]}".strip()
            try:
                found = _whole(name, revision.snapshot_path, said)
            except Exception as error:  # noqa: BLE001  (a stranger's files must not hide everybody else's)
                say(f"left out {name}, which cannot be used: {one_line(error, LONG)}")
                continue
            if found is not None:
                yield found


def _whole(name: str, folder: Path, revision: str) -> Listed | None:
    """A checkpoint in the cache that passes the checks of a pull; ``None`` if there is none in the folder."""
    if not all((folder / file).is_file() for file in (CONFIG_FILE, WEIGHTS_FILE)):
        return None
    try:
        read_config(folder)
    except WeightsError:  # a model of another library, most often
        return None
    check_checkpoint(folder)
    license_, measured = read_header(folder / CARD_FILE)
    return _here(name, CACHE, folder, license_, revision, measured)


def _here(name: str, where: str, folder: Path, terms: str, revision: str, measured: tuple[Measured, ...]) -> Listed:
    stored = read_config(folder)
    return Listed(
        name=name,
        where=where,
        backbone=one_line(stored["model"].get("backbone", "")),
        data=", ".join(names(stored["provenance"].get("data"))),
        size=sum(os.path.getsize(folder / file) for file in FILES if (folder / file).is_file()),
        terms=terms,
        revision=revision,
        measured=measured,
        folder=folder,
    )


def _of_catalogue(facts: ModelFacts) -> Listed:
    return Listed(
        name=facts.name,
        where=CATALOGUE,
        backbone=facts.backbone,
        data=facts.data,
        size=None,
        terms=facts.terms,
        revision="not published",
    )


def _beside(folder: Path) -> tuple[Measured, ...]:
    try:
        return tuple(map(Measured.of, read_all(folder / JSON_NAME))) if (folder / JSON_NAME).is_file() else ()
    except DataError:
        return ()


def _printable(text: str) -> str:
    """A stranger's text without what would command a terminal."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")
