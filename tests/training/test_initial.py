"""What a model starts from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from famcli.training.initial import initial_model, is_model
from famcli.training.recipe import load_recipe
from famcli_models import CAM, FAM, CAMConfig, FAMConfig
from famcli_models.errors import FamError, WeightsError

NAMES = ("cat", "dog", "cup", "rocket", "person")  # of make_model


def silent(_: str) -> None:
    pass


def same(first: Any, second: Any, prefix: str) -> bool:
    """Whether the tensors of two models whose names begin so are equal."""
    state = second.state_dict()
    return all(torch.equal(t, state[name]) for name, t in first.state_dict().items() if name.startswith(prefix))


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        ("imagenet", False),
        ("none", False),
        ("x.safetensors", False),
        ("fam-mobilenetv1-ilsvrc", True),
        ("runs/a", True),
    ],
)
def test_models_and_weights(init: str, expected: bool) -> None:
    """Words and safetensors files are of the backbone alone, names and folders are models."""
    assert is_model(init) is expected


def test_a_trained_model_of_other_classes(make_model: Callable[..., FAM]) -> None:
    """All is taken over up to the classifier, whose rows go by name; the shape of the network is the source's too."""
    source = make_model(num_parts=4, num_templates=2, tau=0.4, temperature=0.5, box_score=(1.0, 2.0, 3.0))
    source.provenance |= {"classifier": "pretrained", "tuned_on_test": True}
    wanted = FAMConfig(backbone="resnet50", num_classes=3, lambda_spa=2.0, part_std=1.0)
    new = FAM.from_trained(wanted, source, ["Dog", "wasp", "cat"])
    assert same(source, new, "backbone.")
    assert same(source, new, "object_attention.")
    assert same(source, new, "part_attention.")
    assert torch.equal(new.classifier.weight[[0, 2]], source.classifier.weight[[1, 0]])
    assert not torch.equal(new.classifier.weight[1], source.classifier.weight[2])
    shape = new.config.backbone, new.config.num_parts, new.config.num_templates, new.config.tau, new.config.size
    assert shape == (source.config.backbone, 4, 2, 0.4, source.config.size)
    assert (new.config.lambda_spa, new.config.part_std, new.config.temperature) == (2.0, 0.0, 1.0)
    assert new.config.box_score == (1, 2, 3)  # of the map, whatever the classes
    assert "classifier" not in new.provenance  # one class is new
    assert new.provenance["tuned_on_test"] is True
    assert FAM.from_trained(wanted, source, ["cup", "cat", "dog"]).provenance["classifier"] == "pretrained"
    kept = FAM.from_trained(wanted, source, ["a", "b", "c"], {"part_std", "num_parts"})
    assert (kept.config.num_parts, kept.config.part_std) == (5, 1.0)
    with pytest.raises(WeightsError, match="do not fit 'resnet50'"):
        FAM.from_trained(wanted, source, ["a", "b", "c"], {"backbone"})


def test_another_method(make_model: Callable[..., FAM]) -> None:
    """A CAM takes backbone and classifier of a FAM, and keeps its own threshold."""
    source = make_model(tau=0.6)
    new = CAM.from_trained(CAMConfig(num_classes=5), source, NAMES)
    assert same(source, new, "backbone.")
    assert same(source, new, "classifier.")
    assert new.config.tau == CAMConfig.tau


def test_names_that_may_be_two_classes_mean_nothing(make_model: Callable[..., FAM]) -> None:
    """A name that is like two, and none of them as it is written, gives no row."""
    source = make_model()
    source.class_names = ("crane", "Crane", "cup", "rocket", "person")
    torch.manual_seed(1)
    new = FAM.from_trained(FAMConfig(num_classes=2), source, ["CRANE", "cup"])
    assert torch.equal(new.classifier.weight[1], source.classifier.weight[2])
    assert not any(torch.equal(new.classifier.weight[0], row) for row in source.classifier.weight)


def test_a_run_starts_from_a_folder(checkpoint: Path) -> None:
    """The provenance says what was taken, and --set fields are kept."""
    recipe = load_recipe(
        None, ["lambda_spa=3.0", "num_parts=2", "num_classes=5"], {"backbone_weights": str(checkpoint)}
    )
    model = initial_model(recipe, NAMES, silent)
    assert (model.config.num_parts, model.config.backbone) == (2, "test_efficientnet")  # type: ignore[attr-defined]
    assert model.provenance["backbone_weights"] == str(checkpoint)
    assert len(model.provenance["backbone_sha256"]) == 64
    with pytest.raises(FamError, match="no-such-model"):
        initial_model(load_recipe(None, ["backbone_weights=no-such-model"]), NAMES, silent)
