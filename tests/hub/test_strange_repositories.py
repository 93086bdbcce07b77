"""Repositories in the cache that strangers made: none may hide the others, hang a list or break its table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from famcli.hub import listing
from famcli.hub.header import MAX_HEADER, read_header
from famcli.hub.text import SHORT, names, one_line

Add = Callable[..., Path]
NUMBER = """license: mit
model-index:
- name: x
  results:
  - task: {{type: object-detection}}
    dataset: {{name: "{data}", type: d, split: test}}
    metrics:
    - {{type: gt_known, value: {value}, args: {{tau: {tau}, images: {images}, protocol: fam}}}}"""
GOOD = {"data": "cub", "value": 50, "tau": 0.5, "images": 5}
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.fixture
def add(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Add:
    """A function that puts a checkpoint into a cache of its own, as a pull does."""
    root, scan = tmp_path / "cache", huggingface_hub.scan_cache_dir
    monkeypatch.setattr(huggingface_hub, "scan_cache_dir", lambda: scan(root))
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


def header(tmp_path: Path, text: str) -> tuple[str, Any]:
    """What the header of a card says."""
    (tmp_path / "README.md").write_text(f"---\n{text}\n---\nHello\n")
    return read_header(tmp_path / "README.md")


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
    bad = add("evil/fam-b")
    check = listing.check_checkpoint

    def fails(folder: Path) -> Any:
        if folder == bad:
            msg = "what\nnobody expected"
            raise TypeError(msg)
        return check(folder)

    monkeypatch.setattr(listing, "check_checkpoint", fails)
    said: list[str] = []
    assert "good/fam-a" in {model.name for model in listing.all_models(said.append)}
    assert said == ["left out evil/fam-b, which cannot be used: what nobody expected"]


def test_what_a_pull_refuses_is_not_listed(add: Add, checkpoint: Path) -> None:
    """Config and weights that do not belong together are no model, here as everywhere; their files stay as they are."""
    model = json.loads((checkpoint / "config.json").read_text())["model"]
    bad = add("evil/fam-a", model={**model, "num_parts": model["num_parts"] + 1})
    add("good/fam-b")
    assert set(cached()) == {"good/fam-b"}
    assert (bad / "model.safetensors").is_file()


@pytest.mark.parametrize("license_", ["*h", "[*h]"])
def test_aliases(tmp_path: Path, license_: str) -> None:
    """A header with aliases, of which a few lines stand for millions, is not expanded: it says nothing."""
    assert header(tmp_path, f"{BOMB}license: {license_}") == ("", ())


@pytest.mark.parametrize(
    "changes",
    [
        {"tau": "2020-01-01"},
        {"tau": "1.5"},
        {"tau": "[1]"},
        {"value": ".inf"},
        {"value": ".nan"},
        {"value": "1e300"},
        {"value": "1.0e+300"},
        {"value": "-1"},
        {"value": "true"},
        {"images": "9" * 50},
        {"images": "-5"},
        {"images": "{a: b}"},
    ],
)
def test_numbers_that_cannot_be(tmp_path: Path, changes: dict[str, str]) -> None:
    """A card's number that is no percentage, threshold or number of images is left out; the license stays."""
    assert header(tmp_path, NUMBER.format(**GOOD))[1][0].values["gt_known"] == 50
    assert header(tmp_path, NUMBER.format(**{**GOOD, **changes})) == ("mit", ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r'"a\n| b | c"', "a | b | c"),
        (r'"\e[31mred"', "[31mred"),
        ("[a, b]", ""),
        ("{a: b}", ""),
        ("2020-01-01", ""),
        ("7", ""),
        ("x" * 1000, "x" * (SHORT - 1) + "…"),
    ],
)
def test_licenses(tmp_path: Path, text: str, expected: str) -> None:
    """A license is one short line of text, or none."""
    assert header(tmp_path, f"license: {text}")[0] == expected


def test_names_on_cards(tmp_path: Path) -> None:
    """Names on a card are short lines too."""
    (found,) = header(tmp_path, NUMBER.format(**{**GOOD, "data": "d\\n" + "x" * 500}))[1]
    assert found.data.startswith("d x")
    assert len(found.data) == SHORT


def test_what_is_not_read(tmp_path: Path) -> None:
    """A header longer than any, tags that make objects, and no card at all say nothing."""
    assert header(tmp_path, "license: mit\nx: " + "y" * MAX_HEADER) == ("", ())
    assert header(tmp_path, f'license: !!python/object/apply:os.system ["touch {tmp_path}/made"]') == ("", ())
    assert not (tmp_path / "made").exists()
    assert read_header(tmp_path / "nothing") == ("", ())
    assert header(tmp_path, "a: " + "[" * 5000) == ("", ())


def test_table_and_json(add: Add, fam: Any) -> None:
    """With odd cards in the cache the table has a line for each model, and the JSON is JSON."""
    for i, card in enumerate([NUMBER.format(**{**GOOD, "value": ".inf"}), 'license: "a\\n| b"', f"{BOMB}license: *h"]):
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


def test_cache_that_is_a_file(fam_process: Any, hub: Any, tmp_path: Path) -> None:
    """A cache that is no folder is said to be so, and what is packaged is listed."""
    (tmp_path / "file").write_text("")
    done = fam_process("models", HF_HUB_CACHE=str(tmp_path / "file"))
    assert done.code == 0, done.stderr
    assert "it is no folder" in done.stderr
    assert "fam-mobilenetv1-ilsvrc" in done.stdout
    assert hub.requests == []


def test_text() -> None:
    """What is no text becomes text without harm, and what is no name is left out."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert one_line(deep) == "…"
    assert one_line(10**5000) == "…"
    assert one_line("a \x1b\u202e\n b") == "a b"
    assert names(["a", 5, None, "", ["b"]]) == ["a"]
    assert names("a") == ["a"]
