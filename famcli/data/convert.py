"""Converts a dataset's labels and boxes to COCO files or to wsolevaluation metadata, with nothing lost."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from famcli.data.dataset import DATASET_FILE, Dataset, write_dataset
from famcli.data.metadata import METADATA, split_folder, splits_of
from famcli.data.readers import coco
from famcli.data.sample import BENCHMARK_NAMES, FULLSUP, MAX_CLASSES, Sample, split_name
from famcli_models.errors import DataError
from famcli_models.files import is_stream, write_pieces


def to_coco(dataset: Dataset, out: Path, splits: Sequence[str] = (), *, exist_ok: bool = False) -> list[Path]:
    """Write a COCO file for each of some splits, or all, to a folder, or of one to a ``*.json`` or stream."""
    read = _read(dataset, splits)
    single = out.suffix.lower() == ".json" or is_stream(out)
    if single and len(read) > 1:
        there = f"there are {len(read)} splits ({', '.join(read)})"
        raise DataError(f"'{out}' is one file, but {there}: choose one with --split")
    files = {split: out if single else out / coco.file_name(split) for split in read}
    _refuse([path for path in files.values() if path.exists() and not is_stream(path)], exist_ok)
    labels = (s.label for split in dataset.own_splits() for s in read.get(split) or dataset.samples(split))
    count = len(dataset.class_names) or 1 + max(labels)
    for split, path in files.items():
        write_pieces(path, coco.split_json(read[split], dataset.class_names, count, split))
    return list(files.values())


def to_wsol(
    dataset: Dataset, out: Path, splits: Sequence[str] = (), *, rounded: bool = False, exist_ok: bool = False
) -> list[Path]:
    """Write wsolevaluation metadata and ``dataset.json``; gives the splits' folders. ``rounded`` rounds fractions."""
    read = _read(dataset, splits)
    _refuse([path for path in (out / METADATA, out / DATASET_FILE) if path.exists()], exist_ok)
    folders = [out / METADATA / BENCHMARK_NAMES.get(split, split) for split in read]
    for split, folder in zip(read, folders, strict=True):
        there = split_folder(out / METADATA, split)
        if there is not None and there != folder:  # then one of two would be read, and not this one
            raise DataError(f"'{there}' holds {split} under another name: choose another --out")
    others = [split for split in splits_of(out / METADATA) if split not in read]
    if others:
        which = f"{', '.join(others)}, which the new dataset.json would not"
        raise DataError(f"'{out}' also has {which}: choose another --out")
    for split, samples in read.items():
        for i, sample in enumerate(samples):
            whole = np.round(sample.boxes)
            if (whole == sample.boxes).all():
                continue
            if not rounded:
                box = next(b for b, w in zip(sample.boxes.tolist(), whole.tolist(), strict=True) if b != w)
                raise DataError(
                    f"'{sample.name}' ({split}) has the box {','.join(f'{v:g}' for v in box)}; wsolevaluation metadata "
                    "holds whole pixels: add --round to round to the nearest"
                )
            low, high = whole[:, :2], whole[:, 2:]
            vanished = (high <= low) & (sample.boxes[:, 2:] > sample.boxes[:, :2])  # a side keeps at least one pixel
            rows = np.concatenate([low, np.where(vanished, low + 1, high)], axis=1)
            samples[i] = dataclasses.replace(sample, boxes=rows)
    about = {key: value for key, value in dataset.facts.items() if key != "counts"}
    names = dataset.class_names
    write_dataset(out, dataset.name, dataset.images, names, read, dataset.fullsup, about, benchmark_names=True)
    return folders


def _read(dataset: Dataset, splits: Sequence[str]) -> Mapping[str, list[Sample]]:
    splits = [split_name(s) for s in splits]
    if FULLSUP in splits and FULLSUP in dataset.splits() and FULLSUP not in dataset.own_splits():
        sibling = shlex.quote(os.fspath(dataset.root.parent / str(dataset.fullsup)))
        raise DataError(
            f"{FULLSUP} of '{dataset.name}' is '{dataset.fullsup}', a dataset with images and class names of its own: "
            f"convert that, 'fam data convert {sibling}'"
        )
    read = {s: dataset.samples(s, with_boxes=True, boxes_optional=True) for s in splits or dataset.own_splits()}
    top = len(dataset.class_names) or MAX_CLASSES
    for split, samples in read.items():
        for sample in samples:
            if not 0 <= sample.label < top:
                raise DataError(
                    f"'{sample.name}' ({split}) has label {sample.label}, which is no class of '{dataset.name}': "
                    f"see 'fam data check {dataset.root}'"
                )
    return read


def _refuse(existing: Sequence[Path], exist_ok: bool) -> None:
    if existing and not exist_ok:
        raise DataError(f"'{os.fspath(existing[0])}' exists: choose another --out, or replace it with --exist-ok")
