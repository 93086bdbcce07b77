"""Results of the small Table 1: a file with a line of JSON for each run that has ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from json_lines import append, read_lines  # noqa: F401  (this module gives both ways)

RESULTS = Path(__file__).parent.parent / "docs" / "assets" / "methods.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One finished run, of the model of the last step.

    Attributes:
        recipe: A packaged one.
        data: Name of the data set.
        seed: Of everything random.
        train_images: Images that were trained on.
        epochs: Passes over them.
        scores: On the test split, in percent: at the method's own τ those of ``fam eval``, at the threshold that is
            best on the test split the same with ``oracle_`` before them, ``oracle_tau``, ``max_box_acc_v2``, and of
            data with masks ``pxap`` and ``piou``.
        right: Of each test image, in order, 1 if the box at the method's τ is right.
        right_oracle: Likewise at the oracle's.
        known: Likewise 1 if the class is right.
        train_top1: Share of training views classified right in the last epoch, percent.
        parameters: Of the network that is kept.
        prepare_seconds: For supervision and the like, before the first step.
        step_seconds: Mean time of a step.
        threads: That PyTorch had.
    """

    recipe: str
    data: str
    seed: int
    train_images: int
    epochs: int
    scores: dict[str, float]
    right: str
    right_oracle: str
    known: str
    train_top1: float
    parameters: int
    prepare_seconds: float
    step_seconds: float
    threads: int


def read(path: Path = RESULTS) -> list[Result]:
    """The runs of a file, in its order; none if there is no file."""
    return read_lines(path, Result)
