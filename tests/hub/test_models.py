"""``fam models``."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from famcli.results.io import read_all
from famcli_models import packaged as packaged_folders

REPO = "birds/fam-tiny"
PACKAGED = "fam-mobilenetv1-ilsvrc"
Fam = Callable[..., Any]
CARD = """---
license: cc-by-4.0
model-index:
- name: fam-tiny
  results:
  - task:
      type: object-detection
    dataset:
      name: cub
      type: cub
      split: test
    metrics:
    - type: gt_known
      value: 71.25
      args: {protocol: fam, images: 5794, tau: 0.5, tau_from: fixed}
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
    assert len(rows) == 9
    packaged, cached, known = rows[PACKAGED], rows[REPO], rows["fam-resnet50-cub"]
    assert (packaged["where"], packaged["backbone"]) == ("packaged", "mobilenetv1")
    (first, *_) = read_all(packaged_folders()[PACKAGED] / "results.json")
    assert packaged["measured"][0]["data"] == first.data["name"]
    assert packaged["measured"][0]["gt_known"] == round(first.rows[0].metrics["gt_known"].value, 2)
    assert packaged["size"] > 8 * 10**6
    assert (cached["where"], cached["backbone"], cached["terms"]) == ("cache", "test_efficientnet", "cc-by-4.0")
    assert cached["revision"] == f"main {sha[:12]}"
    assert cached["measured"] == [
        {"data": "cub", "split": "test", "images": 5794, "protocol": "fam", "tau": 0.5, "tau_from": "fixed"}
        | {"gt_known": 71.25}
    ]
    assert (known["where"], known["revision"], known["measured"]) == ("catalogue", "not published", [])
    table = fam_process("models").stdout
    assert "GT-known Loc 71.2 (cub/test, 5,794 images)" in table
    assert table.splitlines()[0].split("|")[1].strip() == "name"


def test_list_of_an_empty_cache(fam_process: Fam, hub: Any, cache: Path) -> None:
    """Without a cache there are the packaged model and the catalogue, and no cache is made."""
    rows = listed(fam_process("models", "--json"))
    assert {row["where"] for row in rows.values()} == {"packaged", "catalogue"}
    assert not (cache / "hub").exists()
    assert hub.requests == []


def test_revisions_are_told_apart(fam_process: Fam, hub: Any, files: dict[str, bytes]) -> None:
    """Two revisions in the cache are two rows, each with the name that takes it."""
    old = hub.add(REPO, files)
    fam_process("pull", REPO)
    hub.add(REPO, {"README.md": b"new"})
    fam_process("pull", REPO)
    assert {REPO, f"{REPO}@{old}"} <= set(listed(fam_process("models", "--json")))


@pytest.mark.parametrize("card", [b"", b"no header", b"---\n: [\n---\n", b"---\nmodel-index: 7\n---\n", b"\xff\xfe"])
def test_odd_cards(fam_process: Fam, hub: Any, files: dict[str, bytes], card: bytes) -> None:
    """A card that cannot be read names no numbers and stops nothing."""
    hub.add(REPO, {**files, "README.md": card})
    fam_process("pull", REPO)
    assert listed(fam_process("models", "--json"))[REPO]["measured"] == []


def test_card(fam_process: Fam, hub: Any, files: dict[str, bytes]) -> None:
    """A card is printed without what would command a terminal; of a model on the Hub it is all that is fetched."""
    hub.add(REPO, {**files, "README.md": CARD.encode()})
    done = fam_process("models", REPO)
    assert "# Tiny [31mred" in done.stdout
    assert not hub.asked("model.safetensors|config.json")
    assert json.loads(fam_process("models", REPO, "--json").stdout)["card"].startswith("---")


def test_cards_without_network(fam_process: Fam, hub: Any) -> None:
    """The packaged model's card is its file; of a model that is not published it is said that there is none."""
    assert "## Measured" in fam_process("models", PACKAGED).stdout
    done = fam_process("models", "fam-vgg16-cub")
    assert done.code == 0
    assert "not published yet; make them with 'fam train --recipe vgg16-cub" in done.stdout
    assert hub.requests == []


def test_card_of_nothing(fam_process: Fam, hub: Any, files: dict[str, bytes]) -> None:
    """An unknown name, and a repository without a card, are errors."""
    assert "unknown model" in fam_process("models", "fam-x").stderr
    hub.add(REPO, {name: data for name, data in files.items() if name != "README.md"})
    done = fam_process("models", REPO)
    assert done.code == 1
    assert "no such file" in done.stderr


def test_card_offline(fam_process: Fam, hub: Any) -> None:
    """Offline by choice, the card of a model that is not here names the variable."""
    done = fam_process("models", REPO, HF_HUB_OFFLINE="1")
    assert done.code == 1
    assert "unset HF_HUB_OFFLINE" in done.stderr
    assert hub.requests == []


@pytest.mark.parametrize("command", ["models", "pull"])
@pytest.mark.parametrize("body", ["<!doctype html><title>Log in</title>", "[]"])
def test_endpoint_that_is_no_hub(fam_process: Fam, command: str, body: str) -> None:
    """A page for people in place of the Hub's answer is not said to be a network that is down."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body.encode())

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = fam_process(command, REPO, HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert done.code == 1
    assert "the endpoint was reached, but is no Hub; check HF_ENDPOINT" in done.stderr
    assert done.stderr.count("\n") == 1
