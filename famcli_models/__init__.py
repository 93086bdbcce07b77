"""Models for weakly supervised object localization: FAM, the methods beside it, their losses and their checkpoints.

Names are resolved on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from famcli_models.backbones import BACKBONES as BACKBONES
    from famcli_models.checkpoint import packaged as packaged
    from famcli_models.config import MethodConfig as MethodConfig
    from famcli_models.errors import FamError as FamError
    from famcli_models.loading import load_model as load_model
    from famcli_models.localization import localize as localize
    from famcli_models.methods import METHODS as METHODS
    from famcli_models.methods.cam import CAM as CAM, CAMConfig as CAMConfig, CAMOutput as CAMOutput
    from famcli_models.methods.fam import FAM as FAM, FAMConfig as FAMConfig, FAMOutput as FAMOutput
    from famcli_models.methods.method import Method as Method

_NAMES = {
    "backbones": ("BACKBONES",),
    "checkpoint": ("packaged",),
    "config": ("MethodConfig",),
    "errors": ("FamError",),
    "loading": ("load_model",),
    "localization": ("localize",),
    "methods": ("METHODS",),
    "methods.cam": ("CAM", "CAMConfig", "CAMOutput"),
    "methods.fam": ("FAM", "FAMConfig", "FAMOutput"),
    "methods.method": ("Method",),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_HOMES)  # noqa: PLE0605  (a list of strings; the table is the one list of names)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
