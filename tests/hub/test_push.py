"""``fam push`` with the unmodified client, to a Hub on loopback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from famcli.checkpoints.reference import record
from famcli_models.files import sha256_file

REPO = "birds/fam-tiny"
FILES = ["README.md", "config.json", "model.safetensors"]
Fam = Callable[..., Any]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_canary")]


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path) -> Path:
    """A run folder: a checkpoint with provenance, and files that stay here."""
    folder = tmp_path / "runs" / "birds"
    shutil.copytree(checkpoint, folder)
    provenance(
        folder,
        data=["cub", "our-birds"],
        images=5994,
        labels="image labels only",
        backbone_weights="timm/resnet50.tv_in1k (Hugging Face Hub)",
        versions={"famcli": "0.1.0", "torch": "2.9.0"},
    )
    (folder / "last.safetensors").write_bytes(b"state")
    (folder / "environment.json").write_text('{"host": "secret"}')
    return folder


def provenance(folder: Path, **fields: Any) -> None:
    """Change what a config says of where its weights came from."""
    config = json.loads((folder / "config.json").read_text())
    config["provenance"] |= fields
    (folder / "config.json").write_text(json.dumps(config))


NUMBERS = {"gt_known": {"value": 71.25, "low": 68.0, "high": 74.5}}
ROW = {"method": "FAM", "title": "FAM", "metrics": NUMBERS, "tau": 0.5, "tau_from": "fixed"}
ORACLE = {"method": "CAM", "title": "CAM, oracle", "metrics": {"gt_known": {"value": 60.0}}, "tau": 0.3}


def results(folder: Path, **changes: Any) -> dict[str, Any]:
    """What ``fam eval --out`` writes of the weights in a folder."""
    source = {"kind": "model", "name": str(folder), "weights_sha256": sha256_file(folder / "model.safetensors")}
    return {
        "format": "fam-results",
        "format_version": 1,
        "kind": "evaluation",
        "created": "2026-11-22T12:00:00+00:00",
        "data": {"name": "cub", "split": "test", "images": 5794, "images_of_split": 5794, "partial": False},
        "source": {**source, **changes.pop("source", {})},
        "protocol": {"name": "fam", "rules": {"box": "largest component"}},
        "same_classes": True,
        "rows": [ROW, {**ORACLE, "tau_from": "oracle"}],
        "versions": {"famcli": "0.1.0"},
        **changes,
    }


def test_push(fam_process: Fam, hub: Any, run: Path, canary: str) -> None:
    """The repository is made, three files arrive in one commit, the address is the last line, and it verifies."""
    done = fam_process("push", run, "--repo", REPO, token=canary)
    assert done.code == 0, done.stderr
    repo = hub.repos[REPO]
    assert done.stdout == f"{hub.url}/{REPO}/commit/{repo.refs['main']}\n"
    assert done.stderr == f"uploading config.json, model.safetensors, README.md to {REPO}\n"  # no bars, no terminal
    assert len(repo.commits) == 2
    assert sorted(repo.files()) == [".gitattributes", *FILES]
    assert repo.files()["model.safetensors"] == (run / "model.safetensors").read_bytes()
    reference = json.loads(repo.files()["config.json"])["provenance"]["golden"]
    assert reference["digest"].encode() in repo.files()["README.md"]
    assert not repo.private
    assert all("authorization" not in request.headers for request in hub.requests if request.storage)
    verified = fam_process("verify", REPO)
    assert verified.code == 0, verified.stdout + verified.stderr
    assert "reference outputs" in verified.stdout + verified.stderr
    quiet = fam_process("push", run, "--repo", "birds/fam-other", "--quiet", token=canary)
    assert (quiet.code, quiet.stderr) == (0, "")


def test_card(fam: Fam, run: Path) -> None:
    """The card's header is for the Hub, with measured numbers and their protocol; its sections are for people."""
    (run / "results.json").write_text(json.dumps(results(run)))
    done = fam("push", run, "--repo", REPO, "--license", "mit", "--terms", "Our birds\nare ours.", "--dry-run")
    assert done.exit_code == 0, done.stderr
    card = ModelCard(done.stdout)
    header = card.data.to_dict()
    assert {key: header[key] for key in ("library_name", "pipeline_tag", "license", "datasets", "base_model")} == {
        "library_name": "fam",
        "pipeline_tag": "object-detection",
        "license": "mit",
        "datasets": ["cub", "our-birds"],
        "base_model": "timm/resnet50.tv_in1k",
    }
    assert "wsol" in header["tags"]
    (number,) = card.data.eval_results
    assert (number.metric_type, number.metric_value) == ("gt_known", 71.25)
    assert number.metric_args["protocol"] == "fam"
    assert (number.metric_args["low"], number.metric_args["tau_from"]) == (68.0, "fixed")
    assert "GT-known Loc of FAM, percent, protocol fam" in number.metric_name
    sections = ["How it was trained", "Measured", "Intended use", "Limits", "Terms", "Files", "Citation"]
    assert [line[3:] for line in card.text.splitlines() if line.startswith("## ")] == sections
    assert "| FAM | 0.5 (fixed) | 71.2 [68.0, 74.5] |" in card.text
    assert "| CAM, oracle | 0.3 (oracle) | 60.0 |" in card.text
    assert "the very images of the row, which flatters it" in card.text
    assert "\n- Rules\n  - box: largest component\n" in card.text
    assert "Partial" not in card.text
    assert "labels of these images" not in card.text
    assert "another model" not in card.text
    assert str(run) not in card.text
    assert "For non-commercial research; the photographs belong to their Flickr authors" in card.text
    assert "\nOur birds are ours.\n" in card.text
    assert sha256_file(run / "model.safetensors") in card.text


