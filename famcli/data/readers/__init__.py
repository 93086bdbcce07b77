"""A user's own data in the forms it usually has, one file a form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from famcli.data.readers import coco, folder, table, voc, wsol
from famcli.data.readers.own import OwnData
from famcli.data.sample import split_name
from famcli_models.errors import DataError, UnknownNameError

__all__ = ["FORMATS", "Form", "OwnData", "read_own"]

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Form:
    """One way in which data may lie on disk.

    Attributes:
        what: In a few words.
        detect: Whether a file or folder looks like it.
        read: Reads it; takes the source, the folder of the images if given, and the split of images of which
            nothing else tells it.
    """

    what: str
    detect: Callable[[Path], bool]
    read: Callable[[Path, Path | None, str | None], OwnData]


# In the order in which they are looked for: the plainest last, because any folder could be one.
FORMATS: Mapping[str, Form] = {
    "wsol": Form("wsolevaluation metadata", wsol.detect, wsol.read),
    "coco": Form("COCO JSON", coco.detect, coco.read),
    "voc": Form("Pascal VOC XML", voc.detect, voc.read),
    "csv": Form("CSV with a header", table.detect, table.read),
    "folder": Form("a folder of images for each class", folder.detect, folder.read),
}


def read_own(
    source: Path,
    format: str = AUTO,  # noqa: A002  (the word that users type)
    *,
    images: Path | None = None,
    split: str | None = None,
) -> OwnData:
    """Read own data: labels from 0 in the order of class names (COCO: of category ids), boxes half-open.

    Args:
        source: File or folder.
        format: A name of :data:`FORMATS`, or ``auto`` to look.
        images: The folder that image names are relative to, if it cannot be told.
        split: Split of images of which nothing tells it; if not given, ``test`` if any has a box, else
            ``train-weaksup``.

    Raises:
        UnknownNameError: There is no such format.
        DataError: The data cannot be read, or is in none of the forms.
    """
    if format != AUTO and format not in FORMATS:
        raise UnknownNameError("format", format, [AUTO, *FORMATS])
    if not source.exists():
        msg = f"'{source}' does not exist"
        raise DataError(msg)
    if images is not None and not images.is_dir():
        msg = f"--images '{images}' is no folder"
        raise DataError(msg)
    chosen = format if format != AUTO else next((name for name, form in FORMATS.items() if form.detect(source)), None)
    if chosen is None:
        known = "; ".join(form.what for form in FORMATS.values())
        msg = f"'{source}' is in no form that fam knows ({known})"
        raise DataError(msg)
    return FORMATS[chosen].read(source, images, split_name(split) if split else None)
