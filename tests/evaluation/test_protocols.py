"""The table of protocols."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from famcli.evaluation.boxrules import BOX_RULES
from famcli.evaluation.metrics.box import DELTAS, INTERVAL, SIDE, V1_DELTA
from famcli.evaluation.protocols import PROTOCOLS, find_protocol
from famcli.results.images import RIGHT_IOU
from famcli_models.errors import UnknownNameError


def test_every_rule_is_said() -> None:
    """No protocol leaves a question unanswered, if only by 'not stated'."""
    for protocol in PROTOCOLS.values():
        assert all(str(value).strip() for value in dataclasses.astuple(protocol))


def test_words_agree_with_numbers() -> None:
    """The numbers in the words are those in the code."""
    v1, v2, fam = PROTOCOLS["wsoleval-v1"], PROTOCOLS["wsoleval-v2"], PROTOCOLS["fam"]
    assert f"{SIDE}x{SIDE}" in v1.map_frame
    assert f"arange(0, 1, {INTERVAL})" in v1.threshold
    assert v1.right == f"IoU >= {V1_DELTA}"
    assert fam.right == f"IoU >= {RIGHT_IOU}"
    assert all(str(delta) in v2.right for delta in DELTAS)


def test_names() -> None:
    """A name is found or corrected."""
    assert find_protocol("wsoleval-v2").title == "MaxBoxAccV2"
    with pytest.raises(
        UnknownNameError, match=r"unknown protocol 'wsoleval' \(did you mean: wsoleval-v\d, wsoleval-v\d\)"
    ):
        find_protocol("wsoleval")
    assert set(PROTOCOLS) == {*BOX_RULES, "wsoleval-v1", "wsoleval-v2"}


def test_the_page_has_the_table() -> None:
    """docs/concepts/protocols.md shows every rule of every protocol in the table's words."""
    page = Path(__file__).parent.parent.parent / "docs" / "concepts" / "protocols.md"
    text = page.read_text(encoding="utf-8")
    for name, protocol in PROTOCOLS.items():
        assert f"`{name}`" in text
        for value in dataclasses.astuple(protocol)[1:]:
            assert value in text
