"""One preparation from beginning to end: locked, resumable, cheap when there is nothing to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from famcli.data.dataset import DATASET_FILE, write_dataset
from famcli.data.public.catalog import DatasetFacts
from famcli.data.public.cub import read_cub
from famcli.data.public.cubv2 import read_cubv2
from famcli.data.public.ilsvrc import read_ilsvrc
from famcli.data.public.imagenetv2 import read_imagenetv2
from famcli.data.public.source import Contents, Source, Talk
from famcli.data.public.stamp import is_current, write_stamp
from famcli.data.readers import read_own
from famcli_models.errors import DataError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
READERS: Mapping[str, Callable[[Source], Contents]] = {
    "cub": read_cub,
    "cubv2": read_cubv2,
    "ilsvrc": read_ilsvrc,
    "imagenetv2": read_imagenetv2,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a preparation did.

    Attributes:
        root: Folder of the dataset.
        counts: ``images`` and ``boxes`` of each split.
        changed: Something was written; otherwise all was there and current.
        unreadable: Images whose header could not be read; they stay listed.
        remarks: What else should be known.
    """

    root: Path
    counts: Mapping[str, Mapping[str, int]]
    changed: bool
    unreadable: int = 0
    remarks: tuple[str, ...] = ()


def prepare(facts: DatasetFacts, folder: Path, out: Path, talk: Talk, *, without_train: bool = False) -> Outcome:
    """Prepare a dataset of the catalogue.

    Archives are extracted first. Then ``dataset.json`` is removed before the lists are written and written after
    them, so that an interrupted preparation is never taken for a dataset; the same call goes on with it.

    Args:
        facts: The dataset's row.
        folder: Folder with its archives, or with what was extracted from them.
        out: Folder of the prepared dataset.
        talk: Progress and remarks.
        without_train: Of ILSVRC, prepare the test split alone.

    Raises:
        DataError: Something is missing, damaged or refused; or another process prepares the same folder.
    """
    if not folder.is_dir():
        msg = f"there is no folder '{folder}': give the folder of the archives or of the extracted images with --from"
        raise DataError(msg)
    arguments = {"name": facts.name, "from": str(folder.absolute()), "without_train": str(without_train)}
    with _alone(out):
        if is_current(out, arguments):
            return Outcome(out, _counts(out), changed=False)
        source = Source(facts, folder, out, talk)
        found = read_ilsvrc(source, without_train=True) if without_train else READERS[facts.name](source)
        about = {
            "title": facts.title,
            "paper": facts.paper,
            "terms": facts.terms,
            "terms_page": facts.terms_page,
            "archives": source.hashes,
        }
        write_dataset(
            out,
            name=facts.name,
            images=found.images,
            class_names=found.class_names,
            splits=found.splits,
            fullsup=facts.fullsup,
            facts=about,
        )
        optional = [folder / archive.name for archive in facts.archives if not archive.required]
        write_stamp(out, arguments, [*found.watched, *optional])  # one that comes later is a change too
        counts = _counts(out)
        return Outcome(out, counts, True, source.unreadable, tuple(_differences(facts, counts, source.unreadable)))


def prepare_own(name: str, source: Path, form: str, out: Path, images: Path | None, split: str | None) -> Outcome:
    """Make a dataset of somebody's own labelled images, which stay where they are.

    Args:
        name: What to call it.
        source: File or folder in one of the forms of :mod:`famcli.data.readers`.
        form: Name of the form, or ``auto``.
        out: Folder of the prepared dataset.
        images: The folder that image names are relative to, if it cannot be told.
        split: Split of images of which nothing tells it.

    Raises:
        DataError: It cannot be read, or the name cannot be one.
    """
    if not NAME.fullmatch(name):
        msg = f"'{name}' cannot be the name of a dataset: use letters, digits, '.', '_' and '-'"
        raise DataError(msg)
    own = read_own(source, form, images=images, split=split)
    with _alone(out):
        before = _contents(out)
        write_dataset(
            out,
            name=name,
            images=own.images.absolute(),
            class_names=own.class_names,
            splits=own.splits,
            facts=own.facts(),
        )
        return Outcome(out, _counts(out), _contents(out) != before, remarks=own.remarks)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".fam-prepare.lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        msg = f"another process is preparing '{out}': wait for it, or give --out another folder"
        raise DataError(msg) from error
    except OSError as error:
        msg = f"cannot write to '{out}': {error.strerror}; give --out another folder"
        raise DataError(msg) from error
    try:
        yield
    finally:
        lock.release()


def _counts(out: Path) -> dict[str, dict[str, int]]:
    return dict(json.loads((out / DATASET_FILE).read_text(encoding="utf-8"))["counts"])


def _contents(out: Path) -> dict[str, bytes]:
    files = [out / DATASET_FILE, *(out / "metadata").glob("*/*.txt")]
    return {str(path): path.read_bytes() for path in files if path.is_file()}


def _differences(facts: DatasetFacts, counts: Mapping[str, Mapping[str, int]], unreadable: int) -> Iterator[str]:
    for split, expected in facts.counts.items():
        images = counts.get(split, {}).get("images")
        if images is not None and images != expected:
            yield f"{split} has {images:,} images, the publisher's has {expected:,}: scores will not be comparable"
    if unreadable:
        yield f"{unreadable} images cannot be read (the first are named above); 'fam data check {facts.name}' lists all"
