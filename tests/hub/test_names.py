"""What a model's name means."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from famcli.hub import find_model
from famcli.hub.names import CATALOG, HubModel, look_up, parse_repo
from famcli.results.paper import TABLE1
from famcli.training.recipe import load_recipe
from famcli_models.backbones import BACKBONES
from famcli_models.checkpoint import packaged
from famcli_models.errors import ConfigError, UnknownNameError, WeightsError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _no_organisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """No organisation of this machine."""
    monkeypatch.delenv("FAM_HUB_ORG", raising=False)


@pytest.mark.parametrize("name", CATALOG)
def test_catalogue_rows(name: str) -> None:
    """Every row has a known backbone and a packaged recipe of that backbone."""
    facts = CATALOG[name]
    assert facts.name == name
    assert facts.backbone in BACKBONES
    assert load_recipe(facts.recipe).model.backbone == facts.backbone
    assert f"fam train --recipe {facts.recipe} " in facts.command


def test_catalogue_is_complete() -> None:
    """Each backbone of the paper on each of its datasets; what is packaged says of itself what it is."""
    cells = {f"fam-{backbone}-{data}" for data, backbone in TABLE1}
    assert set(CATALOG) | set(packaged()) >= cells
    assert not set(CATALOG) & set(packaged())


def test_folders_come_first(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is itself, also when it looks like a name of the Hub or of the catalogue."""
    assert look_up(str(checkpoint)) == checkpoint
    for name in ("runs/best", "fam-resnet50-cub"):
        shutil.copytree(checkpoint, tmp_path / name)
        monkeypatch.chdir(tmp_path)
        assert look_up(name) == Path(name)
        assert find_model(name) == Path(name)


def test_packaged_names_come_before_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A packaged name is its folder, whatever organisation is set, and has no revisions."""
    for name, folder in packaged().items():
        with pytest.raises(WeightsError, match=f"'{name}' is packaged and has no revisions; leave out '@v1'"):
            look_up(f"{name}@v1")
        monkeypatch.setenv("FAM_HUB_ORG", "lab")
        assert look_up(name) == folder
        monkeypatch.delenv("FAM_HUB_ORG")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lab/fam", HubModel("lab/fam")),
        ("lab/fam@v1.0", HubModel("lab/fam", "v1.0")),
        ("lab/fam@refs/pr/3", HubModel("lab/fam", "refs/pr/3")),
        (f"lab/fam@{COMMIT}", HubModel("lab/fam", COMMIT)),
        ("Lab-1/fam.v2_x", HubModel("Lab-1/fam.v2_x")),
    ],
)
def test_names_of_the_hub(name: str, expected: HubModel) -> None:
    """ORG/NAME and ORG/NAME@REVISION."""
    assert look_up(name) == expected
    assert str(expected) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "a/b/c", "fam mobilenet", "../x/y", "lab/..", "lab/.fam", "lab/fam-", "-lab/fam", "lab//fam", "lab/fam@"),
        *("lab/fam@../../x", "lab/fam@-x", "lab/fam\n", "läb/fam", "no-such-model", "fam-resnet51-cub"),
    ],
)
def test_unknown_names(name: str) -> None:
    """What is none of these is unknown."""
    with pytest.raises(UnknownNameError):
        look_up(name)


def test_unpublished_names_say_how_to_make_them() -> None:
    """A row without weights names the command that makes them."""
    with pytest.raises(WeightsError, match="not published yet; make them with 'fam train --recipe vgg16-cub"):
        look_up("fam-vgg16-cub")


def test_organisations(monkeypatch: pytest.MonkeyPatch) -> None:
    """An organisation completes a name without one; the option comes before the variable, both before the catalogue."""
    monkeypatch.setenv("FAM_HUB_ORG", "lab")
    assert look_up("fam-vgg16-cub@v2") == HubModel("lab/fam-vgg16-cub", "v2")
    assert look_up("our-birds") == HubModel("lab/our-birds")
    assert look_up("our-birds", "zoo") == HubModel("zoo/our-birds")
    assert look_up("zoo/our-birds") == HubModel("zoo/our-birds")
    monkeypatch.setenv("FAM_HUB_ORG", "../etc")
    with pytest.raises(ConfigError, match="give it as ORG/NAME"):
        look_up("our-birds")


def test_repositories() -> None:
    """A repository has an organisation and no revision."""
    assert parse_repo("lab/fam") == "lab/fam"
    for bad in ("fam", "lab/fam@v1", "a/b/c", ""):
        with pytest.raises(ConfigError):
            parse_repo(bad)
