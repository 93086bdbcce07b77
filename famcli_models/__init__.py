"""Foreground Activation Maps: the model, its losses and its checkpoints; and CAM, which it is measured against.

Names are resolved on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from famcli_models.backbones import BACKBONES as BACKBONES
    from famcli_models.checkpoint import packaged as packaged
    from famcli_models.config import FAMConfig as FAMConfig
    from famcli_models.errors import FamError as FamError
    from famcli_models.localization import localize as localize
    from famcli_models.losses import cam_loss as cam_loss
    from famcli_models.losses import fam_loss as fam_loss
    from famcli_models.methods import load_model as load_model
    from famcli_models.methods.cam import CAM as CAM
    from famcli_models.methods.cam import CAMOutput as CAMOutput
    from famcli_models.methods.fam import FAM as FAM
    from famcli_models.methods.fam import FAMOutput as FAMOutput

_HOMES = {
    "BACKBONES": "backbones",
    "CAM": "methods.cam",
    "CAMOutput": "methods.cam",
    "FAM": "methods.fam",
    "FAMConfig": "config",
    "FAMOutput": "methods.fam",
    "FamError": "errors",
    "cam_loss": "losses",
    "fam_loss": "losses",
    "load_model": "methods",
    "localize": "localization",
    "packaged": "checkpoint",
}

__all__ = [
    "BACKBONES",
    "CAM",
    "FAM",
    "CAMOutput",
    "FAMConfig",
    "FAMOutput",
    "FamError",
    "cam_loss",
    "fam_loss",
    "load_model",
    "localize",
    "packaged",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module '{__name__}' has no attribute '{name}'"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
