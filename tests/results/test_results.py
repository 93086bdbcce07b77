"""The result card: written, read, and in Markdown."""

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
from famcli.results.markdown import difference_rows, markdown, score_rows
from famcli.results.schema import METRICS, ClassRow, Difference, Number, Results, Row
from famcli_models.errors import DataError

RESULTS = Results(
    kind="evaluation",
    created="2026-11-22T22:30:00+00:00",
    data={
        "name": "cub",
        "split": "test",
        "images": 5794,
        "images_of_split": 5794,
        "boxes": 5794,
        "masks": 0,
        "partial": False,
        "sha256": "ab12",
        "class_names": ("wren", "crow"),
    },
    source={
        "kind": "model",
        "name": "runs/cub",
        "method": "fam",
        "backbone": "resnet50",
        "backbone_weights": "resnet50.tv_in1k",
        "weights_sha256": "cd34",
        "revision": None,
        "input_size": 224,
        "seed": 7,
        "tuned_on_test": False,
    },
    protocol={
        "name": "fam",
        "interval": None,
        "crops": 1,
        "rules": {
            "normalisation": "none: the sigmoid's values",
            "component": "the largest | by pixels",
            "box": "half-open",
            "iou": "nothing added",
            "several_boxes": "any of them may match",
        },
    },
    same_classes=True,
    rows=(
        Row(
            method="FAM",
            title="FAM",
            metrics={"gt_known": Number(81.234, 80.1, 82.3), "top1_loc": Number(70.0, 69.0, 71.5)},
            tau=0.5,
            tau_from="fixed",
            empty=0.25,
            iou_histogram=(1, 0, 0, 0, 0, 0, 0, 0, 0, 5793),
            coco={"AP": 30.0, "AP50": 60.0, "AP75": 20.0},
            curve=(50.0, 81.234),
            kinds={"right": 4000, "part": 1794},
        ),
        Row(method="CAM", title="CAM, oracle", metrics={"gt_known": Number(60.0)}, tau=0.15, tau_from="oracle"),
        Row(method="whole", title="whole image", metrics={"gt_known": Number(40.0, 39.0, 41.0)}),
    ),
    taus=(0.25, 0.5),
    differences=(Difference("FAM", "whole image", "gt_known", Number(41.234, 40.0, 42.0)),),
    classes=(ClassRow(0, "wren", 30, 90.0, 80.0, 85.0, 70.5), ClassRow(1, "crow", 30, 50.0, None, None, 45.0)),
    bootstrap={"resamples": 1000, "seed": 0, "level": 0.95},
    versions={"famcli": "0.2.0", "torch": "2.9.0"},
)


def written(folder: Path, results: Results = RESULTS) -> dict[str, Any]:
    write_results(folder, results)
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def rewritten(folder: Path, document: Any) -> Path:
    path = folder / "results.json"
    path.write_text(json.dumps(document).replace(f'"{HUGE}"', HUGE), encoding="utf-8")
    return path


def test_results_come_back(tmp_path: Path) -> None:
    """A card is read as it was written, from its file or its folder."""
    write_results(tmp_path / "out", RESULTS)
    assert read_results(tmp_path / "out") == RESULTS
    assert read_results(tmp_path / "out" / "results.json") == RESULTS
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["results.json", "results.md"]


def test_the_form_of_the_file(tmp_path: Path) -> None:
    """The file says first what it is; keys are those of the types, and what is absent is null."""
    document = written(tmp_path)
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


