"""Which images a report shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from famcli.evaluation.perimage import NOWHERE
from famcli.results.images import ImageResult
from famcli.results.schema import Results
from famcli_models.errors import DataError

FEATURED = 12  # of the best, worst and random images: larger pictures and part maps


@dataclass(frozen=True, slots=True)
class Picks:
    """Images of a report, by their place in the records.

    Attributes:
        total: Number of records.
        shown: Ascending; all of them, or the best, worst and random third of what was asked for.
        random: All of ``shown`` in random order, or the random ones alone if images were left out.
        featured: The first of the best, of the worst and of the random ones, ascending.
    """

    total: int
    shown: Sequence[int]
    random: Sequence[int]
    featured: Sequence[int]


def pick(records: Iterable[ImageResult], results: Results, most: int, seed: int = 0) -> Picks:
    """Choose by the IoU of the first row; no box is worse than the worst box, equal ones stay in order.

    Args:
        records: All of them; they are read once and not kept.
        results: What they belong to.
        most: Show at most so many.
        seed: Of the random order.

    Raises:
        DataError: The records are not those of the results.
    """
    titles = {row.title for row in results.rows}
    first = results.rows[0].title
    ious = []
    kinds: Counter[str] = Counter()
    labels: Counter[int] = Counter()
    for record in records:
        odd = record.found.keys() - titles
        if odd or first not in record.found:
            what = f"has boxes of '{min(odd)}', which" if odd else f"has no box of '{first}', which"
            msg = f"'{record.name}' {what} does not go with results.json: are both of one run of fam eval?"
            raise DataError(msg)
        found = record.found[first]
        ious.append(NOWHERE if found.iou is None else found.iou)
        kinds[found.kind] += 1
        labels[record.label] += 1
    expected = results.data.get("images")
    if not ious or (expected is not None and expected != len(ious)):
        msg = f"{len(ious)} images in images.jsonl, {expected} in results.json: run fam eval with --out again"
        raise DataError(msg)
    counted = results.rows[0].kinds
    by_class = {row.label: row.images for row in results.classes}
    if (counted is not None and kinds != Counter(counted)) or (by_class and labels != Counter(by_class)):
        msg = "images.jsonl and results.json count other images: both must be of one run of fam eval; run it again"
        raise DataError(msg)
    return _choose(np.array(ious), most, seed)


def _choose(ious: np.ndarray, most: int, seed: int) -> Picks:
    best, worst = np.argsort(-ious, kind="stable"), np.argsort(ious, kind="stable")
    random = np.random.default_rng(seed).permutation(len(ious))
    if len(ious) > most:
        third = max(1, most // 3) if most > 2 else 0
        best, worst = best[: most - 2 * third], worst[:third]
        random = random[:third]  # of all images, so some of them may be among the best or worst
    shown = np.unique(np.concatenate([best, worst, random]))
    featured = np.unique(np.concatenate([part[:FEATURED] for part in (best, worst, random)]))
    return Picks(len(ious), shown.tolist(), random.tolist(), featured.tolist())
