"""Find and load a model by any of its names; one of the Hub is downloaded on its first use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from famcli.hub.names import look_up
from famcli_models.checkpoint import packaged, resolve
from famcli_models.errors import WeightsError

if TYPE_CHECKING:
    from famcli_models.methods.method import Method


def find_model(
    name: str, say: Callable[[str], None] | None = None, org: str | None = None, *, local_files_only: bool = False
) -> Path:
    """Folder of a model's checkpoint, whose config and weights belong together; names as in :func:`load_model`.

    A packaged name and an existing folder never touch the network. A model of the Hub is taken from the cache; if it is
    not there it is pulled, and ``say`` is called with a sentence on what is downloaded.
    """
    found = look_up(name, org)
    if isinstance(found, Path):
        if name not in packaged():
            from famcli_models.loading import check_checkpoint

            check_checkpoint(found)
        return resolve(found)

    from famcli.hub.pull import cached, checked, pull

    folder = cached(found)
    if folder is not None:
        return checked(folder)
    if local_files_only:
        raise WeightsError(f"'{found}' is not in the cache; run 'fam pull {found}'")
    return pull(found, say)


def load_model(name: str | os.PathLike[str], method: str | None = None, *, local_files_only: bool = False) -> Method:
    """A trained model in evaluation mode, on the CPU, in float32.

    Args:
        name: What ``--model`` takes: a packaged name, the path of a checkpoint folder, or ``ORG/NAME`` on the Hub,
            also with ``@REVISION``, which is taken from the cache or downloaded into it.
        method: A name in ``famcli_models.METHODS``; ``None`` is the checkpoint's own.
        local_files_only: Never ask the network.

    Raises:
        UnknownNameError: There is no such model or method.
        WeightsError: It cannot be had, or is not a FAM checkpoint.
        ConfigError: Its config is not allowed, or it has no such method.

    Example:
        >>> model = load_model("fam-mobilenetv1-ilsvrc")
    """
    from famcli_models import loading

    return loading.load_model(find_model(os.fspath(name), local_files_only=local_files_only), method)
