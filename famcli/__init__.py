"""Foreground Activation Maps on the command line and from Python.

Names are resolved on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from famcli.hub.load import load_model as load_model
    from famcli.inference.predictor import Predictor as Predictor
    from famcli.inference.predictor import Settings as Settings
    from famcli.outputs.prediction import ClassScore as ClassScore
    from famcli.outputs.prediction import Failure as Failure
    from famcli.outputs.prediction import Item as Item
    from famcli.outputs.prediction import PartMaps as PartMaps
    from famcli.outputs.prediction import Prediction as Prediction

_HOMES = {
    "ClassScore": "outputs.prediction",
    "Failure": "outputs.prediction",
    "Item": "outputs.prediction",
    "PartMaps": "outputs.prediction",
    "Prediction": "outputs.prediction",
    "Predictor": "inference.predictor",
    "Settings": "inference.predictor",
    "load_model": "hub.load",
}

__all__ = ["ClassScore", "Failure", "Item", "PartMaps", "Prediction", "Predictor", "Settings", "load_model"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module '{__name__}' has no attribute '{name}'"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
