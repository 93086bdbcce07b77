"""Download a model from the Hugging Face Hub into its client's cache, and check it before anything uses it.

The endpoint, the cache, the token, proxies and offline mode are settings of huggingface_hub (``HF_*``); nothing here
reads them but to say what they mean. The text of its errors is never repeated: it may hold addresses and whatever a
server chose to answer.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import HfApi, constants, errors, hf_hub_download, snapshot_download
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from famcli.data.public.catalog import human
from famcli.hub.names import HubModel
from famcli_models.checkpoint import CONFIG_FILE, GRAPH_FILE, MAX_CONFIG_BYTES, MAX_WEIGHTS_BYTES, WEIGHTS_FILE, resolve
from famcli_models.errors import WeightsError
from famcli_models.files import sha256_file
from famcli_models.graph import MAX_GRAPH_BYTES

CARD_FILE = "README.md"
# The largest size of each file that is fetched; nothing else is.
FILES = {
    CONFIG_FILE: MAX_CONFIG_BYTES,
    WEIGHTS_FILE: MAX_WEIGHTS_BYTES,
    GRAPH_FILE: MAX_GRAPH_BYTES,
    CARD_FILE: 4 * 2**20,
}
WAITS = (1.0, 2.0)  # seconds before trying again
INFO_TIMEOUT = 15.0  # seconds
DOWN = 500  # the HTTP status from which on it is the server that has a problem
# The first are those of the HTTP library the client is built on, which is not the same in all its versions.
NETWORK: tuple[type[Exception], ...] = (*errors.HfHubHTTPError.__bases__, OSError)
# What the client trips over when an answer is JSON, but not the Hub's.
CONFUSED = (AttributeError, KeyError, TypeError)
RAISED: tuple[type[Exception], ...] = (*NETWORK, ValueError, *CONFUSED, errors.EntryNotFoundError)
# What comes of a server that answers, but not as the Hub does: with a page for people, most often.
NO_HUB = (json.JSONDecodeError, errors.FileMetadataError, *CONFUSED)
REFUSALS = {
    401: "the Hub does not accept your token; log in with 'hf auth login' or set another HF_TOKEN",
    403: "your token does not allow this with '{repo}'; use one that may, with 'hf auth login' or HF_TOKEN",
    429: "the Hub says that you ask too often; wait some minutes and try again",
}
_SHA256 = re.compile(r"[0-9a-f]{64}")

Say = Callable[[str], None]
T = TypeVar("T")


def cached(model: HubModel) -> Path | None:
    """Folder of a model that is whole in the cache; the network is not asked.

    Its revision is the one that was last pulled, if a branch or tag has moved since.
    """
    try:
        folder = _download(model.repo, model.revision, local=True)
    except RuntimeError as error:
        raise WeightsError("no home folder is known for this user, where models go: set HOME, or HF_HOME") from error
    except (errors.EntryNotFoundError, ValueError):  # nothing there, or not whole
        return None
    return folder if all((folder / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE)) else None


def pull(model: HubModel, say: Say | None = None) -> Path:
    """Fetch what the Hub has and the cache has not; the folder in the cache, with checked config and weights.

    A branch or tag means the new revision from when that is whole and checked, and the one before until then. Without
    ``say`` there are no progress bars either.
    """
    talk = say or silent
    here = cached(model)
    if constants.HF_HUB_OFFLINE:
        if here is None:
            msg = f"'{model}' is not in the cache, and HF_HUB_OFFLINE is set; unset it and run 'fam pull {model}'"
            raise WeightsError(msg)
        talk(f"offline: this is the copy of {model} in the cache")
        return checked(here)
    try:
        with progress_bars(say):
            folder, sha256 = _fetch(model, here, talk)
    except RAISED as error:
        if getattr(error, "errno", None) is not None:  # not the network's: a full disk, a folder without permission
            raise
        why = explained(error, model.repo, model.revision)
        if here is None or not (passing(error) or status(error) is None):
            raise why from error
        talk(f"{why}; this is the copy of {model} in the cache")
        return checked(here)
    checked(folder, sha256)
    _check(folder)
    with suppress(*RAISED), progress_bars(None):  # it is here, whatever happens now
        _download(model.repo, model.revision)  # nothing but the name of the revision
    return folder


def fetch_card(model: HubModel) -> Path:
    """The card of a model alone; a :class:`WeightsError` if it cannot be had."""
    try:
        with progress_bars(None):
            return Path(hf_hub_download(model.repo, CARD_FILE, revision=model.revision, library_name="fam"))
    except RAISED as error:
        raise explained(error, model.repo, model.revision) from error


def checked(folder: Path, sha256: str | None = None) -> Path:
    """A snapshot in the cache, if its files are in it and the weights are those of the Hub.

    Weights with another hash than ``sha256``, or than the Hub said when they were fetched, are removed, so that the
    next pull fetches them anew.
    """
    cache = Path(constants.HF_HUB_CACHE).resolve()
    for name in FILES:
        if (folder / name).is_file() and not (folder / name).resolve().is_relative_to(cache):
            raise WeightsError(f"'{folder / name}' leads out of the cache; remove '{folder}' and pull again")
    weights = folder / WEIGHTS_FILE
    # The cache calls the blob of a large file by the hash that the Hub gave, where the disk has symbolic links.
    blob = Path(os.readlink(weights)).name if weights.is_symlink() else ""
    for expected in (sha256, blob if _SHA256.fullmatch(blob) else None):
        if expected and weights.is_file() and (found := sha256_file(weights)) != expected:
            _remove(weights)
            raise WeightsError(
                f"the weights of '{folder}' have SHA-256 {found}, not {expected}; they were removed from the cache, "
                "so pull again, and tell the publisher if that does not help"
            )
    return resolve(folder)


def _check(folder: Path) -> None:
    from famcli_models.loading import check_checkpoint  # torch takes seconds to import, and what is here was checked

    check_checkpoint(folder)


def _remove(path: Path) -> None:
    # A snapshot links to the repository's blob, which may link to one that several repositories share.
    blob = path.parent / os.readlink(path) if path.is_symlink() else path
    for link in (path.resolve(), blob, path):
        link.unlink(missing_ok=True)


def _fetch(model: HubModel, here: Path | None, talk: Say) -> tuple[Path, str | None]:
    """Download by commit, which gives no branch or tag a new meaning; also the hash that the weights should have."""
    api = HfApi(library_name="fam")
    info = _with_retries(
        lambda: api.model_info(model.repo, revision=model.revision, files_metadata=True, timeout=INFO_TIMEOUT), talk
    )
    hub = {file.rfilename: file for file in info.siblings or []}
    _check_sizes(model, hub)
    if here is None or here.name != info.sha:
        sizes = ", ".join(f"{name} {human(hub[name].size or 0)}" for name in FILES if name in hub)
        talk(f"pulling {model} at {(info.sha or '')[:12]} into {constants.HF_HUB_CACHE}: {sizes}")
    large = getattr(hub[WEIGHTS_FILE], "lfs", None)
    return _with_retries(lambda: _download(model.repo, info.sha), talk), large.sha256 if large else None


def _check_sizes(model: HubModel, hub: dict[str, Any]) -> None:
    """Before anything is fetched: the files are there, and none is absurdly large."""
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if name not in hub]
    if missing:
        raise WeightsError(f"'{model}' is no FAM checkpoint: the repository has no {' and no '.join(missing)}")
    for name, most in FILES.items():
        if name in hub and (hub[name].size or 0) > most:
            msg = f"{name} of '{model}' has {human(hub[name].size)}; no FAM checkpoint needs more than {human(most)}"
            raise WeightsError(msg)


def _download(repo: str, revision: str | None, local: bool = False) -> Path:
    patterns = list(FILES)  # without wildcards: these files and no other
    return Path(
        snapshot_download(repo, revision=revision, allow_patterns=patterns, local_files_only=local, library_name="fam")
    )


def _with_retries(ask: Callable[[], T], talk: Say) -> T:
    for wait in WAITS:
        try:
            return ask()
        except RAISED as error:
            if not passing(error):
                raise
            talk(f"the Hub has a problem ({status(error) or type(error).__name__}); trying again in {wait:g} s")
            time.sleep(wait)
    return ask()


@contextmanager
def progress_bars(say: Say | None) -> Iterator[None]:
    """The client's progress bars: on a terminal, unless nothing is to be said."""
    if (say is not None and sys.stderr.isatty()) or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def silent(_: str) -> None:
    """Say nothing."""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, then those it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__


