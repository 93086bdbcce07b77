"""The graph that is exported: the same decoding as OpenCV's, with tensor operations alone."""

from __future__ import annotations

import copy

import cv2
import numpy as np
import pytest
import torch

from famcli.checkpoints.graph import Graph, largest_box, largest_component
from famcli.checkpoints.reference import reference_images
from famcli_models import FAM, localize
from famcli_models.preprocess import normalize


def by_opencv(mask: np.ndarray) -> np.ndarray:
    """The largest component, of equals the one whose first pixel comes first."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = np.where(mask, stats[labels, cv2.CC_STAT_AREA], 0)
    return np.asarray(labels == labels.flat[areas.argmax()])


def spiral(side: int) -> np.ndarray:
    """One path of one pixel's width that winds to the centre: the longest way from end to end."""
    mask = np.zeros((side, side), dtype=bool)
    y, x, dy, dx = 0, 0, 0, 1
    mask[0, 0] = True
    turns = 0
    while turns < 2:
        ahead = [(y + k * dy, x + k * dx) for k in (1, 2)]
        inside = [0 <= v < side and 0 <= u < side for v, u in ahead]
        if inside[0] and not mask[ahead[0]] and not (inside[1] and mask[ahead[1]]):
            (y, x), turns = ahead[0], 0
            mask[y, x] = True
        else:
            dy, dx, turns = dx, -dy, turns + 1
    return mask


@pytest.mark.parametrize("density", [0.05, 0.3, 0.4, 0.5, 0.6, 0.9])
def test_random_masks(density: float) -> None:
    """Masks of random pixels, from specks to sheets, give exactly OpenCV's component; a batch gives each its own."""
    masks = np.random.default_rng(0).random((6, 60, 90)) < density
    found = largest_component(torch.from_numpy(masks)[:, None])
    assert found.shape == (6, 1, 60, 90)
    for mask, component in zip(masks, found[:, 0].numpy(), strict=True):
        np.testing.assert_array_equal(component > 0, by_opencv(mask))


def test_the_longest_way() -> None:
    """A spiral over an input of 224 x 224 is one component, whichever way it turns, unless rounds are too few."""
    path = spiral(224)
    assert path.sum() > 20_000
    masks = torch.from_numpy(np.stack([np.rot90(path, turn) for turn in range(4)]))[:, None]
    assert torch.equal(largest_component(masks) > 0, masks)
    assert int(largest_component(masks[:1], rounds=6).sum()) < int(path.sum())


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (["00010", "10001", "01000"], ["00010", "00001", "00000"]),  # of equals the one met first; corners connect
        (["000", "000", "000"], ["000", "000", "000"]),
        (["111", "111", "111"], ["111", "111", "111"]),
    ],
    ids=["equals", "nothing", "everything"],
)
def test_small_masks(mask: list[str], expected: list[str]) -> None:
    """Ties, an empty mask and a full one."""
    pixels = torch.tensor([[int(c) for c in row] for row in mask]).bool()[None, None]
    assert largest_component(pixels)[0, 0].tolist() == [[float(c) for c in row] for row in expected]


@pytest.mark.slow
@pytest.mark.parametrize("cells", [7, 12, 14, 28])
def test_boxes_of_random_maps(cells: int) -> None:
    """Boxes and means of random maps are those of localize() in the same frame."""
    rng = np.random.default_rng(cells)
    maps = rng.random((12, cells, cells)).astype(np.float32)
    maps[:6] = [cv2.GaussianBlur(m, (0, 0), 1.0) for m in maps[:6]]
    for tau in (0.3, 0.5, 0.7):
        boxes, foreground = largest_box(torch.from_numpy(maps)[:, None], 224, tau)
        for M, box, mean in zip(maps, boxes.numpy(), foreground.tolist(), strict=True):
            regions = localize(M, (224, 224), tau).regions
            corners, expected = (regions[0].xyxy, regions[0].foreground) if regions else ((0.0,) * 4, 0.0)
            np.testing.assert_allclose(box * 224, corners, atol=1e-4)
            assert mean == pytest.approx(expected, abs=1e-4)


def test_no_box() -> None:
    """A map that is the threshold everywhere is empty: zeros, never the whole image."""
    boxes, foreground = largest_box(torch.full((2, 1, 4, 4), 0.5), 64, 0.5)
    assert boxes.tolist() == [[0.0] * 4] * 2
    assert foreground.tolist() == [0.0, 0.0]


def test_graph_is_the_model(model: FAM) -> None:
    """Bytes in, the model's maps and probabilities out: the normalisation is inside, and the model is not changed."""
    before = copy.deepcopy(model.state_dict())
    pictures = reference_images(64)
    with torch.no_grad():
        want = model(normalize(torch.from_numpy(pictures), model.config.mean, model.config.std))
        maps, probabilities = Graph(model)(torch.from_numpy(pictures))
    torch.testing.assert_close(maps, want.M, rtol=0, atol=1e-5)
    torch.testing.assert_close(probabilities, want.logits.softmax(dim=1), rtol=0, atol=1e-5)
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)
