"""``results.json``: the result card as a file, and back, checked value by value."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from famcli.data.sample import MAX_CLASSES
from famcli.results.markdown import markdown
from famcli.results.results import FORMAT, FORMAT_VERSION, ClassRow, Difference, Number, Results, Row
from famcli.results.schema import (
    Check,
    MismatchError,
    anything,
    facts,
    flag,
    mapping,
    number,
    one_of,
    optional,
    parse,
    record,
    sequence,
    text,
    whole,
)
from famcli_models.errors import DataError
from famcli_models.files import write_atomic

JSON_NAME, MARKDOWN_NAME = "results.json", "results.md"
MAX_BYTES = 64 * 2**20  # a table of 100,000 classes fits

_KINDS_OF_RESULT = ("evaluation", "smoke check")
_SLACK = 1e-6  # what adding up many floats may exceed 100 by


def to_json(results: Results) -> dict[str, Any]:
    """A result as JSON values, in the form of ``results.json``.

    Raises:
        DataError: A value is not what the schema says, NaN and Infinity included.
    """
    document = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(results)}
    found: dict[str, Any] = json.loads(json.dumps(document, default=_plain))
    try:
        _results(found)  # with the reader's own eyes: what is written can be read
    except MismatchError as error:
        msg = f"this result cannot be written: {error}"
        raise DataError(msg) from error
    return found


def write_results(folder: Path, results: Results) -> None:
    """Write ``results.json`` and ``results.md``; each is whole or not there.

    Args:
        folder: It is created if it is absent.
        results: The card.

    Raises:
        DataError: A value is not what the schema says, NaN and Infinity included, or the files cannot be written.
    """
    card = markdown(results).encode("utf-8", errors="backslashreplace")
    for name, data in ((MARKDOWN_NAME, card), (JSON_NAME, _encoded(to_json(results)))):
        _put(folder / name, data)


def write_all(path: Path, results: Sequence[Results]) -> None:
    """Write several result cards into one file, as a list.

    Args:
        path: ``results.json``.
        results: The cards.

    Raises:
        DataError: As of :func:`write_results`.
    """
    _put(path, _encoded([to_json(one) for one in results]))


def _encoded(document: Any) -> bytes:
    # A name with bytes that are no text becomes \udcXX, which is what JSON calls it.
    return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode("utf-8", errors="backslashreplace")


def _put(path: Path, content: bytes) -> None:
    try:
        write_atomic(path, lambda temporary: temporary.write_bytes(content))
    except OSError as error:
        msg = f"cannot write '{path}': {error.strerror or error}; choose another --out"
        raise DataError(msg) from error


def _plain(value: Any) -> Any:
    """Python's own number for one of numpy."""
    if isinstance(value, np.generic):
        return value.item()
    msg = f"{type(value).__name__} has no form in JSON"
    raise TypeError(msg)


def read_results(path: Path) -> Results:
    """Read a result card.

    Args:
        path: ``results.json``, or the folder that holds it.

    Raises:
        DataError: The file is absent, too large, damaged, of another version, or has a value that is not what the
            schema says.
    """
    file = path / JSON_NAME if path.is_dir() else path
    return _checked(_parsed(file), file)


def read_all(path: Path) -> tuple[Results, ...]:
    """Read a file of one result card, or of a list of several, such as a packaged checkpoint has.

    Raises:
        DataError: As of :func:`read_results`.
    """
    document = _parsed(path)
    return tuple(_checked(card, path) for card in (document if isinstance(document, list) else [document]))


def _parsed(file: Path) -> Any:
    if not file.is_file():
        msg = f"'{file}' does not exist; write it with fam eval --out {file.parent}"
        raise DataError(msg)
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        msg = f"cannot read '{file}': {error.strerror or error}"
        raise DataError(msg) from error
    if len(content) > MAX_BYTES:
        msg = f"'{file}' is larger than {MAX_BYTES >> 20} MiB, which no result needs; is it one of fam eval --out?"
        raise DataError(msg)
    try:
        return parse(content)
    except ValueError as error:
        msg = f"'{file}' is damaged: it is no JSON; write it again with fam eval --out {file.parent}"
        raise DataError(msg) from error


