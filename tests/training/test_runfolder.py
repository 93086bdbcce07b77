"""The folder of a run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from famcli.training.monitor import Epoch
from famcli.training.recipe import load_recipe
from famcli.training.runfolder import RunFolder
from famcli_models.errors import ConfigError, DataError

OURS = (
    "config.json",
    "model.safetensors",
    "last.safetensors",
    "metrics.csv",
    "environment.json",
    "best/config.json",
    "best/model.safetensors",
    "tensorboard/events.out.tfevents.1.host.2.0",
)
THEIRS = ("notes.txt", "best/why.txt", "tensorboard/mine.txt", "photos/a.png")


def fill(folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_fresh_folders_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first free of runs/STEM, runs/STEM-2 and so on is taken."""
    monkeypatch.chdir(tmp_path)
    for expected in ("a-b", "a-b-2", "a-b-3"):
        folder = RunFolder.fresh("a-b")
        assert folder.path == Path("runs") / expected
        folder.begin(load_recipe(None))
    assert RunFolder.fresh("c").path == Path("runs/c")


def test_a_full_folder_is_refused(tmp_path: Path) -> None:
    """A folder with anything in it is left as it is, and the message says the three ways on."""
    fill(tmp_path, ("notes.txt",))
    with pytest.raises(ConfigError, match=r"not empty; choose another --out, .*--resume .* --exist-ok"):
        RunFolder(tmp_path).check(exist_ok=False)
    assert files(tmp_path) == {"notes.txt"}
    with pytest.raises(ConfigError, match="is a file"):
        RunFolder(tmp_path / "notes.txt").check(exist_ok=True)


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    """A folder that was made beforehand needs no option."""
    RunFolder(tmp_path).check(exist_ok=False)
    RunFolder(tmp_path).begin(load_recipe(None))
    assert files(tmp_path) == {"recipe.toml"}


def test_starting_anew_clears_the_earlier_run_alone(tmp_path: Path) -> None:
    """Every file of the earlier run goes, its model included; everything else stays."""
    fill(tmp_path, (*OURS, *THEIRS, "recipe.toml"))
    RunFolder(tmp_path).check(exist_ok=True)
    RunFolder(tmp_path).begin(load_recipe(None))
    assert files(tmp_path) == {*THEIRS, "recipe.toml"}


def test_a_folder_that_is_no_run_is_not_cleared(tmp_path: Path) -> None:
    """Where there was no run nothing is removed, whatever it is called."""
    fill(tmp_path, (*OURS, *THEIRS))
    RunFolder(tmp_path).check(exist_ok=True)
    RunFolder(tmp_path).begin(load_recipe(None))
    assert files(tmp_path) == {*OURS, *THEIRS, "recipe.toml"}


def test_the_recipe_comes_back(tmp_path: Path) -> None:
    """The recipe in the folder is the one that the run began with."""
    folder, recipe = RunFolder(tmp_path), load_recipe(None, ["epochs=3", "data=a"], {}, {"backbone": "vgg16"})
    folder.begin(recipe)
    again = folder.read_recipe()
    assert (again.run, again.model, again.train) == (recipe.run, recipe.model, recipe.train)


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    """What is no run cannot be resumed."""
    with pytest.raises(DataError, match=r"is not a run folder: it has no recipe\.toml"):
        RunFolder(tmp_path).read_recipe()
    with pytest.raises(DataError, match="is not a run folder"):
        RunFolder(tmp_path / "absent").read_recipe()


def test_each_session_is_noted(tmp_path: Path) -> None:
    """Sessions that worked on the run follow each other."""
    folder = RunFolder(tmp_path)
    folder.add_environment({"device": "cpu"})
    folder.add_environment({"device": "cuda:0", "command": ["fam", "/data/\udcff"]})
    sessions = json.loads(folder.environment.read_text(encoding="utf-8"))
    assert [session["device"] for session in sessions] == ["cpu", "cuda:0"]


def test_metrics(tmp_path: Path) -> None:
    """The file has a header and a line an epoch, whole at any time."""
    folder = RunFolder(tmp_path)
    history = [
        Epoch(
            number=number,
            terms={"total": 1.5, "cla": 1.0},
            measures={"foreground": 0.5, "spread": 0.2, "part_similarity": 0.1, "top1": 0.5},
            images=8,
            seconds=2.0,
            waiting=0.0,
            gt_known=gt_known,
        )
        for number, gt_known in ((1, None), (2, 50.0))
    ]
    folder.write_metrics(history[:1])
    folder.write_metrics(history)
    with folder.metrics.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["gt_known"] for row in rows] == ["", "50.0"]
    assert rows[0]["total"] == "1.5"
    assert rows[0]["images_per_second"] == "4.0"
    assert files(tmp_path) == {"metrics.csv"}
