"""Pseudo-labels, targets for M from image labels, and targets in which a trained model takes part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from famcli import Predictor
from famcli.data.sample import Sample, read_sample
from famcli.inference.engine import mean_maps
from famcli.inference.views import Views
from famcli.training.data import TrainingData
from famcli.training.environment import make_accelerator
from famcli.training.recipe import load_recipe
from famcli.training.supervision import (
    cut_along_edges,
    distill,
    evidence_targets,
    fuse,
    make_supervision,
    make_targets,
    pseudo_labels,
    sharpen,
)
from famcli_models import FAM
from famcli_models.config import HALF
from famcli_models.errors import ConfigError
from famcli_models.evidence import class_evidence
from famcli_models.localization import upsample
from famcli_models.preprocess import normalize, resize

Make = Callable[..., FAM]


@pytest.mark.parametrize(("confidence", "found"), [(0.404, [0, 1, 2, 4, 5, 6, 7]), (0.405, [])])
def test_confidence(pretrained: FAM, labelled: list[Sample], confidence: float, found: list[int]) -> None:
    """A classifier that says "cup" of everything has a probability of e / (e + 4) = 0.4046; a broken image has none."""
    with torch.no_grad():
        pretrained.classifier.weight.zero_()
        pretrained.classifier.bias.copy_(torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]))
    labelled[3].path.write_bytes(b"")
    assert pseudo_labels(pretrained, labelled, confidence, "cpu", 1) == dict.fromkeys(found, 2)


def test_the_mean_of_x_is_what_is_classified(pretrained: FAM, labelled: list[Sample], make_model: Make) -> None:
    """Pseudo-labels classify the mean of X; neither they nor targets are made with a random one, nor for a CAM."""
    views = torch.from_numpy(np.stack([resize(read_sample(sample, 64).image, 64) for sample in labelled[:5]]))
    with torch.no_grad():
        X = pretrained.features(normalize(views, pretrained.config.mean, pretrained.config.std)).X
        pretrained.classifier.weight.copy_(X.mean(dim=(2, 3)))
        pretrained.classifier.bias.copy_(-X.mean(dim=(2, 3)).square().sum(dim=1) / 2)
    assert pseudo_labels(pretrained, labelled[:5], 0.0, "cpu", 1) == {i: i for i in range(5)}
    with pytest.raises(ConfigError, match="need a classifier that knows classes"):
        pseudo_labels(make_model(), labelled, 0.0)
    with pytest.raises(ConfigError, match="class activation maps"):
        make_targets(make_model(), [], "cpu")


def test_fuse_finds_what_the_label_looks_like() -> None:
    """Cells that carry the class's feature and differ from the border come out on top, the border at the bottom."""
    X = torch.full((1, 2, 8, 8), 0.1)
    X[0, 0, 3:6, 2:5] = 5.0
    below = torch.rand(1, 4, 8, 8) * 0.01
    below[0, 0] += 1.0
    below[0, 0, 3:6, 2:5] = 0.0
    below[0, 1, 3:6, 2:5] = 1.0
    fused = fuse(X, below, torch.tensor([[1.0, 0.0]]))[0]
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[3:6, 2:5] = True
    assert (fused.min(), fused.max()) == (0, 1)
    assert fused[inside].min() > 0.6
    assert fused[~inside].max() < 0.4


