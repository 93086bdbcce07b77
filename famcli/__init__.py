"""Foreground Activation Maps on the command line and from Python.

Names are resolved on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from famcli.loading import load_model as load_model
    from famcli.parts import PartMaps as PartMaps
    from famcli.predict import ClassScore as ClassScore
    from famcli.predict import Failure as Failure
    from famcli.predict import Item as Item
    from famcli.predict import Prediction as Prediction
    from famcli.predict import Predictor as Predictor
    from famcli.predict import Settings as Settings

_HOMES = {
    "ClassScore": "predict",
    "Failure": "predict",
    "Item": "predict",
    "PartMaps": "parts",
    "Prediction": "predict",
    "Predictor": "predict",
    "Settings": "predict",
    "load_model": "loading",
}

__all__ = ["ClassScore", "Failure", "Item", "PartMaps", "Prediction", "Predictor", "Settings", "load_model"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module '{__name__}' has no attribute '{name}'"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
