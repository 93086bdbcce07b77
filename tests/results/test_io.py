"""Results written to files and read back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from famcli.results.images import ERROR_TYPES
from famcli.results.io import MAX_BYTES, read_all, read_results, to_json, write_all, write_results
from famcli.results.schema import METRICS, ClassRow, Number, Results, Row
from famcli.results.tables import markdown
from famcli_models.errors import DataError


def written(folder: Path, results: Results) -> dict[str, Any]:
    write_results(folder, results)
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def rewritten(folder: Path, document: Any) -> Path:
    path = folder / "results.json"
    path.write_text(json.dumps(document).replace(f'"{HUGE}"', HUGE), encoding="utf-8")
    return path


def test_results_come_back(tmp_path: Path, results: Results) -> None:
    """A card is read as it was written, from its file or its folder."""
    write_results(tmp_path / "out", results)
    assert read_results(tmp_path / "out") == results
    assert read_results(tmp_path / "out" / "results.json") == results
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["results.json", "results.md"]


def test_the_form_of_the_file(tmp_path: Path, results: Results) -> None:
    """The file says first what it is; keys are those of the types, and what is absent is null."""
    document = written(tmp_path, results)
    assert list(document)[:2] == ["format", "format_version"]
    assert (document["format"], document["format_version"]) == ("fam-results", 1)
    assert document["rows"][0]["metrics"]["gt_known"] == {"value": 81.234, "low": 80.1, "high": 82.3}
    assert document["rows"][2]["tau"] is None
    assert document["data"]["class_names"] == ["wren", "crow"]


percent = st.floats(0, 100)
optional_percent = st.none() | percent
metric = st.builds(Number, percent, optional_percent, optional_percent)
names = st.text()
free = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
).filter(lambda v: not isinstance(v, float) or abs(v) < 1e300)
rows = st.builds(
    Row,
    method=names,
    title=names,
    metrics=st.dictionaries(st.sampled_from(list(METRICS)), metric, max_size=4),
    tau=st.none() | st.floats(-10, 10),
    tau_from=st.sampled_from(["", "fixed", "oracle"]),
    empty=optional_percent,
    at_delta=st.none()
    | st.dictionaries(names, st.dictionaries(st.sampled_from(["value", "tau"]), percent), max_size=3),
    iou_histogram=st.none() | st.tuples(*[st.integers(0, 10**6)] * 10),
    coco=st.none() | st.dictionaries(st.sampled_from(["AP", "AP50", "AP75"]), percent),
    curve=st.none() | st.tuples(percent, percent),
    kinds=st.none() | st.dictionaries(st.sampled_from(list(ERROR_TYPES)), st.integers(0, 100)),
)
cards = st.builds(
    Results,
    kind=st.sampled_from(["evaluation", "smoke check"]),
    created=names,
    data=st.fixed_dictionaries(
        {"name": names, "split": names, "images": st.integers(1, 10**6)},
        optional={"class_names": st.lists(names, max_size=3).map(tuple), "extra": free},
    ),
    source=st.fixed_dictionaries(
        {"kind": st.sampled_from(["model", "maps", "predictions"]), "name": names}, optional={"seed": free}
    ),
    protocol=st.fixed_dictionaries({"name": names}, optional={"rules": free}),
    same_classes=st.booleans(),
    rows=st.lists(rows, min_size=1, max_size=3, unique_by=lambda row: row.title).map(tuple),
    taus=st.tuples(percent, percent),
    classes=st.lists(
        st.builds(
            ClassRow, st.integers(0, 999), names, st.integers(0, 10**6), percent, st.none(), optional_percent, percent
        ),
        max_size=2,
    ).map(tuple),
    versions=st.dictionaries(names, names, max_size=2),
)


@given(cards)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=25)
def test_any_card_comes_back(tmp_path: Path, results: Results) -> None:
    """Every number keeps all of its digits and every text its letters, and Markdown can be made of all of them."""
    write_results(tmp_path, results)
    assert read_results(tmp_path) == results


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["format", "rows", "data", "kind"]), inner),
    max_leaves=10,
)


@given(json_values, st.sampled_from(["", *Results.__slots__]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_any_json_is_read_or_refused_in_a_sentence(tmp_path: Path, results: Results, value: Any, key: str) -> None:
    """Whatever is at the top of the file or in the place of one of its keys, there is no traceback."""
    document = written(tmp_path, results)
    path = rewritten(tmp_path, {**document, key: value} if key else value)
    said = ""
    try:
        markdown(read_results(path))
    except DataError as error:
        said = str(error)
    assert len(said) < 600
    assert not said or str(path) in said


def test_numbers_of_numpy_are_numbers(tmp_path: Path, results: Results) -> None:
    """What an evaluator computes with is written without being converted first."""
    row = replace(results.rows[0], metrics={"gt_known": Number(np.float64(50), np.float32(40), None)}, curve=None)
    found = written(tmp_path, replace(results, rows=(row,), differences=(), taus=()))
    assert found["rows"][0]["metrics"]["gt_known"] == {"value": 50, "low": 40, "high": None}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_written(tmp_path: Path, results: Results, value: float) -> None:
    """A NaN is refused with its place, wherever it is, and nothing is written."""
    bad_row = replace(results.rows[0], metrics={"gt_known": Number(value)})
    with pytest.raises(DataError, match=r"rows\[0\].metrics.gt_known.value has to be at"):
        write_results(tmp_path, replace(results, rows=(bad_row, *results.rows[1:])))
    with pytest.raises(DataError, match=r"source.seed has to be a finite number"):
        write_results(tmp_path, replace(results, source={**results.source, "seed": value}))
    assert list(tmp_path.iterdir()) == []


HUGE = "1e400"  # becomes a number in the file, which is read as infinity


def at(*keys: Any, to: Any) -> dict[str, Any]:
    return {"keys": keys, "to": to}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "another kind": (at("kind", to="test"), "kind has to be one of 'evaluation', 'smoke check', not 'test'"),
    "no rows": (at("rows", to=[]), "rows has to be a list of at least 1 values"),
    "a metric is text": (at("rows", 0, "metrics", "gt_known", "value", to="81"), "value has to be a number, not '81'"),
    "more than all": (at("rows", 0, "metrics", "gt_known", "value", to=101), "value has to be at most 100, not 101"),
    "less than nothing": (at("rows", 0, "metrics", "gt_known", "low", to=-1), "metrics.gt_known has to be at least 0"),
    "a flag for a number": (at("rows", 0, "tau", to=True), r"rows\[0\].tau has to be a number, not True"),
    "nine bins": (at("rows", 0, "iou_histogram", to=[1] * 9), "iou_histogram has to be a list of at least 10"),
    "a count of -1": (at("rows", 0, "kinds", "right", to=-1), "kinds.right has to be at least 0, not -1"),
    "a short curve": (at("rows", 0, "curve", to=[1.0]), "the curve of row 'FAM' has 1 values, and there are 2 taus"),
    "two equal titles": (at("rows", 1, "title", to="FAM"), "rows have to have different titles"),
    "an unknown row": (at("differences", 0, "minus", to="x"), "between 'FAM' and 'x', which are not both rows"),
    "no images": (at("data", "images", to=0), "data.images has to be at least 1, not 0"),
    "names that are no text": (at("data", "class_names", to=[1]), r"data.class_names\[0\] has to be a text"),
    "source of another kind": (at("source", "kind", to="guess"), "source.kind has to be one of 'model', 'maps', 'pred"),
    "same_classes is text": (at("same_classes", to="yes"), "same_classes has to be true or false"),
    "classes are an object": (at("classes", to={}), "classes has to be a list, not {}"),
    "a class without a name": (at("classes", 0, "name", to=None), r"classes\[0\].name has to be a text"),
    "a version is a number": (at("versions", "torch", to=2), r"versions.torch has to be a text"),
    "infinity in what is free": (at("source", "seed", to=[HUGE]), r"source.seed has to be a finite number"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_values_are_named(tmp_path: Path, results: Results, case: str) -> None:
    """A value that is not what the schema says is one sentence with the file and the place."""
    change, message = BAD[case]
    document = written(tmp_path, results)
    place = document
    for key in change["keys"][:-1]:
        place = place[key]
    place[change["keys"][-1]] = change["to"]
    path = rewritten(tmp_path, document)
    with pytest.raises(DataError, match=message) as caught:
        read_results(path)
    assert str(caught.value).startswith(f"'{path}' is damaged: ")


@pytest.mark.parametrize("key", ["kind", "created", "data", "source", "protocol", "same_classes", "rows"])
def test_missing_keys_are_named(tmp_path: Path, results: Results, key: str) -> None:
    """What every card has must be there."""
    document = written(tmp_path, results)
    del document[key]
    with pytest.raises(DataError, match=f"{key} is missing"):
        read_results(rewritten(tmp_path, document))


def test_new_keys_are_let_pass(tmp_path: Path, results: Results) -> None:
    """A later version may write more."""
    document = written(tmp_path, results)
    document["later"] = 1
    document["rows"][0]["later"] = [1]
    assert read_results(rewritten(tmp_path, document)) == results


@pytest.mark.parametrize("version", [0, 2, "1", None, True, [1] * 1000])
def test_other_versions_are_refused(tmp_path: Path, results: Results, version: Any) -> None:
    """A version that is not known is said, with the one that is."""
    document = {**written(tmp_path, results), "format_version": version}
    with pytest.raises(DataError, match="has format version .{1,20}; this version of fam reads 1"):
        read_results(rewritten(tmp_path, document))


@pytest.mark.parametrize("document", [{}, [], 1, None, {"format": "coco"}, {"format": ["fam-results"]}])
def test_other_files_are_refused(tmp_path: Path, document: Any) -> None:
    """JSON of something else is told from a damaged result."""
    with pytest.raises(DataError, match="is no result of fam"):
        read_results(rewritten(tmp_path, document))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b"[" * 200_000, b"9" * 10_000])
def test_what_is_no_json(tmp_path: Path, content: bytes) -> None:
    """A cut file, bytes that are no text, endless brackets and endless digits are damaged files."""
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is damaged: it is no JSON; write it again with fam eval --out"):
        read_results(path)


def test_deep_values_are_refused(tmp_path: Path, results: Results) -> None:
    """Nesting that JSON's reader takes, but nothing needs, is a sentence as well."""
    document = written(tmp_path, results)
    document["protocol"]["rules"] = "DEEP"
    text = json.dumps(document).replace('"DEEP"', "[" * 900 + "]" * 900)
    path = tmp_path / "results.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="is damaged: protocol.rules has to be nested at most 50 deep"):
        read_results(path)


