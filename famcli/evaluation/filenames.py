"""File names of one program tied to those of another that started from a folder above or below."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from famcli_models.errors import DataError


def match_names(source: Path, files: Sequence[str], names: Collection[str]) -> dict[str, str]:
    """The name that each file has here, for the files that have one.

    ``fam predict`` names images relative to the folder that it was given, which may lie above or below the dataset's:
    then one folder is in front of all its names, or of all the dataset's. The folder that explains most files counts.

    Args:
        source: The file that the names are from, for the message.
        files: Relative POSIX paths, each once.
        names: The names here, likewise.

    Raises:
        DataError: Several folders explain equally many.
    """
    known = set(names)
    tails: dict[str, list[str]] = {}  # folders in front of a tail of a name here
    for name in known:
        for i in _slashes(name):
            tails.setdefault(name[i + 1 :], []).append(name[: i + 1])
    votes: Counter[tuple[str, str]] = Counter()  # folder to take away, folder to put in front
    for file in files:
        votes["", ""] += file in known
        votes.update((file[: i + 1], "") for i in _slashes(file) if file[i + 1 :] in known)
        votes.update(("", front) for front in tails.get(file, ()))
    most = max(votes.values(), default=0)
    best = sorted(shift for shift, count in votes.items() if count == most)
    if not most:
        return {}
    away, front = best[0]  # names as they are come first
    if len(best) > 1 and (away or front):
        example = next(file for file in files if file.startswith(away) and front + file[len(away) :] in known)
        folders = " and ".join(f"'{(front or away).rstrip('/')}'" for away, front in best[:2])
        msg = (
            f"'{source}': the folder that '{example}' and the other names start from cannot be told ({folders} explain "
            "equally many): write the file names as the dataset does"
        )
        raise DataError(msg)
    shifted = {file: front + file[len(away) :] for file in files if file.startswith(away)}
    return {file: name for file, name in shifted.items() if name in known}


def _slashes(name: str) -> list[int]:
    return [i for i, letter in enumerate(name) if letter == "/"]
