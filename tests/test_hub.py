"""Model name to folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from famcli.hub import find_model
from famcli_models.errors import UnknownNameError, WeightsError


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The Hub, replaced: what it was asked, and what it does."""
    state: dict[str, Any] = {"asked": [], "answer": AssertionError("the network was asked")}

    def snapshot_download(repo: str, **options: Any) -> str:
        state["asked"].append((repo, options.get("revision"), options.get("allow_patterns")))
        if isinstance(state["answer"], BaseException):
            raise state["answer"]
        return str(state["answer"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return state


def made(kind: type[Exception]) -> Exception:
    """An error of huggingface_hub without the HTTP response that its constructor wants."""
    return kind.__new__(kind)


def test_folder(checkpoint: Path, hub: dict[str, Any]) -> None:
    """A folder is itself, and the network is not asked."""
    assert find_model(str(checkpoint)) == checkpoint
    assert hub["asked"] == []


def test_relative_folder_that_looks_like_a_hub_id(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: dict[str, Any]
) -> None:
    """runs/best is the folder if there is one."""
    shutil.copytree(checkpoint, tmp_path / "runs" / "best")
    monkeypatch.chdir(tmp_path)
    assert find_model("runs/best").samefile(tmp_path / "runs" / "best")
    assert hub["asked"] == []


def test_hub_id(checkpoint: Path, hub: dict[str, Any]) -> None:
    """ORG/NAME is fetched from the Hub: config, weights and card, nothing else."""
    hub["answer"] = checkpoint
    assert find_model("someone/fam") == checkpoint
    assert hub["asked"] == [("someone/fam", None, ["config.json", "model.safetensors", "README.md"])]


@pytest.mark.parametrize("revision", ["v1.0", "0123abc", "refs/pr/3"])
def test_hub_id_with_a_revision(checkpoint: Path, hub: dict[str, Any], revision: str) -> None:
    """ORG/NAME@REVISION asks for a branch, a tag, a commit or a pull request."""
    hub["answer"] = checkpoint
    find_model(f"someone/fam@{revision}")
    assert hub["asked"][0][:2] == ("someone/fam", revision)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.LocalEntryNotFoundError, "not in the cache and the Hub cannot be reached"),
        (errors.RepositoryNotFoundError, "no folder here and no repository on the Hub"),
        (errors.GatedRepoError, "accept"),
        (errors.RevisionNotFoundError, "has no revision 'v2'"),
        (errors.HfHubHTTPError, "cannot be reached"),
        (errors.HFValidationError, "no repository on the Hub"),
        (ConnectionError, "cannot be reached"),
    ],
)
def test_what_the_hub_says_is_said_in_a_sentence(hub: dict[str, Any], error: type[Exception], message: str) -> None:
    """Every way in which the Hub can refuse is a WeightsError that says what to do."""
    hub["answer"] = made(error)
    with pytest.raises(WeightsError, match=message):
        find_model("someone/fam@v2")


def test_repository_of_another_kind(hub: dict[str, Any], tmp_path: Path) -> None:
    """A repository that holds no FAM checkpoint is refused with what is missing."""
    hub["answer"] = tmp_path
    with pytest.raises(WeightsError, match=r"config\.json and model\.safetensors missing"):
        find_model("someone/other")


@pytest.mark.parametrize("name", ["no-such-model", "a/b/c", "", "fam mobilenet"])
def test_unknown_names(hub: dict[str, Any], name: str) -> None:
    """What is no packaged name, no folder and no Hub id is unknown, and the network is not asked."""
    with pytest.raises((UnknownNameError, WeightsError)):
        find_model(name)
    assert hub["asked"] == []
