"""Classes for images without labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from famcli.data.sample import Sample, read_sample
from famcli.training.pseudolabels import pseudo_label
from famcli_models.errors import ConfigError
from famcli_models.methods.fam import FAM
from famcli_models.preprocess import normalize, resize


@pytest.fixture
def sure(make_model: Callable[..., FAM]) -> FAM:
    """A model whose classifier says "cup" of everything, with probability e / (e + 4)."""
    model = make_model()
    model.provenance["classifier"] = "pretrained"
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]))
    return model


def test_the_class_is_the_models(sure: FAM, labelled: list[Sample]) -> None:
    """Labels that the images come with are not looked at; order, names and paths stay."""
    strange = [replace(sample, label=1000 + i) for i, sample in enumerate(labelled)]
    found = pseudo_label(sure, strange, 0.4, "cpu", 1)
    assert [(s.name, s.path, s.label) for s in found] == [(s.name, s.path, 2) for s in labelled]


@pytest.mark.parametrize(("least", "left"), [(0.404, 8), (0.405, 0)])
def test_what_is_not_sure_is_left_out(sure: FAM, labelled: list[Sample], least: float, left: int) -> None:
    """e / (e + 4) is 0.4046."""
    assert len(pseudo_label(sure, labelled, least, "cpu", 1)) == left


def test_the_mean_of_x_is_what_is_classified(make_model: Callable[..., FAM], labelled: list[Sample]) -> None:
    """With a classifier that finds the nearest of five mean features, five images are of five classes."""
    model = make_model().eval()
    model.provenance["classifier"] = "pretrained"
    views = [resize(read_sample(sample, 64).image, 64) for sample in labelled[:5]]
    with torch.no_grad():
        means = model.features(
            normalize(torch.from_numpy(np.stack(views)), model.config.mean, model.config.std)
        ).X.mean(dim=(2, 3))
        model.classifier.weight.copy_(means)
        model.classifier.bias.copy_(-means.square().sum(dim=1) / 2)
    found = pseudo_label(model, labelled[:5], 0.0, "cpu", 1)
    assert [sample.label for sample in found] == [0, 1, 2, 3, 4]


def test_an_image_that_cannot_be_read_is_left_out(sure: FAM, labelled: list[Sample]) -> None:
    """The others go on."""
    labelled[3].path.write_bytes(b"")
    assert [s.name for s in pseudo_label(sure, labelled, 0.0, "cpu", 1)] == [
        s.name for i, s in enumerate(labelled) if i != 3
    ]


def test_a_new_classifier_knows_nothing(make_model: Callable[..., FAM], labelled: list[Sample]) -> None:
    """Classes are not guessed with weights that start at random."""
    with pytest.raises(ConfigError, match="need a classifier that knows classes"):
        pseudo_label(make_model(), labelled, 0.0)
