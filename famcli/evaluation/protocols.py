"""The protocols by which localization is scored, each with all its rules in words.

Two numbers can be laid side by side only if their protocols are the same, and the field has several that share one
name. Nothing is computed here; the columns of the table are the questions to ask of any published number. The rules
of others were read from their programs: wsolevaluation @96f4b88, and PSOL's and BAS's evaluation scripts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from famcli_models.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way of turning maps and boxes into a number.

    Attributes:
        title: What it is called in tables.
        source: Where it comes from.
        metrics: What it reports.
        test_image: How a picture becomes the network's input.
        map_frame: The frame in which boxes are compared, and how the map gets there.
        normalisation: What is done to the values of the map.
        threshold: How τ is chosen and applied.
        component: Which part of the foreground is kept.
        box: From the kept part to corners.
        iou: Convention of the intersection over union.
        right: When a box is right.
        truth: Frame and rounding of the ground-truth boxes.
        several_boxes: What is done with images that have several.
        crops: Views of a picture that the class scores are taken from.
    """

    title: str
    source: str
    metrics: str
    test_image: str
    map_frame: str
    normalisation: str
    threshold: str
    component: str
    box: str
    iou: str
    right: str
    truth: str
    several_boxes: str
    crops: str


FAM_IMAGE = "resized to the model's input, 224x224 unless its card says otherwise, aspect ignored, no crop"
FAM_FRAME = "the original image, EXIF orientation applied; the map is resized bilinearly"
FAM_COMPONENT = "the largest 8-connected component by number of pixels, the first in reading order of equal ones"
FAM_BOX = "half-open box of the component's pixels; without a component there is no box"
FAM_IOU = "half-open corners, nothing added"
FAM_TRUTH = "original pixels, half-open, not rounded"
WSOLEVAL_IMAGE = "resized to 224x224, aspect ignored, no crop"
WSOLEVAL_FRAME = "224x224; the map is resized with cv2's INTER_CUBIC"
WSOLEVAL_NORMALISATION = "min-max over the resized map; a map that is constant or has a NaN becomes zeros"
WSOLEVAL_THRESHOLD = (
    "the map times 255, cut to uint8, strictly greater than int(τ × its maximum), for τ in arange(0, 1, 0.001); one τ "
    "for all images, the best on the very images that are scored (oracle)"
)
WSOLEVAL_BOX = (
    "cv2.boundingRect as x, y, min(x + w, 223), min(y + h, 223); without a contour the box is 0, 0, 0, 0, which is one "
    "pixel and not nothing"
)
WSOLEVAL_IOU = "on the 224 grid, corners taken as inclusive: one is added to each width and height"
WSOLEVAL_TRUTH = "inclusive corners of the metadata times 224 / size, cut to whole numbers with int()"

