"""The paper's numbers."""

from __future__ import annotations

import pytest

from famcli.results.paper import IMAGES, TABLE1, find
from famcli_models.backbones import BACKBONES


@pytest.mark.parametrize(
    ("data", "backbone", "numbers"),
    [
        ("cub", "vgg16", (69.26, 77.26, 89.26)),
        ("cub", "resnet50", (73.74, 82.72, 85.73)),
        ("cub", "mobilenetv1", (65.67, 76.38, 85.71)),
        ("cub", "inceptionv3", (70.67, 81.25, 87.25)),
        ("ilsvrc", "vgg16", (51.96, 70.90, 71.73)),
        ("ilsvrc", "resnet50", (54.46, 76.48, 64.56)),
        ("ilsvrc", "mobilenetv1", (46.24, 70.28, 62.05)),
        ("ilsvrc", "inceptionv3", (55.24, 77.63, 68.62)),
    ],
)
def test_rows_of_fam(data: str, backbone: str, numbers: tuple[float, ...]) -> None:
    """FAM's row is the first, with Top-1 Loc, Top-1 Cls and GT-known as printed."""
    row = find(data, backbone)[0]
    assert row.method == "FAM"
    assert (row.top1_loc, row.top1_cls, row.gt_known) == numbers


def test_cam_has_rows_for_two_backbones() -> None:
    """Where the paper has no row of CAM, or no number in it, there is none here."""
    cam = {key: rows[1] for key, rows in TABLE1.items() if len(rows) > 1}
    assert {backbone for _, backbone in cam} == {"vgg16", "mobilenetv1"}
    assert cam["cub", "vgg16"].gt_known is None
    assert cam["ilsvrc", "vgg16"].gt_known == 59.0


@pytest.mark.parametrize("name", ["cub-mini", "ilsvrc-mini", "ilsvrc-val-mini", "CUB", "cubv2", "", "coco"])
def test_other_data_has_no_row(name: str) -> None:
    """A subset of the paper's data, or other data, has nothing to be laid beside."""
    assert find(name, "vgg16") == ()


def test_other_backbones_have_no_row() -> None:
    """The paper's backbones are four of ours, under our names."""
    assert find("cub", "convnext") == ()
    assert {backbone for _, backbone in TABLE1} <= set(BACKBONES)
    assert {data for data, _ in TABLE1} == set(IMAGES)


def test_titles_say_what_they_are() -> None:
    """No row can be taken for a measurement."""
    assert find("cub", "vgg16")[0].title == "FAM (paper, Table 1; not measured here)"
