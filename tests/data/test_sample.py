"""Names of splits."""

from __future__ import annotations

import pytest

from famcli.data.sample import SPLITS, find_split, in_order, split_name


@pytest.mark.parametrize("split", SPLITS)
def test_the_papers_names(split: str) -> None:
    """The paper's names are themselves."""
    assert find_split(split) == split_name(split) == split


@pytest.mark.parametrize(
    ("alias", "split"),
    [("train", "train-weaksup"), ("Val", "train-fullsup"), ("valid", "train-fullsup"), ("testing", "test")],
)
def test_other_names(alias: str, split: str) -> None:
    """Names that others use mean the same three."""
    assert find_split(alias) == split


def test_unknown_names() -> None:
    """A name that means nothing is told apart, and may be kept."""
    assert find_split("minival") is None
    assert split_name("minival") == "minival"


def test_order() -> None:
    """The paper's order first, then others by name, each once."""
    assert in_order(["z", "test", "a", "train-weaksup", "test"]) == ["train-weaksup", "test", "a", "z"]