PROTOCOLS: Mapping[str, Protocol] = {
    "fam": Protocol(
        title="FAM",
        source="the paper's section 4.1; what it leaves open is decided as in famcli_models.localization",
        metrics="GT-known, Top-1 and Top-5 Loc; Top-1 and Top-5 Cls; mean IoU",
        test_image=FAM_IMAGE,
        map_frame=FAM_FRAME,
        normalisation="FAM: none, the sigmoid's values as they are; CAM: min-max over the map",
        threshold="greater than τ, FAM's 0.5 for all data sets",
        component=FAM_COMPONENT,
        box=FAM_BOX,
        iou=FAM_IOU,
        right="IoU >= 0.5",
        truth=FAM_TRUTH,
        several_boxes="any of them may match",
        crops="one view, the test image; with --crops 10 the mean softmax of ten crops of 224x224 out of 256x256",
    ),
    "wsoleval-v1": Protocol(
        title="MaxBoxAcc",
        source="wsolevaluation, Choe et al., CVPR 2020",
        metrics="MaxBoxAcc: the share of images that are right, at the best τ",
        test_image=WSOLEVAL_IMAGE,
        map_frame=WSOLEVAL_FRAME,
        normalisation=WSOLEVAL_NORMALISATION,
        threshold=WSOLEVAL_THRESHOLD,
        component=(
            "of all contours that cv2.findContours gives (RETR_TREE, CHAIN_APPROX_SIMPLE; holes have contours too) the "
            "one of the largest contourArea, the first of equal ones; a shape one pixel wide has area 0"
        ),
        box=WSOLEVAL_BOX,
        iou=WSOLEVAL_IOU,
        right="IoU >= 0.5",
        truth=WSOLEVAL_TRUTH,
        several_boxes="any of them may match",
        crops="no classes are asked for",
    ),
    "wsoleval-v2": Protocol(
        title="MaxBoxAccV2",
        source="wsolevaluation, Choe et al., 2020 (the journal version)",
        metrics="MaxBoxAccV2: the mean over δ of the share of images that are right, each at its own best τ",
        test_image=WSOLEVAL_IMAGE,
        map_frame=WSOLEVAL_FRAME,
        normalisation=WSOLEVAL_NORMALISATION,
        threshold=WSOLEVAL_THRESHOLD + ", for each δ",
        component=(
            "all contours that cv2.findContours gives (RETR_TREE, CHAIN_APPROX_SIMPLE), those of holes included: the "
            "best of their boxes counts"
        ),
        box=WSOLEVAL_BOX,
        iou=WSOLEVAL_IOU,
        right="IoU >= δ, for δ = 0.3, 0.5 and 0.7",
        truth=WSOLEVAL_TRUTH,
        several_boxes="any of them may match",
        crops="no classes are asked for",
    ),
    "psol": Protocol(
        title="PSOL",
        source="PSOL, Zhang et al., CVPR 2020; BAS and CCAM use the same",
        metrics="GT-known, Top-1 and Top-5 Loc; Top-1 and Top-5 Cls; mean IoU",
        test_image="resized to 256x256, aspect ignored, centre crop 224x224 (in proportion for another input size)",
        map_frame="the 224x224 crop, so what lies outside of the crop does not count; the map is resized bilinearly",
        normalisation="FAM: none; CAM, as BAS: min-max",
        threshold=(
            "greater than the method's own fixed τ, FAM's 0.5; PSOL regresses a box and has none, BAS has one for each "
            "backbone and data set: CUB 0.15 (InceptionV3 0.10), ILSVRC 0.5, 0.45 or 0.3"
        ),
        component="the largest 8-connected component by number of pixels",
        box="half-open box of the component's pixels; without a component there is no box",
        iou="half-open corners, nothing added, floats",
        right="IoU > 0.5",
        truth=(
            "resized to 256, moved and clipped with the crop, not rounded; PSOL's own program also takes one from all "
            "coordinates of VOC's XML and leaves out boxes of other classes than the label's"
        ),
        several_boxes="any of them may match",
        crops="one view, the test image; with --crops 10 the mean softmax of ten crops of 224x224 out of 256x256 (BAS)",
    ),
    "first-box": Protocol(
        title="first box",
        source="ADL, Choe and Shim, CVPR 2019, as its author describes it; what is not known of it is as in fam",
        metrics="GT-known, Top-1 and Top-5 Loc; Top-1 and Top-5 Cls; mean IoU",
        test_image=FAM_IMAGE,
        map_frame=FAM_FRAME,
        normalisation="FAM: none; CAM: min-max",
        threshold="greater than the method's own fixed τ, FAM's 0.5; that of ADL is a fixed share of the map's maximum",
        component=FAM_COMPONENT,
        box=FAM_BOX,
        iou=FAM_IOU,
        right="IoU >= 0.5",
        truth=FAM_TRUTH,
        several_boxes="only the first of an image counts, which costs points on ILSVRC, where 23 % have several",
        crops="one view; with --crops 10 the mean softmax of ten crops, as SPG and ACoL of that lineage",
    ),
}


def find_protocol(name: str) -> Protocol:
    """A row of the table.

    Raises:
        UnknownNameError: There is no such protocol.
    """
    if name not in PROTOCOLS:
        raise UnknownNameError("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
