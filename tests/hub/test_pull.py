"""``fam pull`` with the unmodified client, from a Hub on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from famcli.hub.pull import checked
from famcli_models import packaged
from famcli_models.checkpoint import DEFAULT_MODEL
from famcli_models.errors import WeightsError

REPO = "birds/fam-tiny"
WEIGHTS = "model.safetensors"
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_canary")]
Fam = Callable[..., Any]


def snapshots(cache: Path) -> list[Path]:
    """Everything below the snapshots of the cache."""
    return sorted(path for path in cache.glob("hub/models--*/snapshots/*/*"))


def test_pull(fam_process: Fam, hub: Any, files: dict[str, bytes], cache: Path) -> None:
    """Config, weights and card are fetched, nothing else and nothing twice; the path is the last line."""
    sha = hub.add(REPO, {**files, "../../../evil.json": b"{}", "config.json/../../evil": b"{}", "/evil": b"{}"})
    done = fam_process("pull", REPO)
    assert done.code == 0, done.stderr
    folder = Path(done.last)
    assert done.stdout == f"{folder}\n"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", WEIGHTS]
    assert all((folder / path.name).read_bytes() == files[path.name] for path in folder.iterdir())
    assert folder.is_relative_to(cache)
    assert folder.name == sha
    assert f"pulling {REPO} at {sha[:12]}" in done.stderr
    assert f"{WEIGHTS} {len(files[WEIGHTS]) / 1000:.0f} kB" in done.stderr
    assert not hub.asked("pytorch_model|modeling|evil")
    hub.requests.clear()
    again = fam_process("pull", REPO)
    assert (again.code, again.last) == (0, done.last)
    assert "pulling" not in again.stderr
    assert not hub.asked("GET .*(resolve|large)")
    hub.add(REPO, {"README.md": b"---\nlicense: mit\n---\nnew"})
    newer = fam_process("pull", REPO)
    assert newer.last != done.last
    assert (Path(newer.last) / "README.md").read_text().endswith("new")
    assert not hub.asked("GET /large")  # the weights are the same


def test_revisions(fam_process: Fam, hub: Any, files: dict[str, bytes]) -> None:
    """A tag, a commit and a pull request are each had by @REVISION."""
    old = hub.add(REPO, files)
    hub.repos[REPO].refs |= {"v1.0": old, "refs/pr/1": old}
    hub.add(REPO, {"README.md": b"new"})
    for revision in ("v1.0", old, "refs/pr/1"):
        done = fam_process("pull", f"{REPO}@{revision}")
        assert Path(done.last).name == old, done.stderr


def test_storage_sees_no_token(fam_process: Fam, hub: Any, files: dict[str, bytes], canary: str) -> None:
    """A private repository needs the token; the storage that it redirects to never gets it."""
    hub.add(REPO, files, private=True)
    refused = fam_process("pull", REPO)
    assert refused.code == 1
    assert "that you may see" in refused.stderr
    done = fam_process("pull", REPO, token=canary)
    assert done.code == 0, done.stderr
    assert all("authorization" not in request.headers for request in hub.asked("/large/") if request.storage)
    assert hub.asked("GET /large/")


@pytest.mark.parametrize("token", [None, "hf_of_somebody_else"])
def test_gated(fam_process: Fam, hub: Any, files: dict[str, bytes], token: str | None) -> None:
    """A repository with terms to accept says so (401 without a token, 403 with one that has not accepted)."""
    hub.add(REPO, files, gated=True)
    done = fam_process("pull", REPO, token=token)
    assert (done.code, done.stdout) == (1, "")
    assert "accept its terms first: log in with 'hf auth login'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "message", "asks"),
    [
        ("birds/nothing", "no repository 'birds/nothing' that you may see", True),
        (f"{REPO}@v9", "has no revision 'v9'", True),
        ("fam-resnet50-cub", "'fam train --recipe resnet50-cub --out fam-resnet50-cub'", False),
        ("fam-resnet51-cub", "did you mean: ", False),
        ("birds/../../etc", "unknown model", False),
    ],
)
def test_names_that_are_not_there(
    fam_process: Fam, hub: Any, files: dict[str, bytes], name: str, message: str, asks: bool
) -> None:
    """A repository, a revision, a name: what is not there is said in a sentence with what to do, exit 1."""
    hub.add(REPO, files)
    done = fam_process("pull", name)
    assert (done.code, done.stdout) == (1, "")
    assert message in done.stderr
    assert done.stderr.startswith("fam: error: ")
    assert done.stderr.count("\n") == 1
    assert bool(hub.requests) is asks


def test_organisation(fam_process: Fam, hub: Any, files: dict[str, bytes]) -> None:
    """An organisation, by variable or option, completes a name of the catalogue, and not one that is packaged."""
    for org in ("birds", "fishes"):
        hub.add(f"{org}/fam-resnet50-cub", files)
    assert "models--birds--fam-resnet50-cub" in fam_process("pull", "fam-resnet50-cub", FAM_HUB_ORG="birds").last
    by_option = fam_process("pull", "fam-resnet50-cub", "--org", "fishes", FAM_HUB_ORG="birds")
    assert "models--fishes--fam-resnet50-cub" in by_option.last
    hub.requests.clear()
    packaged = fam_process("pull", "fam-mobilenetv1-ilsvrc", FAM_HUB_ORG="birds")
    assert (Path(packaged.last) / WEIGHTS).is_file()
    assert hub.requests == []


@pytest.mark.parametrize(("missing", "message"), [("config.json", "no config.json"), (WEIGHTS, f"no {WEIGHTS}")])
def test_repository_of_another_kind(
    fam_process: Fam, hub: Any, files: dict[str, bytes], missing: str, message: str
) -> None:
    """A repository without the two files is refused before anything is fetched."""
    hub.add(REPO, {name: data for name, data in files.items() if name != missing})
    done = fam_process("pull", REPO)
    assert done.code == 1
    assert message in done.stderr
    assert not hub.asked("resolve")


def edited(files: dict[str, bytes], **changes: Any) -> dict[str, bytes]:
    """The files with another config."""
    config = json.loads(files["config.json"])
    config["model"] |= changes.pop("model", {})
    return {**files, "config.json": json.dumps(config | changes).encode()}


BAD = [
    ("another library", lambda f: {**f, "config.json": b'{"model_type": "bert", "architectures": []}'}, "transformers"),
    ("unknown field", lambda f: edited(f, auto_map={"AutoModel": "modeling.FAM"}), "unknown fields: 'auto_map'"),
    ("other network", lambda f: edited(f, model={"backbone": "resnet50"}), "do not belong together"),
    ("header", lambda f: {**f, WEIGHTS: (2**62).to_bytes(8, "little") + b"{}"}, "has a header of"),
    ("cut off", lambda f: {**f, WEIGHTS: f[WEIGHTS][:-10]}, "damaged or cut off"),
]


@pytest.mark.parametrize(("change", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_checkpoints_never_load(
    fam_process: Fam, hub: Any, files: dict[str, bytes], image_dir: Path, change: Any, message: str
) -> None:
    """Config and weights are checked before the model is visible, and each time it is asked for."""
    hub.add(REPO, change(files))
    for _ in range(2):  # as fetched, and as found in the cache
        done = fam_process("predict", image_dir, "--model", REPO)
        assert (done.code, done.stdout) == (1, "")
        assert message in done.stderr


def test_graphs_travel(fam_process: Fam, hub: Any, tmp_path: Path, image_dir: Path) -> None:
    """The graph of a checkpoint is pulled with it and runs it; one that is not the config's is refused."""
    packed = packaged()[DEFAULT_MODEL]
    files = {name: (packed / name).read_bytes() for name in ("config.json", WEIGHTS, "graph.onnx")}
    hub.add(REPO, files)
    done = fam_process("predict", image_dir, "--model", REPO, "--device", "cpu")
    assert done.code == 0, done.stderr
    assert "ONNX Runtime on the CPU" in done.stderr
    hub.add(REPO, {"graph.onnx": files["graph.onnx"] + b"\0"})
    refused = fam_process("pull", REPO)
    assert (refused.code, refused.stdout) == (1, "")
    assert "graph.onnx has SHA-256" in refused.stderr


