"""Is this folder a checkpoint of ours? Answered from config and header, before any tensor is allocated."""

from __future__ import annotations

from pathlib import Path

import torch

from famcli_models.checkpoint import CONFIG_FILE, WEIGHTS_FILE, read_config, resolve
from famcli_models.config import FAMConfig
from famcli_models.errors import ConfigError, FamError, WeightsError, short
from famcli_models.header import TensorHeader, read_header
from famcli_models.methods import METHODS


def check_checkpoint(folder: Path) -> FAMConfig:
    """Make sure that a folder's config and weights are those of one model.

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
        config = FAMConfig.from_dict(stored["model"])
        header = read_header(folder / WEIGHTS_FILE)
        expected = _expected(config, folder)
    except ConfigError as error:
        msg = f"{folder / CONFIG_FILE}: {error}"
        raise ConfigError(msg) from error
    names = len(stored["class_names"])
    if names != config.num_classes:
        msg = f"{folder / CONFIG_FILE} has {names} class names for {config.num_classes} classes"
        raise ConfigError(msg)
    wrong = [_difference(name, expected.get(name), header.get(name)) for name in sorted({*expected, *header})]
    found = [difference for difference in wrong if difference]
    if found:
        msg = f"config and weights of '{folder}' do not belong together: {found[0]}"
        raise WeightsError(msg + (f", and {len(found) - 1} more" if len(found) > 1 else ""))
    return config


def _expected(config: FAMConfig, folder: Path) -> dict[str, tuple[tuple[int, ...], bool]]:
    """Shape of each tensor of the model, and whether it holds floating point numbers."""
    try:
        with torch.device("meta"):
            state = METHODS[config.method](config).state_dict()
    except FamError:
        raise
    except Exception as error:  # timm's networks refuse what they cannot do each in its own way
        msg = f"the network of '{folder}' cannot be built ({type(error).__name__}: {short(str(error))})"
        raise WeightsError(msg) from error
    return {name: (tuple(tensor.shape), tensor.is_floating_point()) for name, tensor in state.items()}


def _difference(name: str, expected: tuple[tuple[int, ...], bool] | None, found: TensorHeader | None) -> str:
    name = short(name)
    if expected is None:
        return f"{name} is no tensor of the model"
    if found is None:
        return f"{name} is missing"
    shape, floating = expected
    if shape != found.shape:
        return f"{name} has shape {found.shape}, not {shape}"
    if floating == (found.dtype == "I64"):
        return f"{name} is {found.dtype}"
    return ""
