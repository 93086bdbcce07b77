"""A trained model takes part in the targets."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch

from famcli.data.sample import Sample, read_sample
from famcli.training.targets import cut_along_edges
from famcli.training.teacher import taught
from famcli_models.methods.fam import FAM
from famcli_models.preprocess import resize


def test_two_thirds_are_the_teachers(make_model: Callable[..., FAM], labelled: list[Sample]) -> None:
    """The target is (2 M + T) / 3, the same each time; without a T it is M cut along colour edges."""
    teacher = make_model().eval()
    rng = np.random.default_rng(0)
    targets = [(rng.random((98, 98)) > 0.5).astype(np.float16) for _ in labelled]
    found = taught(teacher, labelled, targets, "cpu", 2)
    alone = taught(teacher, labelled, None, "cpu", 1)
    assert len(found) == len(alone) == len(labelled)
    for sample, target, joined, own in zip(labelled, targets, found, alone, strict=True):
        view = resize(read_sample(sample, 64).image, 64)
        with torch.inference_mode():
            M = cv2.resize(teacher(teacher.preprocess(view)).M[0, 0].numpy(), (98, 98), interpolation=cv2.INTER_LINEAR)
        assert joined.dtype == own.dtype == np.float16
        np.testing.assert_allclose(joined, (2 * M + target) / 3, atol=2e-3)
        np.testing.assert_allclose(own, (2 * M + cut_along_edges(view, M)) / 3, atol=2e-3)
    again = taught(teacher, labelled, targets, "cpu", 1)
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


def test_an_image_that_cannot_be_read_ends_nothing(make_model: Callable[..., FAM], labelled: list[Sample]) -> None:
    """Training replaces such an image, and nothing uses its target."""
    labelled[0].path.write_bytes(b"")
    assert len(taught(make_model().eval(), labelled, None, "cpu", 1)) == len(labelled)


def test_a_cut_keeps_what_is_sure() -> None:
    """Pixels near 0 and 1 stay as they are, whatever their colour."""
    view = np.zeros((98, 98, 3), np.uint8)
    view[:, 49:] = 255
    soft = np.full((98, 98), 0.4)
    soft[:, 49:] = 0.6
    soft[:10, :10], soft[-10:, -10:] = 0.9, 0.1
    cut = cut_along_edges(view, soft)
    assert (cut[:10, :10] == 1).all()
    assert (cut[-10:, -10:] == 0).all()
