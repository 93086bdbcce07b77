"""Tables and facts of a result, and its page of Markdown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from famcli.results import tables
from famcli.results.paper import TABLE1
from famcli.results.schema import Number, Results
from famcli.results.tables import Cell, markdown, markdown_table
from famcli_models.backbones import BACKBONES


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Cell(), ""),
        (Cell(81.234), "81.23"),
        (Cell(81.234, 80.1, 82.3), "81.23 [80.10, 82.30]"),
        (Cell(81.234, 80.1), "81.23"),
        (Cell(-1.5, -3.0, 0.5, form="+f"), "-1.50 [-3.00, +0.50]"),
        (Cell(0.35, note="oracle", form="g"), "0.35 (oracle)"),
        (Cell(30, form="d"), "30"),
    ],
)
def test_cells(cell: Cell, text: str) -> None:
    """A number has its interval in brackets and its note in parentheses; an interval needs both ends."""
    assert cell.text() == text


def test_clear_differences() -> None:
    """A difference is clear of 0 if its interval does not hold it; a number that is none never is."""
    assert Cell(2.0, 1.0, 3.0, form="+f").clear
    assert Cell(-2.0, -3.0, -1.0, form="+f").clear
    assert not Cell(1.0, 0.0, 3.0, form="+f").clear
    assert not Cell(2.0, form="+f").clear
    assert not Cell(2.0, 1.0, 3.0).clear


def test_scores(results: Results) -> None:
    """Each row has its τ and how it was chosen, values with intervals, and nothing where nothing was measured."""
    found = tables.scores(results)
    assert found.columns == ["method", "τ", "GT-known", "Top-1 Loc", "AP", "AP50", "AP75", "no box"]
    numbers = ["81.23 [80.10, 82.30]", "70.00 [69.00, 71.50]", "30.00", "60.00", "20.00", "0.25"]
    assert found.lines() == [
        ["FAM", "0.5 (fixed)", *numbers],
        ["CAM, oracle", "0.15 (oracle)", "60.00", "", "", "", "", ""],
        ["whole image", "", "40.00 [39.00, 41.00]", "", "", "", "", ""],
    ]
    assert found.lines(1)[0][2] == "81.2 [80.1, 82.3]"


def test_differences(results: Results) -> None:
    """A pair of rows is a line, a metric a column, and every number has its sign."""
    found = tables.differences(results)
    assert found.columns == ["difference", "GT-known"]
    assert found.lines() == [["FAM minus whole image", "+41.23 [+40.00, +42.00]"]]
    assert tables.differences(replace(results, differences=())).rows == []


def test_deltas(results: Results) -> None:
    """Of MaxBoxAccV2 each δ has its accuracy and its τ; other protocols have no rows."""
    at_delta = {"0.3": {"value": 95.0, "tau": 0.1}, "0.5": {"value": 80.0}}
    row = replace(results.rows[0], metrics={"max_box_acc_v2": Number(87.5)}, at_delta=at_delta)
    found = tables.deltas(replace(results, rows=(row, results.rows[1]), differences=()))
    assert found.columns == ["method", "IoU from 0.3", "IoU from 0.5"]
    assert found.lines() == [["FAM", "95.00 (τ = 0.1)", "80.00"]]
    assert tables.deltas(results).rows == []


def test_classes(results: Results) -> None:
    """A class has its number of images, and columns of class scores only where there are any."""
    found = tables.classes(results)
    assert found.columns == ["class", "images", "GT-known", "mean IoU", "Top-1 Loc", "Top-1 Cls"]
    assert found.lines(1) == [["wren", "30", "90.0", "70.5", "80.0", "85.0"], ["crow", "30", "50.0", "45.0", "", ""]]
    boxes = tables.classes(replace(results, classes=(replace(results.classes[1], name=""),)))
    assert boxes.columns[-1] == "mean IoU"
    assert boxes.lines(1) == [["1", "30", "50.0", "45.0"]]


def test_sizes(results: Results) -> None:
    """A column is a bin with its number of images; rows that were not scored by size are left out."""
    found = tables.sizes(results)
    assert found.columns[0] == "GT-known by object size"
    assert found.columns[1:3] == ["0 to 10 %, n = 53", "10 to 25 %, n = 0"]
    assert found.columns[-1] == "75 to 100 %, n = 739"
    assert found.lines(1) == [
        [
            "FAM",
            "0.0 [0.0, 6.8] (area × 12.37)",
            "",
            "50.0 [9.5, 90.5]",
            "82.0 [81.0, 83.0] (area × 0.98)",
            "90.0 [88.0, 92.0] (area × 1,234.50)",
        ]
    ]
    page = markdown(results)
    assert page.index("## By object size") < page.index(tables.SIZE_NOTE) < page.index("## Beside the paper")
    older = replace(results, rows=results.rows[1:], differences=())
    assert tables.sizes(older).rows == []
    assert "object size" not in markdown(older)


def test_beside_the_paper(results: Results) -> None:
    """On the paper's data its rows stand below the measured one, and say that they are none of them."""
    found = tables.beside_paper(results)
    assert found.lines() == [
        ["FAM (measured)", "81.23 [80.10, 82.30]", "70.00 [69.00, 71.50]", ""],
        ["FAM (paper, Table 1; not measured here)", "85.73", "73.74", "82.72"],
        ["ADL (paper, Table 1; not measured here)", "", "62.29", "80.34"],
        ["PSOL (paper, Table 1; not measured here)", "", "70.68", ""],
        ["RCAM (paper, Table 1; not measured here)", "77.58", "59.53", "75.03"],
    ]
    page = markdown(results)
    assert page.index("## Beside the paper") > page.index("## Paired differences")
    assert "85.73" not in page[: page.index("## Beside the paper")]


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"name": "cub-mini"}},
        {"data": {"split": "train-fullsup"}},
        {"data": {"partial": True}},
        {"data": {"images": 600}},
        {"kind": "smoke check"},
        {"source": {"backbone": "convnext"}},
        {"source": {"kind": "maps", "backbone": None}},
    ],
)
def test_what_is_not_laid_beside_the_paper(results: Results, change: dict[str, Any]) -> None:
    """A subset, another split, a partial evaluation, a smoke check, another backbone, and another tool's maps."""
    merged = {key: {**getattr(results, key), **new} if isinstance(new, dict) else new for key, new in change.items()}
    assert tables.beside_paper(replace(results, **merged)).rows == []


