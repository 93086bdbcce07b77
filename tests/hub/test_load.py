"""Models of the Hub in ``fam predict`` and ``fam eval``: pulled on first use, from the cache ever after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from famcli import load_model
from famcli_models.errors import WeightsError

REPO = "birds/fam-tiny"
Fam = Callable[..., Any]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_canary")]


def test_pulled_on_first_use(
    fam_process: Fam, hub: Any, files: dict[str, bytes], image_dir: Path, tmp_path: Path
) -> None:
    """The first use says on stderr what is downloaded, unless it is to be quiet; after that no network is asked."""
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
    packaged = fam_process("predict", image_dir, "--format", "csv", FAM_HUB_ORG="birds")
    assert packaged.code == 0, packaged.stderr
    assert hub.requests == []
    quiet = fam_process("predict", image_dir, "--model", REPO, "--format", "csv", "--quiet", home=tmp_path / "other")
    assert (quiet.code, quiet.stdout, quiet.stderr) == (0, first.stdout, "")


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


def test_load_model(snapshot: Path, checkpoint: Path) -> None:
    """A folder, a packaged name and what is in the cache are loaded without the network; what is not is an error."""
    refs = snapshot.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text(snapshot.name)
    names = load_model(checkpoint).class_names
    assert load_model("lab/fam", local_files_only=True).class_names == names
    assert len(load_model("fam-mobilenetv1-ilsvrc", "cam", local_files_only=True).class_names) == 1000
    with pytest.raises(WeightsError, match="'lab/fam@v2' is not in the cache; run 'fam pull lab/fam@v2'"):
        load_model("lab/fam@v2", local_files_only=True)
