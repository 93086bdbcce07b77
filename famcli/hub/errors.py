"""What the Hub's client raises, as one sentence with the next step.

The client's own text is never repeated: it may hold addresses and whatever a server chose to answer.
"""

from __future__ import annotations

import json

from huggingface_hub import constants, errors
from huggingface_hub.errors import HfHubHTTPError

from famcli_models.errors import WeightsError

# The first are those of the HTTP library the client is built on, which is not the same in all its versions.
NETWORK: tuple[type[Exception], ...] = (*HfHubHTTPError.__bases__, OSError)
# What the client trips over when an answer is JSON, but not the Hub's.
CONFUSED = (AttributeError, KeyError, TypeError)
RAISED: tuple[type[Exception], ...] = (*NETWORK, ValueError, *CONFUSED, errors.EntryNotFoundError)
UPLOAD_RAISED: tuple[type[Exception], ...] = (*RAISED, RuntimeError)  # the last by what sends large files
DOWN = 500
NO_HUB = "the endpoint was reached, but is no Hub; check HF_ENDPOINT, and whether the network wants a log-in first"


def status(error: BaseException) -> int | None:
    """The HTTP status that an error is about, or that of the error it was raised from."""
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        if response is not None and isinstance(getattr(response, "status_code", None), int):
            return int(response.status_code)
        seen = seen.__cause__
    return None


def passing(error: BaseException) -> bool:
    """Whether trying again may help: the server has a problem, or the connection broke."""
    code = status(error)
    if code is not None:
        return code >= DOWN
    if getattr(error, "errno", None) is not None:  # the disk's
        return False
    # Without a connection nothing has broken: it is known at once, and the same in a second.
    refused = isinstance(error, (ValueError, errors.EntryNotFoundError)) or "Connect" in type(error).__name__
    offline = isinstance(error, errors.OfflineModeIsEnabled)
    return isinstance(error, NETWORK) and not refused and not offline


def explained(error: Exception, repo: str, revision: str | None) -> WeightsError:
    """An error of the client in our words.

    Args:
        error: One of :data:`RAISED`.
        repo: ``ORG/NAME``.
        revision: What was asked for.
    """
    code = status(error)
    if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
        text = f"'{repo}' has no such file at revision '{revision or 'main'}'"
    elif isinstance(error, errors.GatedRepoError):
        text = f"'{repo}' asks you to accept its terms first: log in with 'hf auth login' and accept them on its page"
    elif isinstance(error, errors.RevisionNotFoundError):
        text = f"'{repo}' has no revision '{revision or 'main'}'; its page lists branches and tags"
    elif isinstance(error, errors.RepositoryNotFoundError):
        text = f"the Hub has no repository '{repo}' that you may see; check the name, and for a private one log in "
        text += "with 'hf auth login' or set HF_TOKEN"
    elif _offline(error):
        text = f"'{repo}' cannot be reached in offline mode; unset HF_HUB_OFFLINE and try again"
    elif code == 401:
        text = "the Hub does not accept your token; log in with 'hf auth login' or set another HF_TOKEN"
    elif code == 403:
        text = f"your token does not allow this with '{repo}'; use one that may, with 'hf auth login' or HF_TOKEN"
    elif code == 429:
        text = "the Hub says that you ask too often; wait some minutes and try again"
    elif code is not None and code >= DOWN:
        text = f"the Hub has a problem (HTTP {code}); try again later"
    elif isinstance(error, errors.HFValidationError):
        text = f"'{repo}' is no repository of the Hub; give it as ORG/NAME"
    elif isinstance(error, errors.LocalEntryNotFoundError) or code is None:
        unreached = f"the Hub cannot be reached ({type(error).__name__}); check the network, HF_ENDPOINT and proxies"
        text = NO_HUB if _nonsense(error) else unreached
    else:
        text = f"the Hub refused this with HTTP {code}"
    return WeightsError(text)


def _offline(error: Exception) -> bool:
    """Whether nothing was asked, by the user's choice."""
    missing = isinstance(error, errors.LocalEntryNotFoundError)
    return isinstance(error, errors.OfflineModeIsEnabled) or (missing and bool(constants.HF_HUB_OFFLINE))


def _nonsense(error: BaseException) -> bool:
    """Whether a server has answered, but not as the Hub does: with a page for people, most often."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, (json.JSONDecodeError, errors.FileMetadataError, *CONFUSED)):
            return True
        seen = seen.__cause__
    return False
