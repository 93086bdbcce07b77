"""The version of this program, which it writes into its results."""

from __future__ import annotations

import importlib.metadata

try:
    __version__ = importlib.metadata.version("famcli")
except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
    __version__ = "unknown"
