"""``fam demo``."""

from __future__ import annotations

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
    """Run a packaged model on six free photographs, offline.

    Writes boxes.json (COCO), an overlay of each photograph, and demo.jpg with all of them together.
    """
    from famcli.data.search import OVERLAY_SUFFIX
    from famcli.demo import PHOTOS, contact_sheet, photo_folder
    from famcli.inference.job import predict_files
    from famcli.outputs.prediction import OBJECT, UNSURE
    from famcli_models.errors import DataError

    folder = photo_folder()
    boxes, overlays, names = out / "boxes.json", out / "overlays", [photo.file for photo in PHOTOS]
    summary = predict_files(
        [folder / name for name in names],
        boxes,
        model=model,
        device=device,
        image_files={"overlays": overlays},
        on_record=_say_lines,
    )
    for failure in [*summary.failures, *summary.warnings]:
        raise DataError(f"{failure.name}: {failure.reason}")
    sheet = contact_sheet([overlays / (name + OVERLAY_SUFFIX) for name in names], out / "demo.jpg")
    console.say(f"the number is the score of the box; '{OBJECT}' is what no class has a probability of {UNSURE:g} for")
    console.say(f"photographs: {'; '.join(f'{photo.shows} ({photo.terms})' for photo in PHOTOS)}; from scikit-image")
    console.say(f"boxes: {boxes}; a picture of each: {overlays}/; all in one:")
    console.result(str(sheet))
    console.say("now yours: fam predict your-photos/ --overlays out/")


def _say_lines(record: Record) -> None:
    from famcli.outputs.prediction import readable_lines

    for line in readable_lines(record):
        console.say(line)
