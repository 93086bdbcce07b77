"""Models of the Hub in ``fam predict`` and ``fam eval``: pulled on first use, from the cache ever after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from famcli.hub import find_model
from famcli_models.errors import WeightsError

REPO = "birds/fam-tiny"
Fam = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("no_canary")


def test_pulled_on_first_use(fam_process: Fam, hub: Any, files: dict[str, bytes], image_dir: Path) -> None:
    """The first use says what is downloaded and how big it is, on stderr; the next one does not ask the network."""
    hub.add(REPO, files)
    first = fam_process("predict", image_dir, "--model", REPO, "--format", "csv")
    assert first.code == 0, first.stderr
    assert f"pulling {REPO} at " in first.stderr
    assert "model.safetensors" in first.stderr
    assert first.stdout.startswith("file_name,")
    hub.requests.clear()
    second = fam_process("predict", image_dir, "--model", REPO, "--format", "csv")
    assert (second.code, second.stdout) == (0, first.stdout)
    assert "pulling" not in second.stderr
    assert hub.requests == []


def test_quiet(fam_process: Fam, hub: Any, files: dict[str, bytes], image_dir: Path, tmp_path: Path) -> None:
    """With --quiet a first use says nothing."""
    hub.add(REPO, files)
    done = fam_process("predict", image_dir, "--model", REPO, "--out", tmp_path / "o.json", "--quiet")
    assert (done.code, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("offline", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_offline(fam_process: Fam, hub: Any, files: dict[str, bytes], image_dir: Path, offline: dict[str, str]) -> None:
    """Offline, by choice or by misfortune, a model in the cache works, and one that is not there says what to do."""
    hub.add(REPO, files)
    fam_process("pull", REPO)
    done = fam_process("predict", image_dir, "--model", REPO, **offline)
    assert done.code == 0, done.stderr
    missing = fam_process("predict", image_dir, "--model", "birds/other", **offline)
    assert (missing.code, missing.stdout) == (1, "")
    assert ("unset it and run 'fam pull birds/other'" if "HF_HUB_OFFLINE" in offline else "check the network") in (
        missing.stderr
    )
    assert missing.stderr.count("\n") == 1


def test_eval(fam_process: Fam, hub: Any, files: dict[str, bytes], make_splits: Any, tmp_path: Path) -> None:
    """``fam eval`` pulls on first use too."""
    hub.add(REPO, files)
    data = make_splits(classes=("red", "green"), test=[0, 1])
    done = fam_process("eval", "--data", data, "--split", "test", "--model", REPO, "--other-classes")
    assert done.code == 0, done.stderr
    assert f"pulling {REPO}" in done.stderr


def test_packaged_needs_no_network(fam_process: Fam, hub: Any, image_dir: Path) -> None:
    """The packaged model never asks the network."""
    done = fam_process("predict", image_dir, FAM_HUB_ORG="birds")
    assert done.code == 0, done.stderr
    assert hub.requests == []


def test_pushed_and_pulled_is_bit_equal(
    fam_process: Fam, hub: Any, checkpoint: Path, image_dir: Path, tmp_path: Path, canary: str
) -> None:
    """A model that was pushed and is pulled into an empty cache by another process predicts the same bits."""
    pushed = fam_process("push", checkpoint, "--repo", REPO, token=canary)
    assert pushed.code == 0, pushed.stderr
    for model, name, home in ((checkpoint, "here", "one"), (REPO, "there", "two")):
        done = fam_process(
            *("predict", image_dir, "--model", model, "--maps", tmp_path / name / "maps"),
            *("--out", tmp_path / name / "out.jsonl", "--format", "jsonl"),
            home=tmp_path / home,
        )
        assert done.code == 0, done.stderr
    maps = {name: sorted((tmp_path / name / "maps").rglob("*.npy")) for name in ("here", "there")}
    assert len(maps["here"]) == len(maps["there"]) == 5
    for one, two in zip(maps["here"], maps["there"], strict=True):
        assert np.array_equal(np.load(one), np.load(two))
    texts = [(tmp_path / name / "out.jsonl").read_text() for name in ("here", "there")]
    assert texts[0] == texts[1]


def test_local_files_only(snapshot: Path) -> None:
    """What is in the cache is found without the network, and what is not is an error that says how to get it."""
    refs = snapshot.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text(snapshot.name)
    assert find_model("lab/fam", local_files_only=True).samefile(snapshot)
    with pytest.raises(WeightsError, match="'lab/fam@v2' is not in the cache; run 'fam pull lab/fam@v2'"):
        find_model("lab/fam@v2", local_files_only=True)
