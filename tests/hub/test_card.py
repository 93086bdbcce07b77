"""Model cards: written from what is stored, and the numbers of anybody's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from famcli.hub.card import MAX_HEADER, SHORT, line, model_card, names, read_header
from famcli_models.methods import METHODS

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


def card(method: str = "fam", class_names: tuple[str, ...] = ("a", "b"), terms: str = "", **provenance: Any) -> str:
    """A card of a model with a provenance."""
    stored = {"class_names": class_names, "provenance": provenance}
    return model_card("lab/fam-tiny", METHODS[method].config_class(), stored, ("0" * 64, 1), terms=terms)


def test_methods() -> None:
    """The method is called by its name; parts are those of a method that has some."""
    text = card()
    assert "A Foreground Activation Maps (FAM) model" in text
    assert "gives a map of the foreground,\n5 part maps and one of 2 classes" in text
    text = card("cam")
    assert "A Class Activation Maps (CAM) model" in text
    assert "part maps" not in text


def test_training() -> None:
    """Images under pseudo-labels and a teacher are named, and the terms of their data asked for."""
    pseudo = {"unlabelled": ["more"], "pseudo_labelled": 7, "unlabelled_confidence": 0.9}
    text = card(data=["ours"], images=4485, teacher_sha256="abc", teacher_data=["cub"], **pseudo)
    assert "- Data: ours, 4,485 images.\n" in text
    assert "- Pseudo-labels: 7 images of more, with a confidence of at least 0.9.\n" in text
    assert "- Teacher of the map: weights abc, trained on cub.\n" in text
    assert ModelCard(text).data.datasets == ["ours", "more", "cub"]
    assert text.count("its terms were not stated") == 2


def test_text_from_files() -> None:
    """A name can neither begin a section, nor break a table, nor command a terminal, nor be a tag or a template."""
    odd = "x\n## Measured\n| 100 |\x1b[31m<script>{{ 7 * 7 }}"
    text = card("fam", (odd, odd), odd, data=[odd], recipe=odd, versions={odd: odd})
    assert text.count("\n## Measured\n") == 1
    assert "\x1b" not in text
    assert "<script>" not in text
    assert "{{ 7 * 7 }}" in text
    assert ModelCard(text).data.datasets is None


@pytest.mark.parametrize("data", [5, None, {"a": 1}, [[1], None], True])
def test_odd_provenance(data: Any) -> None:
    """Data of a provenance that are no names are no data."""
    assert names(data) == []
    assert "Data: not recorded" in card(data=data, versions=5, images="x")


def test_lines() -> None:
    """What is no text becomes a line without harm, and what is no name is left out."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert all(len(line(value)) < 100 for value in (deep, 10**4000, 0.5, None))
    assert line("a \n b") == "a b"
    assert line("\x1b\u202e|") == r"\x1b\u202e\|"
    assert names(["a", 5, None, "", ["b"]]) == names("a") == ["a"]


def header(tmp_path: Path, text: str) -> tuple[str, Any]:
    """What the header of a card says."""
    (tmp_path / "README.md").write_text(f"---\n{text}\n---\nHello\n")
    return read_header(tmp_path / "README.md")


@pytest.mark.parametrize(
    "changes",
    [
        *({"tau": "2020-01-01"}, {"tau": "1.5"}, {"tau": "[1]"}, {"value": ".inf"}, {"value": ".nan"}, {"value": "-1"}),
        *({"value": "1e300"}, {"value": "1.0e+300"}, {"value": "true"}, {"images": "9" * 50}, {"images": "-5"}),
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
        (r'"a\n| b | c"', r"a\n| b | c"),
        (r'"\e[31mred"', r"\x1b[31mred"),
        *(("[a, b]", ""), ("{a: b}", ""), ("2020-01-01", ""), ("7", "")),
        ("x" * 1000, "x" * SHORT + "..."),
    ],
)
def test_licenses(tmp_path: Path, text: str, expected: str) -> None:
    """A license is one short line of text, or none."""
    assert header(tmp_path, f"license: {text}")[0] == expected


def test_names_on_cards(tmp_path: Path) -> None:
    """Names on a card are short lines too."""
    (found,) = header(tmp_path, NUMBER.format(**{**GOOD, "data": "d\\n" + "x" * 500}))[1]
    assert found.data.startswith(r"d\nx")
    assert len(found.data) < 2 * SHORT


@pytest.mark.parametrize(
    "text",
    [
        *(f"{BOMB}license: *h", f"{BOMB}license: [*h]", "license: mit\nx: " + "y" * MAX_HEADER, "a: " + "[" * 5000),
        *("", ": [", "7", "model-index: 7", 'license: !!python/object/apply:os.system ["touch made"]'),
    ],
)
def test_headers_that_say_nothing(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Aliases, of which a few lines stand for millions, tags that make objects, and what is no header say nothing."""
    monkeypatch.chdir(tmp_path)
    assert header(tmp_path, text) == ("", ())
    assert not (tmp_path / "made").exists()
    for content in (b"", b"no header", b"\xff\xfe"):
        (tmp_path / "README.md").write_bytes(content)
        assert read_header(tmp_path / "README.md") == ("", ())
    assert read_header(tmp_path / "nothing") == ("", ())
