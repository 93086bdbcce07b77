"""The protocols by which localization is scored: each with all its rules in words, and those of one box as numbers.

Two numbers can be laid side by side only if their protocols are the same, and the field has several that share one
name. The columns of :data:`PROTOCOLS` are the questions to ask of any published number. The rules of others were read
from their programs: wsolevaluation @96f4b88, and PSOL's and BAS's evaluation scripts. What is computed for protocols
over many thresholds is in :mod:`famcli.evaluation.metrics.box`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from famcli_models.boxes import FloatArray, as_boxes, clip_boxes, rescale_boxes
from famcli_models.errors import UnknownNameError
from famcli_models.preprocess import resize, resized_side


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way of turning maps and boxes into a number, in words."""

    title: str  # what it is called in tables
    source: str  # where it comes from
    metrics: str  # what it reports
    test_image: str  # how a picture becomes the network's input
    map_frame: str  # the frame in which boxes are compared, and how the map gets there
    normalisation: str  # what is done to the values of the map
    threshold: str  # how τ is chosen and applied
    component: str  # which part of the foreground is kept
    box: str  # from the kept part to corners
    iou: str  # convention of the intersection over union
    right: str  # when a box is right
    truth: str  # frame and rounding of the ground-truth boxes
    several_boxes: str  # what is done with images that have several
    crops: str  # views of a picture that the class scores are taken from


_ANY = "any of them may match"
_FAM = Protocol(
    title="FAM",
    source="the paper's section 4.1; what it leaves open is decided as in famcli_models.localization",
    metrics="GT-known, Top-1 and Top-5 Loc; Top-1 and Top-5 Cls; mean IoU",
    test_image="resized to the model's input, 224x224 unless its card says otherwise, aspect ignored, no crop",
    map_frame="the original image, EXIF orientation applied; the map is resized bilinearly",
    normalisation="the method's own; FAM: none, the sigmoid's values as they are; CAM: min-max over the map",
    threshold="greater than τ, FAM's 0.5 for all data sets",
    component="the largest 8-connected component by number of pixels, the first in reading order of equal ones",
    box="half-open box of the component's pixels; without a component there is no box",
    iou="half-open corners, nothing added",
    right="IoU >= 0.5",
    truth="original pixels, half-open, not rounded",
    several_boxes=_ANY,
    crops="one view, the test image; with --crops 10 the mean softmax of ten crops of 224x224 out of 256x256",
)
_MAX_BOX_ACC = Protocol(
    title="MaxBoxAcc",
    source="wsolevaluation, Choe et al., CVPR 2020",
    metrics="MaxBoxAcc: the share of images that are right, at the best τ",
    test_image="resized to 224x224, aspect ignored, no crop",
    map_frame="224x224; the map is resized with cv2's INTER_CUBIC",
    normalisation="min-max over the resized map; a map that is constant or has a NaN becomes zeros",
    threshold=(
        "the map times 255, cut to uint8, strictly greater than int(τ × its maximum), for τ in arange(0, 1, 0.001); "
        "one τ for all images, the best on the very images that are scored (oracle)"
    ),
    component=(
        "of all contours that cv2.findContours gives (RETR_TREE, CHAIN_APPROX_SIMPLE; holes have contours too) the "
        "one of the largest contourArea, the first of equal ones; a shape one pixel wide has area 0"
    ),
    box=(
        "cv2.boundingRect as x, y, min(x + w, 223), min(y + h, 223); without a contour the box is 0, 0, 0, 0, which is "
        "one pixel and not nothing"
    ),
    iou="on the 224 grid, corners taken as inclusive: one is added to each width and height",
    right="IoU >= 0.5",
    truth="inclusive corners of the metadata times 224 / size, cut to whole numbers with int()",
    several_boxes=_ANY,
    crops="no classes are asked for",
)
PROTOCOLS: Mapping[str, Protocol] = {
    "fam": _FAM,
    "wsoleval-v1": _MAX_BOX_ACC,
    "wsoleval-v2": replace(
        _MAX_BOX_ACC,
        title="MaxBoxAccV2",
        source="wsolevaluation, Choe et al., 2020 (the journal version)",
        metrics="MaxBoxAccV2: the mean over δ of the share of images that are right, each at its own best τ",
        threshold=_MAX_BOX_ACC.threshold + ", for each δ",
        component=(
            "all contours that cv2.findContours gives (RETR_TREE, CHAIN_APPROX_SIMPLE), those of holes included: the "
            "best of their boxes counts"
        ),
        right="IoU >= δ, for δ = 0.3, 0.5 and 0.7",
    ),
    "psol": replace(
        _FAM,
        title="PSOL",
        source="PSOL, Zhang et al., CVPR 2020; BAS and CCAM use the same",
        test_image="resized to 256x256, aspect ignored, centre crop 224x224 (in proportion for another input size)",
        map_frame="the 224x224 crop, so what lies outside of the crop does not count; the map is resized bilinearly",
        normalisation="the method's own; FAM: none; CAM, as BAS: min-max",
        threshold=(
            "greater than the method's own fixed τ, FAM's 0.5; PSOL regresses a box and has none, BAS has one for each "
            "backbone and data set: CUB 0.15 (InceptionV3 0.10), ILSVRC 0.5, 0.45 or 0.3"
        ),
        component="the largest 8-connected component by number of pixels",
        iou="half-open corners, nothing added, floats",
        right="IoU > 0.5",
        truth=(
            "resized to 256, moved and clipped with the crop, not rounded; PSOL's own program also takes one from all "
            "coordinates of VOC's XML and leaves out boxes of other classes than the label's"
        ),
        crops=_FAM.crops + " (BAS)",
    ),
    "first-box": replace(
        _FAM,
        title="first box",
        source="ADL, Choe and Shim, CVPR 2019, as its author describes it; what is not known of it is as in fam",
        normalisation="the method's own; FAM: none; CAM: min-max",
        threshold="greater than the method's own fixed τ, FAM's 0.5; that of ADL is a fixed share of the map's maximum",
        several_boxes="only the first of an image counts, which costs points on ILSVRC, where 23 % have several",
        crops="one view; with --crops 10 the mean softmax of ten crops, as SPG and ACoL of that lineage",
    ),
}


