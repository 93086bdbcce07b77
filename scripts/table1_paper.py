"""The paper's Table 1 in Markdown, with letters for the doubts that docs/concepts/rivals.md explains."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch

from markdown_table import table

from famcli.results.paper import TABLE1, PaperRow

BACKBONES = {"vgg16": "VGG16", "resnet50": "ResNet50", "mobilenetv1": "MobileNetV1", "inceptionv3": "InceptionV3"}
DOUBTS: Mapping[str, str] = {  # by the first pattern that fits "METHOD BACKBONE DATA NUMBER"
    "ACoL vgg16 cub gt_known": "a",
    "EIL *": "b",
    "DANet inceptionv3 ilsvrc *": "c",
    "GC-Net inceptionv3 ilsvrc gt_known": "d",
    "I²C inceptionv3 cub top1_loc": "e",
    "CAM vgg16 cub top1_loc": "f",
    "CAM mobilenetv1 cub top1_loc": "g",
    "ADL resnet50 *": "h k",
    "ADL vgg16 cub *": "k",
    "RCAM resnet50 *": "i",
    "GC-Net vgg16 cub gt_known": "l",
    "PSOL *": "m",
}
NUMBERS = ("top1_loc", "top1_cls", "gt_known")


def paper_table() -> str:
    """All rows, those of a backbone together, FAM's last."""
    header = [
        "method",
        "backbone",
        *(f"{data} {of}" for data in ("CUB", "ILSVRC") for of in ("Loc", "Cls", "GT-known")),
    ]
    lines = []
    for backbone, title in BACKBONES.items():
        sets = {data: {row.method: row for row in TABLE1[data, backbone]} for data in ("cub", "ilsvrc")}
        methods = list(dict.fromkeys([*sets["cub"], *sets["ilsvrc"]]))
        for method in [*(name for name in methods if name != "FAM"), "FAM"]:
            cells = [_cell(rows.get(method), backbone, data, of) for data, rows in sets.items() for of in NUMBERS]
            lines.append([method, title, *cells])
    return table(header, lines)


def _cell(row: PaperRow | None, backbone: str, data: str, of: str) -> str:
    value = getattr(row, of, None)
    if row is None or value is None:
        return ""
    name = f"{row.method} {backbone} {data} {of}"
    doubt = next((letter for pattern, letter in DOUBTS.items() if fnmatch(name, pattern)), "")
    return f"{value:.2f} {f'**{doubt}**' if doubt else ''}".strip()
