"""Every model within reach: packaged, in the cache, in the catalogue."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from famcli.hub.catalog import CATALOG, ModelFacts
from famcli.hub.measured import RESULTS_FILE, TITLES, Measured, Scores, read_measured
from famcli.hub.names import HubModel, look_up
from famcli.hub.pull import CARD_FILE, FILES, cached, fetch_card
from famcli_models.checkpoint import CONFIG_FILE, WEIGHTS_FILE, packaged, read_config, resolve
from famcli_models.errors import DataError, WeightsError

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


def all_models() -> list[Listed]:
    """Packaged models, then those in the cache, then those of the catalogue that are in neither."""
    here = [*_packaged(), *_cached()]
    names = {model.name.split("/")[-1].split("@")[0] for model in here}
    return [*here, *(_of_catalogue(facts) for name, facts in CATALOG.items() if name not in names)]


def card_of(name: str, org: str | None = None) -> str:
    """The card of a model: of one that is here its file, of one on the Hub that file alone is fetched.

    A model of the catalogue that is not published yet has no card; what the catalogue knows is said instead.

    Raises:
        UnknownNameError: There is no such model.
        WeightsError: It has no card, or the card cannot be had.
    """
    facts = CATALOG.get(name)
    if facts and facts.published is None and not org and name not in packaged() and not Path(name).exists():
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


def _cached() -> Iterator[Listed]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return
    for repo in sorted(repos, key=lambda repo: repo.repo_id):
        if repo.repo_type != "model":
            continue
        for revision in sorted(repo.revisions, key=lambda r: -r.last_modified):
            folder = revision.snapshot_path
            if not all((folder / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE)):
                continue
            refs = sorted(revision.refs)
            name = repo.repo_id if "main" in refs else f"{repo.repo_id}@{refs[0] if refs else revision.commit_hash}"
            said = f"{', '.join(refs)} {revision.commit_hash[:12]}".strip()
            try:
                yield _here(name, CACHE, folder, *_from_card(folder, said))
            except WeightsError:  # a model of another library, most often
                continue


def _here(name: str, where: str, folder: Path, terms: str, revision: str, measured: tuple[Measured, ...]) -> Listed:
    stored = read_config(folder)
    data = stored["provenance"].get("data", [])
    return Listed(
        name=name,
        where=where,
        backbone=_printable(str(stored["model"].get("backbone", ""))),
        data=_printable(", ".join(map(str, [data] if isinstance(data, str) else data))),
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
        revision=facts.published.revision[:12] if facts.published else "not published",
    )


def _beside(folder: Path) -> tuple[Measured, ...]:
    try:
        return read_measured(folder / RESULTS_FILE) if (folder / RESULTS_FILE).is_file() else ()
    except DataError:
        return ()


def _from_card(folder: Path, revision: str) -> tuple[str, str, tuple[Measured, ...]]:
    """License, revision and numbers that a card of the Hub names; a card that cannot be read names none."""
    from huggingface_hub import ModelCard

    path = folder / CARD_FILE
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            data = ModelCard(file.read(FILES[CARD_FILE]), ignore_metadata_errors=True).data
        groups: dict[tuple[str, str], dict[str, Any]] = {}
        for result in data.get("eval_results") or []:
            group = groups.setdefault((str(result.dataset_name), str(result.dataset_split)), {"values": {}})
            group |= result.metric_args or {}
            if result.metric_type in TITLES:
                group["values"][result.metric_type] = (float(result.metric_value), None, None)
        measured = tuple(
            Measured(
                data=_printable(name),
                split=_printable(split),
                images=int(group.get("images", 0)),
                protocol=_printable(str(group.get("protocol", ""))),
                rows=(Scores("FAM", group.get("tau"), _printable(str(group.get("tau_from", ""))), group["values"]),),
            )
            for (name, split), group in groups.items()
            if group["values"]
        )
        return _printable(str(data.get("license") or "")), revision, measured
    except Exception:  # noqa: BLE001  (a stranger's YAML may be wrong in any way, and is not needed)
        return "", revision, ()


def _printable(text: str) -> str:
    """A stranger's text without what would command a terminal."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")
