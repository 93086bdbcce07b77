"""The scripts behind docs/concepts/rivals.md: a cell that is trained and measured, and the tables of the results."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).parent.parent
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "scripts")
    names = ("table1_results", "table1_page", "table1_bench")
    results, page, bench = map(importlib.import_module, names)


def made(name: str, seed: int, right: str, data: str = "imagenette-wsol", **scores: float) -> Any:
    """A run whose boxes are right where ``right`` has a 1."""
    share = 100 * right.count("1") / len(right)
    found = {"gt_known": share, "oracle_gt_known": share, "oracle_tau": 0.3, "top1_loc": share, **scores}
    return results.Result(
        recipe=f"{name}-mobilenetv1-{data}",
        data=data,
        seed=seed,
        train_images=4,
        epochs=1,
        scores=found,
        right=right,
        right_oracle=right,
        known=right,
        train_top1=50.0,
        parameters=1_000_000,
        prepare_seconds=0.0,
        step_seconds=1.0,
        threads=1,
    )


def test_a_row_is_the_mean_of_its_seeds_and_its_difference_is_paired() -> None:
    """Two seeds of 50 and 100 percent; against CAM's 50 the same images are compared, seed by seed."""
    runs = [made("cam", 0, "0101"), made("cam", 1, "0101"), made("has", 0, "0101"), made("has", 1, "1111")]
    table = page.of_data(runs, "imagenette-wsol")
    (line,) = (line for line in table.splitlines() if line.startswith("| HaS"))
    assert "| 2 | 75.0 ± 35.4 |" in line
    assert "+25.0 [+0.0, +50.0] to CAM" in line
    assert "| ADL † |  | not run |  |" in table


def test_what_is_said_beside_a_table_follows_from_it() -> None:
    """The centre box, significant differences, and methods above FAM in PxAP are named."""
    runs = [
        made("cam", 0, "1" * 10 + "0" * 90, "butterflies", pxap=60.0, centre=20.0),
        made("has", 0, "1" * 90 + "0" * 10, "butterflies", pxap=80.0, centre=20.0),
        made("fam-ext", 0, "1" * 50 + "0" * 50, "butterflies", pxap=70.0, centre=20.0),
    ]
    said = page.readings(runs, "butterflies")
    assert "best threshold: **HaS**, 90.0" in said
    assert "(20.0) even at their best threshold: CAM." in said
    assert "interval without 0: HaS, FAM with our extensions." in said
    assert "in PxAP (70.0): HaS (80.0)." in said


def test_the_page_says_what_the_results_say(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/concepts/rivals.md and its plot are those of docs/assets/methods.jsonl."""
    assert page.write(results.RESULTS, check=True) == 0, capsys.readouterr().err


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    """A line a run."""
    file = tmp_path / "runs.jsonl"
    for run in (made("cam", 0, "01"), made("cam", 1, "11")):
        results.append(file, run)
    assert [asdict(run) for run in results.read(file)] == [
        asdict(made("cam", 0, "01")),
        asdict(made("cam", 1, "11")),
    ]


@pytest.mark.slow
def test_a_cell_is_trained_and_measured(make_splits: Callable[..., Path], tmp_path: Path) -> None:
    """A recipe file, two classes drawn, one epoch: scores in percent, and a 0 or 1 for each test image."""
    data = make_splits(train_weaksup=[0, 1, 2, 3], test=[4, 5, 6])
    weights = tmp_path / "backbone.safetensors"
    save_file(timm.create_model("test_efficientnet").state_dict(), weights)
    (tmp_path / "toy.toml").write_text(
        '[model]\nmethod = "cam"\nbackbone = "test_efficientnet"\nsize = 64\n[train]\nepochs = 1\nbatch_size = 2\n'
    )
    threads = torch.get_num_threads()
    found = bench.run_cell("toy", "drawn", data, weights, 0, tmp_path)
    assert (found.train_images, found.epochs, found.threads) == (4, 1, threads)
    assert len(found.right) == len(found.right_oracle) == len(found.known) == 3
    assert found.scores["gt_known"] == pytest.approx(100 * found.right.count("1") / 3, abs=1e-3)
    assert found.scores["top1_cls"] == pytest.approx(100 * found.known.count("1") / 3, abs=1e-3)
    assert {"max_box_acc_v2", "oracle_gt_known", "centre", "whole"} <= set(found.scores)
