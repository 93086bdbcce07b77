"""The table of protocols, and the frames of those that compare boxes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from famcli.evaluation.metrics.box import DELTAS, INTERVAL, SIDE, V1_DELTA
from famcli.evaluation.protocols import BOX_RULES, PROTOCOLS, VERSIONS, BoxRules, find_protocol, ten_crops
from famcli.results.images import RIGHT_IOU
from famcli_models.errors import UnknownNameError
from famcli_models.preprocess import resize

CROPPED = BOX_RULES["psol"]


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
    assert set(PROTOCOLS) == {*BOX_RULES, *VERSIONS}


def test_the_page_has_the_table() -> None:
    """docs/concepts/protocols.md shows every rule of every protocol in the table's words."""
    page = Path(__file__).parent.parent.parent / "docs" / "concepts" / "protocols.md"
    text = page.read_text(encoding="utf-8")
    for name, protocol in PROTOCOLS.items():
        assert f"`{name}`" in text
        assert all(value.strip() and value in text for value in dataclasses.astuple(protocol)[1:])


def test_every_rule_has_its_words() -> None:
    """psol alone is cropped and strict, first-box alone takes one box."""
    assert BOX_RULES["fam"] == BoxRules()
    assert BOX_RULES["psol"] == BoxRules(cropped=True, strict=True)
    assert BOX_RULES["first-box"] == BoxRules(first_only=True)
    assert PROTOCOLS["psol"].right == "IoU > 0.5"


def test_psol_by_hand() -> None:
    """An image of 512x1024: half and a quarter to 256, then 16 less; what lies outside of the 224 crop is cut off."""
    boxes = [[100, 100, 600, 300], [0, 0, 1024, 512], [0, 0, 40, 20]]
    moved = CROPPED.to_frame(boxes, (512, 1024), 224)
    assert moved.tolist() == [[9, 34, 134, 134], [0, 0, 224, 224], [0, 0, 0, 0]]


@given(
    st.lists(st.integers(0, 60), min_size=4, max_size=4),
    st.sampled_from([(100, 100), (333, 517), (64, 2000)]),
    st.sampled_from([64, 224, 299]),
)
def test_there_and_back(corners: list[int], size_hw: tuple[int, int], side: int) -> None:
    """A box of the crop moved to the photograph and back is where it was, in any frame."""
    x, y, w, h = corners
    box = np.array([[x, y, min(x + w + 1, side), min(y + h + 1, side)]], np.float64).clip(0, side)
    for rules in BOX_RULES.values():
        there = rules.to_photo(box, size_hw, side)
        assert rules.to_frame(there, size_hw, side) == pytest.approx(box, abs=1e-6)


def test_views() -> None:
    """The view of fam is the whole image; that of psol the middle 224 of 256; of ten crops the fifth is that too."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8))
    whole = resize(image, 256)
    np.testing.assert_array_equal(BOX_RULES["fam"].view(image, 224), resize(image, 224))
    np.testing.assert_array_equal(CROPPED.view(image, 224), whole[16:240, 16:240])
    crops = ten_crops(image, 224)
    assert len(crops) == 10
    np.testing.assert_array_equal(crops[0], whole[:224, :224])
    np.testing.assert_array_equal(crops[3], whole[32:, 32:])
    np.testing.assert_array_equal(crops[4], CROPPED.view(image, 224))
    np.testing.assert_array_equal(crops[9], crops[4][:, ::-1])