def test_sharpen_follows_the_colours() -> None:
    """A vague map of a square is cut along its edges; a flat map, and pixels near 0 and 1, stay as they are."""
    for value in (0.0, 1.0):
        assert (sharpen(np.zeros((64, 64, 3), np.uint8), np.full((14, 14), value, np.float32)) == value).all()
    rng = np.random.default_rng(0)
    view = rng.integers(0, 30, (98, 98, 3), dtype=np.uint8)
    view[28:70, 28:70] += 200
    y, x = np.mgrid[-1:1:14j, -1:1:14j]
    target = sharpen(view, np.exp(-(x**2 + y**2) / 0.35).astype(np.float32))
    square = np.zeros((98, 98), bool)
    square[28:70, 28:70] = True
    assert target.dtype == np.float16
    assert set(np.unique(target).tolist()) == {0.0, 1.0}
    assert (np.logical_and(target > 0, square).sum() / np.logical_or(target > 0, square).sum()) > 0.9
    view = np.zeros((98, 98, 3), np.uint8)
    view[:, 49:] = 255
    soft = np.full((98, 98), 0.4)
    soft[:, 49:] = 0.6
    soft[:10, :10], soft[-10:, -10:] = 0.9, 0.1
    cut = cut_along_edges(view, soft)
    assert (cut[:10, :10] == 1).all()
    assert (cut[-10:, -10:] == 0).all()


def test_make_targets(pretrained: FAM, labelled: list[Sample]) -> None:
    """There is one map in [0, 1] for each image, the same each time; one of a broken image, which nothing will use."""
    labelled[0].path.write_bytes(b"")
    targets = make_targets(pretrained, labelled, "cpu", 1)
    assert len(targets) == 8
    assert all(t.shape == (98, 98) and 0 <= t.min() <= t.max() <= 1 for t in targets)
    again = make_targets(pretrained, labelled, "cpu", 2)
    assert all(np.array_equal(a, b) for a, b in zip(targets, again, strict=True))


