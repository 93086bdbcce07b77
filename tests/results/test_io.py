"""Results written to files and read back."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from famcli.results.io import MAX_BYTES, read_all, read_images, read_results, to_json, write_all, write_results
from famcli.results.schema import ClassRow, Number, Results, Row
from famcli.results.tables import markdown
from famcli_models.errors import DataError

HUGE = "1e400"  # becomes a number in the file, which is read as infinity
names = st.text()
percent = st.floats(0, 100)
free = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e300, 1e300) | names,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["format", "rows", "data", "kind"]), inner),
    max_leaves=10,
)


@pytest.fixture
def document(results: Results) -> dict[str, Any]:
    """A good file as JSON values."""
    return to_json(results)


def written(folder: Path, document: Any) -> Path:
    path = folder / "results.json"
    path.write_text(json.dumps(document).replace(f'"{HUGE}"', HUGE), encoding="utf-8")
    return path


def test_results_come_back(tmp_path: Path, results: Results, document: dict[str, Any]) -> None:
    """A result is read as it was written, from its file or its folder; what a command prints is what the file holds."""
    write_results(tmp_path / "out", results)
    assert read_results(tmp_path / "out") == results
    assert read_results(tmp_path / "out" / "results.json") == results
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["results.json", "results.md"]
    assert json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8")) == document


def test_the_form_of_the_file(document: dict[str, Any]) -> None:
    """The file says first what it is; keys are those of the types, and what is absent is null."""
    assert list(document)[:2] == ["format", "format_version"]
    assert (document["format"], document["format_version"]) == ("fam-results", 1)
    assert document["rows"][0]["metrics"]["gt_known"] == {"value": 81.234, "low": 80.1, "high": 82.3}
    assert document["rows"][2]["tau"] is None
    assert document["data"]["class_names"] == ["wren", "crow"]


@given(names, percent, free, st.integers(0, 10**6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_any_result_comes_back(tmp_path: Path, results: Results, name: str, value: float, rest: Any, n: int) -> None:
    """Every number keeps all of its digits and every text its letters, and Markdown can be made of all of them."""
    at_delta, kinds = {name: {"value": value, "tau": value}}, {name: n}
    made = replace(
        results,
        created=name,
        data={"name": name, "split": name, "images": n + 1, "class_names": (name, name), "extra": rest},
        source={"kind": "maps", "name": name, "seed": rest},
        protocol={"name": name, "rules": rest},
        rows=(Row(method=name, title=name, metrics={}, tau=-value, empty=value, at_delta=at_delta, kinds=kinds),),
        differences=(),
        classes=(ClassRow(n % 1000, name, n, value, None, value, value),),
        versions={name: name},
    )
    write_results(tmp_path, made)
    assert read_results(tmp_path) == made


@given(json_values, st.sampled_from(["", *Results.__slots__]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_any_json_is_read_or_refused_in_a_sentence(
    tmp_path: Path, document: dict[str, Any], value: Any, key: str
) -> None:
    """Whatever is at the top of the file or in the place of one of its keys, there is no traceback."""
    path = written(tmp_path, {**document, key: value} if key else value)
    said = ""
    try:
        markdown(read_results(path))
    except DataError as error:
        said = str(error)
    assert len(said) < 600
    assert not said or str(path) in said


def test_numbers_of_numpy_are_numbers(results: Results) -> None:
    """What an evaluator computes with is written without being converted first."""
    row = replace(results.rows[0], metrics={"gt_known": Number(np.float64(50), np.float32(40), None)}, curve=None)
    found = to_json(replace(results, rows=(row,), differences=(), taus=()))
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


def at(*keys: Any, to: Any) -> dict[str, Any]:
    return {"keys": keys, "to": to}


DEEP: Any = json.loads("[" * 900 + "]" * 900)  # which JSON's reader takes, but nothing needs
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "another kind": (at("kind", to="test"), "kind has to be one of 'evaluation', 'smoke check', not 'test'"),
    "no rows": (at("rows", to=[]), "rows has to be a list of at least 1 values"),
    "a metric is text": (at("rows", 0, "metrics", "gt_known", "value", to="81"), "value has to be a number, not '81'"),
    "more than all": (at("rows", 0, "metrics", "gt_known", "value", to=101), "value has to be at most 100, not 101"),
    "less than nothing": (at("rows", 0, "metrics", "gt_known", "low", to=-1), "metrics.gt_known has to be at least 0"),
    "a flag for a number": (at("rows", 0, "tau", to=True), r"rows\[0\].tau has to be a number, not True"),
    "nine bins": (at("rows", 0, "iou_histogram", to=[1] * 9), "iou_histogram has to be a list of at least 10"),
    "four sizes": (at("rows", 0, "sizes", 0, to={}), r"rows\[0\].sizes\[0\].images is missing"),
    "an area below 0": (at("rows", 0, "sizes", 0, "area_ratio", to=-1.0), "area_ratio has to be at least 0, not -1"),
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
    "endless brackets": (at("protocol", "rules", to=DEEP), "protocol.rules has to be nested at most 50 deep"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_values_are_named(tmp_path: Path, document: dict[str, Any], case: str) -> None:
    """A value that is not what the schema says is one sentence with the file and the place."""
    change, message = BAD[case]
    place: Any = document
    for key in change["keys"][:-1]:
        place = place[key]
    place[change["keys"][-1]] = change["to"]
    path = written(tmp_path, document)
    with pytest.raises(DataError, match=message) as caught:
        read_results(path)
    assert str(caught.value).startswith(f"'{path}' is damaged: ")


@pytest.mark.parametrize("key", ["kind", "created", "data", "source", "protocol", "same_classes", "rows"])
def test_missing_keys_are_named(tmp_path: Path, document: dict[str, Any], key: str) -> None:
    """What every result has must be there."""
    del document[key]
    with pytest.raises(DataError, match=f"{key} is missing"):
        read_results(written(tmp_path, document))


def test_older_files_are_read(tmp_path: Path, results: Results, document: dict[str, Any]) -> None:
    """Of a row without scores by size, as it was written before there were any, the other scores are read."""
    for row in document["rows"]:
        del row["sizes"]
    first, *others = results.rows
    assert read_results(written(tmp_path, document)).rows == (replace(first, sizes=None), *others)


def test_new_keys_are_let_pass(tmp_path: Path, results: Results, document: dict[str, Any]) -> None:
    """A later version may write more."""
    document["later"] = 1
    document["rows"][0]["later"] = [1]
    assert read_results(written(tmp_path, document)) == results


@pytest.mark.parametrize("version", [0, 2, "1", None, True, [1] * 1000])
def test_other_versions_are_refused(tmp_path: Path, document: dict[str, Any], version: Any) -> None:
    """A version that is not known is said, with the one that is."""
    with pytest.raises(DataError, match="has format version .{1,20}; this version of fam reads 1"):
        read_results(written(tmp_path, {**document, "format_version": version}))


@pytest.mark.parametrize("other", [{}, [], 1, None, {"format": "coco"}, {"format": ["fam-results"]}])
def test_other_files_are_refused(tmp_path: Path, other: Any) -> None:
    """JSON of something else is told from a damaged result."""
    with pytest.raises(DataError, match="is no result of fam"):
        read_results(written(tmp_path, other))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b"[" * 200_000, b"9" * 10_000])
def test_what_is_no_json(tmp_path: Path, content: bytes) -> None:
    """A cut file, bytes that are no text, endless brackets and endless digits are damaged files."""
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is damaged: it is no JSON; write it again with fam eval --out"):
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


def test_pipes_are_not_read(tmp_path: Path) -> None:
    """A pipe in the place of results, which would be waited for without end, is refused."""
    for name in ("results.json", "images.jsonl"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="is a pipe and no regular file"):
        read_results(tmp_path)
    with pytest.raises(DataError, match="is a pipe and no regular file"):
        next(read_images(tmp_path / "images.jsonl"))


def test_several_in_one_file(tmp_path: Path, results: Results) -> None:
    """A list of results comes back as it was, in its order, and a file of one result is a list of one."""
    path = tmp_path / "results.json"
    both = (results, replace(results, data={**results.data, "name": "fish"}))
    write_all(path, both)
    assert read_all(path) == both
    with pytest.raises(DataError, match="is no result of fam"):
        read_results(path)
    write_results(tmp_path, results)
    assert read_all(path) == (results,)


@pytest.mark.parametrize("other", [[], {"format_version": 2}, {"rows": []}])
def test_one_bad_result_among_several(tmp_path: Path, document: dict[str, Any], other: Any) -> None:
    """Every result of a list is checked as one alone would be."""
    with pytest.raises(DataError, match="is no result of fam|format version 2|rows has to be"):
        read_all(written(tmp_path, [document, {**document, **other} if other else other]))
