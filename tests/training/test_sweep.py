"""Several runs in turn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from famcli.results.io import read_results
from famcli.training import sweep as module
from famcli.training.recipe import Recipe, load_recipe
from famcli.training.resume import read_state
from famcli.training.sweep import of_seeds, sweep
from famcli_models import load_model
from famcli_models.errors import ConfigError, FamError

Make = Callable[..., Path]
SPLITS = {"train_weaksup": [0, 1, 2, 3], "test": [4, 5, 6, 7]}
SMALL = ("size=64", "batch_size=2", "epochs=1", "backbone_weights=none")


def recipe_for(root: Path, *settings: str) -> Recipe:
    model = {"backbone": "test_efficientnet", "method": "cam"}
    return load_recipe(None, [*SMALL, *settings], {"data": [str(root)]}, model)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the runs that were trained, in order, each time that they were."""
    names: list[str] = []
    train = module.train

    def noting(recipe: Recipe | None, folder: Path, **options: Any) -> Any:
        names.append(folder.name + (" again" if options["resume"] else ""))
        return train(recipe, folder, **options)

    monkeypatch.setattr(module, "train", noting)
    return names


def run(runs: dict[str, Recipe], out: Path, **options: Any) -> list[module.SweepRun]:
    return sweep(runs, out, workers=0, device="cpu", **options)


def test_seeds_are_trained_and_evaluated_once(make_splits: Make, tmp_path: Path) -> None:
    """Each seed is another model with results by each protocol; a second call trains and evaluates nothing anew."""
    out, runs = tmp_path / "sweep", of_seeds(recipe_for(make_splits(**SPLITS)), [0, 3])
    found = run(runs, out, protocols=("fam", "wsoleval-v2"))
    assert [(one.name, one.folder, one.failed) for one in found] == [(n, out / n, None) for n in ("seed-0", "seed-3")]
    assert found[1].results == (out / "seed-3/results", out / "seed-3/results-wsoleval-v2")
    cards = [read_results(folder) for one in found for folder in one.results]
    assert [card.source["seed"] for card in cards] == [0, 0, 3, 3]
    assert len({card.source["settings_sha256"] for card in cards}) == 1
    assert len({card.source["weights_sha256"] for card in cards}) == 2
    assert [min(card.rows[0].metrics) for card in cards[:2]] == ["gt_known", "max_box_acc_v2"]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    said: list[str] = []
    assert run(runs, out, protocols=("fam", "wsoleval-v2"), say=said.append) == found
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert f"{out / 'seed-0'} is finished after 1 epochs" in said


def test_an_interrupted_sweep_goes_on(make_splits: Make, tmp_path: Path, trained: list[str]) -> None:
    """Ctrl-C keeps what is done; the same call then goes on with the run that was stopped, and with the next."""
    root, out = make_splits(**SPLITS), tmp_path / "sweep"
    runs = of_seeds(recipe_for(root, "epochs=2"), [0, 1])

    def interrupting(line: str) -> None:
        if line.startswith("epoch 1 of 2") and trained == ["seed-0", "seed-1"]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(runs, out, say=interrupting)
    assert not (out / "seed-1/results").exists()
    found = run(runs, out)
    assert trained[2:] == ["seed-0 again", "seed-1"]  # the second had saved nothing
    alone = run({"seed-1": runs["seed-1"]}, tmp_path / "alone")
    weights = [load_model(one.folder).state_dict() for one in (found[1], alone[0])]
    assert all(bool((tensor == weights[1][name]).all()) for name, tensor in weights[0].items())
    assert read_state(out / "seed-1/last.safetensors", facts_alone=True).facts["run"]["provenance"]["seed"] == 1


def test_a_failed_run_does_not_stop_the_others(make_splits: Make, tmp_path: Path) -> None:
    """It is named with the reason."""
    root = make_splits(**SPLITS)
    runs = {"broken": recipe_for(root, "num_classes=1"), "cam/small": recipe_for(root)}
    said: list[str] = []
    broken, small = run(runs, tmp_path, say=said.append)
    assert (broken.results, small.failed, small.results) == ((), None, (tmp_path / "cam/small/results",))
    assert broken.failed is not None
    assert "num_classes is 1; leave it out" in broken.failed
    assert f"run broken failed: {broken.failed}" in said


def test_settings_that_changed_are_refused(make_splits: Make, tmp_path: Path, trained: list[str]) -> None:
    """A run that was begun is never taken for one with other settings; more runs may join; anew is possible."""
    root, out = make_splits(train_weaksup=[0, 1, 2, 3]), tmp_path / "sweep"
    said: list[str] = []
    (first,) = run(of_seeds(recipe_for(root), [0]), out, say=said.append)
    assert first.results == ()
    assert any(line.startswith("not evaluated: the data have no test split") for line in said)
    with pytest.raises(ConfigError, match=r"seed-0' was begun with other settings \(train.lr\)"):
        run(of_seeds(recipe_for(root, "lr=0.1"), [0, 1]), out)
    assert trained == ["seed-0"]
    run(of_seeds(recipe_for(root), [1]), out)
    run(of_seeds(recipe_for(root, "lr=0.1"), [0]), out, exist_ok=True)
    assert trained == ["seed-0", "seed-1", "seed-0"]


def test_a_folder_of_something_else_is_kept(make_splits: Make, tmp_path: Path) -> None:
    """Nothing is begun where a run's folder holds other files, where a name leaves the folder, or under a launcher."""
    runs = of_seeds(recipe_for(make_splits(**SPLITS)), [0])
    (tmp_path / "sweep/seed-0").mkdir(parents=True)
    (tmp_path / "sweep/seed-0/notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="exists and is not empty"):
        run(runs, tmp_path / "sweep")
    with pytest.raises(ConfigError, match="cannot be called '../up'"):
        run({"../up": runs["seed-0"]}, tmp_path / "other")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANK", "0")
        patch.setenv("WORLD_SIZE", "2")
        with pytest.raises(FamError, match="leave out the launcher"):
            run(runs, tmp_path / "other")
    with pytest.raises(FamError, match="no split 'x'"):
        run({"a": recipe_for(make_splits("more", **SPLITS), "split=x")}, tmp_path / "other")
    assert not (tmp_path / "other").exists()
