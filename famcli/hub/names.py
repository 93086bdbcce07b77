"""What a model's name means; nothing is read and the network is not asked."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from famcli.hub.catalog import CATALOG
from famcli_models.checkpoint import packaged
from famcli_models.errors import ConfigError, UnknownNameError, WeightsError

ORG_VARIABLE = "FAM_HUB_ORG"
# As the Hub has them: no part begins or ends with - or a dot, so that none can be "..".
_WORD = r"[A-Za-z0-9_](?:[\w.-]{0,94}\w)?"
_NAME = re.compile(rf"(?:(?P<org>{_WORD})/)?(?P<name>{_WORD})(?:@(?P<revision>\w(?:[\w./-]{{0,250}}\w)?))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model on the Hub.

    Attributes:
        repo: ``ORG/NAME``.
        revision: Branch, tag, commit or pull request; ``None`` is the default branch.
        sha256: What ``model.safetensors`` must have, if the catalogue pins it.
    """

    repo: str
    revision: str | None = None
    sha256: str | None = None

    def __str__(self) -> str:
        """As commands take it."""
        return f"{self.repo}@{self.revision}" if self.revision else self.repo


def parse_repo(text: str) -> str:
    """``ORG/NAME`` as it is.

    Raises:
        ConfigError: It is not of this form.
    """
    match = _NAME.fullmatch(text)
    if match is None or not match["org"] or match["revision"]:
        msg = f"'{text}' is no repository; give it as ORG/NAME"
        raise ConfigError(msg)
    return text


def look_up(name: str, org: str | None = None) -> Path | HubModel:
    """A folder that is here, or a place on the Hub.

    A packaged name and an existing folder come first, so that they never need the network.

    Args:
        name: Packaged name, path of a checkpoint folder, name in the catalogue, or ``ORG/NAME``; the last two also
            with ``@REVISION``.
        org: Organisation on the Hub of a name without one; by default that of the environment variable
            ``FAM_HUB_ORG``.

    Raises:
        UnknownNameError: It is none of these.
        WeightsError: The catalogue has the name, but its weights are not published.
    """
    if name in packaged():
        return packaged()[name]
    if name and Path(name).exists():
        return Path(name)
    match = _NAME.fullmatch(name)
    if match is None:
        raise UnknownNameError("model", name, {*packaged(), *CATALOG}, "or give a folder or ORG/NAME of the Hub")
    if match["org"]:
        return HubModel(f"{match['org']}/{match['name']}", match["revision"])
    org = org or os.environ.get(ORG_VARIABLE)
    if org:
        return HubModel(parse_repo(f"{org}/{match['name']}"), match["revision"])
    facts = CATALOG.get(match["name"])
    if facts is None:
        hint = f"or give a folder, ORG/NAME of the Hub, or an organisation with --org or {ORG_VARIABLE}"
        raise UnknownNameError("model", match["name"], {*packaged(), *CATALOG}, hint)
    if facts.published is None:
        msg = (
            f"the weights of '{facts.name}' are not published yet; make them with '{facts.command}', or name an "
            f"organisation of the Hub that has them with --org or {ORG_VARIABLE}"
        )
        raise WeightsError(msg)
    if match["revision"] and match["revision"] != facts.published.revision:
        return HubModel(facts.published.repo, match["revision"])
    return HubModel(facts.published.repo, facts.published.revision, facts.published.sha256)