def status(error: BaseException) -> int | None:
    """The HTTP status that an error is about, or that of the error it was raised from."""
    codes = (getattr(getattr(cause, "response", None), "status_code", None) for cause in _causes(error))
    return next((code for code in codes if isinstance(code, int)), None)


def passing(error: BaseException) -> bool:
    """Whether trying again may help: the server has a problem, or the connection broke."""
    code = status(error)
    if code is not None:
        return code >= DOWN
    if getattr(error, "errno", None) is not None:  # the disk's
        return False
    # Without a connection nothing has broken: it is known at once, and the same in a second.
    at_once = (ValueError, errors.EntryNotFoundError, errors.OfflineModeIsEnabled)
    return isinstance(error, NETWORK) and not isinstance(error, at_once) and "Connect" not in type(error).__name__


def explained(error: Exception, repo: str, revision: str | None) -> WeightsError:
    """An error of the client, one of :data:`RAISED`, as one sentence with the next step."""
    code = status(error)
    absent = isinstance(error, errors.LocalEntryNotFoundError)
    if isinstance(error, errors.EntryNotFoundError) and not absent:
        text = f"'{repo}' has no such file at revision '{revision or 'main'}'"
    elif isinstance(error, errors.GatedRepoError):
        text = f"'{repo}' asks you to accept its terms first: log in with 'hf auth login' and accept them on its page"
    elif isinstance(error, errors.RevisionNotFoundError):
        text = f"'{repo}' has no revision '{revision or 'main'}'; its page lists branches and tags"
    elif isinstance(error, errors.RepositoryNotFoundError):
        text = f"the Hub has no repository '{repo}' that you may see; check the name, and for a private one log in "
        text += "with 'hf auth login' or set HF_TOKEN"
    elif isinstance(error, errors.OfflineModeIsEnabled) or (absent and constants.HF_HUB_OFFLINE):
        text = f"'{repo}' cannot be reached in offline mode; unset HF_HUB_OFFLINE and try again"
    elif code is not None and code in REFUSALS:
        text = REFUSALS[code].format(repo=repo)
    elif code is not None and code >= DOWN:
        text = f"the Hub has a problem (HTTP {code}); try again later"
    elif isinstance(error, errors.HFValidationError):
        text = f"'{repo}' is no repository of the Hub; give it as ORG/NAME"
    elif code is not None and not absent:
        text = f"the Hub refused this with HTTP {code}"
    elif any(isinstance(cause, NO_HUB) for cause in _causes(error)):
        text = "the endpoint was reached, but is no Hub; check HF_ENDPOINT, and whether the network wants a log-in "
        text += "first"
    else:
        text = f"the Hub cannot be reached ({type(error).__name__}); check the network, HF_ENDPOINT and proxies"
    return WeightsError(text)