@given(json_values, st.sampled_from(["", *RESULTS.__slots__]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_any_json_is_read_or_refused_in_a_sentence(tmp_path: Path, value: Any, key: str) -> None:
    """Whatever is at the top of the file or in the place of one of its keys, there is no traceback."""
    document = written(tmp_path)
    path = rewritten(tmp_path, {**document, key: value} if key else value)
    said = ""
    try:
        markdown(read_results(path))
    except DataError as error:
        said = str(error)
    assert len(said) < 600
    assert not said or str(path) in said


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    """What an evaluator computes with is written without being converted first."""
    row = replace(RESULTS.rows[0], metrics={"gt_known": Number(np.float64(50), np.float32(40), None)}, curve=None)
    found = written(tmp_path, replace(RESULTS, rows=(row,), differences=(), taus=()))
    assert found["rows"][0]["metrics"]["gt_known"] == {"value": 50, "low": 40, "high": None}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_written(tmp_path: Path, value: float) -> None:
    """A NaN is refused with its place, wherever it is, and nothing is written."""
    bad_row = replace(RESULTS.rows[0], metrics={"gt_known": Number(value)})
    with pytest.raises(DataError, match=r"rows\[0\].metrics.gt_known.value has to be at"):
        write_results(tmp_path, replace(RESULTS, rows=(bad_row, *RESULTS.rows[1:])))
    with pytest.raises(DataError, match=r"source.seed has to be a finite number"):
        write_results(tmp_path, replace(RESULTS, source={**RESULTS.source, "seed": value}))
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
def test_wrong_values_are_named(tmp_path: Path, case: str) -> None:
    """A value that is not what the schema says is one sentence with the file and the place."""
    change, message = BAD[case]
    document = written(tmp_path)
    place = document
    for key in change["keys"][:-1]:
        place = place[key]
    place[change["keys"][-1]] = change["to"]
    path = rewritten(tmp_path, document)
    with pytest.raises(DataError, match=message) as caught:
        read_results(path)
    assert str(caught.value).startswith(f"'{path}' is damaged: ")


@pytest.mark.parametrize("key", ["kind", "created", "data", "source", "protocol", "same_classes", "rows"])
def test_missing_keys_are_named(tmp_path: Path, key: str) -> None:
    """What every card has must be there."""
    document = written(tmp_path)
    del document[key]
    with pytest.raises(DataError, match=f"{key} is missing"):
        read_results(rewritten(tmp_path, document))


def test_new_keys_are_let_pass(tmp_path: Path) -> None:
    """A later version may write more."""
    document = written(tmp_path)
    document["later"] = 1
    document["rows"][0]["later"] = [1]
    assert read_results(rewritten(tmp_path, document)) == RESULTS


@pytest.mark.parametrize("version", [0, 2, "1", None, True, [1] * 1000])
def test_other_versions_are_refused(tmp_path: Path, version: Any) -> None:
    """A version that is not known is said, with the one that is."""
    document = {**written(tmp_path), "format_version": version}
    with pytest.raises(DataError, match="has format version .{1,20}; this version of fam reads 1"):
        read_results(rewritten(tmp_path, document))


@pytest.mark.parametrize("document", [{}, [], 1, None, {"format": "coco"}, {"format": ["fam-results"]}])
def test_other_files_are_refused(tmp_path: Path, document: Any) -> None:
    """JSON of something else is told from a damaged result."""
    with pytest.raises(DataError, match="is no result of fam"):
        read_results(rewritten(tmp_path, document))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b"[" * 200_000, b"NaN", b"9" * 10_000])
def test_what_is_no_json(tmp_path: Path, content: bytes) -> None:
    """A cut file, bytes that are no text, endless brackets and endless digits are damaged files."""
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is damaged: it is no JSON; write it again with fam eval --out"):
        read_results(path)


def test_deep_values_are_refused(tmp_path: Path) -> None:
    """Nesting that JSON's reader takes, but nothing needs, is a sentence as well."""
    document = written(tmp_path)
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


def test_files_that_are_not_there(tmp_path: Path) -> None:
    """An absent file names the command that writes it; a folder that cannot be made names the option."""
    with pytest.raises(DataError, match=r"results.json' does not exist; write it with fam eval --out"):
        read_results(tmp_path)
    with pytest.raises(DataError, match="choose another --out"):
        write_results(Path("/dev/null/x"), RESULTS)


def lines(results: Results) -> list[str]:
    return markdown(results).splitlines()


def test_the_table(tmp_path: Path) -> None:
    """Each row has its τ and how it was chosen, values with intervals, and nothing where nothing was measured."""
    page = lines(RESULTS)
    assert "| method | τ | GT-known | Top-1 Loc | AP | AP50 | AP75 | no box |" in page
    assert "| FAM | 0.5 (fixed) | 81.23 [80.10, 82.30] | 70.00 [69.00, 71.50] | 30.00 | 60.00 | 20.00 | 0.25 |" in page
    assert "| CAM, oracle | 0.15 (oracle) | 60.00 |  |  |  |  |  |" in page
    assert "| whole image |  | 40.00 [39.00, 41.00] |  |  |  |  |  |" in page
    assert "| FAM | whole image | GT-known | +41.23 [+40.00, +42.00] |" in page
    write_results(tmp_path, RESULTS)
    assert (tmp_path / "results.md").read_text(encoding="utf-8").splitlines() == page


def test_the_paper_has_its_own_table() -> None:
    """On the paper's data the paper's row stands below the measured ones, and says that it is not one of them."""
    page = lines(RESULTS)
    paper = page.index("| FAM (paper, Table 1; not measured here) | 85.73 | 73.74 | 82.72 |")
    assert page[paper - 1] == "| CAM, oracle (measured) | 60.00 |  |  |" or page[paper - 1].startswith(
        "| FAM (measured)"
    )
    assert not any("85.73" in line or "82.72" in line for line in page[: paper - 1])
    assert page.index("## Beside the paper") > page.index("## Paired differences")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "cub-mini"},
        {"split": "train-fullsup"},
        {"partial": True},
        {"images": 600},
    ],
)
def test_other_data_is_not_laid_beside_the_paper(change: dict[str, Any]) -> None:
    """A subset, another split or a partial evaluation is not the paper's data."""
    assert "Table 1" not in markdown(replace(RESULTS, data={**RESULTS.data, **change}))


def test_other_sources_are_not_laid_beside_the_paper() -> None:
    """Neither a smoke check, nor a backbone that the paper does not have, nor another tool's maps."""
    assert "Table 1" not in markdown(replace(RESULTS, kind="smoke check"))
    assert "Table 1" not in markdown(replace(RESULTS, source={**RESULTS.source, "backbone": "convnext"}))
    assert "Table 1" not in markdown(replace(RESULTS, source={"kind": "maps", "name": "maps"}))


