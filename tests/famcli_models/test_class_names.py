"""Which classes are the same."""

from __future__ import annotations

import pytest

from famcli_models.checkpoint import DEFAULT_MODEL, read_config, resolve
from famcli_models.class_names import BY_NUMBER, Matches
from famcli_models.errors import DataError

CLASSES = ("tabby", "Egyptian cat", "cup")


@pytest.fixture(scope="module")
def ilsvrc() -> tuple[str, ...]:
    """The names of the 1,000 classes."""
    return tuple(read_config(resolve(DEFAULT_MODEL))["class_names"])


@pytest.mark.parametrize(
    ("name", "known", "place"),
    [
        ("cup", CLASSES, 2),
        ("EGYPTIAN_cat", CLASSES, 1),
        ("  egyptian - CAT", CLASSES, 1),
        ("Cafe\u0301", ("Caf\u00e9",), 0),  # as macOS writes names of folders
        ("1", ("1", "0"), 0),
        ("cat", ("Cat", "cat", "dog"), 1),
        ("Cat", ("Cat", "cat", "dog"), 0),
        ("taby", CLASSES, None),
        ("", CLASSES, None),
        ("0", CLASSES, None),
        ("n02124075", CLASSES, 1),
        ("n02124075x", CLASSES, None),
        ("n99999999", CLASSES, None),
        ("n02123045", ("cat", "TABBY CAT"), 1),  # tabby, tabby cat
        ("tabby", ("n02123045", "n02124075"), 0),
        ("n02012849", ("crane", "cup"), None),  # one of several synsets with this word
    ],
)
def test_a_name(name: str, known: tuple[str, ...], place: int | None) -> None:
    """Case, spaces and what stands for them make no difference; as it is written wins; then its synset decides."""
    assert Matches.from_names([name], known).places.get(name) == place


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("Tinca tinca", 0),
        ("tench, Tinca tinca", 0),
        ("n01440764 tench, Tinca tinca", 0),
        ("n02085620-Chihuahua", 151),
        ("n02124075", 285),
        ("n02012849", 134),
        ("N03126707", 517),
        ("n03710637", 638),
        ("maillot (tank suit)", 639),
        ("tank suit", 639),
        ("n02121620", None),  # cat
    ],
)
def test_a_synset_of_ilsvrc(ilsvrc: tuple[str, ...], name: str, place: int | None) -> None:
    """The place among all 1,000 decides, so that both cranes and both maillots are found; other synsets are none."""
    assert Matches.from_names([name], ilsvrc).places.get(name) == place


@pytest.mark.parametrize(
    ("names", "known", "words"),
    [
        (["CAT"], ["Cat", "cat"], "'CAT' may be any of these classes: Cat, cat"),
        (["n01440764"], ["tench", "Tinca tinca"], "'n01440764' may be any of"),
        (["n02012849"], ["crane", "cup"], "'n02012849' may be the class crane, which is a word of other synsets too"),
        (["crane"], ["crane", "crane (n03126707)"], r"'crane' may be .* crane \(n03126707\); write its WordNet id"),
        (["Cup", "cup"], ["cup", "dog"], "'Cup' and 'cup' are both the class 'cup'"),
        (["tench", "n01440764"], ["tench"], "are both the class 'tench'"),
    ],
)
def test_what_may_be_several_classes(names: list[str], known: list[str], words: str) -> None:
    """It is refused, with what it may be."""
    with pytest.raises(DataError, match=words):
        Matches.from_lists(names, known)


def test_what_is_not_needed() -> None:
    """A name that may be several classes, and is not needed, is none of them."""
    for known in (["cup", "Cat", "cat"], ["cup", "crane", "crane (n03126707)"]):
        names = ["cup", known[1].upper()]
        assert Matches.from_lists(names, known, ["cup"]).places == {"cup": 0}
        with pytest.raises(DataError, match="may be any of"):
            Matches.from_lists(names, known, names[1:])


def test_brackets_of_ones_own() -> None:
    """A name in brackets makes a homonym in WordNet alone, and none where both are given."""
    assert Matches.from_lists(["cup"], ["cup", "cup (broken)"]).places == {"cup": 0}
    both = ["crane (n03126707)", "crane"]
    assert Matches.from_lists(both, both[::-1]).places == {both[0]: 1, both[1]: 0}


def test_by_number() -> None:
    """A list that has numbers alone goes by number, if both are as long; a shorter one has classes in common or not."""
    matches = Matches.from_lists(["001", "002"], ["cat", "dog"])
    assert (matches.places, set(matches.ways.values())) == ({"001": 0, "002": 1}, {BY_NUMBER})
    assert Matches.from_lists(["cat", "dog"], ["0", "1"]).places == {"cat": 0, "dog": 1}
    assert Matches.from_lists(["cat", "dog"], ["dog", "cat"]).places == {"cat": 1, "dog": 0}
    assert not Matches.from_lists(["001", "002"], ["cat", "dog", "cup"]).places
    assert not Matches.from_lists(["bird", "fish"], ["cat", "dog"]).places


def test_what_is_said(ilsvrc: tuple[str, ...]) -> None:
    """How many were matched and how; what is not the name itself is told, and never all of many."""
    assert Matches.from_lists(ilsvrc, ilsvrc).sentence(ilsvrc) == "1,000 of 1,000 classes matched by name"
    matches = Matches.from_lists(["tench", "n01443537", "wurst"], ilsvrc)
    assert matches.sentence(ilsvrc, 3) == ("2 of 3 classes matched: 1 by name, 1 by WordNet id (n01443537 is goldfish)")
    assert len(Matches.from_names([f"n{i:08d}" for i in range(1, 10**7, 10**4)], ilsvrc).sentence(ilsvrc)) < 500
