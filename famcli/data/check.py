"""What is wrong with a dataset, found before training or scoring on it; and what a split holds, in numbers."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from famcli.data.dataset import DATASET_FILE, Dataset
from famcli.data.images import Header, on_threads, read_header, read_picture
from famcli.data.masks import MaskSource, find_masks, read_truth
from famcli.data.public.catalog import CATALOG
from famcli.data.sample import FULLSUP, MAX_CLASSES, TEST, TRAIN, Sample, in_order, split_name
from famcli.data.truth import truth_faults
from famcli_models.errors import DataError, short

EXAMPLES = 3  # shown of each problem
DECODED = 64  # pixels: a JPEG decoded at an eighth of its size is still read to its end


@dataclass(slots=True)
class Finding:
    """Images of a split that share a problem."""

    problem: str  # in a few words
    split: str  # empty if it is about all
    count: int = 0  # images, boxes, classes or files that have it
    examples: tuple[str, ...] = ()  # the first few, with the reason where they differ
    wrong: bool = True  # must be put right; if not, it is a remark


class _Findings(dict[tuple[str, str], Finding]):
    """Problems by their words and split, in the order in which they were met."""

    def add(self, problem: str, split: str, example: str, *, wrong: bool = True, count: int = 1) -> None:
        finding = self.setdefault((problem, split), Finding(problem, split, wrong=wrong))
        finding.count += count
        if len(finding.examples) < EXAMPLES:
            finding.examples += (short(example),)


def check(
    dataset: Dataset,
    splits: Sequence[str] = (),
    *,
    fast: bool = False,
    workers: int = 2,
    on_image: Callable[[], object] = lambda: None,
) -> list[Finding]:
    """What is wrong with some splits, or all, then what is worth knowing; ``fast`` reads headers of images alone."""
    findings = _Findings()
    noted = dataset.facts.get("counts", {})
    chosen = [split_name(split) for split in splits] or in_order([*dataset.splits(), *noted])
    classes: dict[str, Counter[int]] = {}
    paths: dict[str, str] = {}  # split by path
    pictures: dict[bytes, tuple[str, str, int]] = {}  # split, name and label by digest
    for split in chosen:
        try:
            samples = dataset.samples(split, with_boxes=True, boxes_optional=True, checked=False)
        except DataError as error:
            findings.add("split cannot be read", split, str(error))
            continue
        classes[split] = Counter(sample.label for sample in samples)
        _check_lists(findings, dataset, split, samples)
        masks = _check_truth(findings, dataset, split, samples)
        files = on_threads(partial(_read_file, fast=fast), (sample.path for sample in samples), workers)
        listed: set[str] = set()
        for sample, (header, digest), mask in zip(samples, files, masks, strict=True):
            _check_image(findings, split, sample, header)
            if mask is not None and isinstance(header, Header) and not fast:
                _check_mask(findings, split, sample, mask, header.size_hw)
            path = os.fspath(sample.path)
            if path in listed:
                findings.add("listed twice", split, sample.name)
            elif path in paths:
                findings.add(f"also in {paths[path]}", split, sample.name)
            elif digest:
                first = pictures.setdefault(digest, (split, sample.name, sample.label))
                _check_picture(findings, split, sample, first)
            listed.add(path)
            on_image()
        paths.update((path, split) for path in listed if path not in paths)
    for split in () if splits else _expected(dataset):
        if split not in chosen:
            findings.add(
                "published split that was not prepared", split, f"fam data prepare {dataset.name}", wrong=False
            )
    _check_classes(findings, dataset.class_names, classes)
    return sorted(findings.values(), key=lambda finding: not finding.wrong)


def _expected(dataset: Dataset) -> dict[str, int]:
    """Images that a dataset of the catalogue must have, by split."""
    prepared = (dataset.root / DATASET_FILE).is_file()
    return dict(CATALOG[dataset.name].counts) if prepared and dataset.name in CATALOG else {}


def _check_lists(findings: _Findings, dataset: Dataset, split: str, samples: list[Sample]) -> None:
    images, boxes = len(samples), sum(len(s.boxes) for s in samples)
    noted = dataset.facts.get("counts", {}).get(split, {})
    published = _expected(dataset).get(split, images)
    for problem, what, count, expected, whose in (
        ("wrong number of images", "images", images, noted.get("images", images), "{} when it was prepared"),
        ("wrong number of boxes", "boxes", boxes, noted.get("boxes", boxes), "{} when it was prepared"),
        ("not the published number", "images", images, published, "the publisher's list has {}"),
    ):
        if expected != count:
            example = f"{count} {what}, {whose.format(expected)}"
            findings.add(problem, split, example, count=abs(expected - count))
    top = len(dataset.class_names) or MAX_CLASSES
    for sample in samples:
        if not 0 <= sample.label < top:
            findings.add("label out of range", split, f"{sample.name} ({sample.label}; allowed: 0 to {top - 1})")


def _check_truth(findings: _Findings, dataset: Dataset, split: str, samples: list[Sample]) -> list[MaskSource | None]:
    """Test images need boxes or masks; so do those of train-fullsup, unless none has any. Gives the masks."""
    masks: list[MaskSource | None] = [None] * len(samples)
    if split != TRAIN and split in dataset.own_splits():
        try:
            masks = find_masks(dataset, samples)
        except DataError as error:
            findings.add("masks cannot be found", split, str(error))
    bare = [s.name for s, mask in zip(samples, masks, strict=True) if not len(s.boxes) and mask is None]
    for name in bare if split != TRAIN else ():
        findings.add("no box", split, name, wrong=split == TEST or len(bare) < len(samples))
    return masks


def _check_mask(findings: _Findings, split: str, sample: Sample, mask: MaskSource, size_hw: tuple[int, int]) -> None:
    try:
        if not any(pixels.any() for pixels in read_truth(mask, size_hw)[0]):
            findings.add("mask without an object", split, sample.name)
    except DataError as error:
        findings.add("mask that cannot be used", split, str(error))


def _read_file(path: Path, fast: bool) -> tuple[Header | DataError, bytes]:
    """Header and digest of the bytes; or why it cannot be read."""
    try:
        header = read_header(path)
        if fast:
            return header, b""
        read_picture(path, at_least=DECODED)
        return header, hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    except DataError as error:
        return error, b""


def _check_image(findings: _Findings, split: str, sample: Sample, header: Header | DataError) -> None:
    if isinstance(header, DataError):
        missing = not os.path.exists(sample.path)
        example = sample.name if missing else f"{sample.name} ({header})"
        findings.add("missing file" if missing else "unreadable image", split, example)
    for problem, example in truth_faults(sample, header):
        findings.add(problem, split, example)


def _check_picture(findings: _Findings, split: str, sample: Sample, first: tuple[str, str, int]) -> None:
    """Compare with the first image of the same bytes, which may be this one."""
    where, name, label = first
    pair = f"{sample.name} = {name}"
    if where != split:
        findings.add(f"same picture as in {where}", split, pair)
    elif name != sample.name and label != sample.label:
        findings.add("same picture, other label", split, pair)
    elif name != sample.name:
        findings.add("same picture twice", split, pair, wrong=False)


def _check_classes(findings: _Findings, names: Sequence[str], classes: dict[str, Counter[int]]) -> None:
    def called(label: int) -> str:
        return f"{label} ({names[label]})" if 0 <= label < len(names) else str(label)

    if TRAIN in classes:
        tested, train = {*classes.get(TEST, ()), *classes.get(FULLSUP, ())}, set(classes[TRAIN])
        for label in sorted(tested - train):
            findings.add("tested class without a training image", TRAIN, called(label))
        for label in sorted(set(range(len(names))) - tested - train):
            findings.add("class without any image", TRAIN, called(label), wrong=False)
    for name, count in Counter(name.lower() for name in names).items():
        if count > 1:
            findings.add("class name used twice", "", name, wrong=False)


def summary(split: str, samples: Sequence[Sample]) -> dict[str, Any]:
    """What a split holds, of which there is at least one image; sizes are ``(h, w)``, if the dataset states them."""
    labels = Counter(sample.label for sample in samples)
    boxes = [len(sample.boxes) for sample in samples]
    sizes = sorted((s.size_hw for s in samples if s.size_hw is not None), key=lambda hw: (hw[0] * hw[1], hw))
    return {
        "split": split,
        "images": len(samples),
        "classes": len(labels),  # that occur
        "boxes": sum(boxes),
        "without_boxes": sum(n == 0 for n in boxes),
        "several_boxes": round(100 * sum(n > 1 for n in boxes) / len(samples), 2),  # percent of the images
        # A label and its images, of equals the lowest:
        "fewest": min(labels.items(), key=lambda item: (item[1], item[0])),
        "most": max(labels.items(), key=lambda item: (item[1], -item[0])),
        "smallest_hw": sizes[0] if sizes else None,
        "median_hw": sizes[len(sizes) // 2] if sizes else None,
        "largest_hw": sizes[-1] if sizes else None,
    }
