"""`fam train`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import Result

from famcli.cli.app import app
from famcli.data.sample import Sample
from famcli_models.errors import FamError

Fam = Callable[..., Result]
HERE = ("--device", "cpu", "--workers", "0")
SMALL = ("--backbone", "test_efficientnet", "--set", "backbone_weights=none", *HERE)
SETTINGS = tuple(f"--set={pair}" for pair in ("size=64", "epochs=2", "batch_size=2"))


@pytest.fixture
def data(make_splits: Callable[..., Path]) -> Path:
    """Four images with labels; no boxes."""
    return make_splits(train_weaksup=[0, 1, 2, 3])


@pytest.fixture
def train(fam: Fam, data: Path) -> Fam:
    """A function that runs a small `fam train`."""
    return lambda *arguments: fam("train", "--data", data, *SMALL, *SETTINGS, *arguments)


def test_run_folder(train: Fam, fam: Fam, labelled: list[Sample], tmp_path: Path) -> None:
    """A run says its recipe, prints its folder, which predict takes, and is overwritten only if that is said."""
    out = tmp_path / "run"
    result = train("--out", out)
    assert (result.exit_code, result.stdout) == (1, f"{out}\n"), result.stderr  # so few steps teach nothing
    assert "the training has failed: M " in result.stderr
    assert (out / "recipe.toml").read_text() in result.stderr
    assert "4 images from tiny into" in result.stderr
    assert "epoch 2 of 2:" in result.stderr
    predicted = fam("predict", labelled[0].path, "--model", out, "--device", "cpu")
    assert (predicted.exit_code, predicted.stderr.count("the training of this model has failed: M ")) == (0, 1)
    finished = fam("train", "--resume", out)
    assert (finished.exit_code, finished.stdout) == (1, f"{out}\n")
    assert "is finished after 2 epochs" in finished.stderr
    (out / "notes.txt").write_text("mine")
    refused = train("--out", out)
    assert (refused.exit_code, "--exist-ok" in refused.stderr) == (1, True)
    quiet = train("--out", out, "--exist-ok", "--quiet")
    assert (quiet.exit_code, quiet.stderr.count("\n"), (out / "notes.txt").read_text()) == (1, 1, "mine")


def test_the_folder_has_a_name(train: Fam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --out the folder is named for backbone, method and data, and never one that exists."""
    monkeypatch.chdir(tmp_path)
    assert train().stdout == "runs/test_efficientnet-tiny\n"
    assert train().stdout == "runs/test_efficientnet-tiny-2\n"
    cam = train("--method", "cam")
    assert cam.stdout == "runs/test_efficientnet-cam-tiny\n"
    assert 'method = "cam"' in cam.stderr
    assert "lambda_spa;" not in cam.stderr  # no advice about a loss that it does not have


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "epoch=3"), "did you mean: epochs"),
        (("--set", "split=val"), "has no split"),
        (("--set", "split=test"), "--i-know-this-is-test"),
        (("--set", "num_classes=1"), "leave it out"),
        (("--set", "accumulate=3"), "multiple of 3"),
        (("--method", "cam", "--set", "classifier=frozen"), "nothing to train"),
    ],
)
def test_bad_input(train: Fam, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    """What is wrong is one sentence and exit code 1."""
    result = train("--out", tmp_path / "run", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "run").exists()


def test_the_recipe_for_backbone_and_data(
    fam: Fam, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packaged recipe named for both is taken by itself; one that is named by hand comes first."""
    monkeypatch.setenv("FAM_DATA", str(data.parent))
    monkeypatch.setattr("famcli.training.catalog.RECIPES_DIR", tmp_path / "recipes")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/test_efficientnet-tiny.toml").write_text("[model]\nnum_parts = 2\n")
    (tmp_path / "recipes/mine.toml").write_text("[model]\nnum_parts = 3\n")
    for i, (more, parts) in enumerate((((), 2), (("--recipe", "mine"), 3))):
        fam("train", "--data", "tiny", *SMALL, *SETTINGS, *more, "--out", tmp_path / str(i))
        assert json.loads((tmp_path / str(i) / "config.json").read_text())["model"]["num_parts"] == parts


def test_the_test_split_is_marked(fam: Fam, make_splits: Callable[..., Path], tmp_path: Path) -> None:
    """Selecting by the test split needs the option, which marks the run and whatever its recipe repeats."""
    root, run, again = make_splits(train_weaksup=[0, 1, 2, 3], test=[4, 5]), tmp_path / "run", tmp_path / "again"
    command = ("train", "--data", root, *SMALL, *SETTINGS, "--set=select=test", "--out", run)
    refused = fam(*command)
    assert (refused.exit_code, "--i-know-this-is-test" in refused.stderr, run.exists()) == (1, True, False)
    fam(*command, "--i-know-this-is-test")
    fam("train", "--recipe", run / "recipe.toml", "--out", again, *HERE)
    for folder in (run, again):
        assert json.loads((folder / "config.json").read_text())["provenance"]["tuned_on_test"] is True


def test_resume_takes_no_other_settings(fam: Fam, tmp_path: Path) -> None:
    """A run goes on with its own recipe: what would change it is refused, and so is a folder without a run."""
    with_value = (
        ("--data", "x"),
        ("--out", "x"),
        ("--recipe", "x"),
        ("--backbone", "vgg16"),
        ("--method", "cam"),
        ("--seeds", "1"),
    )
    for option in (*with_value, ("--set", "lr=1"), ("--exist-ok",), ("--dry-run",), ("--i-know-this-is-test",)):
        result = fam("train", "--resume", tmp_path, *option, *HERE)
        assert result.exit_code == 1
        assert "--resume goes on with the run's own recipe" in result.stderr
        assert f"--recipe {tmp_path / 'recipe.toml'} --set KEY=VALUE" in result.stderr
    result = fam("train", "--resume", tmp_path, *HERE)
    assert (result.exit_code, "is not a run folder" in result.stderr, list(tmp_path.iterdir())) == (1, True, [])


def test_dry_run(train: Fam, tmp_path: Path) -> None:
    """The resolved settings, the images of each class, time and memory are printed, and there is no folder."""
    result = train("--out", tmp_path / "run", "--dry-run")
    assert (result.exit_code, result.stderr, (tmp_path / "run").exists()) == (0, "", False)
    assert "[train]\nepochs = 2\n" in result.stdout
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in result.stdout.splitlines()]
    assert [row for row in rows if len(row) == 3][2:] == [["red", "2", "0"], ["green", "2", "0"], ["all", "4", "0"]]
    assert any(row[0] == "all, 4 steps" and row[1].endswith(" min") for row in rows)
    assert any(row[0] == "memory, main process" and row[1].endswith("B") for row in rows)


@pytest.mark.parametrize(
    ("options", "recipe"),
    [
        ("--backbone vgg16 --data cub", "vgg16-cub"),
        ("--backbone vgg16 --data cub --method fam", "vgg16-cub"),
        ("--backbone vgg16 --data cub --method adl", "adl-vgg16-cub"),
        ("--backbone vgg16 --data cub --method has", "vgg16-cub"),  # not in the paper's table
        ("--backbone mobilenetv1 --data butterflies --method has", "has-mobilenetv1-butterflies"),
        ("--backbone mobilenetv1 --data photos --method adl", "own-data"),
        ("--data cub", "own-data"),
        ("--backbone vgg16 --data cub --method adl --recipe own-data", "own-data"),
    ],
)
def test_the_recipe_of_a_cell(fam: Fam, monkeypatch: pytest.MonkeyPatch, options: str, recipe: str) -> None:
    """Backbone and data take the recipe of their name, that of the method first; other data take own-data."""
    taken = []

    def refuse(name: str, *_: object) -> None:
        taken.append(name)
        raise FamError("enough")

    monkeypatch.setattr("famcli.training.recipe.load_recipe", refuse)
    assert (fam("train", *options.split()).exit_code, taken) == (1, [recipe])


def test_seeds(fam: Fam, make_splits: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each seed has a folder with results; the table is the end; neither the same command nor --resume repeats any."""
    monkeypatch.chdir(tmp_path)
    root = make_splits(train_weaksup=[0, 1, 2, 3], test=[4, 5, 6, 7])
    command = ("train", "--data", root, "--method", "cam", *SMALL, *SETTINGS)
    first = fam(*command, "--seeds", "1")
    assert (first.exit_code, first.stdout.splitlines()[2].split("|")[1].strip()) == (0, "CAM"), first.stderr
    result = fam(*command, "--seeds", "0-1")
    out = Path("runs/test_efficientnet-cam-tiny-seeds")
    assert (result.exit_code, f"{out / 'seed-1'} is finished" in result.stderr) == (0, True), result.stderr
    header, _, row = result.stdout.splitlines()[:3]
    assert [cell.strip() for cell in header.split("|")[1:4]] == ["method", "seeds", "τ"]
    assert [cell.strip() for cell in row.split("|")[1:3]] == ["CAM", "2"]
    assert " ± " in row
    assert {path.name for path in out.iterdir()} == {"seed-0", "seed-1", "sweep.json", "compare.json", "compare.md"}
    again = fam("train", "--resume", out, "--device", "cpu")
    assert (again.exit_code, again.stdout, again.stderr.count("is finished")) == (0, result.stdout, 2)
    refused = fam(*command, "--seeds", "0-1", "--set", "lr=1")
    assert (refused.exit_code, refused.stdout, "other settings (train.lr)" in refused.stderr) == (1, "", True)


def test_seeds_that_fail(fam: Fam, data: Path, tmp_path: Path) -> None:
    """What cannot be trained is refused before a folder is made; a run that has failed is named, and the exit is 1."""
    out = tmp_path / "out"
    missing = fam("train", "--data", tmp_path / "no/data", "--seeds", "0-2", "--out", out, *SMALL)
    assert (missing.exit_code, missing.stderr.count("there is no"), out.exists()) == (1, 1, False)
    result = fam("train", "--data", data, "--seeds=0,2", "--set=num_classes=1", "--out", out, *SMALL, *SETTINGS)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "2 of 2 runs failed: seed-0 (the data name 2 classes" in result.stderr


@pytest.mark.parametrize("seeds", ["", "a", "2-", "-1", "3-1", "0,0", "0-2,1", "1.5"])
def test_seeds_that_are_none(fam: Fam, seeds: str) -> None:
    """They are wrong usage, and so is a seed beside them."""
    assert fam("train", "--data", "x", "--seeds", seeds).exit_code == 2
    assert fam("train", "--data", "x", "--seeds", "1", "--set", "seed=1").exit_code == 2


def test_few_options() -> None:
    """Everything else is a setting."""
    commands: dict[str, Any] = vars(get_command(app))["commands"]
    options = [parameter.name for parameter in commands["train"].params]
    assert len(options) <= 16
    assert {"dry", "init", "data", "out", "recipe", "method", "settings", "seeds", "resume"} <= set(options)


def ilsvrc_tree(root: Path, pictures: Callable[..., Path]) -> Path:
    """ILSVRC as its users extract it: training images by class, flat validation images, an XML file for each."""
    wnids = ("n01440764", "n01443537")
    for label, wnid in enumerate(wnids):
        name = f"ILSVRC2012_val_{label + 1:08d}"
        photos = (*(f"train/{wnid}/{wnid}_{i}.JPEG" for i in range(3)), f"val/{name}.JPEG")
        pictures(root, *photos, size_hw=(90, 120))
        corners = "<xmin>10</xmin><ymin>10</ymin><xmax>80</xmax><ymax>60</ymax>"
        thing = f"<object><name>{wnid}</name><bndbox>{corners}</bndbox></object>"
        size = "<size><width>120</width><height>90</height><depth>3</depth></size>"
        (root / "boxes/val").mkdir(parents=True, exist_ok=True)
        (root / "boxes/val" / f"{name}.xml").write_text(f"<annotation>{size}{thing}</annotation>")
    (root / "LOC_synset_mapping.txt").write_text("".join(f"{w} fish {w[-1]}, Piscis\n" for w in wnids))
    return root


@pytest.mark.slow
def test_ilsvrc(fam: Fam, tmp_path: Path, pictures: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """`fam data prepare ilsvrc` and `fam train --backbone inceptionv3 --data ilsvrc` give a model that predicts."""
    monkeypatch.setenv("FAM_DATA", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    tree = ilsvrc_tree(tmp_path / "imagenet", pictures)
    prepared = fam("data", "prepare", "ilsvrc", "--from", tree)
    assert prepared.exit_code == 0, prepared.stderr
    settings = ("--set=size=64", "--set=epochs=1", "--set=batch_size=2")
    result = fam(
        *("train", "--backbone", "inceptionv3", "--data", "ilsvrc", "--set", "backbone_weights=none"), *settings, *HERE
    )
    assert result.exit_code == int("the training has failed" in result.stderr), result.stderr
    assert result.stdout == "runs/inceptionv3-ilsvrc\n"
    config = json.loads((tmp_path / "runs/inceptionv3-ilsvrc/config.json").read_text())
    assert config["class_names"] == ["fish 4", "fish 7"]
    assert (config["provenance"]["data"], config["provenance"]["images"]) == (["ilsvrc"], 6)
    assert config["provenance"]["recipe"] == "inceptionv3-ilsvrc"  # the one for this backbone and these data
    assert "no boxes" in config["provenance"]["selected_by"]  # its train-fullsup, imagenetv2, is not prepared here
    image = tree / "val/ILSVRC2012_val_00000001.JPEG"
    predicted = fam("predict", image, "--model", "runs/inceptionv3-ilsvrc", "--device", "cpu")
    assert predicted.exit_code == 0, predicted.stderr
