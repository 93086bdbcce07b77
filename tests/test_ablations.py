"""The scripts behind docs/concepts/ablations.md: rows, results, and that the page says what the results say."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from famcli.data.sample import Sample
from famcli.training.config import TrainConfig
from famcli.training.recipe import load_recipe
from famcli_models.methods.fam import FAM

ROOT = Path(__file__).parent.parent
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "scripts")
    modules = ("ablation_rows", "ablation_results", "ablation_page", "ablation_readings", "ablation_bench", "ablations")
    rows, results, page, readings, bench, script = map(importlib.import_module, modules)


@pytest.fixture
def ran() -> Callable[..., list[Any]]:
    """A function that makes runs of a row, one for each value of a score."""

    def make(row: Any, *values: float, score: str = "gt_known", **others: float) -> list[Any]:
        scores = {"gt_known": 0.0, "top1_cls": 0.0, "empty": 0.0, "foreground": 30.0, "mean_m": 0.3, **others}
        measured = ({**scores, "part_similarity": 0.5, score: value} for value in values)
        return [
            results.Result(row.recipe, row.changes, seed, found, data=row.data, test=row.test)
            for seed, found in enumerate(measured)
        ]

    return make


@pytest.mark.parametrize("part", ["PAGE", "PLOT"])
def test_a_wrong_number_is_noticed(tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Page and plot are those of the results; a digit changed by hand is named with the file and the command."""
    assert page.write(results.RESULTS, check=True) == 0
    for file in (page.PAGE, page.PLOT):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    assert page.write(results.RESULTS, check=True, root=tmp_path) == 0
    file = tmp_path / getattr(page, part)
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("1", "2", 1), encoding="utf-8")
    assert page.write(results.RESULTS, check=True, root=tmp_path) == 1
    said = capsys.readouterr().err
    assert file.name in said
    assert "python scripts/ablations.py write" in said


def test_rows_are_recipes_that_can_be_run() -> None:
    """Every row names a packaged recipe and settings that it takes; rows that share a run have the same settings."""
    for group in rows.GROUPS.values():
        for row in group:
            recipe = load_recipe(row.recipe, row.overrides)
            assert row.data in recipe.run.data
            tables = recipe.tables()
            assert {**tables["model"], **tables["train"]}.items() >= row.changes.items()
    for pair in (("table2-sparsity-memory", "table3-none"), ("table3-diversity-importance", rows.FROZEN)):
        a, b = (load_recipe(name if name == rows.FROZEN else f"ablation-mini-{name}") for name in pair)
        assert (a.run, a.model, a.train) == (b.run, b.model, b.train)
    base = load_recipe(rows.FROZEN)
    for axis in rows.AXES:
        assert getattr(base.model, axis.name) == axis.base
        assert axis.base in axis.values
    # Without a diversity loss and with a weight of 0 for it the total is the same.
    assert load_recipe("ablation-mini-table3-importance").model.diversity is False


def test_results_are_read_back(tmp_path: Path, ran: Callable[..., Any]) -> None:
    """A run that was added is found again as one of its row, and no other; means are over the seeds."""
    file = tmp_path / "new" / "runs.jsonl"
    assert results.read(file) == []
    run = results.Result(rows.FROZEN, {"num_parts": 2}, 1, {"gt_known": 50.0}, 20.0, 3.0)
    results.append(file, run)
    results.append(file, results.Result(rows.FROZEN, {}, 2, failed="loss is nan"))
    first, second = results.read(file)
    assert first == run
    assert second.failed == "loss is nan"
    assert first.of(rows.Row("2", rows.FROZEN, {"num_parts": 2}))
    assert not first.of(rows.Row("", rows.FROZEN))
    row = rows.TABLE_2[0]
    value = results.mean(ran(row, 60.0, 62.0, 67.0), row, "gt_known")
    assert (value.mean, value.n) == (63.0, 3)
    assert value.sd == pytest.approx(13**0.5)
    assert str(value) == "63.0 ± 3.6"
    assert str(results.mean([], row, "gt_known")) == "not run"


