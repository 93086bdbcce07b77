"""Model name to checkpoint folder: packaged, on disk, or on the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path

from famcli_models.checkpoint import CONFIG_FILE, WEIGHTS_FILE, packaged, resolve
from famcli_models.errors import WeightsError

FILES = (CONFIG_FILE, WEIGHTS_FILE, "README.md")
HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def find_model(name: str) -> Path:
    """Folder of a model's checkpoint.

    A packaged name and an existing folder never touch the network. ``ORG/NAME`` or ``ORG/NAME@REVISION``
    is taken from the Hugging Face cache or downloaded into it: config, weights and card, nothing else.
    The endpoint, the cache, the token and offline mode are huggingface_hub's own settings (``HF_*``).

    Args:
        name: Packaged name, path of a checkpoint folder, or Hub id.

    Raises:
        UnknownNameError: It is none of the three.
        WeightsError: The repository cannot be had or is not a FAM checkpoint.
    """
    match = HUB_ID.fullmatch(name)
    if name in packaged() or Path(name).exists() or match is None:
        return resolve(name)
    # Imported here: the packaged model needs no hub client.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo = match["repo"]
    try:
        folder = snapshot_download(repo, revision=match["revision"], allow_patterns=list(FILES), library_name="fam")
    except GatedRepoError as error:
        msg = f"'{repo}' asks you to accept its terms first: log in with 'hf auth login' and accept them on its page"
        raise WeightsError(msg) from error
    except RevisionNotFoundError as error:
        msg = f"'{repo}' has no revision '{match['revision']}'"
        raise WeightsError(msg) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        known = ", ".join(packaged())
        msg = f"'{name}' is no folder here and no repository on the Hub (private ones need HF_TOKEN); packaged: {known}"
        raise WeightsError(msg) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        msg = f"'{repo}' is not in the cache and the Hub cannot be reached ({type(error).__name__})"
        raise WeightsError(msg) from error
    return resolve(folder)
