"""What a folder of the cache must be before it is used."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import constants

from famcli.hub import find_model
from famcli.hub.pull import checked
from famcli_models.errors import WeightsError

WEIGHTS = "model.safetensors"


@pytest.fixture
def snapshot(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A snapshot as the Hub's client keeps it: links to blobs that are named by their hash."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    repo = tmp_path / "cache" / "models--lab--fam"
    folder, blobs = repo / "snapshots" / ("0" * 40), repo / "blobs"
    folder.mkdir(parents=True)
    blobs.mkdir()
    for path in checkpoint.iterdir():
        data = path.read_bytes()
        name = hashlib.sha256(data).hexdigest() if path.name == WEIGHTS else "1" * 40
        (blobs / name).write_bytes(data)
        (folder / path.name).symlink_to(Path("..") / ".." / "blobs" / name)
    return folder


def test_good(snapshot: Path) -> None:
    """A whole snapshot is itself, with the right hash pinned and with none."""
    right = hashlib.sha256((snapshot / WEIGHTS).read_bytes()).hexdigest()
    assert checked(snapshot) == checked(snapshot, right) == snapshot


def test_pinned_hash(snapshot: Path) -> None:
    """Weights that are not those that the catalogue pins are removed and refused."""
    blob = (snapshot / WEIGHTS).resolve()
    with pytest.raises(WeightsError, match=f"not {'a' * 64}; they were removed from the cache, so pull again"):
        checked(snapshot, "a" * 64)
    assert not blob.exists()
    assert not (snapshot / WEIGHTS).is_symlink()


def test_shared_blob(snapshot: Path, tmp_path: Path) -> None:
    """Weights that several repositories share are removed from where they all link to."""
    blob, shared = (snapshot / WEIGHTS).resolve(), tmp_path / "cache" / "blobs" / "ab" / ("c" * 64)
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(shared)
    assert checked(snapshot) == snapshot
    shared.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="have SHA-256"):
        checked(snapshot)
    assert not shared.exists()
    assert not blob.is_symlink()


def test_changed_on_disk(snapshot: Path) -> None:
    """Weights that have changed since they were fetched are removed and refused."""
    blob = (snapshot / WEIGHTS).resolve()
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(bytes(data))
    with pytest.raises(WeightsError, match="have SHA-256"):
        checked(snapshot)
    assert not blob.exists()


def test_links_that_leave_the_cache(snapshot: Path, checkpoint: Path) -> None:
    """A file that leads out of the cache is refused, and what it leads to is left alone."""
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(checkpoint / "config.json")
    with pytest.raises(WeightsError, match="leads out of the cache"):
        checked(snapshot)
    assert (checkpoint / "config.json").is_file()


def test_local_files_only(snapshot: Path) -> None:
    """What is in the cache is found without the network, and what is not is an error that says how to get it."""
    refs = snapshot.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text(snapshot.name)
    assert find_model("lab/fam", local_files_only=True).samefile(snapshot)
    with pytest.raises(WeightsError, match="'lab/fam@v2' is not in the cache; run 'fam pull lab/fam@v2'"):
        find_model("lab/fam@v2", local_files_only=True)


def test_incomplete(snapshot: Path) -> None:
    """A snapshot without weights is no checkpoint."""
    (snapshot / WEIGHTS).unlink()
    with pytest.raises(WeightsError, match=f"{WEIGHTS} missing"):
        checked(snapshot)