def test_large_files_are_not_read(tmp_path: Path) -> None:
    """A file of gigabytes is refused before it is parsed."""
    path = tmp_path / "results.json"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(DataError, match="is larger than 64 MiB"):
        read_results(path)


def test_files_that_are_not_there(tmp_path: Path, results: Results) -> None:
    """An absent file names the command that writes it; a folder that cannot be made names the option."""
    with pytest.raises(DataError, match=r"results.json' does not exist; write it with fam eval --out"):
        read_results(tmp_path)
    with pytest.raises(DataError, match="choose another --out"):
        write_results(Path("/dev/null/x"), results)


def test_json_values_are_those_of_the_file(tmp_path: Path, results: Results) -> None:
    """What a command prints as JSON is what the file holds."""
    assert to_json(results) == written(tmp_path, results)


def test_several_in_one_file(tmp_path: Path, results: Results) -> None:
    """A list of result cards comes back as it was, in its order, and a file of one card is a list of one."""
    path = tmp_path / "results.json"
    both = (results, replace(results, data={**results.data, "name": "fish"}))
    write_all(path, both)
    assert read_all(path) == both
    with pytest.raises(DataError, match="is no result of fam"):
        read_results(path)
    write_results(tmp_path, results)
    assert read_all(path) == (results,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cards: cards[1].update(format_version=2), "format version 2"),
        (lambda cards: cards[1]["rows"][0].update(title=7), "rows"),
        (lambda cards: cards.append([]), "is no result of fam"),
    ],
    ids=["version", "value", "list in list"],
)
def test_one_bad_card_among_several(
    tmp_path: Path, results: Results, change: Callable[[Any], Any], message: str
) -> None:
    """Every card of a list is checked as one alone would be."""
    path = tmp_path / "results.json"
    write_all(path, (results, results))
    cards = json.loads(path.read_text(encoding="utf-8"))
    change(cards)
    path.write_text(json.dumps(cards))
    with pytest.raises(DataError, match=message):
        read_all(path)
