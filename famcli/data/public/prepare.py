"""Makes a dataset of a publisher's files, or of a user's own, once: locked, resumable, cheap when all is there."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from famcli.data.dataset import DATASET_FILE, open_dataset, write_dataset
from famcli.data.metadata import read_json
from famcli.data.public.catalog import DatasetFacts
from famcli.data.public.cub import read_cub
from famcli.data.public.download import DOWNLOADS
from famcli.data.public.fullsup import read_cubv2, read_imagenetv2
from famcli.data.public.ilsvrc import read_ilsvrc
from famcli.data.public.source import Contents, Source, Talk
from famcli.data.readers import OwnData, read_own
from famcli.data.truth import check_truth
from famcli_models.errors import DataError
from famcli_models.files import write_atomic
from famcli_models.locks import only_writer

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
STAMP = ".fam-prepared.json"
PREPARED: Mapping[str, Callable[[Source], Contents]] = {
    "cub": read_cub,
    "cubv2": read_cubv2,
    "ilsvrc": read_ilsvrc,
    "imagenetv2": read_imagenetv2,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a preparation did."""

    root: Path
    splits: Mapping[str, Mapping[str, int]]  # ``images`` and ``boxes`` of each
    changed: bool  # otherwise all was there and current, and nothing was written
    unreadable: int = 0  # images whose header could not be read; they stay listed
    remarks: tuple[str, ...] = ()


def prepare(facts: DatasetFacts, folder: Path, out: Path, talk: Talk, *, without_train: bool = False) -> Outcome:
    """Prepare a dataset of the catalogue from its archives or their trees; once interrupted, the same call goes on."""
    if not folder.is_dir():
        if folder != out / DOWNLOADS:
            why = f"there is no folder '{folder}': give that of the archives or of the extracted images with --from"
        elif (out / DATASET_FILE).is_file():
            why = f"{facts.name} is prepared in '{out}', and its downloads are gone; add --from to prepare it anew"
        else:
            why = (
                f"there is nothing to prepare in '{folder}': 'fam data download {facts.name}' gets the files, or names "
                "those that need a login; or give the folder where you have them with --from"
            )
        raise DataError(why)
    arguments = {"name": facts.name, "from": str(folder.absolute()), "without_train": str(without_train)}
    with only_writer(out / DATASET_FILE):
        if _is_current(out, arguments):
            return Outcome(out, open_dataset(out.absolute()).facts["counts"], changed=False)
        source = Source(facts, folder, out, talk)
        found = read_ilsvrc(source, without_train=True) if without_train else PREPARED[facts.name](source)
        about: dict[str, Any] = {key: getattr(facts, key) for key in ("title", "paper", "terms", "terms_page")}
        about["archives"] = dict(sorted(source.hashes.items()))
        counts = write_dataset(out, facts.name, found.images, found.class_names, found.splits, facts.fullsup, about)
        optional = [folder / archive.name for archive in facts.archives if not archive.required]
        _write_stamp(out, arguments, [*found.watched, *optional])  # one that comes later is a change too
        remarks = [
            f"{split} has {counts[split]['images']:,} images, the publisher's has {expected:,}: scores will not be "
            "comparable"
            for split, expected in facts.counts.items()
            if split in counts and counts[split]["images"] != expected
        ]
        if source.unreadable:
            seek = f"'fam data check {facts.name}' lists all"
            remarks.append(f"{source.unreadable} images cannot be read (the first are named above); {seek}")
        return Outcome(out, counts, True, source.unreadable, tuple(remarks))


def prepare_own(name: str, source: Path, form: str, out: Path, images: Path | None, split: str | None) -> Outcome:
    """Make a dataset of own images, which stay where they are; arguments as in :func:`famcli.data.readers.read_own`."""
    if not NAME.fullmatch(name):
        raise DataError(f"'{name}' cannot be the name of a dataset: use letters, digits, '.', '_' and '-'")
    own = read_own(source, form, images=images, split=split)
    remarks = [*own.remarks, *_missing(own)]
    command = shlex.join(["fam", "data", "check", str(source), *(["--images", str(images)] if images else [])])
    for where, samples in own.splits.items():
        check_truth(samples, f"'{source}', {where}", command)
    with only_writer(out / DATASET_FILE):
        before = [path.read_bytes() for path in _own_files(out)]
        counts = write_dataset(out, name, own.images.absolute(), own.class_names, own.splits, facts=own.facts())
        changed = [path.read_bytes() for path in _own_files(out)] != before
        return Outcome(out, counts, changed, remarks=tuple(remarks))


def _missing(own: OwnData) -> Iterator[str]:
    """What to say of images that are not there; an error if none is."""
    samples = [sample for split in own.splits.values() for sample in split]
    lost = [sample.path for sample in samples if not os.path.isfile(sample.path)]
    if len(lost) == len(samples):
        none = f"none of the {len(lost):,} images is there, not even '{lost[0]}'"
        raise DataError(f"{none}: name their folder with --images")
    if lost:
        yield f"{len(lost):,} of {len(samples):,} images are not there, the first is '{lost[0]}'"


def _own_files(out: Path) -> list[Path]:
    return [path for path in (out / DATASET_FILE, *sorted((out / "metadata").glob("*/*.txt"))) if path.is_file()]


def _write_stamp(out: Path, arguments: dict[str, str], watched: Iterable[Path]) -> None:
    """Note the arguments, and the state of the watched files and folders and of the dataset's own files."""
    state = {str(path.absolute()): _state(path) for path in (*watched, *_own_files(out))}
    text = json.dumps({"arguments": arguments, "state": state}, indent=0) + "\n"
    write_atomic(out / STAMP, lambda path: path.write_text(text, encoding="utf-8"))


def _is_current(out: Path, arguments: dict[str, str]) -> bool:
    """Whether nothing that was noted has changed: a thousand calls of stat, no file is read."""
    try:
        noted = read_json(out / STAMP)
        state = noted["state"]
        return noted["arguments"] == arguments and all(_state(Path(path)) == s for path, s in state.items())
    except (DataError, KeyError, TypeError, AttributeError):
        return False


def _state(path: Path) -> list[int]:
    """Of a folder the time when an entry came or went, of a file also its size; nothing if it is not there."""
    try:
        state = path.stat()
    except OSError:
        return []
    return [state.st_mtime_ns] + ([] if path.is_dir() else [state.st_size])