def test_two_thirds_are_the_teachers(make_model: Make, labelled: list[Sample]) -> None:
    """The target is (2 M + T) / 3, the same each time; without a T it is M cut along colour edges."""
    teacher = make_model().eval()
    rng = np.random.default_rng(0)
    targets = [(rng.random((98, 98)) > 0.5).astype(np.float16) for _ in labelled]
    found, alone = (
        distill([teacher], labelled, targets, "cpu", 2, views=Views()),
        distill([teacher], labelled, None, "cpu", 1, views=Views()),
    )
    for sample, target, joined, own in zip(labelled, targets, found, alone, strict=True):
        view = resize(read_sample(sample, 64).image, 64)
        with torch.inference_mode():
            M = teacher(teacher.preprocess(view)).M[0, 0].numpy()
        M = cv2.resize(M, (98, 98), interpolation=cv2.INTER_LINEAR)
        assert joined.dtype == own.dtype == np.float16
        np.testing.assert_allclose(joined, (2 * M + target) / 3, atol=2e-3)
        np.testing.assert_allclose(own, (2 * M + cut_along_edges(view, M)) / 3, atol=2e-3)
    mirrored = distill([teacher], labelled, targets, "cpu", 1, views=Views((1.0, 1.5), flip=True))
    with torch.inference_mode():
        views = [resize(read_sample(labelled[1], 96).image, side).copy() for side in (64, 96)]
        batches = [normalize(torch.from_numpy(view[None]), HALF, HALF) for view in views]
        straight = [teacher(batch).M[:, 0].numpy() for batch in batches]
        turned = [teacher(batch.flip(-1)).M[:, 0].flip(-1).numpy() for batch in batches]
        M = mean_maps([*straight, *turned])[0]
    M = cv2.resize(M, (98, 98), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(mirrored[1], (2 * M + targets[1]) / 3, atol=2e-3)
    closer = distill([teacher], labelled, targets, "cpu", 2, views=Views(looks=2))
    M = Predictor(teacher, "cpu", looks=2)(labelled[1].path).M
    M = cv2.resize(M, (98, 98), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(closer[1], (2 * M + targets[1]) / 3, atol=2e-3)
    assert np.abs(np.array(closer) - np.array(found)).max() > 0.01
    other = make_model(seed=1, size=96).eval()
    both = distill([teacher, other], labelled, targets, "cpu", 1, views=Views())
    for sample, target, joined in zip(labelled, targets, both, strict=True):
        with torch.inference_mode():
            image = read_sample(sample, 96).image
            M = mean_maps([one(one.preprocess(image)).M[:, 0].numpy() for one in (teacher, other)])[0]
        M = cv2.resize(M, (98, 98), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(joined, (2 * M + target) / 3, atol=2e-3)
    labelled[0].path.write_bytes(b"")  # training replaces such an image, and nothing uses its target
    again = distill([teacher], labelled, targets, "cpu", 1, views=Views())
    assert all(np.array_equal(a, b) for a, b in zip(found[1:], again[1:], strict=True))


def test_hard_targets(pretrained: FAM, labelled: list[Sample], tmp_path: Path) -> None:
    """They are the soft ones that teachers took part in, cut at 1/2."""
    pretrained.save_pretrained(tmp_path / "teacher")
    data, cpu = TrainingData(("ours",), labelled, (), [], "loss", on_test=False), make_accelerator("cpu", "fp32")
    soft, hard = (
        make_supervision(
            pretrained,
            load_recipe(None, ["lambda_target=1", f"teacher={tmp_path / 'teacher'}", f"hard_targets={hard}"]),
            data,
            cpu,
            {},
            1,
            lambda _: None,
        )[1]
        for hard in ("false", "true")
    )
    assert soft is not None
    assert hard is not None
    assert len(np.unique(soft)) > 2
    assert np.array_equal(hard, np.array(soft) > 0.5)


def test_targets_of_evidence(pretrained: FAM, make_model: Make, labelled: list[Sample]) -> None:
    """Half is the mean evidence of networks that know the classes, half the mean M of teachers, whatever they know."""
    teacher, other = make_model(seed=1, size=96).eval(), make_model(seed=2, num_classes=3).eval()
    teacher.provenance["classifier"] = "pretrained"
    found = evidence_targets(pretrained, [teacher, other], labelled, 80, "cpu", 2, views=Views(flip=True))
    alone = evidence_targets(pretrained, [], labelled, 80, "cpu", 1, views=Views())

    def evidence(model: FAM, side: int, sample: Sample) -> np.ndarray:
        X = model.features(normalize(torch.from_numpy(views[side][None].copy()), HALF, HALF)).X
        return class_evidence(X, model.classifier.weight[[sample.label]], X)[:, 1].numpy()

    def mean_map(model: FAM, side: int) -> np.ndarray:
        batch = normalize(torch.from_numpy(views[side][None].copy()), HALF, HALF)
        return (model(batch).M[:, 0] + model(batch.flip(-1)).M[:, 0].flip(-1)).numpy() / 2

    for sample, target, own in zip(labelled, found, alone, strict=True):
        views = {side: resize(read_sample(sample, 96).image, side) for side in (64, 80, 96)}
        with torch.inference_mode():
            known = [evidence(pretrained, 80, sample), evidence(teacher, 96, sample)]
            T = mean_maps([mean_maps(known), mean_maps([mean_map(teacher, 96), mean_map(other, 64)])])[0]
        assert target.dtype == np.float16
        np.testing.assert_allclose(target, upsample(T, (98, 98)), atol=2e-3)
        np.testing.assert_allclose(own, upsample(known[0][0], (98, 98)), atol=2e-3)


def test_evidence_is_of_stride_16(pretrained: FAM, make_model: Make, labelled: list[Sample]) -> None:
    """A model of a larger stride makes its evidence at 16 with the same weights, and is not changed."""
    coarse = make_model(stride=32, classifier="frozen").eval()
    coarse.load_state_dict(pretrained.state_dict())
    coarse.provenance["classifier"] = "pretrained"
    a, b = (evidence_targets(model, [], labelled, 64, "cpu", 1, views=Views()) for model in (coarse, pretrained))
    np.testing.assert_allclose(a, b, atol=1e-2)
    assert coarse.config.stride == 32
    with pytest.raises(ConfigError, match="class activation maps"):
        evidence_targets(make_model(), [], labelled, 64, views=Views())
    with pytest.raises(ConfigError, match="teacher_looks=1"):
        evidence_targets(pretrained, [], labelled, 64, views=Views(looks=2))
