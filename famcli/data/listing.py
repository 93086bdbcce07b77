"""What the user typed, as a sorted list of image files with names relative to one root."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from famcli.data.images import EXTENSIONS
from famcli_models.errors import DataError

STDIN = "-"
OVERLAY_SUFFIX, MASK_SUFFIX = ".overlay.jpg", ".mask.png"  # what a run writes for each image


@dataclass(frozen=True, slots=True)
class Listing:
    """Image files in a fixed order.

    Attributes:
        root: The folder that the names are relative to: the folder given, or the deepest folder that
            holds all inputs.
        names: Sorted relative POSIX paths, each once.
    """

    root: Path
    names: tuple[str, ...]

    def path(self, name: str) -> Path:
        """The file behind a name."""
        return self.root / name


def list_images(inputs: Sequence[str], stdin: Iterable[str] = (), exclude: Sequence[Path] = ()) -> Listing:
    """Expand files, folders, glob patterns and ``-`` (one path a line on stdin).

    Folders are searched recursively for the extensions of the supported formats; hidden files and folders and
    the overlays and masks of earlier runs are left out. A file named by itself is taken whatever its extension,
    even if it does not exist: reading it will say so.

    Args:
        inputs: What was typed.
        stdin: Lines to use for ``-``.
        exclude: Folders never searched, such as those the results go to.

    Raises:
        DataError: No image was found.
    """
    lines = [line for line in (raw.rstrip("\r\n") for raw in stdin) if line] if STDIN in inputs else []
    files: list[str] = []
    roots: list[str] = []
    skipped = {os.path.abspath(folder) for folder in exclude}
    for item in [i for i in inputs if i not in ("", STDIN)] + lines:
        path = os.path.abspath(item)
        if os.path.isdir(path):
            found = list(_walk(path, skipped))
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
        msg = f"no images in {given}; folders are searched for {', '.join(sorted(EXTENSIONS))}"
        raise DataError(msg)
    try:
        root = Path(os.path.commonpath(roots))
    except ValueError:  # Windows: two drives
        root = Path(Path(files[0]).anchor)
    names = sorted({Path(os.path.relpath(f, root)).as_posix() if root in Path(f).parents else f for f in files})
    return Listing(root, tuple(names))


def _walk(top: str, skipped: set[str]) -> Iterable[str]:
    for folder, subfolders, names in os.walk(top, followlinks=False):
        subfolders[:] = [s for s in subfolders if not s.startswith(".") and os.path.join(folder, s) not in skipped]
        for name in names:
            ours = name.endswith((OVERLAY_SUFFIX, MASK_SUFFIX))
            if os.path.splitext(name)[1].lower() in EXTENSIONS and not ours and not name.startswith("."):
                yield os.path.join(folder, name)
