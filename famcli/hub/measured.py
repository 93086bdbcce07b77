"""What was measured of a checkpoint, from the files beside it: numbers with the weights and the protocol they are of.

Nothing here knows a number of the paper.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from famcli.hub.text import one_line
from famcli_models.errors import DataError

RESULTS_FILE = "results.json"
FORMAT, FORMAT_VERSION = "fam-results", 1
MAX_BYTES = 64 * 2**20  # as fam eval reads
MAX_IMAGES = 10**9
SLACK = 1e-6  # what adding up many floats may exceed 100 by
# Names and titles of what cards and lists show, in this order; all in percent.
TITLES: Mapping[str, str] = {
    "gt_known": "GT-known Loc",
    "top1_loc": "Top-1 Loc",
    "top5_loc": "Top-5 Loc",
    "top1_cls": "Top-1 Cls",
    "top5_cls": "Top-5 Cls",
    "mean_iou": "mean IoU",
    "max_box_acc": "MaxBoxAcc",
    "max_box_acc_v2": "MaxBoxAccV2",
    "pxap": "PxAP",
    "piou": "pIoU",
}
Value = tuple[float, float | None, float | None]


@dataclass(frozen=True, slots=True)
class Scores:
    """One way of making boxes.

    Attributes:
        title: What tables call it.
        tau: Threshold on the map, if there is one.
        tau_from: How it was chosen; ``oracle`` is on the very images scored.
        values: Value in percent, lower and upper end of its interval, by a name of :data:`TITLES`.
    """

    title: str
    tau: float | None
    tau_from: str
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One evaluation.

    Attributes:
        data: Name of the dataset.
        split: Its split.
        images: How many were scored.
        protocol: Name of the protocol.
        rows: The model's scores, then its rivals'.
        kind: ``evaluation``, or what else it was.
        source: What was evaluated.
        facts: Everything else in the file.
    """

    data: str
    split: str
    images: int
    protocol: str
    rows: tuple[Scores, ...]
    kind: str = "evaluation"
    source: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def sentence(self) -> str:
        """``GT-known Loc 69.6, Top-1 Loc 54.1 (ilsvrc-val-mini/test, 608 images)``."""
        values = self.rows[0].values
        shown = [name for name in TITLES if name in values and name != "mean_iou"][:2]
        numbers = ", ".join(f"{TITLES[name]} {values[name][0]:.1f}" for name in shown)
        return f"{numbers} ({self.data}/{self.split}, {self.images:,} images)"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: what a list shows."""
        first = self.rows[0]
        numbers = {name: value[0] for name, value in first.values.items()}
        where = {"data": self.data, "split": self.split, "images": self.images, "protocol": self.protocol}
        return {**where, "tau": first.tau, "tau_from": first.tau_from, **numbers}


def read_measured(path: Path) -> tuple[Measured, ...]:
    """The evaluations in a ``results.json``: that of ``fam eval --out``, or the list of a packaged checkpoint.

    Raises:
        DataError: It cannot be read as either.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            msg = f"{path} is larger than {MAX_BYTES >> 20} MiB; it is no results.json of fam eval"
            raise DataError(msg)
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, list):
            return tuple(_listed(entry) for entry in content)
        if content["format"] != FORMAT or content["format_version"] != FORMAT_VERSION:
            msg = f"{path} is {content['format']!r} {content['format_version']!r}; this version of fam reads "
            msg += f"{FORMAT!r} {FORMAT_VERSION}"
            raise DataError(msg)
        return (_evaluation(content),)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        msg = f"cannot read {path}: {type(error).__name__} ({error}); make it with 'fam eval --out'"
        raise DataError(msg) from error


def _evaluation(content: Mapping[str, Any]) -> Measured:
    data, protocol = content["data"], content["protocol"]
    rows = tuple(
        Scores(
            str(row["title"]),
            fraction(row.get("tau")),
            str(row.get("tau_from") or ""),
            {
                name: (percent(number["value"]), _end(number.get("low")), _end(number.get("high")))
                for name, number in row["metrics"].items()
                if name in TITLES and number is not None
            },
        )
        for row in content["rows"]
    )
    return _measured(
        Measured(
            data=str(data["name"]),
            split=str(data["split"]),
            images=count(data["images"]),
            protocol=str(protocol["name"]),
            rows=rows,
            kind=str(content["kind"]),
            source=dict(content["source"]),
            facts={
                key: content.get(key)
                for key in ("created", "data", "protocol", "versions", "bootstrap", "same_classes")
            },
        )
    )


def _listed(entry: Mapping[str, Any]) -> Measured:
    rows = tuple(
        Scores(
            str(row["method"]),
            fraction(row.get("tau")),
            str(row.get("tau_from") or ""),
            {name: (percent(row[name]), None, None) for name in TITLES if row.get(name) is not None},
        )
        for row in entry["rows"]
    )
    return _measured(
        Measured(
            data=str(entry["data"]),
            split=str(entry["split"]),
            images=count(entry["images"]),
            protocol=str(entry.get("protocol", "fam")),
            rows=rows,
        )
    )


def _measured(found: Measured) -> Measured:
    if not found.rows or not found.rows[0].values:
        msg = "it has no scores"
        raise ValueError(msg)
    return found


def percent(value: object) -> float:
    """A number from a file as a percentage.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 100 + SLACK:
        return float(value)
    msg = f"{one_line(repr(value))} is no percentage"
    raise ValueError(msg)


def fraction(value: object) -> float | None:
    """A threshold from a file, or that there is none.

    Raises:
        ValueError: It is not within 0 and 1.
    """
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    msg = f"{one_line(repr(value))} is no threshold within 0 and 1"
    raise ValueError(msg)


def count(value: object) -> int:
    """A number of images from a file.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_IMAGES:
        return value
    msg = f"{one_line(repr(value))} is no number of images"
    raise ValueError(msg)


def _end(value: object) -> float | None:
    return None if value is None else percent(value)
