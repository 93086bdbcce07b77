"""Numbers of the paper's Table 1, to be read beside a measurement and never in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class PaperRow(NamedTuple):
    """One row of Table 1 on one data set, in percent; ``None`` where the paper has no number."""

    method: str
    top1_loc: float
    top1_cls: float
    gt_known: float | None

    @property
    def title(self) -> str:
        """What tables call it; nobody can take it for a measurement."""
        return f"{self.method} (paper, Table 1; not measured here)"


# Images of the split that the paper tests on; a result on fewer, such as cub-mini, is not on the paper's data.
IMAGES: Mapping[str, int] = {"cub": 5794, "ilsvrc": 50_000}

# By data set and backbone, FAM's first. The rows of CAM, for two of the backbones, are from other papers.
TABLE1: Mapping[tuple[str, str], tuple[PaperRow, ...]] = {
    ("cub", "vgg16"): (PaperRow("FAM", 69.26, 77.26, 89.26), PaperRow("CAM", 34.41, 67.55, None)),
    ("cub", "resnet50"): (PaperRow("FAM", 73.74, 82.72, 85.73),),
    ("cub", "mobilenetv1"): (PaperRow("FAM", 65.67, 76.38, 85.71), PaperRow("CAM", 43.70, 71.94, None)),
    ("cub", "inceptionv3"): (PaperRow("FAM", 70.67, 81.25, 87.25),),
    ("ilsvrc", "vgg16"): (PaperRow("FAM", 51.96, 70.90, 71.73), PaperRow("CAM", 42.80, 66.60, 59.00)),
    ("ilsvrc", "resnet50"): (PaperRow("FAM", 54.46, 76.48, 64.56),),
    ("ilsvrc", "mobilenetv1"): (PaperRow("FAM", 46.24, 70.28, 62.05), PaperRow("CAM", 41.66, 68.38, None)),
    ("ilsvrc", "inceptionv3"): (PaperRow("FAM", 55.24, 77.63, 68.62),),
}
