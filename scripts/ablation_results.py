"""What the ablations gave: a file with a line of JSON for each finished run, and means over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ablation_rows import Row, Value
from json_lines import append, read_lines  # noqa: F401  (this module gives both ways)

EMPTY, FULL = 50, 95  # percent: share of maps without a box from which, and of foreground beyond which, M says nothing
NOISE = "smaller than the spread"
RESULTS = Path(__file__).parent.parent / "docs" / "assets" / "ablations.jsonl"


@dataclass(frozen=True, slots=True)
class Result:
    """One finished run.

    Attributes:
        recipe: A packaged one.
        changes: Settings that were changed.
        seed: Of everything random.
        scores: On the test split, of the model after the last step: ``gt_known``, ``top1_loc``, ``top1_cls``,
            ``empty`` and ``foreground`` in percent, ``mean_m`` and ``part_similarity`` in [0, 1].
        train_top1: Share of training views classified right in the last epoch, percent.
        seconds: Wall time of the training.
        failed: Why there are no scores, if there are none.
        data: Data set that was trained on.
        test: Data set whose test split was scored.
    """

    recipe: str
    changes: dict[str, Value]
    seed: int
    scores: dict[str, float] = field(default_factory=dict)
    train_top1: float = math.nan
    seconds: float = 0.0
    failed: str = ""
    data: str = "cub-mini"
    test: str = "cub-mini"

    @property
    def collapsed(self) -> bool:
        """M says nothing: nearly no box, or nearly everything is foreground."""
        return bool(self.failed) or self.scores["empty"] >= EMPTY or self.scores["foreground"] > FULL

    def of(self, row: Row) -> bool:
        """Whether it is a run of a row."""
        same = (self.data, self.test) == (row.data, row.test)
        return same and self.recipe == row.recipe and self.changes == row.changes


@dataclass(frozen=True, slots=True)
class Mean:
    """A score over seeds.

    Attributes:
        mean: NaN without a run.
        sd: Sample standard deviation; 0 for a single run.
        n: Runs.
    """

    mean: float
    sd: float
    n: int

    def __str__(self) -> str:
        if not self.n:
            return "not run"
        return f"{self.mean:.1f} ± {self.sd:.1f}" if self.n > 1 else f"{self.mean:.1f}"


def read(path: Path = RESULTS) -> list[Result]:
    """The runs of a file, in its order; none if there is no file."""
    return read_lines(path, Result)


def mean(results: Iterable[Result], row: Row, score: str) -> Mean:
    """A score of a row over its seeds; a run that failed counts for nothing."""
    values = [result.scores[score] for result in results if result.of(row) and score in result.scores]
    if not values:
        return Mean(math.nan, math.nan, 0)
    return Mean(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0, len(values))


def spread(a: Mean, b: Mean) -> float:
    """Standard deviation of the difference of two runs."""
    return math.hypot(a.sd, b.sd)


def collapses(results: Iterable[Result], row: Row) -> str:
    """With how many seeds a row's M collapsed."""
    runs = [result for result in results if result.of(row)]
    return f"{sum(run.collapsed for run in runs)} of {len(runs)}" if runs else "not run"