@pytest.mark.parametrize(
    ("data", "backbone", "numbers"),
    [
        ("cub", "vgg16", (69.26, 77.26, 89.26)),
        ("cub", "resnet50", (73.74, 82.72, 85.73)),
        ("cub", "mobilenetv1", (65.67, 76.38, 85.71)),
        ("cub", "inceptionv3", (70.67, 81.25, 87.25)),
        ("ilsvrc", "vgg16", (51.96, 70.90, 71.73)),
        ("ilsvrc", "resnet50", (54.46, 76.48, 64.56)),
        ("ilsvrc", "mobilenetv1", (46.24, 70.28, 62.05)),
        ("ilsvrc", "inceptionv3", (55.24, 77.63, 68.62)),
    ],
)
def test_the_papers_rows(data: str, backbone: str, numbers: tuple[float, ...]) -> None:
    """FAM's row is the first, with Top-1 Loc, Top-1 Cls and GT-known as printed, and the best in Top-1 Loc."""
    first, *others = TABLE1[data, backbone]
    assert backbone in BACKBONES
    assert (first.method, first.top1_loc, first.top1_cls, first.gt_known) == ("FAM", *numbers)
    assert max(row.top1_loc for row in others) < first.top1_loc


def test_facts(results: Results) -> None:
    """Everything that a reader needs beside a number has a name; what is not known, or has a table, has none."""
    groups = {group: dict(facts) for group, facts in tables.facts(results)}
    assert list(groups) == ["Data", "Source", "Protocol", "Thresholds", "Bootstrap", "Versions", "Rules"]
    assert groups["Data"]["images of the split"] == "5794"
    assert groups["Data"]["partial"] == "no"
    assert groups["Source"]["SHA-256 of the weights"] == "cd34"
    assert "revision" not in groups["Source"]
    assert groups["Protocol"] == {"name": "fam", "crops": "1", "labels are classes of the model": "yes"}
    assert groups["Thresholds"] == {"FAM": "τ = 0.5, fixed", "CAM, oracle": "τ = 0.15, oracle"}
    assert groups["Versions"]["torch"] == "2.9.0"
    assert groups["Rules"]["IoU"] == "nothing added"
    assert not any("class_names" in facts or "class names" in facts for facts in groups.values())
    bare = replace(results, protocol={"name": "x", "rules": ("a", "b")}, bootstrap={})
    groups = {group: dict(facts) for group, facts in tables.facts(bare)}
    assert groups["Rules"] == {"in words": "a, b"}
    assert "Bootstrap" not in groups
    large = replace(results, data={**results.data, "images": 50_000, "more": {"a": 1}})
    assert {("images", "50,000"), ("more", "a: 1")} <= set(dict(tables.facts(large))["Data"])


