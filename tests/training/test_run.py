"""One run from recipe to models, within this process."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import math
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from famcli.checkpoints.verify import inspect
from famcli.data.dataset import open_dataset
from famcli.data.sample import Sample
from famcli.evaluation.onebox import count_right
from famcli.training import run as run_module
from famcli.training import supervision as lessons
from famcli.training.accelerator import make_accelerator
from famcli.training.data import gather
from famcli.training.monitor import Epoch
from famcli.training.recipe import Recipe, load_recipe
from famcli.training.resume import read_state, write_state
from famcli.training.run import Run
from famcli.training.runfolder import RunFolder
from famcli.training.step import Training
from famcli_models.errors import ConfigError, DataError, FamError, WeightsError
from famcli_models.loading import load_model
from famcli_models.methods.cam import CAM
from famcli_models.methods.fam import FAM

Make = Callable[..., Path]
WITH_BOXES = {"train_weaksup": [0, 1, 2, 3, 4, 5], "train_fullsup": [6, 7]}
SMALL = ("size=64", "batch_size=2", "backbone_weights=none")


def recipe_for(root: Path, *settings: str) -> Recipe:
    return load_recipe(None, [*SMALL, *settings], {"data": [str(root)]}, {"backbone": "test_efficientnet"})


class Runner:
    """Runs recipes in folders below ``home`` and keeps what was said."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.said: list[str] = []
        self.images = 0

    def __call__(self, recipe: Recipe | None, out: str = "run", stop_at: int | None = None) -> Run:
        """Begin a run, or resume that of the folder if there is no recipe; perhaps stop it after a step."""
        folder = RunFolder(self.home / out)
        chosen = recipe or folder.read_recipe()
        material = gather(chosen.run)
        chosen = chosen.with_classes(material.num_classes, named=bool(material.class_names))
        if recipe:
            folder.check(exist_ok=False)
        run = Run(folder, chosen, material, make_accelerator("cpu", chosen.train.precision), self.said.append)
        self.images = 0
        steps = 0

        def count(images: int) -> None:
            nonlocal steps
            self.images += images
            steps += 1
            if steps == stop_at:
                signal.raise_signal(signal.SIGINT)

        run.train(0, recipe is None, count)
        return run


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """Runs below the test's own folder."""
    return Runner(tmp_path)


def rows(folder: RunFolder) -> list[dict[str, str]]:
    with folder.metrics.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def scripted(counts: Sequence[int]) -> Callable[..., int]:
    """A ``count_right`` that gives one number of images after the other."""
    left = list(counts)
    return lambda *_: left.pop(0)


