"""Words the command line offers, kept apart so that ``--help`` needs nothing heavy."""

from __future__ import annotations

from enum import Enum


class Format(str, Enum):
    """Forms of the results of ``fam predict``."""

    coco = "coco"
    coco_results = "coco-results"
    csv = "csv"
    jsonl = "jsonl"
