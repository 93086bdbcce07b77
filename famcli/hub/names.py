"""Find and load a model by any of its names: a packaged model, a folder, or a repository of the Hugging Face Hub."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from famcli_models.checkpoint import packaged, resolve
from famcli_models.errors import ConfigError, UnknownNameError, WeightsError

if TYPE_CHECKING:
    from famcli_models.methods.method import Method

ORG_VARIABLE = "FAM_HUB_ORG"
_CUB = "for non-commercial research, as CUB-200-2011's images"
_ILSVRC = "for non-commercial research and education, as ImageNet's images"
# As the Hub has them: no part begins or ends with - or a dot, so that none can be "..".
_WORD = r"[A-Za-z0-9_](?:[\w.-]{0,94}\w)?"
_NAME = re.compile(rf"(?:(?P<org>{_WORD})/)?(?P<name>{_WORD})(?:@(?P<revision>\w(?:[\w./-]{{0,250}}\w)?))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model that has a name and a packaged recipe, and whose weights are not published yet."""

    name: str
    backbone: str
    data: str
    recipe: str
    terms: str  # what it may be used for, in a few words

    @property
    def command(self) -> str:
        """The command that makes it."""
        return f"fam train --recipe {self.recipe} --out {self.name}"


CATALOG: dict[str, ModelFacts] = {
    row.name: row
    for row in (
        ModelFacts("fam-vgg16-cub", "vgg16", "cub", "vgg16-cub", _CUB),
        ModelFacts("fam-resnet50-cub", "resnet50", "cub", "resnet50-cub", _CUB),
        ModelFacts("fam-inceptionv3-cub", "inceptionv3", "cub", "inceptionv3-cub", _CUB),
        ModelFacts("fam-mobilenetv1-cub", "mobilenetv1", "cub", "mobilenetv1-cub", _CUB),
        ModelFacts("fam-vgg16-ilsvrc", "vgg16", "ilsvrc", "vgg16-ilsvrc", _ILSVRC),
        ModelFacts("fam-resnet50-ilsvrc", "resnet50", "ilsvrc", "resnet50-ilsvrc", _ILSVRC),
        ModelFacts("fam-inceptionv3-ilsvrc", "inceptionv3", "ilsvrc", "inceptionv3-ilsvrc", _ILSVRC),
    )
}


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model on the Hub: ``ORG/NAME``, and a branch, tag, commit or pull request if it is not the default branch."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        """As commands take it."""
        return f"{self.repo}@{self.revision}" if self.revision else self.repo


def parse_repo(text: str) -> str:
    """``ORG/NAME`` as it is; anything else is a :class:`ConfigError`."""
    match = _NAME.fullmatch(text)
    if match is None or not match["org"] or match["revision"]:
        raise ConfigError(f"'{text}' is no repository; give it as ORG/NAME")
    return text


def look_up(name: str, org: str | None = None) -> Path | HubModel:
    """A folder that is here, or a place on the Hub; what is here comes first, so that it never needs the network.

    ``name`` is a packaged name, the path of a checkpoint folder, a name in the catalogue, or ``ORG/NAME``; the last two
    also with ``@REVISION``. ``org`` is that of a name without one, by default ``FAM_HUB_ORG``.
    """
    known = packaged()
    if name in known:
        return known[name]
    if name and Path(name).exists():
        return Path(name)
    match = _NAME.fullmatch(name)
    if match is None:
        raise UnknownNameError("model", name, {*known, *CATALOG}, "or give a folder or ORG/NAME of the Hub")
    if match["org"]:
        return HubModel(f"{match['org']}/{match['name']}", match["revision"])
    org = org or os.environ.get(ORG_VARIABLE)
    if org:
        return HubModel(parse_repo(f"{org}/{match['name']}"), match["revision"])
    if match["name"] in known:
        raise WeightsError(f"'{match['name']}' is packaged and has no revisions; leave out '@{match['revision']}'")
    facts = CATALOG.get(match["name"])
    if facts is None:
        hint = f"or give a folder, ORG/NAME of the Hub, or an organisation with --org or {ORG_VARIABLE}"
        raise UnknownNameError("model", match["name"], {*known, *CATALOG}, hint)
    raise WeightsError(
        f"the weights of '{facts.name}' are not published yet; make them with '{facts.command}', or name an "
        f"organisation of the Hub that has them with --org or {ORG_VARIABLE}"
    )


def find_model(
    name: str, say: Callable[[str], None] | None = None, org: str | None = None, *, local_files_only: bool = False
) -> Path:
    """Folder of a model's checkpoint; names as in :func:`load_model`. What opens it checks it.

    A packaged name and an existing folder never touch the network. A model of the Hub is taken from the cache; if it is
    not there it is pulled, and ``say`` is called with a sentence on what is downloaded.
    """
    found = look_up(name, org)
    if isinstance(found, Path):
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
