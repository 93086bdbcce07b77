"""What a download would do, and what of a dataset is there already: files are looked at, none is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from famcli.data.dataset import DATASET_FILE
from famcli.data.public.catalog import CATALOG, Archive, DatasetFacts
from famcli.data.public.download import part_of
from famcli_models.errors import UnknownNameError

DOWNLOADS = "downloads"
Todo = Literal["there", "resume", "download", "by hand"]
State = Literal["prepared", "downloaded", "partly downloaded", "absent"]


@dataclass(frozen=True, slots=True)
class Item:
    """One file of a plan.

    Attributes:
        archive: Its row.
        path: Where it is or will be.
        have: Bytes that are there.
        todo: What is left to do: ``by hand`` where a login or a browser is needed.
    """

    archive: Archive
    path: Path
    have: int
    todo: Todo

    @property
    def left(self) -> int:
        """Bytes still to come, as far as the size is known."""
        return max(0, (self.archive.size or 0) - self.have) if self.todo in {"resume", "download"} else 0


def plan_download(facts: DatasetFacts, folder: Path, only: Sequence[str] = ()) -> list[Item]:
    """The files of a download.

    Args:
        facts: The dataset.
        folder: The download folder.
        only: Names or topics of files; all required ones if empty.

    Raises:
        UnknownNameError: The dataset has no such file.
    """
    known = {word: a for a in facts.archives for word in (a.name, a.topic) if word}
    for word in only:
        if word not in known:
            kind = f"file of {facts.name}"
            raise UnknownNameError(kind, word, known)
    wanted = [known[word] for word in only] or [archive for archive in facts.archives if archive.required]
    return [_item(archive, folder / archive.name) for archive in wanted]


def state_of(name: str, home: Path) -> State:
    """How far a dataset is in the data home."""
    if (home / name / DATASET_FILE).is_file():
        return "prepared"
    if name not in CATALOG:
        return "absent"
    items = plan_download(CATALOG[name], home / name / DOWNLOADS)
    if all(item.todo == "there" for item in items):
        return "downloaded"
    return "partly downloaded" if any(item.have for item in items) else "absent"


def prepared_names(home: Path) -> list[str]:
    """Names of the prepared datasets that the catalogue does not have."""
    return sorted(path.parent.name for path in home.glob(f"*/{DATASET_FILE}") if path.parent.name not in CATALOG)


def _item(archive: Archive, path: Path) -> Item:
    if path.is_file():
        return Item(archive, path, path.stat().st_size, "there")
    if archive.url is None:
        return Item(archive, path, 0, "by hand")
    part = part_of(path)
    have = part.stat().st_size if part.is_file() else 0
    return Item(archive, path, have, "resume" if have else "download")
