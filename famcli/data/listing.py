"""Files, folders and patterns that a user typed, as a sorted list of image files with names relative to one folder."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from famcli.data.images import EXTENSIONS, is_image
from famcli_models.errors import DataError

STDIN = "-"
# What a run writes an image:
OVERLAY_SUFFIX, PARTS_SUFFIX, MASK_SUFFIX = ".overlay.jpg", ".parts.overlay.jpg", ".mask.png"


class Listing(NamedTuple):
    """Image files in a fixed order."""

    root: Path  # the folder that the names are relative to: the one given, or the deepest that holds all inputs
    names: tuple[str, ...]  # sorted relative POSIX paths, each once

    def path(self, name: str) -> Path:
        """The file behind a name."""
        return self.root / name


def list_images(
    inputs: Sequence[str], stdin: Iterable[str] = (), exclude: Sequence[Path] = (), *, follow_links: bool = False
) -> Listing:
    """Expand files, folders, glob patterns and ``-`` (one path a line on stdin).

    Folders are searched recursively for the extensions of the supported formats; hidden files and folders, the
    pictures and masks of earlier runs, and the folders in ``exclude`` are left out. Folders that are symbolic links are
    searched if ``follow_links``, but none that holds the link itself. A file named by itself is taken whatever its
    extension, even if it does not exist: reading it will say so.
    """
    lines = [line for line in (raw.rstrip("\r\n") for raw in stdin) if line] if STDIN in inputs else []
    files: list[str] = []
    roots: list[str] = []
    skipped = {os.path.abspath(folder) for folder in exclude}
    for item in [i for i in inputs if i not in ("", STDIN)] + lines:
        path = os.path.abspath(item)
        if os.path.isdir(path):
            found = list(_walk(path, skipped, follow_links))
            roots.append(path)
        elif not os.path.lexists(path) and glob.has_magic(item):
            matches = [os.path.abspath(p) for p in glob.glob(item, recursive=True) if not os.path.isdir(p)]
            found = [m for m in matches if not any(m.startswith(folder + os.sep) for folder in skipped)]
            roots += [os.path.dirname(p) for p in found]
        else:
            found = [path]
            roots.append(os.path.dirname(path))
        files += found
    if not files:
        given = ", ".join(f"'{i}'" for i in inputs)
        raise DataError(f"no images in {given}; folders are searched for {', '.join(sorted(EXTENSIONS))}")
    try:
        root = Path(os.path.commonpath(roots))
    except ValueError:  # Windows: two drives
        root = Path(Path(files[0]).anchor)
    names = sorted({Path(os.path.relpath(f, root)).as_posix() if root in Path(f).parents else f for f in files})
    return Listing(root, tuple(names))


def _walk(top: str, skipped: set[str], follow_links: bool) -> Iterable[str]:
    # Of each folder still to come: what is above it, without links.
    chains: dict[str, tuple[str, ...]] = {top: (os.path.realpath(top),)}
    for folder, subfolders, names in os.walk(top, followlinks=follow_links):
        subfolders[:] = [s for s in subfolders if not s.startswith(".") and os.path.join(folder, s) not in skipped]
        if follow_links:
            subfolders[:] = _without_loops(folder, subfolders, chains)
        for name in names:
            if is_image(name) and not name.endswith((OVERLAY_SUFFIX, MASK_SUFFIX)):
                yield os.path.join(folder, name)


def _without_loops(folder: str, subfolders: list[str], chains: dict[str, tuple[str, ...]]) -> list[str]:
    """Subfolders that are none of the folders above them; their own chains are noted."""
    above = chains.pop(folder)
    kept = []
    for name in subfolders:
        path = os.path.join(folder, name)
        real = os.path.realpath(path) if os.path.islink(path) else os.path.join(above[-1], name)
        if real not in above:
            chains[path] = (*above, real)
            kept.append(name)
    return kept
