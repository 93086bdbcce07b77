"""A result made by hand."""

from __future__ import annotations

import pytest

from famcli.results.schema import ClassRow, Difference, Number, Results, Row, SizeScore

RESULTS = Results(
    kind="evaluation",
    created="2026-11-22T22:30:00+00:00",
    data={
        "name": "cub",
        "split": "test",
        "images": 5794,
        "images_of_split": 5794,
        "boxes": 5794,
        "masks": 0,
        "partial": False,
        "sha256": "ab12",
        "class_names": ("wren", "crow"),
    },
    source={
        "kind": "model",
        "name": "runs/cub",
        "method": "fam",
        "backbone": "resnet50",
        "backbone_weights": "resnet50.tv_in1k",
        "weights_sha256": "cd34",
        "revision": None,
        "input_size": 224,
        "seed": 7,
        "tuned_on_test": False,
    },
    protocol={
        "name": "fam",
        "interval": None,
        "crops": 1,
        "rules": {
            "normalisation": "none: the sigmoid's values",
            "component": "the largest | by pixels",
            "box": "half-open",
            "iou": "nothing added",
            "several_boxes": "any of them may match",
        },
    },
    same_classes=True,
    rows=(
        Row(
            method="FAM",
            title="FAM",
            metrics={"gt_known": Number(81.234, 80.1, 82.3), "top1_loc": Number(70.0, 69.0, 71.5)},
            tau=0.5,
            tau_from="fixed",
            empty=0.25,
            iou_histogram=(1, 0, 0, 0, 0, 0, 0, 0, 0, 5793),
            coco={"AP": 30.0, "AP50": 60.0, "AP75": 20.0},
            curve=(50.0, 81.234),
            kinds={"right": 4000, "part": 1794},
            sizes=(
                SizeScore(53, Number(0.0, 0.0, 6.759), 12.371),
                SizeScore(0, None, None),
                SizeScore(2, Number(50.0, 9.453, 90.547), None),
                SizeScore(5000, Number(82.0, 81.0, 83.0), 0.98),
                SizeScore(739, Number(90.0, 88.0, 92.0), 1234.5),
            ),
        ),
        Row(method="CAM", title="CAM, oracle", metrics={"gt_known": Number(60.0)}, tau=0.15, tau_from="oracle"),
        Row(method="whole", title="whole image", metrics={"gt_known": Number(40.0, 39.0, 41.0)}),
    ),
    taus=(0.25, 0.5),
    differences=(Difference("FAM", "whole image", "gt_known", Number(41.234, 40.0, 42.0)),),
    classes=(ClassRow(0, "wren", 30, 90.0, 80.0, 85.0, 70.5), ClassRow(1, "crow", 30, 50.0, None, None, 45.0)),
    bootstrap={"resamples": 1000, "seed": 0, "level": 0.95},
    versions={"famcli": "0.2.0", "torch": "2.9.0"},
)


@pytest.fixture(scope="session")
def results() -> Results:
    """A whole evaluation on the paper's data."""
    return RESULTS
