"""The page as a Hugging Face Space: a folder that needs nothing but what pip installs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from huggingface_hub import SpaceCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from famcli.hub import find_model
from famcli.hub.card import TAGS, line, read_header
from famcli.hub.listing import Listed, packaged_model
from famcli.hub.names import HubModel, look_up, parse_repo
from famcli.hub.pull import CARD_FILE, FILES, Say
from famcli.inference.engine import choose_engine
from famcli.version import __version__, requirements
from famcli_models.checkpoint import PACKAGED_DIR
from famcli_models.errors import ConfigError
from famcli_models.files import scratch

PACKAGES = Path(__file__).parent.parent, PACKAGED_DIR.parent
APP_FILE, REQUIREMENTS_FILE = "app.py", "requirements.txt"
METADATA = ("METADATA", "licenses/LICENSE")
TORCH_FOR_CPU = "--extra-index-url https://download.pytorch.org/whl/cpu"
DESCRIPTION = "Find the object in photographs, by class labels alone"  # the Hub shows at most 60 letters
APP = '''"""The page that README.md describes; on your own machine nobody else reaches it."""

import os

from famcli.web.server import serve

MODELS = {models!r}

if __name__ == "__main__":
    serve(MODELS, host="0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1")
'''


def write_space(folder: Path, repo: str, models: Sequence[str], say: Say | None = None) -> None:
    """Write the page with some models as a folder that a Space is made of; all of it or nothing.

    fam is on no package index, so the folder holds its source. Models are copied to where packaged ones are. PyTorch is
    among the requirements only if a model has no graph.

    Args:
        folder: Made by this; it may not be there yet.
        repo: ``ORG/NAME`` of the Space.
        models: Packaged names, folders of checkpoints, or names on the Hub.
        say: Called with a sentence on a model that is downloaded.

    Raises:
        ConfigError: The folder is there, two models have one name, or fam is not installed.
        FamError: A model cannot be found, or is damaged.
    """
    parse_repo(repo)
    if os.path.lexists(folder):
        send = f"send it with 'fam push {folder} --space {repo}'"
        raise ConfigError(f"'{folder}' is there already: {send}, remove it, or name another with --out")
    try:
        installed = distribution("famcli")
    except PackageNotFoundError as error:
        raise ConfigError("fam runs from a folder that is not installed; install it first: pip install .") from error
    sources: dict[str, Path] = {}  # by what a model is called where packaged ones are
    from_hub = []
    for model in dict.fromkeys(models):
        place = look_up(model)
        if isinstance(place, HubModel):
            from_hub.append(place.repo)
        name = place.resolve().name if isinstance(place, Path) else place.repo.split("/")[1]
        if name in sources:
            raise ConfigError(f"two models are called '{name}' in a Space; rename the folder of one")
        sources[name] = _checked(find_model(model, say))
    pytorch = any(choose_engine(source, None, "cpu")[0] == "torch" for source in sources.values())
    lines = [TORCH_FOR_CPU] * pytorch + requirements(pytorch=pytorch, extra="app")
    texts = {
        APP_FILE: APP.format(models=[*sources]),
        REQUIREMENTS_FILE: "\n".join(lines) + "\n",
        CARD_FILE: _card(repo, sources, from_hub),
        # By it the copy knows its version.
        **{f"famcli-{__version__}.dist-info/{file}": installed.read_text(file) or "" for file in METADATA},
    }
    with scratch(folder.parent) as beside:
        made = beside / folder.name
        for package in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__", PACKAGED_DIR.name)
            shutil.copytree(package, made / package.name, ignore=ignored)
        for name, source in sources.items():
            copy = made / PACKAGED_DIR.parent.name / PACKAGED_DIR.name / name
            copy.mkdir(parents=True)
            for file in (file for file in FILES if (source / file).is_file()):
                shutil.copyfile(source / file, copy / file)
        for file, text in texts.items():
            (made / file).parent.mkdir(parents=True, exist_ok=True)
            (made / file).write_text(text, encoding="utf-8")
        made.rename(folder)


def _checked(folder: Path) -> Path:
    """A checkpoint folder; in a Space nothing checks it any more."""
    if folder.parent != PACKAGED_DIR:
        from famcli_models.loading import check_checkpoint  # imports PyTorch

        check_checkpoint(folder)
    return folder


def _facts(name: str, folder: Path) -> Listed:
    """What is known of a model, whose terms may be the license that its card names."""
    found = packaged_model(folder)
    return replace(found, name=name, terms=found.terms or read_header(folder / CARD_FILE)[0])


def _card(repo: str, sources: Mapping[str, Path], from_hub: Sequence[str]) -> str:
    """The text of ``README.md``: a header that the Hub reads, and a few lines for people."""
    title = repo.split("/")[1]
    header = SpaceCardData(
        title=title,
        sdk="gradio",
        sdk_version=version("gradio"),
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
        app_file=APP_FILE,
        short_description=DESCRIPTION,
        license="other",  # that of each model
        models=list(from_hub) or None,
        tags=list(TAGS),
    )
    pages = Environment(
        loader=PackageLoader("famcli.web", ""),
        autoescape=False,  # noqa: S701  (it is Markdown: what a file says is made a line)
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    pages.filters["line"] = line
    models = [_facts(name, source) for name, source in sources.items()]
    page = pages.get_template("space.md")
    return page.render(header=header.to_yaml(), title=title, models=models, version=__version__)