def test_what_the_numbers_are_of(fam: Fam, run: Path) -> None:
    """The card says where a CAM was another model's, only a part was scored, and labels were other classes."""
    content = results(run, source={"cam": "runs/cam"}, same_classes=False)
    content["data"] |= {"images": 608, "partial": True}
    (run / "results.json").write_text(json.dumps(content))
    card = fam("push", run, "--repo", REPO, "--dry-run").stdout
    assert "In each table the first row is of exactly these weights" in card
    assert "What it is compared with is another model." in card
    assert "### cub, test, 608 images\n\n**Partial: Only 608 of 5794 images were scored.**" in card
    assert "The labels of these images are not classes of the model" in card


def test_dry_run(fam_process: Fam, hub: Any, run: Path) -> None:
    """A dry run prints the card and the files, needs no token and asks no network; it says if nothing was measured."""
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    done = fam_process("push", run, "--repo", REPO, "--dry-run")
    assert done.code == 0, done.stderr
    assert done.stdout.startswith("---\n")
    assert "Nothing. No evaluation of these weights" in done.stdout
    assert "model-index" not in done.stdout
    assert all(f"would upload {name}, " in done.stderr for name in FILES)
    refused = fam_process("push", run, "--repo", REPO)
    assert refused.code == 1
    assert "'hf auth login'" in refused.stderr
    assert hub.requests == []
    assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before


def test_branches_and_pull_requests(fam_process: Fam, hub: Any, run: Path, canary: str) -> None:
    """--revision makes a branch, --create-pr a pull request; the default branch stays as it is."""
    hub.fail("PUT /large/")  # trouble of the storage that passes
    fam_process("push", run, "--repo", REPO, "--revision", "v2", token=canary)
    done = fam_process("push", run, "--repo", REPO, "--create-pr", token=canary)
    assert done.stdout == f"{hub.url}/{REPO}/discussions/1\n"
    repo = hub.repos[REPO]
    assert sorted(repo.files()) == [".gitattributes"]
    assert sorted(repo.files("v2")) == sorted(repo.files("refs/pr/1")) == [".gitattributes", *FILES]