@pytest.mark.parametrize(
    "line",
    [
        "- data set: cub",
        "- split: test",
        "- images: 5,794 of 5,794",
        "- boxes: 5,794",
        "- whole split: yes",
        "- model: runs/cub",
        "- weights' SHA-256: cd34",
        "- backbone: resnet50",
        r"- pretrained weights of the backbone: resnet50.tv\_in1k",
        "- input size: 224",
        "- training seed: 7",
        "- crops: 1",
        "- τ: FAM 0.5 (fixed); CAM, oracle 0.15 (oracle: the best on these images)",
        "- normalisation of the map: none: the sigmoid's values",
        r"- component: the largest \| by pixels",
        "- box: half-open",
        "- IoU: nothing added",
        "- several true boxes: any of them may match",
        "- share of images without a box: FAM 0.25 %",
        "- bootstrap: resamples 1000, seed 0, level 0.95",
        "- versions: famcli 0.2.0, torch 2.9.0",
    ],
)
def test_the_card_says_it_in_words(line: str) -> None:
    """Everything that a reader needs beside a number is a line; what is not known has none."""
    page = lines(RESULTS)
    assert line in page
    assert not any(other.startswith("- weights' revision") for other in page)


def test_warnings_come_first() -> None:
    """A smoke check, a partial evaluation and a model tuned on these images say so before any number."""
    results = replace(
        RESULTS,
        kind="smoke check",
        data={**RESULTS.data, "partial": True, "images": 10},
        source={**RESULTS.source, "tuned_on_test": True},
    )
    page = markdown(results)
    head = page[: page.index("| method |")]
    assert "**Smoke check: " in head
    assert "**Partial: 10 images of 5,794 were scored.**" in head
    assert "**The model was tuned on the split that it is scored on.**" in head
    assert "**" not in markdown(RESULTS)


def test_thresholds_of_each_delta() -> None:
    """Of MaxBoxAccV2 each δ has its accuracy and its τ."""
    at_delta = {"0.3": {"value": 95.0, "tau": 0.1}, "0.5": {"value": 80.0, "tau": 0.2}}
    row = replace(RESULTS.rows[0], metrics={"max_box_acc_v2": Number(87.5)}, at_delta=at_delta)
    page = lines(replace(RESULTS, rows=(row,), differences=()))
    assert "| FAM | 0.3 | 95.00 | 0.1 |" in page
    assert "| FAM | 0.5 | 80.00 | 0.2 |" in page


def test_tables_for_the_terminal_are_plain() -> None:
    """The same tables without Markdown's marks."""
    row = replace(RESULTS.rows[0], title="a_b|c", metrics={"gt_known": Number(50.0, 40.0, 60.0)}, coco=None)
    difference = replace(RESULTS.differences[0], of="a_b|c", minus="a_b|c")
    results = replace(RESULTS, rows=(row,), differences=(difference,))
    assert score_rows(results) == (
        ["method", "τ", "GT-known", "no box"],
        [["a_b|c", "0.5 (fixed)", "50.00 [40.00, 60.00]", "0.25"]],
    )
    assert difference_rows(results)[1] == [["a_b|c", "a_b|c", "GT-known", "+41.23 [+40.00, +42.00]"]]


def test_json_values_are_those_of_the_file(tmp_path: Path) -> None:
    """What a command prints as JSON is what the file holds."""
    assert to_json(RESULTS) == written(tmp_path)


def test_names_cannot_break_the_page() -> None:
    """Bars, tags and line breaks in names are shown and do nothing."""
    row = replace(RESULTS.rows[0], title="a|b\n<script>*x*")
    page = markdown(replace(RESULTS, rows=(row,), differences=()))
    assert r"| a\|b \<script\>\*x\* | 0.5" in page
    assert "<script" not in page.replace(r"\<script", "")


def test_several_in_one_file(tmp_path: Path) -> None:
    """A list of result cards comes back as it was, in its order, and a file of one card is a list of one."""
    path = tmp_path / "results.json"
    both = (RESULTS, replace(RESULTS, data={**RESULTS.data, "name": "fish"}))
    write_all(path, both)
    assert read_all(path) == both
    with pytest.raises(DataError, match="is no result of fam"):
        read_results(path)
    write_results(tmp_path, RESULTS)
    assert read_all(path) == (RESULTS,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cards: cards[1].update(format_version=2), "format version 2"),
        (lambda cards: cards[1]["rows"][0].update(title=7), "rows"),
        (lambda cards: cards.append([]), "is no result of fam"),
    ],
    ids=["version", "value", "list in list"],
)
def test_one_bad_card_among_several(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    """Every card of a list is checked as one alone would be."""
    path = tmp_path / "results.json"
    write_all(path, (RESULTS, RESULTS))
    cards = json.loads(path.read_text(encoding="utf-8"))
    change(cards)
    path.write_text(json.dumps(cards))
    with pytest.raises(DataError, match=message):
        read_all(path)
