"""``fam models``: what is listed, whatever others have put into the cache."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from famcli.hub import listing
from famcli.hub.names import CATALOG
from famcli.results.io import read_all
from famcli_models import loading, packaged as packaged_folders

pytestmark = pytest.mark.slow

REPO = "birds/fam-tiny"
PACKAGED = "fam-mobilenetv1-ilsvrc"
Fam = Callable[..., Any]
Add = Callable[..., Path]
CARD = """---
license: cc-by-4.0
model-index:
- name: fam-tiny
  results:
  - task: {type: object-detection}
    dataset: {name: cub, type: cub, split: test}
    metrics: [{type: gt_known, value: 71.25, args: {protocol: fam, images: 5794, tau: 0.5, tau_from: fixed}}]
---
# Tiny \x1b[31mred
"""


def listed(done: Any) -> dict[str, dict[str, Any]]:
    """Rows by name."""
    assert done.code == 0, done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)}


def test_list(fam_process: Fam, hub: Any, files: dict[str, bytes]) -> None:
    """Packaged, cached and known models are listed with what is known of them; the network is not asked."""
    sha = hub.add(REPO, {**files, "README.md": CARD.encode()})
    hub.add("others/bert", {"config.json": b'{"model_type": "bert"}', "model.safetensors": files["model.safetensors"]})
    fam_process("pull", REPO)
    fam_process("pull", "others/bert")
    hub.requests.clear()
    rows = listed(fam_process("models", "--json"))
    assert hub.requests == []
    assert "others/bert" not in rows
    assert rows.keys() == {*packaged_folders(), REPO, *CATALOG}
    packaged, cached, known = rows[PACKAGED], rows[REPO], rows["fam-resnet50-cub"]
    assert (packaged["where"], packaged["backbone"]) == ("packaged", "mobilenetv1")
    assert (packaged["input_size"], packaged["classes"]) == (224, 1000)
    assert packaged["purpose"]
    (first, *_) = read_all(packaged_folders()[PACKAGED] / "results.json")
    (own,) = [measured for measured in packaged["measured"] if measured["data"] == first.data["name"]]
    assert own["gt_known"] == round(first.rows[0].metrics["gt_known"].value, 2)
    assert packaged["measured"][0]["split"] == "held out"
    assert packaged["size"] > 8 * 10**6
    assert (cached["where"], cached["backbone"], cached["terms"]) == ("cache", "test_efficientnet", "cc-by-4.0")
    assert cached["revision"] == f"main {sha[:12]}"
    assert cached["measured"] == [
        {"data": "cub", "split": "test", "images": 5794, "protocol": "fam", "tau": 0.5, "tau_from": "fixed"}
        | {"gt_known": 71.25}
    ]
    assert (cached["input_size"], cached["classes"], cached["purpose"]) == (64, 5, "")
    assert (known["where"], known["revision"], known["measured"]) == ("catalogue", "not published", [])
    table = fam_process("models").stdout
    assert "GT-known Loc 71.2 (cub/test, 5,794 images)" in table
    assert table.splitlines()[0].split("|")[1].strip() == "name"


def test_no_cache(fam_process: Fam, hub: Any, cache: Path, tmp_path: Path) -> None:
    """Without a cache there are packaged models and the catalogue, and none is made; one that is a file is named."""
    rows = listed(fam_process("models", "--json"))
    assert {row["where"] for row in rows.values()} == {"packaged", "catalogue"}
    assert not (cache / "hub").exists()
    (tmp_path / "file").write_text("")
    done = fam_process("models", HF_HUB_CACHE=str(tmp_path / "file"))
    assert done.code == 0, done.stderr
    assert "it is no folder" in done.stderr
    assert PACKAGED in done.stdout
    assert hub.requests == []


def test_revisions(fam_process: Fam, hub: Any, files: dict[str, bytes]) -> None:
    """Two revisions in the cache are two rows, each with the name that takes it."""
    old = hub.add(REPO, files)
    fam_process("pull", REPO)
    hub.add(REPO, {"README.md": b"new"})
    fam_process("pull", REPO)
    assert {REPO, f"{REPO}@{old}"} <= set(listed(fam_process("models", "--json")))


def test_card(fam_process: Fam, hub: Any, files: dict[str, bytes]) -> None:
    """A card is printed without what would command a terminal; of a model on the Hub it is all that is fetched."""
    hub.add(REPO, {**files, "README.md": CARD.encode()})
    done = fam_process("models", REPO)
    assert "# Tiny [31mred" in done.stdout
    assert not hub.asked("model.safetensors|config.json")
    assert json.loads(fam_process("models", REPO, "--json").stdout)["card"].startswith("---")
    hub.add("birds/bare", {name: data for name, data in files.items() if name != "README.md"})
    assert "no such file" in fam_process("models", "birds/bare").stderr


def test_cards_without_network(fam_process: Fam, hub: Any) -> None:
    """A packaged model's card is its file; of a model that is not published it is said that there is none."""
    for name in packaged_folders():
        assert "## Measured here" in fam_process("models", name).stdout
    done = fam_process("models", "fam-vgg16-cub")
    assert done.code == 0
    assert "not published yet; make them with 'fam train --recipe vgg16-cub" in done.stdout
    for name, why in (("fam-x", "unknown model"), (REPO, "unset HF_HUB_OFFLINE")):
        offline = fam_process("models", name, HF_HUB_OFFLINE="1")
        assert (offline.code, offline.stdout) == (1, "")
        assert why in offline.stderr
    assert hub.requests == []


