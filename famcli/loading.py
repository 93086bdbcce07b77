"""A model by any of its names."""

from __future__ import annotations

from famcli.hub import find_model
from famcli_models.fam import FAM


def load_model(name: str) -> FAM:
    """A trained model in evaluation mode, on the CPU, in float32.

    ``FAM.from_pretrained`` takes packaged names and folders and never touches a network. This takes names of the Hub
    too, from its cache or by downloading them into it.

    Args:
        name: What ``--model`` takes: a packaged name, the path of a checkpoint folder, or a name on the Hub.

    Raises:
        UnknownNameError: There is no such model.
        WeightsError: It cannot be had, or is not a FAM checkpoint.
        ConfigError: Its config is not allowed.

    Example:
        >>> model = load_model("fam-mobilenetv1-ilsvrc")
    """
    return FAM.from_pretrained(find_model(name))