def _checked(document: Any, file: Path) -> Results:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        msg = f"'{file}' is no result of fam: its 'format' is not '{FORMAT}'; fam eval --out writes one"
        raise DataError(msg)
    version = document.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        msg = f"'{file}' has format version {str(version)[:20]}; this version of fam reads {FORMAT_VERSION}"
        raise DataError(msg)
    try:
        return _results(document)
    except (MismatchError, RecursionError) as error:
        why = error if isinstance(error, MismatchError) else "it is nested too deeply"
        msg = f"'{file}' is damaged: {why}"
        raise DataError(msg) from error


def _results(document: Any) -> Results:
    found: Results = _RESULTS(document, "")
    titles = [row.title for row in found.rows]
    if len(set(titles)) < len(titles):
        msg = "rows have to have different titles"
        raise MismatchError(msg)
    for row in found.rows:
        if row.curve is not None and len(row.curve) != len(found.taus):
            msg = f"the curve of row '{row.title}' has {len(row.curve)} values, and there are {len(found.taus)} taus"
            raise MismatchError(msg)
    for difference in found.differences:
        if difference.of not in titles or difference.minus not in titles:
            msg = f"a difference is between '{difference.of}' and '{difference.minus}', which are not both rows"
            raise MismatchError(msg)
    return found


_percent = number(-_SLACK, 100 + _SLACK)
_points = number(-100 - _SLACK, 100 + _SLACK)
_maybe_text = optional(text)
_maybe_percent = optional(_percent)
_count = whole()


def _number(value: Check) -> Check:
    return record(Number, {"value": value}, {"low": optional(value), "high": optional(value)})


_ROW = record(
    Row,
    {"method": text, "title": text, "metrics": mapping(_number(_percent))},
    {
        "tau": optional(number()),
        "tau_from": text,
        "empty": _maybe_percent,
        "at_delta": optional(mapping(mapping(number()))),
        "iou_histogram": optional(sequence(_count, 10, 10)),
        "coco": optional(mapping(_percent)),
        "curve": optional(sequence(_percent)),
        "kinds": optional(mapping(_count)),
    },
)
_DIFFERENCE = record(Difference, {"of": text, "minus": text, "metric": text, "number": _number(_points)})
_CLASS = record(
    ClassRow,
    {
        "label": whole(0, MAX_CLASSES),
        "name": text,
        "images": _count,
        "gt_known": _percent,
        "top1_loc": _maybe_percent,
        "top1_cls": _maybe_percent,
        "mean_iou": _percent,
    },
)
_DATA = facts(
    {"name": text, "split": text, "images": whole(1)},
    {
        "images_of_split": optional(_count),
        "boxes": optional(_count),
        "masks": optional(_count),
        "partial": optional(flag),
        "sha256": _maybe_text,
        "class_names": sequence(text),
    },
)
# What a checkpoint says about where it comes from is free: a long evaluation must not fail on it.
_SOURCE = facts(
    {"kind": one_of(("model", "maps", "predictions")), "name": text},
    {"tuned_on_test": optional(flag)},
)
_RESULTS = record(
    Results,
    {
        "kind": one_of(_KINDS_OF_RESULT),
        "created": text,
        "data": _DATA,
        "source": _SOURCE,
        "protocol": facts({"name": text}, {"rules": anything}),
        "same_classes": flag,
        "rows": sequence(_ROW, 1),
    },
    {
        "taus": sequence(number()),
        "differences": sequence(_DIFFERENCE),
        "classes": sequence(_CLASS),
        "bootstrap": facts({}, {"resamples": whole(1), "seed": _count, "level": number(0, 1)}),
        "versions": mapping(text),
    },
)
