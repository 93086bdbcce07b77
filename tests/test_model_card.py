"""The card of a packaged checkpoint: which numbers it takes, and what it says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from famcli.hub.listing import packaged_model
from famcli.results.io import read_all, write_results
from famcli.results.schema import ClassRow, Difference, Number, Results, Row, SizeScore
from famcli_models.errors import DataError
from famcli_models.files import sha256_file

NAMES = ("purpose", "terms_in_short", "summary", "data", "terms", "command", "time", "limits")
WORDS = "\n".join(f'{name} = "{name}."' for name in NAMES)
HELD_OUT = """
[held_out]
weights_sha256 = "{digest}"
note = "Of others."
rows = [
    {{ data = "owls", images = 9, method = "FAM", metrics.gt_known = {{ value = 55.5, low = 50.0, high = 60.0 }} }},
    {{ data = "owls", images = 9, method = "CAM", metrics = {{ gt_known.value = 44.25, top1_cls.value = 30.0 }} }},
]
"""
Run = Callable[..., str]


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    """scripts/model_card.py as a module."""
    return load_script("model_card.py")


@pytest.fixture
def folder(make_model: Callable[..., Any], tmp_path: Path) -> Path:
    """A tiny checkpoint with what a packaged one has beside it."""
    model = make_model()
    model.provenance.update({"backbone_weights": "w", "backbone_sha256": "0", "seed": 0, "images": 4})
    model.save_pretrained(tmp_path / "fam-tiny")
    config = tmp_path / "fam-tiny" / "config.json"
    stored = json.loads(config.read_text())
    stored["provenance"]["golden"] = {"digest": "d"}
    config.write_text(json.dumps(stored))
    (tmp_path / "fam-tiny" / "card.toml").write_text(f'{WORDS}\n[notes]\nbirds = "Few birds."\n')
    return tmp_path / "fam-tiny"


@pytest.fixture
def results(folder: Path) -> Results:
    """What fam eval --out would write of these weights, large tables included."""
    return Results(
        kind="evaluation",
        created="2026-11-23T01:00:00+00:00",
        data={"name": "birds", "split": "test", "images": 240, "class_names": ("a", "b"), "sha256": "1"},
        source={
            "kind": "model",
            "name": "/home/somebody/runs/best",
            "class_names": ("a", "b"),
            "weights_sha256": sha256_file(folder / "model.safetensors"),
        },
        protocol={"name": "fam", "rules": {"title": "FAM", "box": "half-open"}},
        same_classes=False,
        rows=(
            Row(method="FAM", title="FAM", metrics={"gt_known": Number(71.25, 70, 72.5)}, tau=0.5, tau_from="fixed"),
            Row(method="CAM", title="CAM, oracle τ", metrics={"gt_known": Number(60)}, tau=0.3, tau_from="oracle"),
        ),
        differences=(Difference("FAM", "CAM, oracle τ", "gt_known", Number(11.25, 8, 14)),),
        classes=(ClassRow(0, "a", 120, 70, None, None, 60),),
        versions={"famcli": "0.1.0", "torch": "2.9.0", "timm": "1"},
    )


@pytest.fixture
def run(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function that runs the script with some arguments and gives why it failed, if it did."""

    def run(*arguments: object) -> str:
        try:
            status = script.main([str(argument) for argument in arguments])
        except SystemExit as reason:
            return str(reason.code)
        return capsys.readouterr().err if status else ""

    return run


def test_new_numbers(run: Run, folder: Path, results: Results, tmp_path: Path) -> None:
    """One command takes runs in, writes the card from them, and the check holds until something changes."""
    write_results(tmp_path / "birds", results)
    write_results(tmp_path / "fish", replace(results, data={**results.data, "name": "fish"}))
    assert run(folder, "--results", tmp_path / "birds", tmp_path / "fish") == ""
    assert run(folder, "--check") == ""
    text = (folder / "README.md").read_text(encoding="utf-8")
    found = read_all(folder / "results.json")
    assert [r.data["name"] for r in found] == ["birds", "fish"]
    assert "| FAM | 0.5 (fixed) | 71.2 [70.0, 72.5] |" in text
    assert "FAM minus CAM, oracle τ, paired, in points: GT-known +11.2 [+8.0, +14.0]." in text
    assert text.count("Few birds.") == 1
    assert "fam eval --model fam-tiny --data fish --split test --other-classes\n" in text
    # Tables by class, names of classes and the place of the model stay behind.
    assert (found[0].classes, found[0].source["name"]) == ((), "fam-tiny")
    assert "class_names" not in {**found[0].data, **found[0].source}
    assert found[0].rows == results.rows
    (folder / "README.md").write_text(text.replace("71.2", "81.2"), encoding="utf-8")
    assert "README.md is out of date" in run(folder, "--check")


