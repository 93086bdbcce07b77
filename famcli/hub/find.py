"""Model name to checkpoint folder, pulled on first use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from famcli.hub.names import look_up
from famcli.hub.pull import cached, checked, pull
from famcli_models.checkpoint import packaged, resolve
from famcli_models.errors import WeightsError
from famcli_models.loading import check_checkpoint


def find_model(
    name: str, say: Callable[[str], None] | None = None, org: str | None = None, *, local_files_only: bool = False
) -> Path:
    """Folder of a model's checkpoint, whose config and weights belong together.

    A packaged name and an existing folder never touch the network. A model of the Hub is taken from the cache; if it
    is not there it is pulled. :func:`famcli.hub.pull.pull` fetches a newer revision.

    Args:
        name: See :func:`famcli.hub.names.look_up`.
        say: Told in a sentence what is downloaded.
        org: See :func:`famcli.hub.names.look_up`.
        local_files_only: Never ask the network.

    Raises:
        UnknownNameError: There is no such model.
        WeightsError: It cannot be had, or is not a FAM checkpoint.
        ConfigError: Its config is not allowed.
    """
    found = look_up(name, org)
    if isinstance(found, Path):
        if name not in packaged():
            check_checkpoint(found)
        return resolve(found)
    folder = cached(found)
    if folder is not None:
        return checked(folder, found.sha256)
    if local_files_only:
        msg = f"'{found}' is not in the cache; run 'fam pull {found}'"
        raise WeightsError(msg)
    return pull(found, say)