@pytest.mark.parametrize("command", ["models", "pull"])
@pytest.mark.parametrize("body", [b"<!doctype html><title>Log in</title>", b"[]"])
def test_endpoint_that_is_no_hub(fam_process: Fam, hub: Any, command: str, body: bytes) -> None:
    """A page for people in place of the Hub's answer is not said to be a network that is down."""
    hub.fail("/", status=200, body=body, times=float("inf"))
    done = fam_process(command, REPO)
    assert done.code == 1
    assert "the endpoint was reached, but is no Hub; check HF_ENDPOINT" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture
def add(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Add:
    """A function that puts a checkpoint into a cache of its own, as a pull does."""
    root, scan = tmp_path / "cache", listing.scan_cache_dir
    monkeypatch.setattr(listing, "scan_cache_dir", lambda: scan(root))
    monkeypatch.delenv("FAM_HUB_ORG", raising=False)

    def put(repo: str, card: str = "", **config: Any) -> Path:
        folder = root / f"models--{repo.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("0" * 40)
        snapshot = folder / "snapshots" / ("0" * 40)
        shutil.copytree(checkpoint, snapshot)
        stored = json.loads((snapshot / "config.json").read_text())
        (snapshot / "config.json").write_text(json.dumps({**stored, **config}))
        (snapshot / "README.md").write_text(f"---\n{card}\n---\nHello\n")
        return snapshot

    return put


def cached() -> dict[str, listing.Listed]:
    """What is listed of the cache."""
    return {model.name: model for model in listing.all_models() if model.where == "cache"}


@pytest.mark.parametrize("data", [5, None, {"a": 1}, [[["x"]], 7], True])
def test_odd_provenance(add: Add, data: Any, fam: Any) -> None:
    """A repository whose provenance is odd hides no other one, and is no traceback."""
    add("good/fam-a", provenance={"data": ["cub", "birds"]})
    add("evil/fam-b", provenance={"data": data})
    add("good/fam-c")
    assert {"good/fam-a", "good/fam-c"} <= set(cached())
    assert cached()["good/fam-a"].data == "cub, birds"
    assert fam("models").exit_code == 0


def test_what_fails_in_an_unforeseen_way(add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong with one repository, it is said of it, and the others are listed."""
    add("good/fam-a")
    bad, check = add("evil/fam-b"), loading.check_checkpoint

    def fails(folder: Path) -> Any:
        if folder == bad:
            msg = "what\nnobody expected"
            raise TypeError(msg)
        return check(folder)

    monkeypatch.setattr(loading, "check_checkpoint", fails)
    said: list[str] = []
    assert "good/fam-a" in {model.name for model in listing.all_models(said.append)}
    assert said == [r"left out evil/fam-b, which cannot be used: what\nnobody expected"]


def test_what_a_pull_refuses_is_not_listed(add: Add, checkpoint: Path) -> None:
    """Config and weights that do not belong together are no model, here as everywhere; their files stay as they are."""
    model = json.loads((checkpoint / "config.json").read_text())["model"]
    bad = add("evil/fam-a", model={**model, "num_parts": model["num_parts"] + 1})
    add("good/fam-b")
    assert set(cached()) == {"good/fam-b"}
    assert (bad / "model.safetensors").is_file()


def test_table_and_json(add: Add, fam: Any) -> None:
    """With odd cards in the cache the table has a line for each model, and the JSON is JSON."""
    infinite = CARD.replace("71.25", ".inf").split("---\n")[1]
    for i, card in enumerate([infinite, 'license: "a\\n| b"', "a: &a [x]\nlicense: *a"]):
        add(f"evil/fam-{i}", card)

    def refuse(name: str) -> None:
        pytest.fail(f"{name} is no JSON")

    rows = json.loads(fam("models", "--json").stdout, parse_constant=refuse)
    assert len([row for row in rows if row["where"] == "cache"]) == 3
    lines = fam("models").stdout.splitlines()
    assert len(lines) == len(rows) + 2
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


@pytest.mark.parametrize(("org", "shown"), [(None, True), ("others", True), ("evil", False)])
def test_same_name_elsewhere(add: Add, monkeypatch: pytest.MonkeyPatch, org: str | None, shown: bool) -> None:
    """Somebody's repository with a name of the catalogue hides the catalogue's only if they are who it is had from."""
    add("evil/fam-vgg16-cub")
    if org:
        monkeypatch.setenv("FAM_HUB_ORG", org)
    assert ("fam-vgg16-cub" in {model.name for model in listing.all_models()}) is shown
    assert "evil/fam-vgg16-cub" in cached()
