"""Boxes of ILSVRC's validation images from the official XML files, packed or extracted."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from famcli.data.public.extract import Limits, read_members
from famcli.data.sample import bounded
from famcli_models.boxes import FloatArray
from famcli_models.errors import DataError

BOX_ARCHIVE = "ILSVRC2012_bbox_val_v3.tgz"
LIMITS = Limits(size=1 << 30, files=200_000)
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True)
class ValBoxes:
    """Boxes by the stem of the image's file name.

    Attributes:
        by_stem: ``(N, 4)`` half-open xyxy, all objects in the order of the file.
        classes: WordNet ids of the same objects; empty where the boxes came without them.
        watched: Files or folders that they were read from.
    """

    by_stem: Mapping[str, FloatArray]
    classes: Mapping[str, tuple[str, ...]]
    watched: tuple[Path, ...]


def read_xml_archive(archive: Path, step: Callable[[], object]) -> ValBoxes:
    """Read the archive without extracting it: fifty thousand little files help nobody.

    Raises:
        DataError: The archive or a file in it is damaged.
    """
    members = read_members(archive, lambda name: name.endswith(".xml") and not _hidden(name), LIMITS)
    return _collect(((Path(name).stem, content, f"{archive}:{name}") for name, content in members), (archive,), step)


def read_xml_folder(folder: Path, step: Callable[[], object]) -> ValBoxes:
    """Read extracted XML files.

    Raises:
        DataError: A file is damaged.
    """
    files = sorted(path for path in folder.glob("*.xml") if not _hidden(path.name))
    return _collect(((path.stem, path.read_bytes(), str(path)) for path in files), (folder,), step)


def _hidden(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")


def _collect(
    files: Iterable[tuple[str, bytes, str]], watched: tuple[Path, ...], step: Callable[[], object]
) -> ValBoxes:
    by_stem: dict[str, FloatArray] = {}
    classes: dict[str, tuple[str, ...]] = {}
    for stem, content, where in files:
        by_stem[stem], classes[stem] = _read(content, where)
        step()
    return ValBoxes(by_stem, classes, watched)


def _read(content: bytes, where: str) -> tuple[FloatArray, tuple[str, ...]]:
    """Objects of one file.

    The corners are taken as inclusive and from 0, as wsolevaluation takes them; PSOL subtracts one.
    """
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        msg = f"'{where}' defines entities, which no annotation of ILSVRC does: it is refused"
        raise DataError(msg)
    try:
        objects = ET.fromstring(content).findall("object")  # noqa: S314  (no entities, see above)
        rows = [[int(bounded(o.findtext(f"bndbox/{corner}", ""))) for corner in CORNERS] for o in objects]
    except (ET.ParseError, ValueError) as error:
        msg = f"'{where}' is no annotation of ILSVRC: {error}"
        raise DataError(msg) from error
    if not rows:
        msg = f"'{where}' has no object"
        raise DataError(msg)
    boxes = np.array(rows, dtype=np.float64)
    boxes[:, 2:] += 1
    return boxes, tuple(o.findtext("name", "") for o in objects)
