"""The 1,000 classes of ILSVRC: WordNet ids in sorted order are the labels; their names come from several files."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from famcli.data.metadata import read_class_names
from famcli.data.public.extract import Limits, read_members
from famcli.data.public.source import read_lines
from famcli_models.errors import DataError
from famcli_models.files import write_atomic

WNID = re.compile(r"n[0-9]{8}")
META, TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"
NAME_FILES = ("synset_words.txt", "LOC_synset_mapping.txt")
DEVKIT_LIMITS = Limits(size=200 << 20, files=100_000)


@dataclass(frozen=True, slots=True)
class Devkit:
    """What the development kit says.

    Attributes:
        words: WordNet id to its synonyms, in the order of ILSVRC2012_ID, which is not that of the labels.
        truth: WordNet id of each validation image, in the order of their file names.
    """

    words: Mapping[str, str]
    truth: tuple[str, ...]


def read_devkit(archive_or_folder: Path) -> Devkit:
    """Read the development kit, packed or extracted.

    Raises:
        DataError: It is damaged.
    """
    if archive_or_folder.is_dir():
        files = {file: content for file in (META, TRUTH) if (content := _content(archive_or_folder / file)) is not None}
    else:
        found = read_members(archive_or_folder, lambda name: name.endswith((META, TRUTH)), DEVKIT_LIMITS)
        files = {META if name.endswith(META) else TRUTH: content for name, content in found}
    if set(files) != {META, TRUTH}:
        msg = f"'{archive_or_folder}' lacks {META} or {TRUTH}: get the development kit again"
        raise DataError(msg)
    ids, words = _meta(files[META], archive_or_folder)
    try:
        truth = tuple(ids[int(line)] for line in files[TRUTH].decode("ascii").split())
    except (ValueError, KeyError) as error:
        msg = f"'{archive_or_folder}': {TRUTH} has a line that is no ILSVRC2012_ID of meta.mat ({error})"
        raise DataError(msg) from error
    return Devkit(words, truth)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        msg = f"cannot read '{path}': {error.strerror}"
        raise DataError(msg) from error


def _meta(content: bytes, where: Path) -> tuple[dict[int, str], dict[str, str]]:
    # Imported here: only the development kit is in MATLAB's form, and scipy takes a while.
    from scipy.io import loadmat

    try:
        rows = loadmat(io.BytesIO(content), squeeze_me=True)["synsets"]
        leaves = [row for row in rows if int(row["num_children"]) == 0]  # the others are groups of classes
        ids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in leaves}
        words = {str(row["WNID"]): str(row["words"]) for row in leaves}
    except Exception as error:  # loadmat raises whatever a damaged byte leads to
        msg = f"'{where}': cannot read meta.mat ({type(error).__name__}): get the development kit again"
        raise DataError(msg) from error
    return ids, words


def read_words(path: Path) -> dict[str, str]:
    """``synset_words.txt`` or ``LOC_synset_mapping.txt``: WordNet id to its synonyms.

    Raises:
        DataError: A line does not begin with a WordNet id.
    """
    words = {}
    for number, line in enumerate(read_lines(path), 1):
        wnid, _, rest = line.partition(" ")
        if not WNID.fullmatch(wnid):
            msg = f"'{path}', line {number}: expected a WordNet id and names, got '{line}'"
            raise DataError(msg)
        words[wnid] = rest.strip() or wnid
    return words


def name_classes(wnids: list[str], words: Mapping[str, str], out: Path) -> tuple[str, ...]:
    """Names of sorted WordNet ids, also written to ``synset_words.txt``; an id without a name is its own."""
    path = out / NAME_FILES[0]
    text = "".join(f"{wnid} {words.get(wnid, wnid)}\n" for wnid in wnids).encode()
    if not path.is_file() or path.read_bytes() != text:
        write_atomic(path, lambda temporary: temporary.write_bytes(text))
    return tuple(read_class_names(path))
