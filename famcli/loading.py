"""A model by any of its names."""

from __future__ import annotations

from famcli.hub import find_model
from famcli_models.loading import load_model as load
from famcli_models.methods.method import Method


def load_model(name: str, method: str | None = None) -> Method:
    """A trained model in evaluation mode, on the CPU, in float32.

    ``FAM.from_pretrained`` takes packaged names and folders and never touches a network. This takes names of the Hub
    too, from its cache or by downloading them into it.

    Args:
        name: What ``--model`` takes: a packaged name, the path of a checkpoint folder, or a name on the Hub.
        method: ``fam`` or ``cam``; ``None`` is the checkpoint's own.

    Raises:
        UnknownNameError: There is no such model or method.
        WeightsError: It cannot be had, or is not a FAM checkpoint.
        ConfigError: Its config is not allowed, or it has no such method.

    Example:
        >>> model = load_model("fam-mobilenetv1-ilsvrc")
    """
    return load(find_model(name), method)