def test_the_best_epoch_is_that_with_the_best_boxes(
    runner: Runner, make_splits: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first epoch with the highest GT-known Loc on train-fullsup is kept; the last one lies in the folder."""
    monkeypatch.setattr(run_module, "count_right", scripted([0, 2, 1, 2]))
    run = runner(recipe_for(make_splits(**WITH_BOXES), "epochs=4"))
    assert (run.best, run.best_epoch) == (100.0, 2)
    best, last = (json.loads((folder / "config.json").read_text()) for folder in (run.folder.best, run.folder.path))
    assert (best["provenance"]["epochs"], last["provenance"]["epochs"]) == (2, 4)
    assert last["provenance"]["selected_by"] == "GT-known Loc on train-fullsup (2 images with boxes)"
    assert "tuned_on_test" not in last["provenance"]
    assert [row["gt_known"] for row in rows(run.folder)] == ["0.0", "100.0", "50.0", "100.0"]
    different = [
        (run.folder.best / "model.safetensors").read_bytes(),
        (run.folder.path / "model.safetensors").read_bytes(),
    ]
    assert different[0] != different[1]


def test_the_score_of_an_epoch_is_that_of_its_checkpoint(
    runner: Runner, make_splits: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is measured is what is saved, the average if there is one, on the images with boxes."""
    measured: list[dict[str, torch.Tensor]] = []

    def spy(model: FAM, *arguments: Any) -> int:
        measured.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return count_right(model, *arguments)

    monkeypatch.setattr(run_module, "count_right", spy)
    run = runner(recipe_for(make_splits(**WITH_BOXES), "epochs=1", "ema=0.5", "tau=0.3"))
    saved = FAM.from_pretrained(run.folder.path)
    assert all(torch.equal(tensor, measured[0][name]) for name, tensor in saved.state_dict().items())
    again = 100 * count_right(saved, run.material.judged, "cpu") / len(run.material.judged)
    assert float(rows(run.folder)[-1]["gt_known"]) == pytest.approx(again)


def epochs_with(losses: Sequence[float], spreads: Sequence[float]) -> Callable[[Training], Epoch]:
    """An ``end_epoch`` that gives epochs with these losses and spreads of M."""
    real, left = Training.end_epoch, list(zip(losses, spreads, strict=True))

    def end_epoch(self: Training) -> Epoch:
        epoch = real(self)
        loss, spread = left.pop(0)
        terms = {"total": 0.0, "cla": loss, "spa": 0.0, "div": 0.0}
        return dataclasses.replace(epoch, terms=terms, measures={**epoch.measures, "spread": spread, "foreground": 0.5})

    return end_epoch


def test_without_boxes_the_lowest_loss_that_has_not_collapsed(
    runner: Runner, make_splits: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epoch 3 has the lowest loss but a flat M, so epoch 2 is the best; the criterion is stated."""
    monkeypatch.setattr(Training, "end_epoch", epochs_with([3.0, 2.0, 1.0, 2.5], [0.2, 0.2, 0.0, 0.2]))
    run = runner(recipe_for(make_splits(train_weaksup=[0, 1, 2, 3]), "epochs=4"))
    assert (run.best, run.best_epoch) == (-2.0, 2)
    config = json.loads((run.folder.best / "config.json").read_text())
    assert config["provenance"]["epochs"] == 2
    assert config["provenance"]["selected_by"].startswith(
        "the lowest training loss, with the last step's weights, among"
    )
    assert [row["gt_known"] for row in rows(run.folder)] == [""] * 4
    assert any(line.startswith("warning: M is flat") for line in runner.said)


def test_when_every_epoch_has_collapsed_there_is_no_best(
    runner: Runner, make_splits: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No best checkpoint is made of maps that say nothing."""
    monkeypatch.setattr(Training, "end_epoch", epochs_with([1.0], [0.0]))
    run = runner(recipe_for(make_splits(train_weaksup=[0, 1]), "epochs=1"))
    assert (run.best_epoch, run.folder.best.exists()) == (0, False)


def test_what_a_run_leaves(runner: Runner, make_splits: Make) -> None:
    """Metrics, events, environment, recipe, state and a checkpoint whose provenance says where it came from."""
    run = runner(recipe_for(make_splits(**WITH_BOXES), "epochs=2"))
    assert {path.name for path in run.folder.path.iterdir()} == {
        "best",
        "config.json",
        "environment.json",
        "last.safetensors",
        "metrics.csv",
        "model.safetensors",
        "recipe.toml",
        "tensorboard",
    }
    assert list(rows(run.folder)[0]) == [
        *("epoch", "total", "cla", "spa", "div", "foreground", "spread", "part_similarity", "top1", "images"),
        *("seconds", "waiting", "skipped", "gt_known", "images_per_second"),
    ]
    provenance = json.loads((run.folder.path / "config.json").read_text())["provenance"]
    expected = {"data": ["tiny"], "images": 6, "epochs": 2, "skipped_images": 0, "seed": 0, "recipe": "defaults"}
    assert {name: provenance[name] for name in expected} == expected
    assert provenance["labels"] == "image labels only"
    assert str(runner.home) not in json.dumps(provenance)
    assert len(json.loads(run.folder.environment.read_text())) == 1
    assert runner.images == 12
    assert FAM.from_pretrained(run.folder.path).class_names == ("red", "green")
    assert sum(line.startswith("epoch ") for line in runner.said) == 2
    assert "min left" in runner.said[-1] or "warning" in runner.said[-1]


def test_tensorboard_reads_the_events(runner: Runner, make_splits: Make) -> None:
    """Each column of the metrics is a curve with a point an epoch, in a run that was interrupted too."""
    root = make_splits(**WITH_BOXES)
    with pytest.raises(KeyboardInterrupt):
        runner(recipe_for(root, "epochs=3"), stop_at=5)
    folder = runner(None).folder
    events = EventAccumulator(str(folder.tensorboard)).Reload()
    table = rows(folder)
    assert set(events.Tags()["scalars"]) == set(table[0])
    for name in table[0]:
        points = events.Scalars(name)
        assert [point.step for point in points] == [1, 2, 3]
        assert [point.value for point in points] == pytest.approx([float(row[name]) for row in table], rel=1e-5)


@pytest.mark.parametrize("stop_at", [1, 3, 4])
def test_an_interrupted_run_goes_on_exactly(runner: Runner, make_splits: Make, stop_at: int) -> None:
    """Ctrl-C saves after the step and says how to go on; the run then ends as if nothing had happened."""
    recipe = recipe_for(make_splits(**WITH_BOXES), "epochs=2", "ema=0.9", "train.backbone=trained")
    whole = runner(recipe, "whole")
    runner.said.clear()
    with pytest.raises(KeyboardInterrupt):
        runner(recipe, "broken", stop_at)
    assert (
        runner.said[-1]
        == f"stopped at step {stop_at + 1} of 6; go on with: fam train --resume {runner.home / 'broken'}"
    )
    assert read_state(runner.home / "broken/last.safetensors").facts["step"] == stop_at + 1
    resumed = runner(None, "broken")
    for name in ("model.safetensors", "config.json", "best/model.safetensors", "best/config.json", "recipe.toml"):
        assert (whole.folder.path / name).read_bytes() == (resumed.folder.path / name).read_bytes(), name
    timed = {"seconds", "waiting", "images_per_second"}
    first, second = (
        [{k: v for k, v in row.items() if k not in timed} for row in rows(r.folder)] for r in (whole, resumed)
    )
    assert first == second
    assert (resumed.best, resumed.best_epoch) == (whole.best, whole.best_epoch)
    assert runner.images == 12
    assert len(json.loads(resumed.folder.environment.read_text())) == 2


def test_a_second_signal_does_not_save_half_a_step(
    runner: Runner, make_splits: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What interrupts at once may do so within a step: the last whole state stays the one to go on from."""
    root = make_splits(**WITH_BOXES)
    recipe = recipe_for(root, "epochs=2", "save_minutes=0")
    real = torch.optim.AdamW.step
    monkeypatch.setattr("famcli.training.interrupt.SAME", -1.0)
    steps: list[int] = []

    def step(self: torch.optim.AdamW, *arguments: Any) -> Any:
        steps.append(1)
        result = real(self, *arguments)
        if len(steps) == 3:  # the weights have moved, and the step has not been counted
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return result

    whole = runner(recipe, "whole")
    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(KeyboardInterrupt):
        runner(recipe, "broken")
    monkeypatch.undo()
    assert read_state(runner.home / "broken/last.safetensors").facts["step"] == 2
    resumed = runner(None, "broken")
    first, second = (r.folder.path / "model.safetensors" for r in (whole, resumed))
    assert first.read_bytes() == second.read_bytes()


def test_a_finished_run_stays_as_it_is(runner: Runner, make_splits: Make) -> None:
    """Resuming what has ended does nothing."""
    run = runner(recipe_for(make_splits(train_weaksup=[0, 1]), "epochs=1"))
    before = {path.name: path.read_bytes() for path in run.folder.path.glob("*.*") if path.suffix != ".json"}
    again = runner(None)
    assert {name: (again.folder.path / name).read_bytes() for name in before} == before


def test_the_data_must_be_those_the_run_began_with(runner: Runner, make_splits: Make) -> None:
    """A run does not go on with other images or labels."""
    root = make_splits(**WITH_BOXES)
    with pytest.raises(KeyboardInterrupt):
        runner(recipe_for(root, "epochs=2"), stop_at=1)
    labels = root / "metadata/train-weaksup/class_labels.txt"
    labels.write_text(labels.read_text().replace("0.png,0", "0.png,1"))
    with pytest.raises(DataError, match="the images or labels have changed since the run began"):
        runner(None)


def test_a_run_that_was_never_saved(runner: Runner, make_splits: Make) -> None:
    """A run that died before its first save is told to start again."""
    recipe = recipe_for(make_splits(train_weaksup=[0, 1]))
    RunFolder(runner.home / "run").begin(recipe.with_classes(2, named=True))
    with pytest.raises(WeightsError, match=r"holds no last\.safetensors"):
        runner(None)


@pytest.mark.parametrize(("minutes", "saved"), [("0", [1, 2, 3, 4, 5, 6]), ("1000", [3, 6])])
def test_when_it_saves(
    runner: Runner, make_splits: Make, monkeypatch: pytest.MonkeyPatch, minutes: str, saved: list[int]
) -> None:
    """``save_minutes`` 0 saves after each step; otherwise it is at least after each epoch."""
    steps: list[int] = []
    monkeypatch.setattr(run_module, "write_state", lambda _, state: steps.append(state.facts["step"]))
    runner(recipe_for(make_splits(**WITH_BOXES), "epochs=2", f"save_minutes={minutes}"))
    assert steps == saved


def test_corrupt_images_are_reported(runner: Runner, make_splits: Make, labelled: list[Sample]) -> None:
    """The epoch says which images were replaced and why, once; the checkpoint says how many."""
    labelled[2].path.write_bytes(b"")
    run = runner(recipe_for(make_splits(**WITH_BOXES), "epochs=2"))
    said = [line for line in runner.said if "cannot be read" in line]
    assert said == ["warning: 1 images cannot be read and were replaced by their neighbours: 2.png: the file is empty"]
    assert [row["skipped"] for row in rows(run.folder)] == ["1", "1"]
    assert json.loads((run.folder.path / "config.json").read_text())["provenance"]["skipped_images"] == 1


def test_the_test_split_marks_the_run(runner: Runner, make_splits: Make) -> None:
    """Whoever selects by the test split is told so by every checkpoint of the run, resumed or not."""
    root = make_splits(train_weaksup=[0, 1, 2, 3], test=[6, 7])
    with pytest.raises(KeyboardInterrupt):
        runner(recipe_for(root, "epochs=2", "select=test", "i_know_this_is_test=true"), stop_at=1)
    folder = runner(None).folder
    for config in (folder.path / "config.json", folder.best / "config.json"):
        provenance = json.loads(config.read_text())["provenance"]
        assert provenance["tuned_on_test"] is True
        assert provenance["selected_by"] == "GT-known Loc on test (2 images with boxes)"


def test_labels_to_judge_by_are_checked_first(runner: Runner, make_splits: Make) -> None:
    """A label of the judging split that is no class ends the run before the first step, not after an epoch."""
    root = make_splits(classes=(), train_weaksup=[0, 2, 4], train_fullsup=[6, 7])
    with pytest.raises(DataError, match="'7.png' has label 1"):
        runner(recipe_for(root))
    assert runner.images == 0


def test_half(runner: Runner, make_splits: Make) -> None:
    """Checkpoints may be kept in float16; the state to go on from is exact all the same."""
    run = runner(recipe_for(make_splits(train_weaksup=[0, 1]), "epochs=1", "half=true"))
    weight = "part_attention.discovery.weight"
    assert load_file(run.folder.path / "model.safetensors")[weight].dtype == torch.float16
    assert read_state(run.folder.last).tensors[f"model.{weight}"].dtype == torch.float32


def test_targets_are_made_from_pretrained_weights_alone(runner: Runner, make_splits: Make) -> None:
    """Targets need class activation maps, so weights with a classifier."""
    with pytest.raises(Exception, match="class activation maps"):
        runner(recipe_for(make_splits(train_weaksup=[0, 1]), "lambda_target=1"))


def test_targets_are_made_anew_from_the_same_weights(runner: Runner, make_splits: Make, tmp_path: Path) -> None:
    """A resumed run draws M to the very targets it began with; with other backbone weights it does not go on."""
    weights = tmp_path / "backbone.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=2).state_dict(), weights)
    root = make_splits(train_weaksup=[0, 1, 2, 3])
    settings = ("epochs=2", "lambda_target=1", "train.backbone=trained", "model.backbone=test_resnet")
    recipe = recipe_for(root, *settings, f"backbone_weights={weights}")
    whole = runner(recipe, "whole")
    assert "target" in rows(whole.folder)[0]
    with pytest.raises(KeyboardInterrupt):
        runner(recipe, "broken", stop_at=1)
    resumed = runner(None, "broken")
    first, second = ((run.folder.path / "model.safetensors").read_bytes() for run in (whole, resumed))
    assert first == second
    save_file(timm.create_model("test_resnet", num_classes=2).state_dict(), weights)
    with pytest.raises(ConfigError, match="are not the backbone weights the run began with"):
        runner(None, "broken")


def test_images_of_any_size_train(runner: Runner, make_splits: Make, labelled: list[Sample]) -> None:
    """Images smaller and larger than the input, gray and with transparency, train alike."""
    Image.new("L", (5, 300), 40).save(labelled[0].path)
    Image.new("RGBA", (300, 7), (1, 2, 3, 4)).save(labelled[1].path)
    run = runner(recipe_for(make_splits(train_weaksup=[0, 1]), "epochs=1"))
    assert math.isfinite(float(rows(run.folder)[0]["total"]))
    assert rows(run.folder)[0]["skipped"] == "0"


def test_an_edited_recipe_is_not_resumed(runner: Runner, make_splits: Make) -> None:
    """A recipe that was changed since the run began is refused, and the fields are named."""
    with pytest.raises(KeyboardInterrupt):
        runner(recipe_for(make_splits(train_weaksup=[0, 1]), "epochs=2"), stop_at=1)
    file = runner.home / "run/recipe.toml"
    file.write_text(file.read_text().replace("seed = 0", "seed = 7"))
    with pytest.raises(ConfigError, match=r"has been changed since the run began \(train\.seed\)"):
        runner(None)


def test_nothing_is_written_before_a_step_is_possible(runner: Runner, make_splits: Make) -> None:
    """Weights that cannot be read leave the folder as it was, an earlier run in it included."""
    root = make_splits(train_weaksup=[0, 1])
    runner(recipe_for(root))
    before = {path: path.read_bytes() for path in (runner.home / "run").rglob("*") if path.is_file()}
    with pytest.raises(FamError):
        runner(recipe_for(root, "backbone_weights=typo.safetensors"), "other")
    assert not (runner.home / "other").exists()
    assert {path: path.read_bytes() for path in (runner.home / "run").rglob("*") if path.is_file()} == before


def test_an_unreadable_image_to_judge_by_is_a_miss(runner: Runner, make_splits: Make) -> None:
    """It is named at the start and counts against the model; the run goes on."""
    root = make_splits(**WITH_BOXES)
    damaged = open_dataset(root).samples("train-fullsup")[0].path
    damaged.write_bytes(b"no image")
    run = runner(recipe_for(root))
    assert any(f"count as misses: {damaged}" in line for line in runner.said)
    assert run.folder.metrics.is_file()


def test_best_by_loss_ignores_the_rise_of_lambda_spa(runner: Runner, make_splits: Make) -> None:
    """Epochs are compared by the terms with the weights of the last step, not by what each epoch's total was."""
    run = runner(recipe_for(make_splits(train_weaksup=[0, 1]), "lambda_spa=2.0", "lambda_div=0.5"))
    epoch = Epoch(
        number=1,
        terms={"total": 9.0, "cla": 1.0, "spa": 0.25, "div": 0.5},
        measures={"foreground": 0.5, "spread": 0.5, "part_similarity": 0.5, "top1": 0.5},
        images=2,
        seconds=1.0,
        waiting=0.0,
    )
    assert run._objective(load_model(run.folder.path), epoch) == pytest.approx(1.0 + 2.0 * 0.25 + 0.5 * 0.5)


def test_a_cam(runner: Runner, make_splits: Make) -> None:
    """A CAM's run is like any other: interrupted and resumed it ends the same, with columns for what a CAM has."""
    recipe = recipe_for(make_splits(train_weaksup=[0, 1, 2, 3]), "method=cam", "epochs=3", "ema=0.9")
    whole = runner(recipe, "whole")
    assert "part similarity" not in " ".join(runner.said)
    with pytest.raises(KeyboardInterrupt):
        runner(recipe, "broken", stop_at=2)
    resumed = runner(None, "broken")
    for name in ("model.safetensors", "config.json", "best/model.safetensors", "recipe.toml"):
        assert (whole.folder.path / name).read_bytes() == (resumed.folder.path / name).read_bytes(), name
    table = rows(resumed.folder)
    assert {"total", "cla", "foreground", "spread", "top1"} <= set(table[0])
    assert not {"spa", "div", "part_similarity"} & set(table[0])
    assert whole.best == -min(float(row["cla"]) for row in table)  # without boxes the loss chooses
    model = load_model(resumed.folder.best)
    assert (type(model), model.config.tau, model.class_names) == (CAM, 0.2, ("red", "green"))


def test_a_cam_is_judged_by_boxes(runner: Runner, make_splits: Make) -> None:
    """With a split of boxes a CAM's best epoch is chosen by its boxes at its own threshold."""
    run = runner(recipe_for(make_splits(**WITH_BOXES), "method=cam", "epochs=2", "tau=0.4"))
    judged = run.material.judged
    again = 100 * count_right(load_model(run.folder.path), judged, "cpu") / len(judged)
    assert float(rows(run.folder)[-1]["gt_known"]) == pytest.approx(again)


def test_a_run_from_before_there_were_methods(runner: Runner, make_splits: Make) -> None:
    """A saved state that does not know a newer setting is gone on with, as if the setting had had its default."""
    recipe = recipe_for(make_splits(train_weaksup=[0, 1, 2, 3]), "epochs=2")
    with pytest.raises(KeyboardInterrupt):
        runner(recipe, stop_at=1)
    last = runner.home / "run/last.safetensors"
    state = read_state(last)
    del state.facts["run"]["recipe"]["model"]["method"]
    write_state(last, state)
    assert runner(None).folder.metrics.is_file()


def test_a_finished_run_can_be_verified(runner: Runner, make_splits: Make) -> None:
    """The last and the best checkpoint have reference outputs of their own weights, and give the same again."""
    run = runner(recipe_for(make_splits(**WITH_BOXES), "epochs=2"))
    for folder in (run.folder.path, run.folder.best):
        report = inspect(folder)
        assert report.problems == []
        assert report.map_difference is not None
        assert report.map_difference < 1e-4  # what rounding to four decimals leaves


def test_unlabelled_images_join_under_the_classes_they_look_like(
    runner: Runner, make_splits: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images that are sure are trained on under guessed classes; a resumed run must guess the same."""
    weights = tmp_path / "backbone.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=2).state_dict(), weights)
    root = make_splits(train_weaksup=[0, 1, 2, 3])
    settings = ("epochs=2", "model.backbone=test_resnet", f"backbone_weights={weights}")
    strange = tmp_path / "more"
    shutil.copytree(tmp_path / "labelled", strange)
    recipe = recipe_for(root, *settings, f"unlabelled={strange}", "unlabelled_confidence=0.5")
    guesses = {"0.png": 1, "2.png": 0, "5.png": 1}
    seen: list[tuple[str, int]] = []

    def guess(_model: FAM, samples: Sequence[Sample], least: float, *_: Any) -> list[Sample]:
        assert least == 0.5
        named = [dataclasses.replace(s, label=guesses[s.path.name]) for s in samples if s.path.name in guesses]
        seen[:] = [(s.path.name, s.label) for s in named]
        return named

    monkeypatch.setattr(lessons, "pseudo_label", guess)
    whole = runner(recipe, "whole")
    assert seen == [("0.png", 1), ("2.png", 0), ("5.png", 1)]
    assert runner.images == 2 * 6  # batches of two
    provenance = FAM.from_pretrained(whole.folder.path).provenance
    kept = ("images", "unlabelled", "pseudo_labelled", "unlabelled_confidence")
    assert [provenance[name] for name in kept] == [4, ["more"], 3, 0.5]
    with pytest.raises(KeyboardInterrupt):
        runner(recipe, "broken", stop_at=4)
    resumed = runner(None, "broken")
    first, second = ((run.folder.path / "model.safetensors").read_bytes() for run in (whole, resumed))
    assert first == second
    with pytest.raises(KeyboardInterrupt):
        runner(recipe, "third", stop_at=1)
    guesses["2.png"] = 1
    with pytest.raises(DataError, match="are not those the run began with"):
        runner(None, "third")


def test_a_run_of_an_older_version_goes_on(runner: Runner, make_splits: Make) -> None:
    """A field that is newer than the run counts as its default."""
    with pytest.raises(KeyboardInterrupt):
        runner(recipe_for(make_splits(train_weaksup=[0, 1, 2, 3]), "epochs=2"), "old", stop_at=1)
    path = runner.home / "old/last.safetensors"
    state = read_state(path)
    for field in ("unlabelled", "unlabelled_confidence", "teacher"):
        del state.facts["run"]["recipe"]["run"][field]
    write_state(path, state)
    assert runner(None, "old").folder.metrics.is_file()


def test_a_teacher_takes_part_in_the_targets(runner: Runner, make_splits: Make, tmp_path: Path) -> None:
    """A second run with the first as its teacher ends elsewhere, remembers whom it learnt from, and sticks to it."""
    weights = tmp_path / "backbone.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=2).state_dict(), weights)
    root = make_splits(train_weaksup=[0, 1, 2, 3])
    settings = ("epochs=2", "model.backbone=test_resnet", f"backbone_weights={weights}", "lambda_target=1")
    first = runner(recipe_for(root, *settings), "first")
    recipe = recipe_for(root, *settings, f"teacher={first.folder.path}")
    with pytest.raises(KeyboardInterrupt):
        runner(recipe, "second", stop_at=1)
    digest = hashlib.sha256((first.folder.path / "model.safetensors").read_bytes()).hexdigest()
    second, whole = runner(None, "second"), runner(recipe, "whole")
    provenance = FAM.from_pretrained(second.folder.path).provenance
    assert (provenance["teacher_sha256"], provenance["teacher_data"]) == (digest, [root.name])
    assert "tuned_on_test" not in provenance
    assert (whole.folder.path / "model.safetensors").read_bytes() == (
        second.folder.path / "model.safetensors"
    ).read_bytes()
    taught, alone = ((run.folder.path / "model.safetensors").read_bytes() for run in (second, first))
    assert taught != alone
    with pytest.raises(KeyboardInterrupt):
        runner(recipe, "third", stop_at=1)
    FAM(dataclasses.replace(FAM.from_pretrained(first.folder.path).config)).save_pretrained(first.folder.path)
    with pytest.raises(ConfigError, match="has other weights than when the run began"):
        runner(None, "third")


def test_a_teacher_of_other_classes(runner: Runner, make_splits: Make, checkpoint: Path) -> None:
    """A model with a new classifier has no targets of its own, and learns M from a teacher of five other classes."""
    root = make_splits(train_weaksup=[0, 1, 2, 3])
    run = runner(recipe_for(root, "epochs=2", "lambda_target=1", f"teacher={checkpoint}"))
    assert "target" in rows(run.folder)[0]
    assert not any("from the image labels" in line for line in runner.said)
    assert len(FAM.from_pretrained(run.folder.path).class_names) == 2


def test_what_a_teacher_saw_marks_its_pupil(runner: Runner, make_splits: Make, make_model: Callable[..., FAM]) -> None:
    """A pupil of a model that was tuned on a test split was tuned on it too."""
    teacher = make_model()
    teacher.provenance["tuned_on_test"] = True
    teacher.save_pretrained(runner.home / "marked")
    recipe = recipe_for(make_splits(train_weaksup=[0, 1]), "epochs=1", "lambda_target=1")
    run = runner(dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, teacher=str(runner.home / "marked"))))
    assert FAM.from_pretrained(run.folder.path).provenance["tuned_on_test"] is True


def test_a_cam_teaches_nothing(runner: Runner, make_splits: Make, make_model: Callable[..., CAM]) -> None:
    """The map of a CAM depends on the class."""
    make_model(method="cam").save_pretrained(runner.home / "cam")
    recipe = recipe_for(make_splits(train_weaksup=[0, 1]), "lambda_target=1", f"teacher={runner.home / 'cam'}")
    with pytest.raises(ConfigError, match="a CAM, depends on the class"):
        runner(recipe)


def test_a_teacher_needs_targets(runner: Runner, make_splits: Make, checkpoint: Path) -> None:
    """Without the target term nobody would listen to a teacher."""
    with pytest.raises(ConfigError, match="set lambda_target, or leave it out"):
        runner(recipe_for(make_splits(train_weaksup=[0, 1]), f"teacher={checkpoint}"))
