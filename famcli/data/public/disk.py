"""Free disk, asked for before work that takes hours."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from famcli.data.public.catalog import human
from famcli_models.errors import DataError

MARGIN = 64 << 20  # metadata, file system blocks


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that will be written below a folder, and what for."""

    folder: Path
    size: int
    what: str


def free_bytes(folder: Path) -> int:
    """Free bytes where a folder is or will be."""
    return shutil.disk_usage(_there(folder)).free


def check_room(needs: Iterable[Need]) -> None:
    """Make sure that everything fits, together where it goes to one disk.

    Raises:
        DataError: It does not; the message says how much is free and how much is needed for what.
    """
    disks: dict[int, list[Need]] = {}
    for need in needs:
        if need.size:
            disks.setdefault(_there(need.folder).stat().st_dev, []).append(need)
    for group in disks.values():
        total, free = sum(need.size for need in group) + MARGIN, free_bytes(group[0].folder)
        if total > free:
            parts = " and ".join(f"{human(need.size)} to {need.what}" for need in group)
            msg = (
                f"'{group[0].folder}' has {human(free)} free, but {human(total)} are needed ({parts}): free some, "
                "or choose another disk with --to and --out, or with the environment variable FAM_DATA"
            )
            raise DataError(msg)


def _there(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())
