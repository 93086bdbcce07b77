"""From the Hugging Face Hub into its client's cache: three files, checked before anybody may use them.

The endpoint, the cache, the token, proxies and offline mode are settings of huggingface_hub (``HF_*``); nothing here
reads them but to say what they mean.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from famcli.data.public.catalog import human
from famcli.hub.bars import progress_bars
from famcli.hub.names import HubModel
from famcli_models.checkpoint import CONFIG_FILE, MAX_CONFIG_BYTES, WEIGHTS_FILE
from famcli_models.errors import WeightsError
from famcli_models.files import sha256_file
from famcli_models.header import MAX_WEIGHTS_BYTES
from famcli_models.loading import check_checkpoint

CARD_FILE = "README.md"
# The largest size of each file that is fetched; nothing else is.
FILES = {CONFIG_FILE: MAX_CONFIG_BYTES, WEIGHTS_FILE: MAX_WEIGHTS_BYTES, CARD_FILE: 4 * 2**20}
WAITS = (1.0, 2.0)  # seconds before trying again
INFO_TIMEOUT = 15.0  # seconds
_SHA256 = re.compile(r"[0-9a-f]{64}")

Say = Callable[[str], None]
T = TypeVar("T")


def cached(model: HubModel) -> Path | None:
    """Folder of a model that is whole in the cache; the network is not asked.

    Its revision is the one that was last pulled, if a branch or tag has moved since.
    """
    from huggingface_hub.errors import EntryNotFoundError

    try:
        folder = _download(model.repo, model.revision, local=True)
    except (EntryNotFoundError, ValueError):  # nothing there, or not whole
        return None
    return folder if all((folder / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE)) else None


def pull(model: HubModel, say: Say | None = None) -> Path:
    """Fetch what the Hub has and the cache has not.

    A branch or tag means the new revision from when that is whole and checked, and the one before until then.

    Args:
        model: What to fetch.
        say: Told in a sentence what is fetched and how big it is. Without it there are no progress bars either.

    Returns:
        Folder in the cache, with a checked config, checked weights, and the card if there is one.

    Raises:
        WeightsError: It cannot be had, its weights have another hash than they should, or it is no FAM checkpoint.
        ConfigError: Its config is not allowed.
    """
    from huggingface_hub import constants

    from famcli.hub.errors import RAISED, explained, passing, status

    talk: Say = say or _silent
    here = cached(model)
    if constants.HF_HUB_OFFLINE:
        if here is None:
            msg = f"'{model}' is not in the cache, and HF_HUB_OFFLINE is set; unset it and run 'fam pull {model}'"
            raise WeightsError(msg)
        talk(f"offline: this is the copy of {model} in the cache")
        return checked(here)
    try:
        with progress_bars(say is not None and sys.stderr.isatty()):
            folder, sha256 = _fetch(model, here, talk)
    except RAISED as error:
        if getattr(error, "errno", None) is not None:  # not the network's: a full disk, a folder without permission
            raise
        if here is not None and (passing(error) or status(error) is None):
            talk(f"{explained(error, model.repo, model.revision)}; this is the copy of {model} in the cache")
            return checked(here)
        raise explained(error, model.repo, model.revision) from error
    checked(folder, sha256)
    with suppress(*RAISED), progress_bars(shown=False):  # it is here, whatever happens now
        _download(model.repo, model.revision)  # nothing but the name of the revision
    return folder


def _fetch(model: HubModel, here: Path | None, talk: Say) -> tuple[Path, str | None]:
    """Download by commit, which gives no branch or tag a new meaning; also the hash that the weights should have."""
    from huggingface_hub import HfApi, constants

    info = _patiently(
        lambda: HfApi(library_name="fam").model_info(
            model.repo, revision=model.revision, files_metadata=True, timeout=INFO_TIMEOUT
        ),
        talk,
    )
    hub = {file.rfilename: file for file in info.siblings or []}
    _check_listing(model, hub)
    if here is None or here.name != info.sha:
        sizes = ", ".join(f"{name} {human(hub[name].size or 0)}" for name in FILES if name in hub)
        talk(f"pulling {model} at {(info.sha or '')[:12]} into {constants.HF_HUB_CACHE}: {sizes}")
    large = getattr(hub[WEIGHTS_FILE], "lfs", None)
    return _patiently(lambda: _download(model.repo, info.sha), talk), large.sha256 if large else None


def _download(repo: str, revision: str | None, local: bool = False) -> Path:
    from huggingface_hub import snapshot_download

    patterns = list(FILES)  # without wildcards: these three files and no other
    return Path(
        snapshot_download(repo, revision=revision, allow_patterns=patterns, local_files_only=local, library_name="fam")
    )


def fetch_card(model: HubModel) -> Path:
    """The card of a model alone.

    Raises:
        WeightsError: It cannot be had.
    """
    from huggingface_hub import hf_hub_download

    from famcli.hub.errors import RAISED, explained

    try:
        with progress_bars(shown=False):
            return Path(hf_hub_download(model.repo, CARD_FILE, revision=model.revision, library_name="fam"))
    except RAISED as error:
        raise explained(error, model.repo, model.revision) from error


def checked(folder: Path, sha256: str | None = None) -> Path:
    """A folder of the cache, if its files are what they should be.

    Weights with another hash are removed, so that the next pull fetches them anew.

    Args:
        folder: A snapshot in the cache.
        sha256: What the weights must have; by default what the Hub said when they were fetched.

    Raises:
        WeightsError: They are not, or this is no FAM checkpoint.
        ConfigError: Its config is not allowed.
    """
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE).resolve()
    for name in FILES:
        if (folder / name).is_file() and not (folder / name).resolve().is_relative_to(cache):
            msg = f"'{folder / name}' leads out of the cache; remove '{folder}' and pull again"
            raise WeightsError(msg)
    weights = folder / WEIGHTS_FILE
    for expected in (sha256, _stored_hash(weights)):
        if expected and weights.is_file() and (seen := sha256_file(weights)) != expected:
            _remove(weights)
            msg = (
                f"the weights of '{folder}' have SHA-256 {seen}, not {expected}; they were removed from the cache, "
                "so pull again, and tell the publisher if that does not help"
            )
            raise WeightsError(msg)
    check_checkpoint(folder)
    return folder


def _stored_hash(path: Path) -> str | None:
    """SHA-256 that the Hub gave for a large file: the cache calls its blob so, where the disk has symbolic links."""
    if not path.is_symlink():
        return None
    name = Path(os.readlink(path)).name
    return name if _SHA256.fullmatch(name) else None


def _remove(path: Path) -> None:
    # A snapshot links to the repository's blob, which may link to one that several repositories share.
    blob = path.parent / os.readlink(path) if path.is_symlink() else path
    for link in (path.resolve(), blob, path):
        link.unlink(missing_ok=True)


def _check_listing(model: HubModel, hub: dict[str, Any]) -> None:
    """Before anything is fetched: the files are there, and none is absurdly large."""
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if name not in hub]
    if missing:
        msg = f"'{model}' is no FAM checkpoint: the repository has no {' and no '.join(missing)}"
        raise WeightsError(msg)
    for name, most in FILES.items():
        if name in hub and (hub[name].size or 0) > most:
            msg = f"{name} of '{model}' has {human(hub[name].size)}; no FAM checkpoint needs more than {human(most)}"
            raise WeightsError(msg)


def _patiently(ask: Callable[[], T], talk: Say) -> T:
    """Ask again while the trouble may pass."""
    from famcli.hub.errors import RAISED, passing, status

    for wait in WAITS:
        try:
            return ask()
        except RAISED as error:
            if not passing(error):
                raise
            code = status(error)
            talk(f"the Hub has a problem ({code or type(error).__name__}); trying again in {wait:g} s")
            time.sleep(wait)
    return ask()


def _silent(_: str) -> None:
    pass