def test_absurd_sizes_are_not_fetched(fam_process: Fam, hub: Any, files: dict[str, bytes]) -> None:
    """A file larger than any FAM needs is refused by what the Hub says of it."""
    hub.add(REPO, {**files, "README.md": b"x" * (5 * 2**20)})
    done = fam_process("pull", REPO)
    assert done.code == 1
    assert "README.md of 'birds/fam-tiny' has 5.24 MB" in done.stderr
    assert not hub.asked("resolve")


def test_wrong_bytes(fam_process: Fam, hub: Any, files: dict[str, bytes], cache: Path) -> None:
    """Weights whose hash is not the Hub's are removed and refused; the next pull is clean."""
    hub.add(REPO, files)
    hub.fail("GET /large/", "wrong")
    done = fam_process("pull", REPO)
    assert (done.code, done.stdout) == (1, "")
    assert "have SHA-256" in done.stderr
    assert WEIGHTS not in [path.name for path in snapshots(cache)]
    again = fam_process("pull", REPO)
    assert (Path(again.last) / WEIGHTS).read_bytes() == files[WEIGHTS]


@pytest.mark.parametrize(
    ("where", "kind", "after", "asked"),
    [
        *(("GET /large/", "cut", 1000, 2), ("GET /large/", "reset", 1000, 2), ("GET /large/", "stall", 20_000, 2)),
        *(("GET /large/", "slow", 20_000, 1), ("GET /large/", "status", 0, 2), ("GET .*/tree/", "status", 0, 1)),
        *(("GET /api/models/", "status", 0, 1), ("HEAD .*/resolve/", "status", 0, 1)),
    ],
)
def test_trouble_that_passes(
    fam_process: Fam, hub: Any, files: dict[str, bytes], where: str, kind: str, after: int, asked: int
) -> None:
    """A connection that breaks, and a server error on any page, do not stop a pull; a slow connection is waited for."""
    hub.add(REPO, files)
    hub.fail(where, kind, after=after)
    done = fam_process("pull", REPO, HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert done.code == 0, done.stderr
    assert (Path(done.last) / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert len(hub.asked("GET /large/")) == asked


@pytest.mark.slow
@pytest.mark.parametrize("where", ["GET /api/models/", "GET /large/"])
def test_trouble_that_stays(
    fam_process: Fam, hub: Any, files: dict[str, bytes], cache: Path, canary: str, where: str
) -> None:
    """A server error for ever is one sentence, and leaves nothing that loads; a token it repeats is not printed."""
    hub.add(REPO, files)
    hub.fail(where, times=float("inf"))
    done = fam_process("pull", REPO, token=canary)
    assert (done.code, done.stdout) == (1, "")
    assert "the Hub has a problem (HTTP 503); try again later" in done.stderr
    assert "Traceback" not in done.stderr
    assert WEIGHTS not in [path.name for path in snapshots(cache)]


@pytest.mark.slow
def test_trouble_with_a_copy_at_hand(fam_process: Fam, hub: Any, files: dict[str, bytes]) -> None:
    """When the Hub is down the copy in the cache is used, and it is said that it is the copy."""
    hub.add(REPO, files)
    first = fam_process("pull", REPO)
    hub.fail("/api/models/", times=float("inf"))
    done = fam_process("pull", REPO)
    assert (done.code, done.last) == (0, first.last)
    assert "this is the copy of birds/fam-tiny in the cache" in done.stderr
    gone = fam_process("pull", REPO, HF_ENDPOINT="http://127.0.0.1:9")
    assert (gone.code, gone.last) == (0, first.last)


@pytest.mark.parametrize("status", [401, 403, 429])
def test_refusals(fam_process: Fam, hub: Any, canary: str, status: int) -> None:
    """A bad token, a weak one and too many requests are told apart."""
    headers = {"Retry-After": "0"} if status == 429 else {}
    hub.fail("/api/models/", status=status, times=float("inf"), headers=headers)
    done = fam_process("pull", REPO, token=canary)
    word = {401: "does not accept your token", 403: "does not allow this", 429: "too often"}[status]
    assert done.code == 1
    assert word in done.stderr


def test_two_processes_at_once(start: Fam, hub: Any, files: dict[str, bytes]) -> None:
    """Two pulls of the same model at the same time both succeed."""
    hub.add(REPO, files)
    hub.fail("GET /large/", "cut", after=2000)
    running = [start("pull", REPO), start("pull", REPO)]
    ended = [process.wait() for process in running]
    assert [done.code for done in ended] == [0, 0], [done.stderr for done in ended]
    assert ended[0].last == ended[1].last
    assert (Path(ended[0].last) / WEIGHTS).read_bytes() == files[WEIGHTS]


def test_killed_in_the_middle(start: Fam, fam_process: Fam, hub: Any, files: dict[str, bytes], image_dir: Path) -> None:
    """A pull that is killed leaves nothing that loads, and the next one completes it."""
    hub.add(REPO, files)
    hub.fail("GET /large/", "stall", after=3000)
    running = start("pull", REPO)
    assert hub.stalled.wait(30)
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait().code == -signal.SIGKILL
    hub.go_on.set()
    offline = fam_process("predict", image_dir, "--model", REPO, HF_HUB_OFFLINE="1")
    assert offline.code == 1
    assert f"unset it and run 'fam pull {REPO}'" in offline.stderr
    done = fam_process("pull", REPO)
    assert (Path(done.last) / WEIGHTS).read_bytes() == files[WEIGHTS]


def test_updates_that_fail_change_nothing(
    start: Fam, fam_process: Fam, hub: Any, files: dict[str, bytes], image_dir: Path
) -> None:
    """A new revision that is damaged, or whose pull is killed, leaves the one before in use, offline too."""
    old = hub.add(REPO, files)
    assert fam_process("pull", REPO).code == 0
    hub.add(REPO, edited(files, auto_map={}))
    assert "unknown fields" in fam_process("pull", REPO).stderr
    hub.add(REPO, {"config.json": files["config.json"], WEIGHTS: files[WEIGHTS][:-4] + b"new!"})
    hub.fail("GET /large/", "stall", after=3000)
    running = start("pull", REPO)
    assert hub.stalled.wait(30)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    hub.go_on.set()
    done = fam_process("predict", image_dir, "--model", REPO, HF_HUB_OFFLINE="1")
    assert done.code == 0, done.stderr
    assert Path(fam_process("pull", REPO, HF_HUB_OFFLINE="1").last).name == old
    assert Path(fam_process("pull", REPO).last).name != old


def test_snapshots(snapshot: Path) -> None:
    """A whole snapshot is itself, with the Hub's hash and with none; without weights it is no checkpoint."""
    right = hashlib.sha256((snapshot / WEIGHTS).read_bytes()).hexdigest()
    assert checked(snapshot) == checked(snapshot, right) == snapshot
    (snapshot / WEIGHTS).unlink()
    with pytest.raises(WeightsError, match=f"{WEIGHTS} missing"):
        checked(snapshot)


@pytest.mark.parametrize("case", ["another hash", "changed", "changed where repositories share it"])
def test_other_weights(snapshot: Path, tmp_path: Path, case: str) -> None:
    """Weights that are not those the Hub named, or have changed since, are removed from wherever they are linked to."""
    blob = shared = (snapshot / WEIGHTS).resolve()
    if "share" in case:
        shared = tmp_path / "cache" / "blobs" / "ab" / ("c" * 64)
        shared.parent.mkdir(parents=True)
        blob.rename(shared)
        blob.symlink_to(shared)
        assert checked(snapshot) == snapshot
    if "changed" in case:
        shared.write_bytes(shared.read_bytes()[:-1] + b"?")
    with pytest.raises(WeightsError, match="they were removed from the cache, so pull again"):
        checked(snapshot, None if "changed" in case else "a" * 64)
    assert not any(path.exists() or path.is_symlink() for path in (shared, blob, snapshot / WEIGHTS))


def test_links_that_leave_the_cache(snapshot: Path, checkpoint: Path) -> None:
    """A file that leads out of the cache is refused, and what it leads to is left alone."""
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(checkpoint / "config.json")
    with pytest.raises(WeightsError, match="leads out of the cache"):
        checked(snapshot)
    assert (checkpoint / "config.json").is_file()
