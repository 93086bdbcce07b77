"""The methods by name, and a checkpoint of whichever of them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from famcli_models.checkpoint import read_config, resolve
from famcli_models.errors import ConfigError, UnknownNameError
from famcli_models.methods.cam import CAM
from famcli_models.methods.fam import FAM

METHODS: Mapping[str, type[FAM | CAM]] = {"fam": FAM, "cam": CAM}


def load_model(name_or_path: str | os.PathLike[str], method: str | None = None) -> FAM | CAM:
    """A trained model in evaluation mode, on the CPU, in float32.

    Args:
        name_or_path: The name of a packaged checkpoint, or the path of a checkpoint folder.
        method: ``fam`` or ``cam``; ``None`` takes the checkpoint's own. ``cam`` of a FAM checkpoint is
            :meth:`famcli_models.CAM.of`.

    Raises:
        UnknownNameError: There is no such checkpoint or method.
        WeightsError: The folder is damaged, or its config and weights do not belong together.
        ConfigError: The config has unknown fields or values out of range, or the checkpoint has no such method.
    """
    if method is not None and method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    folder = resolve(name_or_path)
    config = read_config(folder).get("model")
    own = "cam" if isinstance(config, dict) and config.get("method") == "cam" else "fam"  # which refuses all else
    if (method, own) == ("fam", "cam"):
        msg = f"'{name_or_path}' is a CAM checkpoint, which has no foreground map of FAM; leave out --method fam"
        raise ConfigError(msg)
    model = METHODS[own].from_pretrained(folder)
    return CAM.of(model) if method == "cam" else model
