"""Whole runs from recipe to models, within this process, and the folder of a run."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import math
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from famcli.evaluation.perimage import count_right
from famcli.inference.engine import open_engine
from famcli.training import run as run_module, supervision
from famcli.training.folder import RunFolder
from famcli.training.loop import Training
from famcli.training.monitor import Epoch
from famcli.training.recipe import Recipe, load_recipe
from famcli.training.resume import State, TrainResult, read_state, write_state
from famcli.training.run import train
from famcli_models import CAM, FAM, load_model
from famcli_models.errors import ConfigError, DataError, FamError, WeightsError

Make = Callable[..., Path]
WITH_BOXES = {"train_weaksup": [0, 1, 2, 3, 4, 5], "train_fullsup": [6, 7]}
FOUR = {"train_weaksup": [0, 1, 2, 3]}
SMALL = ("size=64", "batch_size=2", "backbone_weights=none")
RESNET = ("epochs=2", "model.backbone=test_resnet")


def recipe_for(root: Path, *settings: str) -> Recipe:
    return load_recipe(None, [*SMALL, *settings], {"data": [str(root)]}, {"backbone": "test_efficientnet"})


class Runner:
    """Runs recipes in folders below ``home`` and keeps what was said."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.said: list[str] = []
        self.bars: dict[str, tuple[int, int]] = {}  # of each long step, how many images are done, and all
        self.images = 0

    def stop(self, recipe: Recipe, out: str = "run", after: int = 1) -> Path:
        """Begin a run and stop it after a step; gives its folder."""
        with pytest.raises(KeyboardInterrupt):
            self(recipe, out, after)
        return self.home / out

    def __call__(self, recipe: Recipe | None, out: str = "run", stop_after: int | None = None) -> TrainResult:
        """A run, or the rest of that in the folder if there is no recipe."""
        self.images = steps = 0

        @contextmanager
        def progress(what: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:

            def count(images: int) -> None:
                nonlocal done, steps
                done += images
                assert done <= total
                self.bars[what] = (done, total)
                if what == "images":
                    self.images = done
                    steps += 1
                    if steps == stop_after:
                        signal.raise_signal(signal.SIGINT)

            yield count

        arguments: dict[str, Any] = {"workers": 0, "device": "cpu", "say": self.said.append, "progress": progress}
        return train(recipe, self.home / out, resume=recipe is None, **arguments)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """Runs below the test's own folder."""
    return Runner(tmp_path)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def provenance_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "config.json").read_text())["provenance"])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def same_bytes(first: Path, second: Path, *names: str) -> bool:
    names = names or ("model.safetensors",)
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_the_best_epoch_is_that_with_the_best_boxes(
    runner: Runner, make_splits: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first epoch with the highest GT-known Loc on train-fullsup is kept; the last one lies in the folder."""
    right = [0, 2, 1, 2]
    monkeypatch.setattr(run_module, "count_right", lambda *_: right.pop(0))
    result = runner(recipe_for(make_splits(**WITH_BOXES), "epochs=4"))
    assert (result.best_epoch, result.best, result.main) == (2, result.folder / "best", True)
    assert [epoch.gt_known for epoch in result.history] == [0.0, 100.0, 50.0, 100.0]
    best, last = provenance_of(result.folder / "best"), provenance_of(result.folder)
    assert (best["epochs"], last["epochs"]) == (2, 4)
    assert last["selected_by"] == result.selected_by == "GT-known Loc on train-fullsup (2 images with boxes)"
    assert "tuned_on_test" not in last
    assert [row["gt_known"] for row in rows(result.folder)] == ["0.0", "100.0", "50.0", "100.0"]
    assert not same_bytes(result.folder / "best", result.folder)
    assert runner.said[-1] == f"best epoch 2, by {result.selected_by}: {result.best}"


@pytest.mark.slow
@pytest.mark.graphs
def test_checkpoints_have_their_graphs(runner: Runner, make_splits: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last and the best checkpoint end with a graph that ONNX Runtime runs, and one that cannot be made is told."""
    result = runner(recipe_for(make_splits(**WITH_BOXES), "epochs=2"))
    for checkpoint in (result.folder, result.folder / "best"):
        assert inspect(checkpoint).problems == []
        assert "ONNX Runtime" in open_engine(checkpoint, device="cpu").runs_on
    assert same_bytes(result.folder, result.folder / "best", "graph.onnx")

    def refuse(_: object) -> None:
        msg = "no export"
        raise NotImplementedError(msg)

    monkeypatch.setattr("famcli.checkpoints.export.make_graph", refuse)
    other = runner(recipe_for(make_splits("again", **WITH_BOXES), "epochs=1"), "other")
    assert not (other.folder / "graph.onnx").exists()
    assert any("NotImplementedError: no export; PyTorch will run this model" in said for said in runner.said)


@pytest.mark.parametrize("settings", [("ema=0.5", "tau=0.3"), ("method=cam", "tau=0.4")])
def test_the_score_of_an_epoch_is_that_of_its_checkpoint(
    runner: Runner, make_splits: Make, settings: tuple[str, ...]
) -> None:
    """What is measured is what is saved, the average if there is one, by its boxes at its own threshold."""
    root = make_splits(**WITH_BOXES)
    result = runner(recipe_for(root, "epochs=1", *settings))
    validation = open_dataset(root).samples("train-fullsup", with_boxes=True)
    again = 100 * count_right(load_model(result.folder), validation, "cpu") / len(validation)
    assert float(rows(result.folder)[-1]["gt_known"]) == pytest.approx(again)


@pytest.mark.parametrize(
    ("losses", "spreads", "best", "warned"),
    [
        ([3.0, 2.0, 1.0, 2.5], [0.2, 0.2, 0.0, 0.2], 2, True),
        ([1.0], [0.0], None, True),
        ([2.0, 1.0], [0.2] * 2, 2, False),
    ],
)
def test_without_boxes_the_lowest_loss_that_has_not_collapsed(
    runner: Runner,
    make_splits: Make,
    monkeypatch: pytest.MonkeyPatch,
    losses: list[float],
    spreads: list[float],
    best: int | None,
    warned: bool,
) -> None:
    """An epoch whose M is flat is never the best, however low its loss; there may be none."""
    real, left = Training.end_epoch, list(zip(losses, spreads, strict=True))

    def end_epoch(self: Training) -> Epoch:
        epoch, (loss, spread) = real(self), left.pop(0)
        terms = {"total": 0.0, "cla": loss, "spa": 0.0, "div": 0.0}
        return dataclasses.replace(epoch, terms=terms, measures={**epoch.measures, "spread": spread, "foreground": 0.5})

    monkeypatch.setattr(Training, "end_epoch", end_epoch)
    result = runner(recipe_for(make_splits(**FOUR), f"epochs={len(losses)}"))
    assert (result.best_epoch, (result.folder / "best").is_dir()) == (best, best is not None)
    if result.best is not None:
        assert provenance_of(result.best)["epochs"] == best
    assert result.selected_by.startswith("the lowest training loss, with the last step's weights, among")
    assert [row["gt_known"] for row in rows(result.folder)] == [""] * len(losses)
    assert any(line.startswith("warning: M is flat") for line in runner.said) == warned


def test_what_a_run_leaves(runner: Runner, make_splits: Make) -> None:
    """Metrics, events, environment, recipe, state and a checkpoint whose provenance says where it came from."""
    result = runner(recipe_for(make_splits(**WITH_BOXES), "epochs=2"))
    assert {path.name for path in result.folder.iterdir()} == {
        *("best", "config.json", "curves.png", "environment.json", "last.safetensors"),
        *("metrics.csv", "model.safetensors", "recipe.toml", "samples.jpg", "tensorboard"),
    }
    provenance = provenance_of(result.folder)
    expected = {"data": ["tiny"], "images": 6, "epochs": 2, "skipped_images": 0, "seed": 0, "recipe": "defaults"}
    assert {name: provenance[name] for name in expected} == expected
    assert provenance["labels"] == "image labels only"
    assert str(runner.home) not in json.dumps(provenance)
    assert len(json.loads((result.folder / "environment.json").read_text())) == 1
    assert runner.images == 12
    assert FAM.from_pretrained(result.folder).class_names == ("red", "green")
    assert [line[:12] for line in runner.said if line.startswith("epoch ")] == ["epoch 1 of 2", "epoch 2 of 2"]
    for checkpoint in (result.folder, result.folder / "best"):  # their reference outputs are those of their weights
        report = inspect(checkpoint)
        assert report.problems == []
        assert report.map_difference is not None
        assert report.map_difference < 1e-4  # what rounding to four decimals leaves


def test_tensorboard_and_the_test_split(runner: Runner, make_splits: Make) -> None:
    """Each column of the metrics is a curve, if interrupted too; checkpoints chosen by the test split say so."""
    root = make_splits(**FOUR, test=[6, 7])
    runner.stop(recipe_for(root, "epochs=3", "select=test", "i_know_this_is_test=true"), after=5)
    folder = runner(None).folder
    for provenance in (provenance_of(folder), provenance_of(folder / "best")):
        assert provenance["tuned_on_test"] is True
        assert provenance["selected_by"] == "GT-known Loc on test (2 images with boxes)"
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    table = rows(folder)
    assert set(events.Tags()["scalars"]) == set(table[0])
    for name in table[0]:
        points = events.Scalars(name)
        assert [point.step for point in points] == [1, 2, 3]
        assert [point.value for point in points] == pytest.approx([float(row[name]) for row in table], rel=1e-5)


def test_pictures(runner: Runner, make_splits: Make) -> None:
    """Curves and maps are there after the first epoch, go on when the run is resumed, and are in TensorBoard too."""
    recipe = recipe_for(make_splits(**WITH_BOXES), "epochs=30", "cached_views=1")
    whole, folder = runner(recipe, "whole").folder, runner.stop(recipe, after=3)
    for columns in (2, 9):  # the image and the first epoch; then eight epochs of thirty
        with Image.open(folder / "samples.jpg") as sheet:
            assert (sheet.format, sheet.width // columns, sheet.height // 2) == ("JPEG", 100, 111)  # the validation set
        with Image.open(folder / "curves.png") as curves:
            assert curves.format == "PNG"
        runner(None)
    events = EventAccumulator(str(folder / "tensorboard"), {"images": 0}).Reload()
    assert [event.step for event in events.Images("samples")] == [1, 5, 9, 13, 18, 22, 26, 30]
    assert {1, 30} <= {event.step for event in events.Images("curves")}
    assert same_bytes(whole, folder, "curves.png", "samples.jpg", "model.safetensors")


@pytest.mark.parametrize(
    ("settings", "after"),
    [*((("ema=0.9", "train.backbone=trained"), step) for step in (1, 3, 4)), (("method=cam", "ema=0.9"), 2)],
)
def test_an_interrupted_run_goes_on_exactly(
    runner: Runner, make_splits: Make, settings: tuple[str, ...], after: int
) -> None:
    """Ctrl-C saves after the step and says how to go on; the run then ends as if nothing had happened."""
    recipe = recipe_for(make_splits(**WITH_BOXES), "epochs=2", *settings)
    whole = runner(recipe, "whole")
    runner.said.clear()
    broken = runner.stop(recipe, "broken", after)
    assert runner.said[-1] == f"stopped at step {after} of 6; go on with: fam train --resume {broken}"
    assert read_state(broken / "last.safetensors").facts["step"] == after
    resumed = runner(None, "broken")
    names = ("model.safetensors", "config.json", "best/model.safetensors", "best/config.json", "recipe.toml")
    assert same_bytes(whole.folder, broken, *names)
    timed = {"seconds", "waiting", "images_per_second"}
    first, second = (
        [{k: v for k, v in row.items() if k not in timed} for row in rows(f)] for f in (whole.folder, broken)
    )
    assert first == second
    assert resumed.best_epoch == whole.best_epoch
    assert runner.images == 12
    assert len(json.loads((broken / "environment.json").read_text())) == 2


def test_a_second_signal_does_not_save_half_a_step(
    runner: Runner, make_splits: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What interrupts at once may do so within a step: the last whole state stays the one to go on from."""
    recipe = recipe_for(make_splits(**WITH_BOXES), "epochs=2", "save_minutes=0")
    real = torch.optim.AdamW.step
    steps: list[int] = []

    def step(self: torch.optim.AdamW, *arguments: Any) -> Any:
        steps.append(1)
        result = real(self, *arguments)
        if len(steps) == 3:  # the weights have moved, and the step has not been counted
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return result

    whole = runner(recipe, "whole")
    monkeypatch.setattr("famcli.training.environment.SAME", -1.0)
    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(KeyboardInterrupt):
        runner(recipe, "broken")
    monkeypatch.undo()
    assert read_state(runner.home / "broken/last.safetensors").facts["step"] == 2
    assert same_bytes(whole.folder, runner(None, "broken").folder)


def test_a_small_run(runner: Runner, make_splits: Make, labelled: list[Sample]) -> None:
    """Images of any size and mode train; checkpoints may be in float16, the state is exact; a finished run stays."""
    Image.new("L", (5, 300), 40).save(labelled[0].path)
    Image.new("RGBA", (300, 7), (1, 2, 3, 4)).save(labelled[1].path)
    folder = runner(recipe_for(make_splits(train_weaksup=[0, 1]), "epochs=1", "half=true")).folder
    (row,) = rows(folder)
    assert (math.isfinite(float(row["total"])), row["skipped"]) == (True, "0")
    weight = "part_attention.discovery.weight"
    assert load_file(folder / "model.safetensors")[weight].dtype == torch.float16
    assert read_state(folder / "last.safetensors").tensors[f"model.{weight}"].dtype == torch.float32
    before = contents(folder)
    assert len(runner(None).history) == 1
    assert contents(folder) == before


def test_a_finished_run_says_so_at_once(runner: Runner, make_splits: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished run is resumed without its data, and gives what it gave; one that was not summed up is."""
    root = make_splits(**WITH_BOXES)
    result = runner(recipe_for(root, "epochs=2"))

    def fail(_checkpoint: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "record", fail)
    with pytest.raises(KeyboardInterrupt):
        runner(recipe_for(root, "epochs=2"), "unsaid")
    assert runner.said[-1].endswith(f"end the run with: fam train --resume {runner.home / 'unsaid'}")
    monkeypatch.undo()
    summed_up = runner(None, "unsaid")
    assert inspect(summed_up.folder).problems == inspect(summed_up.folder / "best").problems == []
    shutil.rmtree(root)
    before = contents(result.folder)
    runner.said.clear()
    assert runner(None) == result
    assert (len(runner.said), contents(result.folder)) == (2, before)
    assert f"{result.folder} is finished after 2 epochs" in runner.said[0]
    assert str(result.best) in runner.said[1]


def test_long_steps_have_progress(runner: Runner, make_splits: Make, make_model: Callable[..., FAM]) -> None:
    """What is done before training is counted to its end, image by image; a resumed run counts on."""
    make_model().save_pretrained(runner.home / "teacher")
    settings = ("lambda_target=1", f"teacher={runner.home / 'teacher'}", "cached_views=2", "epochs=2")
    recipe = recipe_for(make_splits(**WITH_BOXES), *settings)
    before = {"validation set": (2, 2), "maps of the teacher": (6, 6), "features": (12, 12)}
    runner.stop(recipe, after=2)
    assert runner.bars == {**before, "images": (4, 12)}
    runner.bars.clear()
    runner(None)
    assert runner.bars == {**before, "images": (12, 12)}


def test_what_a_run_is_not_resumed_with(runner: Runner, make_splits: Make) -> None:
    """Other labels, an edited recipe, a folder without a save and a recipe of one's own are refused."""
    root = make_splits(**WITH_BOXES)
    recipe = recipe_for(root, "epochs=2")
    folder = runner.stop(recipe)
    text = (folder / "recipe.toml").read_text()
    (folder / "recipe.toml").write_text(text.replace("seed = 0", "seed = 7"))
    with pytest.raises(ConfigError, match=r"has been changed since the run began \(train\.seed\)"):
        runner(None)
    (folder / "recipe.toml").write_text(text)
    labels = root / "metadata/train-weaksup/class_labels.txt"
    labels.write_text(labels.read_text().replace("0.png,0", "0.png,1"))
    with pytest.raises(DataError, match="the images or labels have changed since the run began"):
        runner(None)
    RunFolder(runner.home / "other").begin(recipe.with_classes(2, named=True))
    with pytest.raises(WeightsError, match=r"holds no last\.safetensors"):
        runner(None, "other")
    for given in ((recipe, folder), (None, None)):
        with pytest.raises(ConfigError, match="from its folder alone, with its own recipe"):
            train(*given, resume=True)


def test_when_it_saves(runner: Runner, make_splits: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """``save_minutes`` 0 saves after each step; otherwise it is at least after each epoch."""
    steps: list[int] = []
    monkeypatch.setattr(run_module, "write_state", lambda _, state: steps.append(state.facts["step"]))
    root = make_splits(**WITH_BOXES)
    for minutes in (0, 1000):
        runner(recipe_for(root, "epochs=2", f"save_minutes={minutes}"), f"run{minutes}")
    assert steps == [1, 2, 3, 4, 5, 6, 3, 6]


def test_corrupt_images_are_reported(runner: Runner, make_splits: Make, labelled: list[Sample]) -> None:
    """Of training images it is said once which were replaced and why; of the validation set, that they are misses."""
    labelled[2].path.write_bytes(b"")
    labelled[6].path.write_bytes(b"no image")
    folder = runner(recipe_for(make_splits(**WITH_BOXES), "epochs=2")).folder
    said = [line for line in runner.said if "cannot be read" in line]
    assert said == ["warning: 1 images cannot be read and were replaced by their neighbours: 2.png: the file is empty"]
    assert any(f"1 images of train-fullsup count as misses: {labelled[6].path}" in line for line in runner.said)
    assert [row["skipped"] for row in rows(folder)] == ["1", "1"]
    assert all(float(row["gt_known"]) <= 50 for row in rows(folder))
    assert provenance_of(folder)["skipped_images"] == 1
    for sample in labelled[6:]:
        sample.path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"none of the \d images of train-fullsup can be read, so no epoch can"):
        runner(recipe_for(make_splits(**WITH_BOXES)), "unreadable")


def test_nothing_is_written_before_a_step_is_possible(runner: Runner, make_splits: Make) -> None:
    """Bad weights leave no folder, and an earlier run as it was; a label that is no class ends a run before a step."""
    root = make_splits(train_weaksup=[0, 1])
    folder = runner(recipe_for(root)).folder
    before = contents(folder)
    wrong = recipe_for(root, "backbone_weights=typo.safetensors")
    for out, exist_ok in (("other", False), ("run", True)):
        with pytest.raises(FamError):
            train(wrong, runner.home / out, exist_ok=exist_ok, device="cpu")
    assert not (runner.home / "other").exists()
    assert contents(folder) == before
    root = make_splits("other", classes=(), train_weaksup=[0, 2, 4], train_fullsup=[6, 7])
    with pytest.raises(DataError, match="'7.png' has label 1"):
        runner(recipe_for(root), "odd")
    assert runner.images == 0


def test_a_run_of_an_older_version_goes_on(runner: Runner, make_splits: Make) -> None:
    """A field that is newer than the run counts as its default; fields that moved and measures are found."""
    recipe = recipe_for(make_splits(**FOUR), "epochs=3", "part_std=1.0")
    whole = runner(recipe, "whole")
    folder = runner.stop(recipe, "old", after=3)

    state = read_state(folder / "last.safetensors")
    facts = json.loads(json.dumps(state.facts))
    tables = facts["run"]["recipe"]
    for table, name in (("run", "unlabelled"), ("run", "teacher"), ("model", "method"), ("train", "compile")):
        del tables[table][name]
    tables["train"] |= {name: tables["model"].pop(name) for name in ("part_std", "sparsity_warmup")}
    facts["history"] = [{**epoch, **epoch.pop("measures")} for epoch in facts["history"]]
    write_state(folder / "last.safetensors", State(state.tensors, facts))
    assert same_bytes(runner(None, "old").folder, whole.folder, "model.safetensors", "config.json")
    assert list(rows(folder)[0]) == list(rows(whole.folder)[0])


def test_a_cam_has_columns_of_its_own(runner: Runner, make_splits: Make) -> None:
    """Without boxes the loss chooses, and nothing is logged or said of parts."""
    result = runner(recipe_for(make_splits(**FOUR), "method=cam", "epochs=3"))
    assert "part similarity" not in " ".join(runner.said)
    table = rows(result.folder)
    assert {"total", "cla", "foreground", "spread", "top1"} <= set(table[0])
    assert not {"spa", "div", "part_similarity"} & set(table[0])
    assert result.best_epoch == 1 + min(range(3), key=lambda i: float(table[i]["cla"]))
    model = load_model(result.folder / "best")
    assert (type(model), model.config.tau, model.class_names) == (CAM, 0.2, ("red", "green"))


@pytest.mark.slow
def test_targets_are_made_anew_from_the_same_weights(runner: Runner, make_splits: Make, backbone_file: Path) -> None:
    """A resumed run draws M to the very targets it began with; with other backbone weights it does not go on."""
    settings = (*RESNET, "lambda_target=1", "train.backbone=trained", f"backbone_weights={backbone_file}")
    recipe = recipe_for(make_splits(**FOUR), *settings)
    whole = runner(recipe, "whole")
    assert "target" in rows(whole.folder)[0]
    runner.stop(recipe, "broken")
    assert same_bytes(whole.folder, runner(None, "broken").folder)
    runner.stop(recipe, "other")
    torch.manual_seed(1)
    save_file(timm.create_model("test_resnet", num_classes=2).state_dict(), backbone_file)
    with pytest.raises(ConfigError, match="are not the backbone weights the run began with"):
        runner(None, "other")


def test_unlabelled_images_join_under_pseudo_labels(
    runner: Runner, make_splits: Make, tmp_path: Path, backbone_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images that have a pseudo-label are trained on; a resumed run must give them the same ones."""
    shutil.copytree(tmp_path / "labelled", tmp_path / "more")
    settings = (f"backbone_weights={backbone_file}", f"unlabelled={tmp_path / 'more'}", "unlabelled_confidence=0.5")
    recipe = recipe_for(make_splits(**FOUR), *RESNET, *settings)
    labels = {"0.png": 1, "2.png": 0, "5.png": 1}

    def given(_model: FAM, samples: Sequence[Sample], confidence: float, *_: Any) -> dict[int, int]:
        assert confidence == 0.5
        return {i: labels[s.path.name] for i, s in enumerate(samples) if s.path.name in labels}

    monkeypatch.setattr(supervision, "pseudo_labels", given)
    whole = runner(recipe, "whole")
    assert runner.images == 2 * 6  # batches of two
    assert "3 of 8 unlabelled images have a pseudo-label" in runner.said
    provenance = provenance_of(whole.folder)
    kept = ("images", "unlabelled", "pseudo_labelled", "unlabelled_confidence")
    assert [provenance[name] for name in kept] == [4, ["more"], 3, 0.5]
    runner.stop(recipe, "broken", after=4)
    assert same_bytes(whole.folder, runner(None, "broken").folder)
    runner.stop(recipe, "third")
    labels["2.png"] = 1
    with pytest.raises(DataError, match="the pseudo-labels of the unlabelled images are not those the run began with"):
        runner(None, "third")


@pytest.mark.slow
def test_a_teacher_takes_part_in_the_targets(runner: Runner, make_splits: Make, backbone_file: Path) -> None:
    """A second run with the first as its teacher ends elsewhere, remembers whom it learnt from, and sticks to it."""
    root = make_splits(**FOUR)
    settings = (*RESNET, f"backbone_weights={backbone_file}", "lambda_target=1")
    first = runner(recipe_for(root, *settings), "first").folder
    recipe = recipe_for(root, *settings, f"teacher={first}")
    second = runner.stop(recipe, "second")
    digest = hashlib.sha256((first / "model.safetensors").read_bytes()).hexdigest()
    runner(None, "second")
    assert same_bytes(second, runner(recipe, "whole").folder)
    assert not same_bytes(second, first)
    provenance = provenance_of(second)
    assert (provenance["teacher_sha256"], provenance["teacher_data"]) == (digest, [root.name])
    assert "tuned_on_test" not in provenance
    runner.stop(recipe, "third")
    FAM(FAM.from_pretrained(first).config).save_pretrained(first)
    with pytest.raises(ConfigError, match="has other weights than when the run began"):
        runner(None, "third")


def test_teachers_of_other_classes(runner: Runner, make_splits: Make, make_model: Callable[..., FAM]) -> None:
    """A new classifier has no targets of its own, its teachers mark it; a CAM is no teacher; it needs the term."""
    teacher = make_model()
    teacher.provenance["data"] = ["ours"]
    teacher.save_pretrained(runner.home / "plain")
    teacher.provenance["tuned_on_test"] = True
    teacher.save_pretrained(runner.home / "marked")
    names = [str(runner.home / name) for name in ("plain", "marked")]
    recipe = recipe_for(make_splits(**FOUR), "epochs=1", "lambda_target=1", f"teacher={json.dumps(names)}")
    folder = runner(recipe).folder
    assert "target" in rows(folder)[0]
    assert not any("from the image labels" in line for line in runner.said)
    assert len(FAM.from_pretrained(folder).class_names) == 2
    provenance = provenance_of(folder)
    assert (provenance["tuned_on_test"], provenance["teacher_data"]) == (True, ["ours"])
    assert len(provenance["teacher_sha256"].split(", ")) == 2
    make_model(method="cam").save_pretrained(runner.home / "cam")
    root, teacher = make_splits("two", train_weaksup=[0, 1]), f"teacher={runner.home / 'cam'}"
    for settings, message in (
        (("lambda_target=1", teacher), "a CAM, depends on the class"),
        ((teacher,), "teacher is for targets of M, .* set lambda_target, or leave it out"),
        (("hard_targets=true",), "hard_targets is for targets of M, .* set lambda_target, or leave it out"),
        (("targets=evidence",), "targets is for targets of M, .* set lambda_target, or leave it out"),
        (("lambda_target=1",), "class activation maps"),
        (("lambda_target=1", "method=cam"), "CAM has none; set lambda_target=0"),
    ):
        with pytest.raises(ConfigError, match=message):
            runner(recipe_for(root, *settings), "odd")


OURS = (
    *("config.json", "model.safetensors", "last.safetensors", "metrics.csv", "environment.json"),
    *("curves.png", "samples.jpg"),
    *("best/config.json", "best/model.safetensors", "tensorboard/events.out.tfevents.1.host.2.0"),
)
THEIRS = ("notes.txt", "best/why.txt", "tensorboard/mine.txt", "photos/a.png")


def test_fresh_folders_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first free of runs/STEM, runs/STEM-2 and so on is taken; a method that is not the default is named."""
    monkeypatch.chdir(tmp_path)
    recipe, cam = (
        load_recipe(None, [], {"data": ["x/b.csv"]}, {"backbone": "a", **m}) for m in ({}, {"method": "cam"})
    )
    for expected in ("a-b", "a-b-2", "a-b-3"):
        folder = RunFolder.fresh(recipe)
        assert folder.path == Path("runs") / expected
        folder.begin(recipe)
    assert RunFolder.fresh(cam).path == Path("runs/a-cam-b")


@pytest.mark.parametrize("was_a_run", [True, False])
def test_starting_anew_clears_the_earlier_run_alone(tmp_path: Path, was_a_run: bool) -> None:
    """Every file of an earlier run goes, its model included; everything else stays, and all of it without a run."""
    for name in (*OURS, *THEIRS, *(["recipe.toml"] if was_a_run else [])):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    RunFolder(tmp_path).check(exist_ok=True)
    RunFolder(tmp_path).begin(load_recipe(None))
    assert set(contents(tmp_path)) == {*THEIRS, "recipe.toml", *(() if was_a_run else OURS)}


def test_the_recipe_comes_back(tmp_path: Path) -> None:
    """The recipe comes back, sessions follow each other, and a folder with anything in it is refused or kept."""
    folder, recipe = RunFolder(tmp_path), load_recipe(None, ["epochs=3", "data=a"], {}, {"backbone": "vgg16"})
    folder.check(exist_ok=False)
    with pytest.raises(DataError, match=r"is not a run folder: it has no recipe\.toml"):
        folder.read_recipe()
    folder.begin(recipe)
    again = folder.read_recipe()
    assert (again.run, again.model, again.train) == (recipe.run, recipe.model, recipe.train)
    folder.add_environment({"device": "cpu"})
    folder.add_environment({"device": "cuda:0", "command": ["fam", "/data/\udcff"]})
    sessions = json.loads(folder.environment.read_text(encoding="utf-8"))
    assert [session["device"] for session in sessions] == ["cpu", "cuda:0"]
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=r"not empty; choose another --out, .*--resume .* --exist-ok"):
        folder.check(exist_ok=False)
    assert contents(tmp_path) == before
    with pytest.raises(ConfigError, match="is a file"):
        RunFolder(tmp_path / "recipe.toml").check(exist_ok=True)
