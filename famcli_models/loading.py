"""A checkpoint folder to a model of whichever method, and the check of one that nobody vouches for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from famcli_models import graph
from famcli_models.checkpoint import (
    CONFIG_FILE,
    GRAPH_FILE,
    WEIGHTS_FILE,
    method_of,
    packaged,
    read_config,
    read_shapes,
    resolve,
)
from famcli_models.config import MethodConfig
from famcli_models.errors import ConfigError, FamError, UnknownNameError, WeightsError, short, shown
from famcli_models.methods import METHODS
from famcli_models.methods.method import Method


def load_model(name_or_path: str | os.PathLike[str], method: str | None = None) -> Method:
    """A trained model in evaluation mode, on the CPU, in float32; the network is never asked.

    Args:
        name_or_path: The name of a packaged checkpoint, or the path of a checkpoint folder.
        method: A name in ``METHODS``; ``None`` takes the checkpoint's own. Another one is
            :meth:`famcli_models.Method.from_model`: CAM, say, of a FAM's features.

    Raises:
        UnknownNameError: There is no such checkpoint or method.
        WeightsError: The folder is damaged, or its config and weights do not belong together.
        ConfigError: The config has unknown fields or values out of range, or the checkpoint has no such method.
    """
    if method is not None and method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    folder = resolve(name_or_path)
    if folder not in packaged().values():
        check_checkpoint(folder)
    model = method_class(read_config(folder)["model"]).from_pretrained(folder)
    return model if method is None else METHODS[method].from_model(model)


def method_class(config: Mapping[str, Any]) -> type[Method]:
    """The method of the ``model`` part of a ``config.json``.

    Raises:
        ConfigError: It names one that is not known.
    """
    name = method_of(config)
    if name not in METHODS:
        raise ConfigError(f"method is '{short(name)}'; it must be one of {', '.join(METHODS)}")
    return METHODS[name]


def check_checkpoint(folder: Path) -> MethodConfig:
    """Make sure that a folder's config, weights and graph, if it has one, are those of one model.

    The network is built on PyTorch's meta device, where tensors have a shape and no memory, so that a config that
    asks for something huge costs nothing.

    Args:
        folder: A checkpoint folder that nobody vouches for.

    Returns:
        Its config.

    Raises:
        WeightsError: A file is missing or damaged, it is a checkpoint of another library, or config and weights
            do not belong together.
        ConfigError: The config has unknown fields or values out of range, or names a network that cannot be built.
    """
    resolve(folder)
    stored = read_config(folder)
    try:
        method = method_class(stored["model"])
        config = method.config_class.from_dict(stored["model"])
        tensors = read_shapes(folder / WEIGHTS_FILE)
        expected = _expected(method, config, folder)
    except ConfigError as error:
        raise ConfigError(f"{folder / CONFIG_FILE}: {error}") from error
    names = len(stored["class_names"])
    if names != config.num_classes:
        raise ConfigError(f"{folder / CONFIG_FILE} has {names} class names for {config.num_classes} classes")
    wrong = [_difference(name, expected.get(name), tensors.get(name)) for name in sorted({*expected, *tensors})]
    found = [difference for difference in wrong if difference]
    if found:
        msg = f"config and weights of '{folder}' do not belong together: {found[0]}"
        raise WeightsError(msg + (f", and {len(found) - 1} more" if len(found) > 1 else ""))
    facts = graph.GraphFacts.from_provenance(stored["provenance"])
    if facts is not None and (folder / GRAPH_FILE).is_file():
        graph.check_graph(graph.read_graph(folder, facts, stored["model"]), graph.weight_shapes(folder, facts), facts)
    return config


def _expected(method: type[Method], config: MethodConfig, folder: Path) -> dict[str, tuple[tuple[int, ...], bool]]:
    """Shape of each tensor of the model, and whether it holds floating point numbers."""
    try:
        with torch.device("meta"):
            state = method(config).state_dict()
    except FamError:
        raise
    except Exception as error:  # timm's networks refuse what they cannot do each in its own way
        msg = f"the network of '{folder}' cannot be built ({type(error).__name__}: {short(str(error))})"
        raise WeightsError(msg) from error
    return {name: (tuple(tensor.shape), tensor.is_floating_point()) for name, tensor in state.items()}


def _difference(
    name: str, expected: tuple[tuple[int, ...], bool] | None, found: tuple[str, tuple[int, ...]] | None
) -> str:
    name = short(name)
    if expected is None:
        return f"{name} is no tensor of the model"
    if found is None:
        return f"{name} is missing"
    (shape, floating), (dtype, other) = expected, found
    if shape != other:
        return f"{name} has shape {shown(other)}, not {shape}"
    return f"{name} is {dtype}" if floating == (dtype == "I64") else ""
