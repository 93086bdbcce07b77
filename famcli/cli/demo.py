"""``fam demo``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from famcli.cli.console import console
from famcli.cli.options import DeviceOption, ModelOption, OutFolder, QuietOption
from famcli_models.checkpoint import DEFAULT_MODEL

if TYPE_CHECKING:
    from famcli.outputs.prediction import Record


def demo(
    out: OutFolder = Path("fam-demo"),
    model: ModelOption = DEFAULT_MODEL,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Run the packaged model on six free photographs, offline.

    Writes boxes.json (COCO), an overlay of each photograph, and demo.jpg with all of them together.
    """
    from famcli.data.listing import OVERLAY_SUFFIX
    from famcli.demo import PHOTOS, contact_sheet, photo_folder
    from famcli.inference.job import predict_files
    from famcli_models.errors import DataError

    folder = photo_folder()
    for photo in PHOTOS:
        console.say(f"{photo.file}: {photo.shows} ({photo.terms})")
    boxes, overlays, names = out / "boxes.json", out / "overlays", [photo.file for photo in PHOTOS]
    summary = predict_files(
        [folder / name for name in names],
        boxes,
        model=model,
        device=device,
        image_files={"overlays": overlays},
        on_records=_say_boxes,
    )
    if summary.failures:
        raise DataError(f"{summary.failures[0].name}: {summary.failures[0].reason}")
    sheet = contact_sheet([overlays / (name + OVERLAY_SUFFIX) for name in names], out / "demo.jpg")
    console.say(f"{summary.images} photographs, {summary.boxes} boxes: {boxes}, {overlays}/, and all together:")
    console.result(str(sheet))


def _say_boxes(records: Iterator[Record]) -> None:
    for record in records:
        for box in record.get("boxes", ()):
            x0, y0, x1, y1 = (round(v) for v in box["xyxy"])
            label = record["classes"][0]["name"]
            console.say(f"{record['file_name']}: {label}, score {box['scores'][0]:.2f}, box x {x0}-{x1}, y {y0}-{y1}")
