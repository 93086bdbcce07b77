"""Evaluations of the same images side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from famcli.evaluation.bootstrap import Bootstrap
from famcli.evaluation.compare import compare
from famcli.results import comparison
from famcli.results.comparison import ComparedSize, Comparison, Score, read_comparison, write_comparison
from famcli.results.schema import Difference, Number, SizeScore
from famcli.results.tables import SIZE_NOTE
from famcli_models.errors import ConfigError, DataError, FamError, UnknownNameError

Make = Callable[..., Path]
GOOD, POOR = [0.9, 0.8, 0.7, 0.4, 0.6, 0.1], [0.6, 0.3, 0.7, 0.2, None, 0.1]


def of_seed(seed: int, settings: str = "s") -> dict[str, Any]:
    return {"source": {"seed": seed, "settings_sha256": settings, "name": f"runs/{seed}", "weights_sha256": str(seed)}}


def difference(found: Comparison, of: str, minus: str, metric: str) -> Difference:
    (one,) = (d for d in found.differences if (d.of, d.minus, d.metric) == (of, minus, metric))
    return one


def test_paired_differences(make_evaluation: Make) -> None:
    """Rows are those of the results; a difference is its mean over images, with the bootstrap of the per-image one."""
    folders = [make_evaluation("a", GOOD, "FAM", ranks=[0, 0, 1, 0, 0, 0]), make_evaluation("b", POOR, "CAM")]
    found = compare(folders)
    assert [(row.name, row.fixed, row.folders) for row in found.rows] == [
        ("FAM", False, (str(folders[0]),)),
        ("CAM", False, (str(folders[1]),)),
        ("centre box", True, (str(folders[0]),)),
    ]
    assert {name: score.value for name, score in found.rows[0].metrics.items()} == pytest.approx(
        {"gt_known": 400 / 6, "top1_loc": 300 / 6, "top1_cls": 500 / 6, "mean_iou": 350 / 6}
    )
    assert {d.metric for d in found.differences} == {"gt_known", "top1_loc", "top1_cls", "mean_iou"}
    number = difference(found, "FAM", "CAM", "mean_iou").number
    each = np.array(GOOD) - np.array([0.6, 0.3, 0.7, 0.2, 0, 0.1])
    low, high = Bootstrap(6).interval(Bootstrap(6).means(each[:, None])[:, 0])
    assert (number.value, number.low, number.high) == pytest.approx((100 * each.mean(), 100 * low, 100 * high))


def test_seeds_make_one_row(make_evaluation: Make) -> None:
    """Equal settings and other seeds are a mean and a deviation; images are averaged before they are paired."""
    seeds = [make_evaluation(f"seed-{i}", ious, **of_seed(i)) for i, ious in enumerate((GOOD, POOR))]
    other = make_evaluation("other", GOOD, **of_seed(0, "other settings"))
    found = compare([*seeds, other])
    row, alone, _ = found.rows
    assert (row.seeds, row.folders, alone.seeds) == ((0, 1), tuple(map(str, seeds)), (0,))
    assert (row.name, alone.name) == (f"CAM, {seeds[0]}", f"CAM, {other}")
    values = [400 / 6, 200 / 6]
    assert row.metrics["gt_known"].value == pytest.approx(np.mean(values))
    assert row.metrics["gt_known"].sd == pytest.approx(np.std(values, ddof=1))
    assert alone.metrics["gt_known"].sd is None
    number = difference(found, row.name, alone.name, "gt_known").number
    each = (np.array([1, 0, 1, 0, 0, 0]) - np.array([1, 1, 1, 0, 1, 0])) / 2
    low, high = Bootstrap(6).interval(Bootstrap(6).means(each[:, None])[:, 0])
    assert (number.value, number.low, number.high) == pytest.approx((100 * each.mean(), 100 * low, 100 * high))


def sizes(gt_known: float | None, ratio: float | None = None) -> tuple[SizeScore, ...]:
    """Four images below 10 % with this accuracy, and two from 10 to 25 % that are all right."""
    small = SizeScore(4, None if gt_known is None else Number(gt_known, 0.0, 90.0), ratio)
    return small, SizeScore(2, Number(100.0, 34.2, 100.0), 1.0), *[SizeScore(0, None, None)] * 3


def test_sizes(make_evaluation: Make, tmp_path: Path) -> None:
    """One result keeps its intervals, seeds have a mean and a deviation, and what only some have has no row."""
    seeds = [
        make_evaluation(f"seed-{i}", GOOD, sizes=sizes(value, ratio), **of_seed(i))
        for i, (value, ratio) in enumerate(((25.0, 3.0), (75.0, 1.0)))
    ]
    alone, older = make_evaluation("alone", POOR, "FAM", sizes=sizes(50.0)), make_evaluation("older", POOR, "HaS")
    found = compare([*seeds, alone, older])
    of_seeds, of_one, of_older, _ = (row.sizes for row in found.rows)
    deviation = 25 * 2**0.5
    assert of_seeds is not None
    assert of_one is not None
    assert of_older is None
    assert of_seeds[0] == ComparedSize(4, Score(50.0, pytest.approx(deviation)), 2.0)
    assert of_one[:3] == (
        ComparedSize(4, Score(50.0, None, 0.0, 90.0), None),
        ComparedSize(2, Score(100.0, None, 34.2, 100.0), 1.0),
        ComparedSize(0, None, None),
    )
    table = comparison.sizes(found)
    assert table.columns[:2] == ["GT-known by object size", "0 to 10 %, n = 4"]
    assert [(line[0], line[1]) for line in table.lines(1)] == [
        ("CAM", "50.0 ± 35.4 (area × 2.00)"),
        ("FAM", "50.0 [0.0, 90.0]"),
    ]
    assert SIZE_NOTE in comparison.notes(found)
    assert "## By object size" in comparison.markdown(found)
    write_comparison(tmp_path / "out", found)
    assert read_comparison(tmp_path / "out") == found
    one_older = make_evaluation("seed-2", GOOD, **of_seed(2))
    assert compare([*seeds, one_older]).rows[0].sizes is None


def test_groups_by_hand(make_evaluation: Make) -> None:
    """Results that say nothing of seeds are rows of their own, unless they are grouped and named by hand."""
    maps = {"kind": "maps", "backbone": None, "recipe": None}
    folders = [make_evaluation(f"m{i}", GOOD, "maps", source=maps) for i in range(2)]
    assert len(compare([folders[0], folders[0] / "results.json"]).rows) == 2  # the same, and the centre box
    assert [row.name for row in compare(folders).rows] == [*(f"maps, {f}" for f in folders), "centre box"]
    cam = make_evaluation("cam", POOR)
    found = compare([cam], groups={"Ours": folders})
    assert [(row.name, len(row.folders)) for row in found.rows[:2]] == [("CAM", 1), ("Ours", 2)]
    same = [make_evaluation(name, GOOD, **of_seed(0)) for name in ("last", "best")]
    with pytest.raises(ConfigError, match="'.*last' and '.*best' are of the same settings and seed.*--group"):
        compare(same)
    assert [row.name for row in compare(groups={"last": same[:1], "best": same[1:]}).rows[:2]] == ["last", "best"]
    with pytest.raises(ConfigError, match="belongs to one group"):
        compare(groups={"a": [cam], "b": [cam]})


def test_baseline(make_evaluation: Make) -> None:
    """By name, whatever its case, by folder, or the centre box; of three methods there are two differences."""
    folders = [make_evaluation(name, GOOD, name) for name in ("FAM", "CAM", "ADL")]
    for baseline, name in (("cam", "CAM"), (str(folders[1]), "CAM"), ("centre", "centre box")):
        found = compare(folders, baseline=baseline)
        assert found.baseline == name
        assert {d.minus for d in found.differences} == {name}
        assert {d.of for d in found.differences} == {"FAM", "CAM", "ADL"} - {name}
    with pytest.raises(UnknownNameError, match="unknown baseline 'HAS'"):
        compare(folders, baseline="HAS")
    assert len({(d.of, d.minus) for d in compare(folders).differences}) == 3


def test_metrics_that_are_no_means(make_evaluation: Make, tmp_path: Path) -> None:
    """PxAP is compared without an interval, where both have it; the best threshold comes from the curve."""
    a = make_evaluation("a", GOOD, "FAM", metrics={"pxap": 60.0}, curve=(50.0, 70.0, 70.0))
    b = make_evaluation("b", POOR, "CAM", metrics={"pxap": 50.0})
    found = compare([a, b])
    number = difference(found, "FAM", "CAM", "pxap").number
    assert (number.value, number.low, number.high) == (10, None, None)
    oracle = found.rows[0].oracle
    assert oracle is not None
    assert (oracle.value, found.rows[0].oracle_taus, found.rows[1].oracle) == (70, (0.5,), None)
    write_comparison(tmp_path / "out", found)
    assert read_comparison(tmp_path / "out") == found
    page = (tmp_path / "out/compare.md").read_text()
    assert "| FAM minus CAM | +33.33 [" in page
    assert "| +10.00 |" in page
    assert "Differences in PxAP have no interval" in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": {"name": "psol"}}, "the protocol is 'fam' in one and 'psol' in the other"),
        ({"protocol": {"crops": 10}}, "the number of crops is 1 in one and 10 in the other"),
        ({"data": {"split": "val"}}, "the split is 'test' in one and 'train-fullsup' in the other"),
        ({"data": {"images": 7}}, "the number of images is 6 in one and 7 in the other"),
        ({"name": "x.png"}, "the name of image 1 is '0.png' in one and 'x.png' in the other"),
        ({"label": 5}, "the label of '0.png' is 0 in one and 5 in the other"),
        ({"truth": ((0.0, 0.0, 9.0, 9.0),)}, r"the list of boxes of '0.png' is .*23.0.* in one and .*9.0"),
    ],
)
def test_what_cannot_be_compared(make_evaluation: Make, changes: dict[str, Any], message: str) -> None:
    """Other rules, images or boxes are refused in a sentence that says what differs, and where."""
    folders = [make_evaluation("a", GOOD), make_evaluation("b", GOOD, "FAM", **changes)]
    with pytest.raises(DataError, match=message) as caught:
        compare(folders)
    assert f"'{folders[0]}' and '{folders[1]}' cannot be compared" in str(caught.value)


def test_files_that_do_not_belong_together(make_evaluation: Make) -> None:
    """Images of another run than results.json, cut off or too many, are damage."""
    a, b = make_evaluation("a", GOOD), make_evaluation("b", POOR, "FAM")
    whole = (b / "images.jsonl").read_text()
    for text in ((a / "images.jsonl").read_text().replace("CAM", "FAM"), whole[: whole.index("\n") + 1], whole * 2):
        (b / "images.jsonl").write_text(text)
        with pytest.raises(FamError, match=f"'{b}': images.jsonl and results.json are not of one run"):
            compare([a, b])


def test_damaged_comparison(make_evaluation: Make, tmp_path: Path) -> None:
    """What is not what the schema says is an error that names the place."""
    write_comparison(tmp_path, compare([make_evaluation("a", GOOD)]))
    stored = json.loads((tmp_path / "compare.json").read_text())
    stored["rows"][0]["metrics"]["gt_known"]["value"] = 101
    (tmp_path / "compare.json").write_text(json.dumps(stored))
    with pytest.raises(DataError, match=r"rows\[0\].metrics.gt_known.value has to be at most 100"):
        read_comparison(tmp_path)
    (tmp_path / "compare.json").write_text("{}")
    with pytest.raises(DataError, match="is no comparison of version 1"):
        read_comparison(tmp_path)
