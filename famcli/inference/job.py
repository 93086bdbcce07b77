"""One whole prediction run: images in, one results file and side files out, resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from famcli.data.images import read_picture
from famcli.data.listing import MASK_SUFFIX, OVERLAY_SUFFIX, PARTS_SUFFIX, Listing
from famcli.hub import find_model
from famcli.inference.journal import Spool
from famcli.inference.labels import read_labels
from famcli.inference.predictor import Predictor, Settings
from famcli.names import Format
from famcli.outputs import tables
from famcli.outputs.coco import CocoIds, dataset_json, results_json
from famcli.outputs.overlays import draw, draw_parts
from famcli.outputs.prediction import Failure, Item, Prediction, to_record
from famcli_models.checkpoint import WEIGHTS_FILE
from famcli_models.errors import ConfigError, DataError
from famcli_models.files import sha256_file, write_atomic

OVERLAY_SIDE, TILE_SIDE = 1600, 480  # overlays, and photographs beside their parts, are shrunk to this, in pixels
PARTIAL = ".partial"


@dataclass(frozen=True, slots=True)
class SideFiles:
    """Folders for one extra file an image, named after the image with a suffix added; ``None`` writes none.

    Attributes:
        overlays: ``<name>.overlay.jpg``: heat map, boxes and label on the photograph; with parts also
            ``<name>.parts.overlay.jpg``: the photograph and each of its parts beside it.
        maps: ``<name>.npy``: the map ``(H, W)`` float32 at feature resolution; with parts also ``<name>.parts.npy``:
            their maps ``(K, h, w)`` float32.
        masks: ``<name>.mask.png``: 255 on the pixels of the regions, in the original image's size.
    """

    overlays: Path | None = None
    maps: Path | None = None
    masks: Path | None = None

    def folders(self) -> list[Path]:
        """The folders that will be written to."""
        return [f for f in (self.overlays, self.maps, self.masks) if f is not None]

    def make_folders(self) -> None:
        """Make the folders, so that one that cannot be written to is noticed before any work is done.

        Raises:
            DataError: A folder cannot be made.
        """
        for folder in self.folders():
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                msg = f"cannot make the folder '{folder}': {error.strerror or error}"
                raise DataError(msg) from error

    def write(self, item: Item, prediction: Prediction) -> None:
        """Write the files of one image; each appears whole or not at all.

        Raises:
            OSError: A file cannot be written.
            DataError: The photograph cannot be read again.
        """
        name, parts = item.name.lstrip("/"), prediction.parts
        if self.maps is not None:
            write_atomic(self.maps / f"{name}.npy", lambda path: _save_npy(path, prediction.M))
            if parts is not None:
                write_atomic(self.maps / f"{name}.parts.npy", lambda path: _save_npy(path, parts.A))
        if self.masks is not None and prediction.mask is not None:
            mask = prediction.mask.astype(np.uint8) * 255
            write_atomic(self.masks / (name + MASK_SUFFIX), lambda path: _encode(path, ".png", mask))
        if self.overlays is not None:
            photo = read_picture(item.source, at_least=OVERLAY_SIDE).image
            photo.thumbnail((OVERLAY_SIDE, OVERLAY_SIDE))
            picture = draw(np.asarray(photo), prediction)
            target = self.overlays / (name + OVERLAY_SUFFIX)
            write_atomic(target, lambda path: _encode(path, ".jpg", picture[..., ::-1]))
            if parts is not None:
                photo.thumbnail((TILE_SIDE, TILE_SIDE))
                tiles = draw_parts(np.asarray(photo), prediction)
                write_atomic(
                    self.overlays / (name + PARTS_SUFFIX), lambda path: _encode(path, ".jpg", tiles[..., ::-1])
                )


def _save_npy(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _encode(path: Path, suffix: str, image: np.ndarray) -> None:
    good, data = cv2.imencode(suffix, image)
    if not good:
        msg = f"cannot encode {path.name}"
        raise OSError(msg)
    path.write_bytes(data.tobytes())


@dataclass(slots=True)
class Summary:
    """What a run did.

    Attributes:
        images: Images predicted, without the failures.
        boxes: Boxes found.
        empty: Images in which no pixel passed the threshold.
        failures: Images that could not be read or written for, with the reason.
    """

    images: int = 0
    boxes: int = 0
    empty: int = 0
    failures: list[Failure] = field(default_factory=list)

    def count(self, record: Mapping[str, Any]) -> None:
        """Add one record."""
        if "error" in record:
            self.failures.append(Failure(record["file_name"], record["error"]))
            return
        self.images += 1
        self.boxes += len(record["boxes"])
        self.empty += not record["boxes"]


@dataclass(frozen=True, slots=True)
class Job:
    """A prediction run.

    Attributes:
        predictor: The model and its settings.
        listing: The images.
        spool: Where finished images are kept until the run is whole.
        ids: Numbers of images and categories.
        info: COCO's ``info``.
        side: Extra files.
        labels: Class index by image name (GT-known mode).
    """

    predictor: Predictor
    listing: Listing
    spool: Spool
    ids: CocoIds
    info: Mapping[str, Any]
    side: SideFiles = SideFiles()
    labels: Mapping[str, int] | None = None

    def run(self, on_image: Callable[[], None] = lambda: None) -> Summary:
        """Predict every image that is not in the spool yet.

        An interruption leaves the spool as it is, with every image that was finished.

        Args:
            on_image: Called after each image.
        """
        summary = Summary()
        for record in self.spool.records() if self.spool.done else ():
            summary.count(record)
        todo = self.listing.names[self.spool.done :]
        then = self.side.write if self.side.folders() else None
        with self.spool as spool:
            # Images without a number or a label are failures of their own: the others go on, in order.
            results = self.predictor.stream((self._item(n) for n in todo if not self._refusal(n)), then)
            for name in todo:
                reason = self._refusal(name)
                record = to_record(Failure(name, reason) if reason else next(results))
                spool.append(record)
                summary.count(record)
                on_image()
        return summary

    def _refusal(self, name: str) -> str | None:
        if name not in self.ids.images:
            return "not among the images of the --coco-images file"
        if self.labels is not None and name not in self.labels:
            return "no label was given for it"
        return None

    def _item(self, name: str) -> Item:
        return Item(name, self.listing.path(name), self.labels[name] if self.labels is not None else None)

    @property
    def num_parts(self) -> int:
        """Number of parts in each record; 0 if they were not asked for."""
        return self.predictor.engine.num_parts if self.predictor.settings.parts else 0

    def output(self, kind: Format) -> Iterator[str]:
        """The results file, piece by piece."""
        if kind is Format.coco:
            return dataset_json(self.spool.records, self.ids, self.info)
        if kind is Format.coco_results:
            return results_json(self.spool.records, self.ids)
        if kind is Format.csv:
            return tables.csv_lines(self.spool.records(), self.num_parts)
        return tables.json_lines(self.spool.records())

    def write(self, path: Path, kind: Format = Format.coco) -> None:
        """Write the results file whole and drop the spool.

        Raises:
            DataError: The file cannot be written; the spool is kept.
        """

        def fill(temporary: Path) -> None:
            with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
                file.writelines(self.output(kind))

        try:
            write_atomic(path, fill)
        except OSError as error:
            msg = f"cannot write '{path}': {error.strerror or error}"
            raise DataError(msg) from error
        self.spool.remove()


def refuse_output(out: Path, listing: Listing) -> None:
    """Notice a results file that cannot be, before any work is done.

    Raises:
        ConfigError: It is a folder, or one of the images.
    """
    if out.is_dir():
        msg = f"--out '{out}' is a folder; name a file, for example {out / 'boxes.json'}"
        raise ConfigError(msg)
    if out.exists() and any(out.samefile(path) for path in map(listing.path, listing.names) if path.exists()):
        msg = f"--out '{out}' is one of the images; name another file"
        raise ConfigError(msg)


def prepare(
    listing: Listing,
    spool: Path,
    model: str,
    device: str = "auto",
    settings: Settings | None = None,
    side: SideFiles | None = None,
    labels: str | None = None,
    coco_images: Path | None = None,
    method: str | None = None,
    folder: Path | None = None,
) -> Job:
    """Load a model and tie a run together.

    Args:
        listing: The images.
        spool: File for finished images.
        model: See :func:`famcli.hub.find_model`.
        device: See :func:`famcli.inference.torch_engine.pick_device`.
        settings: How maps become boxes.
        side: Extra files.
        labels: See :func:`famcli.inference.labels.read_labels`.
        coco_images: A COCO file to take ids from.
        method: See :func:`famcli_models.load_model`.
        folder: Where the model is, if it was found before.
    """
    settings, side = settings or Settings(), side or SideFiles()
    side.make_folders()
    folder = folder or find_model(model)
    predictor = Predictor(folder, device, settings, method=method)
    names, used = predictor.class_names, predictor.config.method
    digest = sha256_file(folder / WEIGHTS_FILE)
    info = {
        "description": f"Boxes by {predictor.engine.map_title} (weakly supervised object localization)",
        "version": f"fam {version('famcli')}",
        "model": model,
        "model_sha256": digest,
        "method": used,
        "threshold": predictor.tau,
    }
    same = {name: value for name, value in asdict(settings).items() if name not in ("batch_size", "workers")}
    header = {
        **same,
        "model_sha256": digest,
        "method": used,
        "root": str(listing.root),
        "labels": sha256_file(Path(labels)) if labels and Path(labels).is_file() else labels,
        "coco_images": sha256_file(coco_images) if coco_images and coco_images.is_file() else None,
        "side": [str(folder) for folder in side.folders()],
    }
    ids = CocoIds.from_file(coco_images, names) if coco_images else CocoIds.numbered(listing.names, names)
    known = read_labels(labels, listing.names, names, listing.root) if labels else None
    return Job(predictor, listing, Spool(spool, header), ids, info, side, known)
