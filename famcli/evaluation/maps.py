"""Score maps that other tools have written: a folder with a ``.npy`` for each image.

wsolevaluation writes ``<image id>.npy`` with the picture's own extension before it (``a/1.jpg.npy``), while its
manual asks for ``a/1.npy``; both are taken. Nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from tokenize import TokenError
from typing import Literal, overload

import numpy as np

from famcli_models.boxes import FloatArray
from famcli_models.errors import DataError

MOST_PIXELS = 2**26  # a larger array is no map of a picture
NUMBERS = "fiub"  # kinds of dtypes: floats, integers, booleans
SHOWN = 3


@overload
def find_maps(folder: Path, names: Sequence[str], allow_missing: Literal[False] = False) -> list[Path]: ...


@overload
def find_maps(folder: Path, names: Sequence[str], allow_missing: bool) -> list[Path | None]: ...


def find_maps(folder: Path, names: Sequence[str], allow_missing: bool = False) -> list[Path] | list[Path | None]:
    """The file of each image's map; the maps are not opened.

    Args:
        folder: Where the maps are.
        names: Image ids, relative POSIX paths.
        allow_missing: Give ``None`` for images without a map, as long as there is any.

    Raises:
        DataError: It is no folder, an image has no map, or two images would share one.
    """
    if not folder.is_dir():
        msg = f"'{folder}' is not a folder of score maps; give one with a file <image id>.npy for each image"
        raise DataError(msg)
    found: list[Path | None] = []
    missing: list[str] = []
    owners: dict[Path, str] = {}
    for name in names:
        full, short = folder / f"{name}.npy", folder / PurePosixPath(name).with_suffix(".npy")
        path = next((p for p in (full, short) if p.is_file()), None)
        if path is None:
            missing.append(name)
            found.append(None)
            continue
        other = owners.setdefault(path, name)
        if other != name:
            msg = f"'{path}' may be the map of '{other}' or of '{name}': name the maps {full.name} and so on"
            raise DataError(msg)
        found.append(path)
    if missing and not (allow_missing and len(missing) < len(names)):
        shown = ", ".join(f"'{name}'" for name in missing[:SHOWN]) + (" ..." if len(missing) > SHOWN else "")
        example = PurePosixPath(missing[0])
        msg = (
            f"'{folder}' has no map for {len(missing):,} of {len(names):,} images: {shown}; "
            f"expected '{example}.npy' or '{example.with_suffix('.npy')}'"
        )
        raise DataError(msg)
    return found


def read_map(path: Path) -> FloatArray:
    """One map, as it was written.

    Returns:
        ``(h, w)`` float64.

    Raises:
        DataError: It cannot be read, is not two-dimensional or not of numbers, or not all of them are finite.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: the shape is checked before it is read
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, OverflowError, TokenError) as error:
        msg = f"{path}: not a .npy array that can be read ({error})"
        raise DataError(msg) from error
    if not isinstance(array, np.ndarray):
        msg = f"{path}: a .npz archive; save each map with numpy.save"
        raise DataError(msg)
    if array.ndim != 2 or not 0 < array.size <= MOST_PIXELS:
        msg = f"{path}: the array has shape {array.shape}; a score map has two dimensions, height and width"
        raise DataError(msg)
    if array.dtype.kind not in NUMBERS:
        msg = f"{path}: the array holds {array.dtype}; a score map holds floats or integers"
        raise DataError(msg)
    scores = np.array(array, dtype=np.float64)
    if not np.isfinite(scores).all():
        what = "NaN" if np.isnan(scores).any() else "infinite values"
        msg = f"{path}: the map holds {what}; make it again, or replace it by zeros to count the image as wrong"
        raise DataError(msg)
    return scores