def test_results_of_other_data_stay(run: Run, folder: Path, results: Results, tmp_path: Path) -> None:
    """New numbers take the place of those of the same data, and join those of other data; tables by size are shown."""
    by_size = (SizeScore(2, Number(50, 1, 99), 1.5), *[SizeScore(0, None, None)] * 4)
    write_results(tmp_path / "birds", results)
    write_results(tmp_path / "fish", replace(results, data={**results.data, "name": "fish"}))
    assert run(folder, "--results", tmp_path / "birds", tmp_path / "fish") == ""
    assert "by object size" not in (folder / "README.md").read_text(encoding="utf-8")
    rows = (replace(results.rows[0], sizes=by_size), *results.rows[1:])
    write_results(tmp_path / "birds", replace(results, created="2026-11-28T01:00:00+00:00", rows=rows))
    assert run(folder, "--results", tmp_path / "birds") == ""
    assert [r.data["name"] for r in read_all(folder / "results.json")] == ["birds", "fish"]
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "| FAM | 50.0 [1.0, 99.0] (area × 1.50) |" in text
    assert (
        "2026-11-28 with famcli 0.1.0, torch 2.9.0 (birds); 2026-11-23 with famcli 0.1.0, torch 2.9.0 (fish)." in text
    )


def test_held_out(run: Run, folder: Path, results: Results, tmp_path: Path) -> None:
    """What others measured stands before our numbers, and is refused when it is of other weights or no numbers."""
    write_results(tmp_path / "birds", results)
    digest, words = sha256_file(folder / "model.safetensors"), (folder / "card.toml").read_text()
    (folder / "card.toml").write_text(words + HELD_OUT.format(digest=digest))
    assert run(folder, "--results", tmp_path / "birds") == ""
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "| owls: FAM | 9 | 55.5 [50.0, 60.0] |  |\n| owls: CAM | 9 | 44.2 | 30.0 |" in text
    assert text.index("kept apart\n\nOf others.") < text.index("## Measured here")
    (first, *_) = packaged_model(folder).measured
    assert first.sentence() == "GT-known Loc 55.5 (owls/held out, 9 images)"
    for old, new, why in (
        (digest, "0" * 64, "remove it until these weights were measured"),
        ("top1_cls", "top_cls", "one of 'gt_known'"),
        ("55.5", "'many'", "a number"),
    ):
        (folder / "card.toml").write_text(words + HELD_OUT.format(digest=digest).replace(old, new))
        assert why in run(folder, "--check")


def test_pages(script: ModuleType, run: Run, folder: Path, results: Results, tmp_path: Path) -> None:
    """All models are rows of one page, each has a page that shows its card, and lists say what it is for."""
    write_results(tmp_path / "birds", results)
    assert run(folder, "--results", tmp_path / "birds") == ""
    script.ROOT, script.PAGES = tmp_path, tmp_path / "docs"
    pages = {path.name: text for path, text in script.pages([folder]).items()}
    assert pages.keys() == {"index.md", "fam-tiny.md"}
    assert pages["fam-tiny.md"] == '--8<-- "fam-tiny/README.md"\n'
    row = "| [`fam-tiny`](fam-tiny.md) | purpose. | test_efficientnet | 64 px | 5 | "
    assert row in pages["index.md"]
    assert "GT-known Loc 71.2 (birds/test, 240 images) |" in pages["index.md"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": {"weights_sha256": "0" * 64}}, "are not of .*model.safetensors"),
        ({"source": {"kind": "maps"}}, "are not of .*model.safetensors"),
        ({"source": {"tuned_on_test": True}}, "tuned on test images"),
        ({"source": {"cam": "/home/somebody/cam"}}, "'/home/somebody/cam', a place on this machine"),
        ({"data": {"name": "C:\\birds"}}, "a place on this machine"),
        ({"kind": "smoke check"}, "are not of .*model.safetensors"),
    ],
    ids=["other weights", "maps", "tuned", "path", "Windows path", "smoke check"],
)
def test_refused(
    script: ModuleType, folder: Path, results: Results, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """Numbers of something else, and places on this machine, do not get into the package."""
    merged = {
        key: {**getattr(results, key), **value} if isinstance(value, dict) else value for key, value in changes.items()
    }
    write_results(tmp_path / "run", replace(results, **merged))
    with pytest.raises(DataError, match=message):
        script.taken(folder, [tmp_path / "run"])


def test_new_weights_need_new_numbers(run: Run, folder: Path, results: Results, tmp_path: Path) -> None:
    """The check fails where weights changed and numbers did not; data given twice and missing facts are named."""
    write_results(tmp_path / "run", results)
    assert run(folder, "--results", tmp_path / "run") == ""
    stored = json.loads((folder / "results.json").read_text())
    stored[0]["source"]["weights_sha256"] = "0" * 64
    (folder / "results.json").write_text(json.dumps(stored))
    assert "measure it with fam eval --out" in run(folder, "--check")
    assert "two results are of the same data" in run(folder, "--results", *[tmp_path / "run"] * 2)
    stored = json.loads((folder / "config.json").read_text())
    del stored["provenance"]["golden"]
    (folder / "config.json").write_text(json.dumps(stored))
    message = run(folder, "--results", tmp_path / "run")
    assert "does not say its golden; 'fam verify --record' adds golden" in message