def test_private(fam_process: Fam, hub: Any, run: Path, canary: str) -> None:
    """--private makes a private repository, and is refused for one that is public."""
    assert fam_process("push", run, "--repo", REPO, "--private", token=canary).code == 0
    assert hub.repos[REPO].private
    hub.add("birds/public", {"a": b""})
    done = fam_process("push", run, "--repo", "birds/public", "--private", token=canary)
    assert done.code == 1
    assert "exists and is public" in done.stderr
    assert len(hub.repos["birds/public"].commits) == 1


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("other weights", {"source": {"weights_sha256": "0" * 64}}, "not of these weights"),
    ("the paper's", {"source": {"weights_sha256": None, "kind": "paper"}}, "source.kind has to be one of 'model'"),
    ("maps", {"source": {"kind": "maps"}}, "not of these weights"),
    ("method", {"source": {"method": "CAM"}}, "numbers of CAM on cub are not of this FAM model"),
    ("smoke", {"kind": "smoke check"}, "whose numbers mean nothing"),
    ("tuned", {"source": {"tuned_on_test": True}}, "was tuned on test images"),
    ("percent", {"rows": [{**ROW, "metrics": {"gt_known": {"value": 171}}}]}, "gt_known.value has to be at most 100"),
    ("no number", {"rows": [{**ROW, "metrics": {}}]}, "the result on 'cub' has no scores"),
]


@pytest.mark.parametrize(("changes", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_numbers_that_are_not_measured_here(
    fam: Fam, hub: Any, run: Path, changes: dict[str, Any], message: str
) -> None:
    """Only numbers measured with exactly these weights are pushed: the paper's are not, nor are another model's."""
    (run / "results.json").write_text(json.dumps(results(run, **changes)))
    done = fam("push", run, "--repo", REPO, "--dry-run")
    assert (done.exit_code, done.stdout) == (1, "")
    assert message in done.stderr
    assert hub.requests == []


def test_results_elsewhere(fam: Fam, run: Path, tmp_path: Path) -> None:
    """--results names the file, and several are several tables."""
    paths = []
    for split in ("val", "test"):
        content = results(run)
        content["data"] |= {"split": split}
        paths.append(tmp_path / f"{split}.json")
        paths[-1].write_text(json.dumps(content))
    done = fam("push", run, "--repo", REPO, "--dry-run", "--results", paths[0], "--results", paths[1])
    assert "### cub, val, 5,794 images" in done.stdout
    assert "### cub, test, 5,794 images" in done.stdout


def test_checkpoints_that_are_not_pushed(fam: Fam, run: Path) -> None:
    """A run tuned on test images, weights with the reference outputs of others, and damaged ones are refused."""
    push = ("push", run, "--repo", REPO, "--dry-run")
    assert "give it as ORG/NAME" in fam("push", run, "--repo", "fam-tiny", "--dry-run").stderr
    provenance(run, tuned_on_test=True)
    assert "was tuned on test images (tuned_on_test)" in fam(*push).stderr
    provenance(run, tuned_on_test=False)
    record(run)
    kept = json.loads((run / "config.json").read_text())["provenance"]["golden"]
    provenance(run, golden={**kept, "weights_sha256": "0" * 64})
    assert "fails its verification" in fam(*push).stderr
    (run / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:-4])
    done = fam(*push)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "damaged or cut off" in done.stderr


@pytest.mark.parametrize(
    ("where", "status", "message"),
    [
        ("/repos/create", 401, "does not accept your token"),
        ("/repos/create", 403, "does not allow this"),
        ("/commit/", 500, "HTTP 500"),
        ("/commit/", 412, "HTTP 412"),
        ("/objects/batch", 403, "does not allow this"),
    ],
)
def test_refusals(fam_process: Fam, hub: Any, run: Path, canary: str, where: str, status: int, message: str) -> None:
    """A Hub that refuses is one sentence; a token that it repeats in its answer is not printed."""
    hub.fail(where, status=status, times=float("inf"))
    done = fam_process("push", run, "--repo", REPO, token=canary)
    assert (done.code, done.stdout) == (1, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_logs_have_no_token(fam_process: Fam, hub: Any, run: Path, canary: str) -> None:
    """Even with every log of the client on, the token is nowhere (see the fixture no_canary)."""
    loud = {"HF_DEBUG": "1", "HF_HUB_VERBOSITY": "debug"}
    for arguments in (("push", run, "--repo", REPO), ("pull", REPO)):
        done = fam_process(*arguments, token=canary, **loud)
        assert done.code == 0, done.stderr
        assert "Request" in done.stderr  # the logs are on
        assert canary not in done.stdout + done.stderr