@pytest.mark.parametrize(
    ("before", "after", "paper", "said"),
    [
        ((50.0, 52.0), (60.0, 62.0), 3.0, "same direction"),
        ((50.0, 52.0), (60.0, 62.0), -3.0, "**the other direction**"),
        ((50.0, 60.0), (56.0, 66.0), 3.0, "smaller than the spread"),
        ((), (60.0, 62.0), 3.0, "not run"),
    ],
)
def test_a_step_is_judged_by_the_spread_of_its_seeds(
    ran: Any, before: Any, after: Any, paper: float, said: str
) -> None:
    """A step has the paper's direction, the other one, or is no larger than what seeds do to it."""
    row = rows.TABLE_2[0]
    a, b = (results.mean(ran(row, *values), row, "gt_known") for values in (before, after))
    assert page.verdict(a, b, paper) == said


def test_the_order_of_a_table_is_computed(ran: Any) -> None:
    """Rows whose means rise as the paper's do have its order; the best of an axis is named with those as good."""
    for order, said in (((10.0, 20.0, 30.0), "yes"), ((20.0, 10.0, 30.0), "**no**")):
        runs = [run for row, value in zip(rows.TABLE_2, order, strict=True) for run in ran(row, value, value + 0.1)]
        assert page.ordered(rows.TABLE_2, runs, "gt_known") == said
        assert "missing" in page.ordered(rows.TABLE_2, runs[:4], "gt_known")
    axis = next(axis for axis in rows.AXES if axis.symbol == "N")
    runs = [run for row, mean in zip(axis.rows(), (50, 60, 61, 55), strict=False) for run in ran(row, mean, mean + 2.0)]
    said = page.best(axis, runs, "gt_known")
    assert said == "GT-known Loc is best at 3, as in the paper (62.0 ± 1.4); its lead over 2 is smaller than the spread"
    assert page.best(axis, [], "gt_known") == "not run"


def test_readings_that_do_not_work_are_named(ran: Any) -> None:
    """A reading that is empty, full, or far worse than the best does not work; a pooling decides only if it does."""
    good, empty, full, wrong = rows.READINGS[:4]
    runs = [*ran(good, 60.0, 61.0), *ran(empty, 61.0, 61.0, empty=80.0), *ran(full, 61.0, 61.0, foreground=99.0)]
    said = "\n".join(readings.which(rows.READINGS, [*runs, *ran(wrong, 29.0, 30.0)]))
    assert f"These work: *{good.label}*." in said
    assert f"or collapsed): *{empty.label}*; *{full.label}*; *{wrong.label}*." in said
    assert f"GT-known Loc is highest with *{good.label}*, 60.5 ± 0.7." in said
    assert "decides" not in said
    runs = [run for row in rows.READINGS for run in ran(row, 60.0 if row.changes["pooling"] == "foreground" else 1.0)]
    assert any("every similarity works with `foreground`" in line for line in readings.which(rows.READINGS, runs))


def test_shared_features_train_the_same_model(make_model: Callable[..., FAM], labelled: list[Sample]) -> None:
    """The loop on features that runs share gives the weights of ``famcli.training.loop.fit``, up to rounding."""
    config = TrainConfig(epochs=2, batch_size=4, cached_views=1, seed=3)
    one, other = (make_model(part_std=1.0, sparsity_warmup=0.5) for _ in range(2))
    bench.train(one, labelled, config)
    training = bench.train(other, labelled, config, bench.cache(other, labelled, config))
    assert len(training.history) == 2
    torch.testing.assert_close(dict(other.state_dict()), dict(one.state_dict()), rtol=1e-3, atol=1e-4)


def test_finished_runs_are_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ran: Any) -> None:
    """``run`` trains what the file does not have, and adds a line for each."""
    trained = []

    def result(_self: Any, row: Any, seed: int) -> Any:
        trained.append((row.label, seed))
        return results.Result(row.recipe, row.changes, seed, {"gt_known": 1.0}, data=row.data, test=row.test)

    monkeypatch.setattr(bench.Bench, "result", result)
    file = tmp_path / "runs.jsonl"
    results.append(file, ran(rows.TABLE_2[1], 50.0)[0])
    command = ["ablations.py", "--results", str(file), "run", "--weights", "w", "--only", "table2", "--seeds", "0"]
    monkeypatch.setattr(sys, "argv", command)
    assert script.main() == 0
    assert trained == [("none", 0), ("sparsity, memory", 0)]
    assert len(results.read(file)) == 3
