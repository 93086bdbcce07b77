"""What a model starts from: another model, pretrained weights of its backbone, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from famcli.hub import find_model
from famcli.training.recipe import IMAGENET, NONE, Recipe
from famcli_models.checkpoint import WEIGHTS_FILE
from famcli_models.errors import ConfigError
from famcli_models.files import sha256_file
from famcli_models.loading import load_model
from famcli_models.methods import METHODS
from famcli_models.methods.method import Method


def is_model(init: str) -> bool:
    """Whether a run starts from a model, by name or folder, and not from weights of a backbone or from nothing."""
    return init not in (IMAGENET, NONE) and not (Path(init).is_file() or Path(init).suffix == ".safetensors")


def initial_model(recipe: Recipe, class_names: Sequence[str] | None, say: Callable[[str], None]) -> Method:
    """The model that a run of this recipe starts from; its provenance says where the weights came from.

    Raises:
        FamError: The weights cannot be had, or do not fit.
    """
    method, init = METHODS[recipe.model.method], recipe.run.backbone_weights
    if method.fitted_to_images:
        raise ConfigError(
            f"{method.title} is not trained: give any trained model to 'fam predict' or 'fam eval' with "
            f"--method {method.name()}"
        )
    if not is_model(init):
        return method.from_backbone(recipe.model, init, class_names)
    folder = find_model(init, say)
    source = load_model(folder)
    model = method.from_trained(recipe.model, source, class_names, recipe.kept)
    origin = [*source.provenance.get("data", []), *source.provenance.get("unlabelled", [])]
    digest = sha256_file(folder / WEIGHTS_FILE)
    model.provenance |= {"backbone_weights": init, "backbone_sha256": digest, "init_data": origin}
    return model