def test_warnings_come_first(results: Results) -> None:
    """A smoke check, a partial evaluation and models tuned on these images say so before any number."""
    odd = replace(
        results,
        kind="smoke check",
        data={**results.data, "partial": True, "images": 10},
        source={**results.source, "tuned_on_test": True, "cam_tuned_on_test": True},
    )
    page = markdown(odd)
    head = page[: page.index("| method |")]
    assert "**Smoke check: These numbers say that the program works" in head
    assert "**Partial: Only 10 of 5794 images were scored.**" in head
    assert "**Tuned on these images: The model was chosen on the split that it is scored on.**" in head
    assert "**Tuned on these images: The model that it is compared with" in head
    assert "**" not in markdown(results)


def test_summary(results: Results) -> None:
    """A line has n, protocol, threshold, the weights' hash and the day; what is not there is left out."""
    assert tables.title(results) == "runs/cub on cub/test"
    assert tables.summary(results) == "5794 images · protocol fam · τ = 0.5 (fixed) · weights cd34 · 2026-11-22"
    bare = replace(results, rows=results.rows[2:], source={"kind": "maps", "name": "x"})
    assert tables.summary(bare) == "5794 images · protocol fam · 2026-11-22"


def test_markdown(results: Results) -> None:
    """The page has the tables, how to read an interval, and the facts, and ends with a line break."""
    page = markdown(results).splitlines()
    assert page[0] == "# runs/cub on cub/test"
    assert set(markdown_table(tables.scores(results)).splitlines()) <= set(page)
    assert "| FAM | 0.5 (fixed) | 81.23 [80.10, 82.30] | 70.00 [69.00, 71.50] | 30.00 | 60.00 | 20.00 | 0.25 |" in page
    assert any("In brackets: 95 % bootstrap interval over images (resamples 1000, seed 0)" in line for line in page)
    assert r"- backbone weights: resnet50.tv\_in1k" in page
    assert r"- component: the largest \| by pixels" in page
    assert markdown(results).endswith("\n")


def test_names_cannot_break_the_page(results: Results) -> None:
    """Bars, tags and line breaks in names, notes and values are shown and do nothing; plain tables leave them alone."""
    row = replace(results.rows[0], title="a|b\n<script>*x*", tau_from="<i>")
    odd = replace(results, rows=(row,), differences=(), source={**results.source, "name": "[x](y)"})
    page = markdown(odd)
    assert r"| a\|b \<script\>\*x\* | 0.5 (\<i\>) |" in page
    assert page.startswith(r"# \[x\](y) on cub/test")
    assert "<" not in page.replace(r"\<", "")
    assert tables.scores(odd).lines()[0][:2] == ["a|b\n<script>*x*", "0.5 (<i>)"]
