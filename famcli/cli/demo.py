"""``fam demo``."""

from __future__ import annotations

from pathlib import Path

from famcli.cli.console import console
from famcli.cli.options import DeviceOption, ModelOption, OutFolder, QuietOption
from famcli_models.checkpoint import DEFAULT_MODEL


def demo(
    out: OutFolder = Path("fam-demo"),
    model: ModelOption = DEFAULT_MODEL,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Run the packaged model on four free photographs, offline.

    Writes boxes.json (COCO), an overlay of each photograph, and demo.jpg with all of them together.
    """
    from famcli.data.listing import OVERLAY_SUFFIX, list_images
    from famcli.demo import PHOTOS, contact_sheet, photo_folder
    from famcli.inference.job import PARTIAL, SideFiles, prepare
    from famcli_models.errors import DataError

    folder = photo_folder()
    for photo in PHOTOS:
        console.say(f"{photo.file}: {photo.shows} ({photo.terms})")
    listing = list_images([str(folder / photo.file) for photo in PHOTOS])
    boxes, overlays = out / "boxes.json", out / "overlays"
    job = prepare(listing, out / f"boxes.json{PARTIAL}", model, device, side=SideFiles(overlays))
    summary = job.run()
    if summary.failures:
        msg = f"{summary.failures[0].name}: {summary.failures[0].reason}"
        raise DataError(msg)
    for record in job.spool.records():
        for box in record.get("boxes", ()):
            x0, y0, x1, y1 = (round(v) for v in box["xyxy"])
            label = record["classes"][0]["name"]
            console.say(f"{record['file_name']}: {label}, score {box['scores'][0]:.2f}, box x {x0}-{x1}, y {y0}-{y1}")
    job.write(boxes)
    sheet = contact_sheet([overlays / (name + OVERLAY_SUFFIX) for name in listing.names], out / "demo.jpg")
    console.say(f"{summary.images} photographs, {summary.boxes} boxes: {boxes}, {overlays}/, and all together:")
    console.result(str(sheet))
