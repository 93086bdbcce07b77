"""Compare evaluations of the same images: a row for each method, its seeds together, and paired differences.

What ``images.jsonl`` says of each image is paired; metrics that need more, such as PxAP, are compared without interval.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from famcli.checkpoints.doctor import package_versions
from famcli.data.sample import split_name
from famcli.evaluation.bootstrap import LEVEL, RESAMPLES, SEED, Bootstrap
from famcli.evaluation.perimage import FIXED_BOXES
from famcli.results import tables
from famcli.results.comparison import COLUMNS, ComparedRow, ComparedSize, Comparison, Score
from famcli.results.images import ImageResult
from famcli.results.io import IMAGES_NAME, read_images, read_results
from famcli.results.schema import Difference, Number, Results, Row
from famcli_models.boxes import FloatArray
from famcli_models.errors import ConfigError, DataError, UnknownNameError, shown

OF_A_SEED = {"name", "seed", "weights_sha256", "revision"}  # facts of a source that differ between seeds of one method
PER_IMAGE = ("gt_known", "max_box_acc", "top1_loc", "top1_cls", "mean_iou")  # means over images of what is stored
RIGHT_BOX = {"right", "wrong class"}  # error types
_SLACK = 1e-6  # percent: what adding up in another order may change

Scores = Mapping[str, FloatArray]  # by metric (n,) the score of each image, in [0, 1]


@dataclass(frozen=True, slots=True)
class Member:
    """One evaluation: its folder, its results, and the row of them that is compared."""

    folder: Path
    results: Results
    row: Row

    def settings(self) -> tuple[object, ...] | None:
        """What the seeds of one method have in common, and nothing else has; ``None`` where that is not known."""
        source = self.results.source
        if source.get("settings_sha256") is None or source.get("seed") is None:
            return None
        return self.row.method, *sorted((key, repr(value)) for key, value in source.items() if key not in OF_A_SEED)


@dataclass(frozen=True, slots=True)
class Group:
    """What one row of the comparison is made of."""

    name: str
    members: Sequence[Member]
    fixed: bool = False  # the centre box or the whole image


def compare(
    folders: Sequence[str | Path] = (),
    *,
    groups: Mapping[str, Sequence[str | Path]] | None = None,
    baseline: str | Path | None = None,
) -> Comparison:
    """Compare evaluations of the same images by the same protocol; what ``fam compare`` runs.

    Args:
        folders: Folders that ``fam eval --out`` wrote. Those of one method that differ in the training seed alone make
            one row.
        groups: More folders, by the name of the row that they make, whatever their results say.
        baseline: Name of a row or one of its folders; differences are to this row, and not between every pair.

    Returns:
        Rows in percent and differences in points. Intervals are over images; where a row has several seeds, the scores
        of each image are averaged over them first.

    Raises:
        ConfigError: There is nothing to compare, or it is not clear which folders belong together.
        DataError: A folder cannot be read, or images, boxes, split or protocol differ.
        UnknownNameError: There is no such baseline.

    Example:
        ```python
        from famcli import compare

        found = compare(["runs/cam/results", "runs/fam/results"])
        print(found.differences[0].number)
        ```
    """
    return compare_groups(find_groups(folders, groups or {}), baseline)


def compare_groups(found: Sequence[Group], baseline: str | Path | None = None) -> Comparison:
    """The same of groups that were found."""
    first = found[0].members[0]
    taken = {group.name for group in found}
    fixed = [row for row in first.results.rows if row.method in FIXED_BOXES and row.title not in taken]
    whole = [*found, *(Group(row.title, [Member(first.folder, first.results, row)], fixed=True) for row in fixed)]
    rows = {group.name: _row(group) for group in whole}
    base = None if baseline is None else _find_baseline(str(baseline), whole)
    pairs = combinations(found, 2) if base is None else ((group, base) for group in found if group is not base)
    return Comparison(
        data={key: value for key, value in first.results.data.items() if key != "class_names"},
        protocol={key: first.results.protocol.get(key) for key in ("name", "interval", "crops")},
        rows=tuple(rows.values()),
        baseline=None if base is None else base.name,
        differences=tuple(_differences(list(pairs), rows, _read_scores(whole))),
        warnings=tuple(dict.fromkeys(_warnings(found))),
        bootstrap={"resamples": RESAMPLES, "seed": SEED, "level": LEVEL},
        versions=package_versions(),
    )


def find_groups(folders: Sequence[str | Path], groups: Mapping[str, Sequence[str | Path]]) -> list[Group]:
    """The methods, in the order of the folders, then those that were named; all by one protocol on one split."""
    named = {name: [_open(folder) for folder in of] for name, of in groups.items()}
    placed = {member.folder.resolve() for members in named.values() for member in members}
    if len(placed) < sum(map(len, named.values())):
        raise ConfigError("a folder belongs to one group: the same one is in two, or twice in one")
    alone = {member.folder.resolve(): member for member in map(_open, folders)}
    together: dict[object, list[Member]] = {}
    for member in (member for folder, member in alone.items() if folder not in placed):
        together.setdefault(member.settings() or member.folder, []).append(member)
    for members in together.values():
        seeds = Counter(member.results.source.get("seed") for member in members)
        twice = [str(m.folder) for m in members if seeds[m.results.source.get("seed")] > 1]
        if len(twice) > 1:
            raise ConfigError(
                f"{' and '.join(map(repr, twice))} are of the same settings and seed, so it is not clear whether they "
                "belong together; say so with --group NAME=FOLDER for each"
            )
    found = [
        Group(name, of) for name, of in zip(_names(list(together.values()), named), together.values(), strict=True)
    ]
    found += [Group(name, of) for name, of in named.items()]
    if not found:
        raise ConfigError("there is nothing to compare: give folders that fam eval --out wrote")
    members = [member for group in found for member in group.members]
    for member in members[1:]:
        _check_rules(member, members[0])
    return found


def _open(path: str | Path) -> Member:
    results, path = read_results(Path(path)), Path(path)
    return Member(path if path.is_dir() else path.parent, results, results.rows[0])


def _names(groups: Sequence[Sequence[Member]], taken: Collection[str]) -> list[str]:
    """A name for each, by its method, and of those with the same name by what tells them apart."""
    firsts = [members[0] for members in groups]
    names = [first.row.title for first in firsts]
    for facts in (
        [first.results.source.get("backbone") for first in firsts],
        [first.results.source.get("recipe") for first in firsts],
        [str(first.folder) for first in firsts],
    ):
        for name, count in Counter([*taken, *names]).items():
            alike = [i for i, other in enumerate(names) if other == name] if count > 1 else []
            if len({facts[i] for i in alike} - {None}) == len(alike):
                for i in alike:
                    names[i] = f"{firsts[i].row.title}, {facts[i]}"
    return names


def _check_rules(member: Member, first: Member) -> None:
    """Make sure that two evaluations have the same protocol and split."""
    a, b = first.results, member.results
    masked = all("pxap" in of.row.metrics for of in (first, member))
    many = all(of.protocol.get("interval") is not None for of in (a, b))
    for applies, what, of_first, of_member in (
        (True, "protocol", a.protocol["name"], b.protocol["name"]),
        (True, "number of crops", a.protocol.get("crops"), b.protocol.get("crops")),
        (many, "interval of thresholds", a.protocol.get("interval"), b.protocol.get("interval")),
        (True, "split", split_name(a.data["split"]), split_name(b.data["split"])),
        (True, "number of images", a.data["images"], b.data["images"]),
        (masked, "number of images with masks", a.data.get("masks"), b.data.get("masks")),
    ):
        if applies:
            _require_same(what, first.folder, of_first, member.folder, of_member)


def _row(group: Group) -> ComparedRow:
    rows, sources = [m.row for m in group.members], [m.results.source for m in group.members]
    first, source = rows[0], {} if group.fixed else sources[0]
    oracles = [oracle for oracle in map(_oracle, group.members) if oracle is not None]
    return ComparedRow(
        name=group.name,
        method=first.method,
        fixed=group.fixed,
        folders=tuple(str(member.folder) for member in group.members),
        seeds=tuple(of.get("seed") for of in sources),
        source={
            key: value
            for key, value in source.items()
            if key != "class_names" and value is not None and all(of.get(key) == value for of in sources)
        },
        metrics={
            name: _score([row.metrics[name] for row in rows])
            for name in first.metrics
            if all(name in row.metrics for row in rows)
        },
        taus=tuple(row.tau for row in rows if row.tau is not None),
        tau_from=first.tau_from,
        oracle_taus=tuple(tau for _, tau in oracles),
        oracle=_score([number for number, _ in oracles]) if oracles else None,
        empty=None if first.empty is None else fmean(row.empty or 0.0 for row in rows),
        sizes=_sizes(rows),
    )


def _sizes(rows: Sequence[Row]) -> tuple[ComparedSize, ...] | None:
    """Scores by size that all have; the images of a bin are the same for all, and the ratio of areas is the mean."""
    found = []
    for of_rows in zip(*(row.sizes or () for row in rows), strict=False):
        numbers = [of.gt_known for of in of_rows if of.gt_known is not None]
        ratios = [of.area_ratio for of in of_rows if of.area_ratio is not None]
        found.append(
            ComparedSize(of_rows[0].images, _score(numbers) if numbers else None, fmean(ratios) if ratios else None)
        )
    return tuple(found) or None


def _oracle(member: Member) -> tuple[Number, float] | None:
    """The best GT-known of the curve, which has no interval, and its threshold."""
    curve = member.row.curve
    if not curve or "gt_known" not in member.row.metrics:
        return None
    best = int(np.argmax(curve))
    return Number(curve[best]), member.results.taus[best]


def _score(numbers: Sequence[Number]) -> Score:
    if len(numbers) == 1:
        return Score(numbers[0].value, None, numbers[0].low, numbers[0].high)
    values = [number.value for number in numbers]
    return Score(fmean(values), stdev(values))


def _find_baseline(name: str, groups: Sequence[Group]) -> Group:
    for group in groups:
        names = {group.name.casefold(), group.members[0].row.method if group.fixed else group.name}
        if name.casefold() in names or any(Path(name).resolve() == member.folder.resolve() for member in group.members):
            return group
    raise UnknownNameError("baseline", name, [group.name for group in groups], "or give the folder of a result")


def _differences(
    pairs: Sequence[tuple[Group, Group]], rows: Mapping[str, ComparedRow], scores: Mapping[str, Scores]
) -> Iterator[Difference]:
    """Each metric that both have; with an interval where images have scores."""
    columns = [(name, metric) for name, of_row in scores.items() for metric in of_row]
    resampled: dict[tuple[str, str], FloatArray] = {}
    if columns and pairs:
        values = np.stack([scores[name][metric] for name, metric in columns], axis=1)
        bootstrap = Bootstrap(len(values))
        resampled = dict(zip(columns, bootstrap.means(values).T, strict=True))
    for of, minus in pairs:
        a, b = rows[of.name], rows[minus.name]
        for metric in COLUMNS:
            if metric in a.metrics and metric in b.metrics:
                number = Number(a.metrics[metric].value - b.metrics[metric].value)
                if metric in scores[of.name] and metric in scores[minus.name]:
                    low, high = bootstrap.interval(resampled[of.name, metric] - resampled[minus.name, metric])
                    number = Number(number.value, 100 * low, 100 * high)
                yield Difference(of.name, minus.name, metric, number)


def _read_scores(groups: Sequence[Group]) -> dict[str, Scores]:
    """By name of a row the scores of each image, averaged over its members."""
    members = [(group.name, member) for group in groups for member in group.members]
    folders = list(dict.fromkeys(member.folder for _, member in members))
    values = np.full((int(members[0][1].results.data["images"]), len(members), len(PER_IMAGE)), np.nan)
    for i, images in enumerate(read_together(folders, len(values))):
        of_folders = dict(zip(folders, images, strict=True))
        for j, (_, member) in enumerate(members):
            values[i, j] = _image_scores(of_folders[member.folder], member.row.title)
    each: dict[str, list[Scores]] = {group.name: [] for group in groups}
    for j, (name, member) in enumerate(members):
        scores = dict(zip(PER_IMAGE, values[:, j].T, strict=True))
        known = {metric: of for metric, of in scores.items() if metric in member.row.metrics and np.isfinite(of).any()}
        for metric, of in known.items():
            if not abs(100 * of.mean() - member.row.metrics[metric].value) <= _SLACK:  # or NaN
                raise _mixed(member.folder)
        each[name].append(known)
    return {
        name: {metric: np.mean([of[metric] for of in seeds], axis=0) for metric in set.intersection(*map(set, seeds))}
        for name, seeds in each.items()
    }


def _image_scores(image: ImageResult, title: str) -> tuple[float, ...]:
    """What one image adds to each metric of :data:`PER_IMAGE`, in [0, 1]; NaN where it says nothing."""
    found = image.found.get(title)
    if found is None:
        return (np.nan,) * len(PER_IMAGE)
    right, known = found.kind in RIGHT_BOX, np.nan if image.rank is None else float(image.rank == 0)
    return right, right, right * known, known, found.iou or 0.0


def read_together(folders: Sequence[Path], count: int) -> Iterator[tuple[ImageResult, ...]]:
    """The per-image results of several evaluations side by side, image by image; memory does not grow with them.

    Raises:
        DataError: They are not of the same images with the same labels and boxes in the same order, or not ``count``.
    """
    streams = [read_images(folder / IMAGES_NAME) for folder in folders]
    for number in range(1, count + 1):
        images = []
        for folder, stream in zip(folders, streams, strict=True):
            image = next(stream, None)
            if image is None:
                raise _mixed(folder)
            images.append(image)
            first, name = images[0], shown(image.name)
            _require_same(f"name of image {number}", folders[0], first.name, folder, image.name)
            _require_same(f"label of {name}", folders[0], first.label, folder, image.label)
            _require_same(f"list of boxes of {name}", folders[0], first.truth, folder, image.truth)
        yield tuple(images)
    for folder, stream in zip(folders, streams, strict=True):
        if next(stream, None) is not None:
            raise _mixed(folder)


def _require_same(what: str, first: Path, of_first: object, other: Path, of_other: object) -> None:
    if of_first != of_other:
        raise DataError(
            f"'{first}' and '{other}' cannot be compared: the {what} is {shown(of_first)} in one and "
            f"{shown(of_other)} in the other"
        )


def _mixed(folder: Path) -> DataError:
    return DataError(f"'{folder}': images.jsonl and results.json are not of one run; run fam eval with --out again")


def _warnings(groups: Sequence[Group]) -> Iterator[str]:
    """What must be read before any number."""
    for group in groups:
        for member in group.members:
            for _, sentence in tables.warnings(member.results):
                yield f"{group.name}: {sentence}"
            if not member.results.same_classes:
                yield f"{group.name}: Classes were not scored; a map of a class is that of the most probable one."
