"""Which classes are the same: the one rule for every place where names of classes meet.

Names are compared up to case and up to ``_``, ``-`` and spaces. A name that no class has may be one by its synset of
WordNet: by the id (``n01440764``, ``n02085620-Chihuahua``), another word of the synset (``Tinca tinca``), or a list of
them. The synset of a class is known where the classes are the 1,000 of ILSVRC in order, where its name has the id, and
where its words are those of one synset alone. A name that may be several classes is none of them.

Numbers are no names: a list of classes that has nothing else goes by number, and then both lists have to be as long.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from famcli_models.errors import ConfigError, DataError, listed, short

BY_NAME, BY_ID, BY_SYNONYM, BY_NUMBER = "name", "WordNet id", "synonym", "number"
_ID = re.compile(r"^(n\d{8})(?![0-9a-z])|\((n\d{8})\)$", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Matches:
    """Which known class each of some names is.

    Attributes:
        places: By name, the index among the known classes.
        ways: By name, how it was matched.
        ambiguous: By name that may be several classes, what these are called.
    """

    places: Mapping[str, int]
    ways: Mapping[str, str]
    ambiguous: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def from_names(cls, names: Iterable[str], known: Sequence[str]) -> Matches:
        """Match names, each for itself, with known classes."""
        names = dict.fromkeys(names)
        table = _Known.from_names(known if names else ())
        places, ways, ambiguous = {}, {}, {}
        for name in names:
            found, way = table.find(name)
            if len(found) == 1 and way:
                places[name], ways[name] = found[0], way
            elif found:
                ambiguous[name] = [known[i] for i in found]
        return cls(places, ways, ambiguous)

    @classmethod
    def from_lists(cls, names: Sequence[str], known: Sequence[str], needed: Collection[str] | None = None) -> Matches:
        """Match two lists of different classes; by number if one has numbers alone and both are as long.

        Raises:
            DataError: A name that is needed, by default any, may be several of the known classes, or several are one.
        """
        found, needed = cls.from_names(names, known), set(names if needed is None else needed)
        all_found = all(name in found.places for name in names)
        if not all_found and len(names) == len(known) and (are_numbers(names) or are_numbers(known)):
            return cls({name: i for i, name in enumerate(names)}, dict.fromkeys(names, BY_NUMBER))
        ambiguous = {**found.ambiguous, **_Known.from_names(known).homonyms(names)}
        places = {name: place for name, place in found.places.items() if name not in ambiguous}
        cls(places, {}, {name: of for name, of in ambiguous.items() if name in needed}).check()
        taken: dict[int, str] = {}
        for name, place in places.items():
            if name in needed and (other := taken.setdefault(place, name)) != name:
                both = f"'{short(other)}' and '{short(name)}' are both the class '{short(known[place])}'"
                raise DataError(f"{both}: give different classes different names, or their WordNet ids")
        return cls(places, {name: found.ways[name] for name in places}, ambiguous)

    def check(self) -> None:
        """Refuse names that may be several classes."""
        for name, classes in self.ambiguous.items():
            if len(classes) == 1:
                which = f"'{short(name)}' may be the class {listed(classes)}, which is a word of other synsets too"
                raise DataError(f"{which}: give both the same name")
            which = f"'{short(name)}' may be any of these classes: {listed(classes)}"
            raise DataError(f"{which}; write its WordNet id, or a name that one class alone has")

    def sentence(self, known: Sequence[str], total: int | None = None) -> str:
        """How many of so many names were matched, by default of those that were, and how."""
        counts = Counter(self.ways.values())
        text = f"{len(self.ways):,} of {len(self.ways) if total is None else total:,} classes matched"
        if len(counts) < 2:
            text += "".join(f" by {way}" for way in counts)
        else:
            text += f": {', '.join(f'{count:,} by {way}' for way, count in counts.items())}"
        others = [f"{name} is {known[self.places[name]]}" for name, way in self.ways.items() if way in _BY_WORDNET]
        return f"{text} ({listed(others)})" if others else text


_BY_WORDNET = {BY_ID, BY_SYNONYM}


def fold(name: str) -> str:
    """A name as it is compared."""
    return " ".join(re.split(r"[\s_-]+", unicodedata.normalize("NFKC", name).casefold())).strip()


def are_numbers(names: Collection[str]) -> bool:
    """Whether a list of classes has no names, but numbers or nothing at all."""
    return all(name.isascii() and name.isdigit() for name in names)


@dataclass(frozen=True, slots=True)
class _Known:
    """Known classes by what they are called."""

    names: Sequence[str]
    by_name: Mapping[str, Sequence[int]]
    by_beginning: Mapping[str, Sequence[int]]  # what is before a bracket, which tells one homonym from another

    @classmethod
    def from_names(cls, names: Sequence[str]) -> _Known:
        by_name, by_beginning = defaultdict(list), defaultdict(list)
        for i, name in enumerate(names):
            by_name[fold(name)].append(i)
            if name.endswith(")"):
                by_beginning[fold(name.partition(" (")[0])].append(i)
        return cls(names, by_name, by_beginning)

    def find(self, name: str) -> tuple[Sequence[int], str]:
        """The classes that a name may be, and how it is matched; this is empty where one class alone is no match."""
        if alike := self.by_name.get(fold(name)):
            return [i for i in alike if self.names[i] == name] or alike, BY_NAME
        certain, uncertain = _by_synset(tuple(self.names))
        found = {i for synset in synsets_of(name) for i in certain.get(synset, ())}
        if not found and _ID.match(name):
            return uncertain.get(name[:9].lower(), ()), ""
        with_id = _ID.search(name) or any(_ID.search(self.names[i]) for i in found)
        return sorted(found), BY_ID if with_id else BY_SYNONYM

    def homonyms(self, names: Iterable[str]) -> Mapping[str, Sequence[str]]:
        """Names that WordNet has for another class too, as ``crane`` where ``crane (n03126707)`` is not among them."""
        given, found = {fold(name) for name in names}, {}
        for name in names:
            others = [self.names[i] for i in self.by_beginning.get(fold(name), ()) if fold(self.names[i]) not in given]
            if fold(name) in self.by_name and (others := [other for other in others if synsets_of(other)]):
                found[name] = [*(self.names[i] for i in self.by_name[fold(name)]), *others]
        return found


def synsets_of(name: str) -> frozenset[str]:
    """The synsets of WordNet that a name may be of: that of its id, or those that have all of its words."""
    if found := _ID.search(name):
        return frozenset({(found[1] or found[2]).lower()})
    words = [fold(word) for word in re.split(r"[,()]", name) if word.strip()]
    return frozenset.intersection(*(_wordnet().synsets.get(word, frozenset()) for word in words or [""]))


def are_ilsvrc(names: Sequence[str]) -> bool:
    """Whether classes are the 1,000 of ILSVRC in their order."""
    order = _wordnet().order
    return len(order) == len(names) and all(one in synsets_of(name) for one, name in zip(order, names, strict=True))


@functools.lru_cache(maxsize=4)
def _by_synset(names: tuple[str, ...]) -> tuple[Mapping[str, Sequence[int]], Mapping[str, Sequence[int]]]:
    """Classes by their synset, and by each that may be theirs where several may be."""
    certain: dict[str, list[int]] = defaultdict(list)
    uncertain: dict[str, list[int]] = defaultdict(list)
    order = (frozenset({synset}) for synset in _wordnet().order)
    for i, of in enumerate(order if are_ilsvrc(names) else map(synsets_of, names)):
        for synset in of:
            (certain if len(of) == 1 else uncertain)[synset].append(i)
    return certain, uncertain


class _WordNet(NamedTuple):
    order: Sequence[str]  # the synsets of ILSVRC in the order of its classes
    synsets: Mapping[str, frozenset[str]]  # of all that timm lists, by folded word


@functools.cache
def _wordnet() -> _WordNet:
    spec = find_spec("timm")  # found, not imported: that takes torch and seconds
    if spec is None or spec.origin is None:
        raise ConfigError("words of WordNet are read from timm, which is not installed here: pip install timm")
    folder = Path(spec.origin).parent / "data" / "_info"
    order = (folder / "imagenet_synsets.txt").read_text(encoding="utf-8").split()
    synsets = defaultdict(set)
    for line in (folder / "imagenet_synset_to_lemma.txt").read_text(encoding="utf-8").splitlines():
        synset, _, words = line.partition("\t")
        for word in words.split(", "):
            synsets[fold(word)].add(synset)
    return _WordNet(order, {word: frozenset(of) for word, of in synsets.items()})