def find_protocol(name: str) -> Protocol:
    """A row of the table; an unknown name is an error that lists near ones."""
    if name not in PROTOCOLS:
        raise UnknownNameError("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


@dataclass(frozen=True, slots=True)
class BoxRules:
    """How the one box of an image is compared with its truth."""

    cropped: bool = False  # in the centre crop of the resized image, and not in the original image
    strict: bool = False  # right when the IoU is greater than 0.5, and not from 0.5 on
    first_only: bool = False  # of several boxes of an image only the first counts

    def view(self, image: Image.Image, side: int, box: npt.NDArray[np.floating] | None = None) -> np.ndarray:
        """The test image, or its part in a box, xyxy in its shares: an RGB picture to ``(side, side, 3)`` uint8."""
        if not self.cropped:
            return resize(image, side, box)
        edge, whole = _margin(side), resized_side(side)
        if box is not None:
            return resize(image, side, (edge + box * side) / whole)
        return resize(image, whole)[edge : edge + side, edge : edge + side]

    def frame_hw(self, size_hw: tuple[int, int], side: int) -> tuple[int, int]:
        """Size ``(h, w)`` of the frame that boxes are compared in, for an image of ``size_hw``."""
        return (side, side) if self.cropped else size_hw

    def to_frame(self, boxes: npt.ArrayLike, size_hw: tuple[int, int], side: int) -> FloatArray:
        """Boxes ``(N, 4)`` of the original image in the frame; clipped to a crop."""
        if not self.cropped:
            return as_boxes(boxes)
        return clip_boxes(rescale_boxes(boxes, size_hw, (resized_side(side),) * 2) - _margin(side), (side, side))

    def to_photo(self, boxes: npt.ArrayLike, size_hw: tuple[int, int], side: int) -> FloatArray:
        """Boxes ``(N, 4)`` of the frame in the pixels of the original image."""
        if not self.cropped:
            return as_boxes(boxes)
        return rescale_boxes(as_boxes(boxes) + _margin(side), (resized_side(side),) * 2, size_hw)

    def truth(self, boxes: FloatArray, size_hw: tuple[int, int], side: int) -> FloatArray:
        """The boxes ``(N, 4)`` of an image that count, in the frame."""
        return self.to_frame(boxes[:1] if self.first_only else boxes, size_hw, side)


# The protocols of one box an image.
BOX_RULES: Mapping[str, BoxRules] = {
    "fam": BoxRules(),
    "psol": BoxRules(cropped=True, strict=True),
    "first-box": BoxRules(first_only=True),
}
# The protocols over maps at many thresholds, and their version of MaxBoxAcc.
VERSIONS: Mapping[str, int] = {"wsoleval-v1": 1, "wsoleval-v2": 2}


def ten_crops(image: Image.Image, side: int) -> list[np.ndarray]:
    """The corners and the centre of the resized picture, each as it is and mirrored: ten ``(side, side, 3)`` uint8."""
    whole = resize(image, resized_side(side))
    room, edge = whole.shape[0] - side, _margin(side)
    corners = [(0, 0), (0, room), (room, 0), (room, room), (edge, edge)]
    crops = [whole[y : y + side, x : x + side] for y, x in corners]
    return [*crops, *(np.ascontiguousarray(crop[:, ::-1]) for crop in crops)]


def _margin(side: int) -> int:
    """Pixels of the resized image left of, and above, the centre crop: 16 for 224."""
    return round((resized_side(side) - side) / 2)
