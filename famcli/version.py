"""The version of this program, which it writes into its results, and the packages that it needs."""

from __future__ import annotations

import importlib.metadata

# PyTorch and what is needed only beside it: models that have a graph predict without them.
PYTORCH = ("torch", "torchvision", "timm", "accelerate", "tensorboard", "onnxscript")

try:
    __version__ = importlib.metadata.version("famcli")
except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
    __version__ = "unknown"


def requirements(*, pytorch: bool, extra: str = "") -> list[str]:
    """What pip has to install for this program, as ``name>=version``, with or without :data:`PYTORCH`.

    Args:
        pytorch: Whether :data:`PYTORCH` is listed.
        extra: The extra whose packages are listed too.

    Raises:
        importlib.metadata.PackageNotFoundError: It runs from a checkout that is not installed.
    """
    from packaging.requirements import Requirement

    needed = map(Requirement, importlib.metadata.requires("famcli") or ())
    return [
        f"{one.name}{one.specifier}"
        for one in needed
        if (one.marker is None or one.marker.evaluate({"extra": extra})) and (pytorch or one.name not in PYTORCH)
    ]
