"""Class evidence, and what it adds to M."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from famcli_models import FAM
from famcli_models.evidence import class_evidence, expected_weights

Make = Callable[..., FAM]


def test_evidence_goes_where_cells_are_alike() -> None:
    """A class that one corner of an object shows is carried over the whole object, and not over the background."""
    X = torch.zeros(1, 2, 4, 4)
    X[0, 0, 0, 0] = 3.0  # the class's feature, in the coarse cell of the object's corner
    cells = torch.zeros(1, 3, 8, 8)
    cells[0, 0] = 1.0
    cells[0, :, :5, :5] = torch.tensor([0.0, 1.0, 0.5])[:, None, None]
    cam, carried = class_evidence(X, torch.tensor([[1.0, 0.0]]), cells)[0]
    assert cam.argmax() == 0
    assert cam[4, 4] == 0
    assert carried[:5, :5].min() == 1
    assert carried[5:].max() == carried[:, 5:].max() == 0


def test_evidence_by_hand() -> None:
    """Two steps of weighted means, one cell after the other."""
    X, w, cells = torch.randn(2, 5, 3, 4), torch.randn(2, 5), torch.randn(2, 6, 3, 4)
    found = class_evidence(X, w, cells)
    for image in range(2):
        cam = torch.einsum("c,chw->hw", w[image], X[image])
        cam = (cam - cam.min()) / (cam.max() - cam.min())
        values = [cells[image, :, y, x] for y in range(3) for x in range(4)]
        centred = [value - torch.stack(values).mean(dim=0) for value in values]
        carried = cam.flatten()
        for _ in range(2):
            weights = [[F.cosine_similarity(a, b, dim=0).clamp(min=0) ** 2 for b in centred] for a in centred]
            carried = torch.stack([sum(a * v for a, v in zip(row, carried, strict=True)) / sum(row) for row in weights])
        carried = (carried - carried.min()) / (carried.max() - carried.min())
        torch.testing.assert_close(found[image], torch.stack([cam, carried.view(3, 4)]))


def test_flat_features_give_finite_evidence() -> None:
    """Where nothing differs there is no evidence, and no division by zero."""
    assert class_evidence(torch.ones(1, 2, 2, 2), torch.ones(1, 2), torch.ones(1, 3, 4, 4)).abs().sum() == 0


def test_expected_weights() -> None:
    """A classifier that is certain gives the weights of its class, one that is not a mean by its probabilities."""
    X, classifier = torch.randn(1, 4, 2, 2), nn.Linear(4, 3)
    probabilities = classifier(X.mean(dim=(2, 3))).softmax(dim=1)[0]
    mean = sum(p * weight for p, weight in zip(probabilities, classifier.weight, strict=True))
    torch.testing.assert_close(expected_weights(X, classifier)[0], mean)
    with torch.no_grad():
        classifier.bias[2] = 1000.0
    torch.testing.assert_close(expected_weights(X, classifier)[0], classifier.weight[2])


@pytest.mark.parametrize("options", [{}, {"fine_channels": 8}, {"stride": 32, "fine_channels": 8, "fine_factor": 4}])
def test_what_it_adds_to_the_map(make_model: Make, options: dict[str, int]) -> None:
    """The logit of M rises by gain times evidence less a half; with a gain of 0, M is that of a model without it."""
    plain, model = (make_model(class_evidence=on, **options).eval() for on in (False, True))
    model.load_state_dict(plain.state_dict(), strict=False)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = model.features(images)
        cells = features.earlier[-1] if features.earlier else features.X
        evidence = class_evidence(features.X, expected_weights(features.X, model.classifier), cells)
        added = F.interpolate(
            (2 * (evidence - 0.5)).sum(dim=1, keepdim=True), model(images).M.shape[2:], mode="bilinear"
        )
        torch.testing.assert_close(model(images).M, (plain(images).M.logit() + added).sigmoid(), rtol=1e-4, atol=1e-4)
        model.evidence_gain.zero_()
        torch.testing.assert_close(model(images).M, plain(images).M)
