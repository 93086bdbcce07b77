"""The model under test and its baselines: loaded by name, and where their weights came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from famcli.hub.names import find_model
from famcli_models.checkpoint import WEIGHTS_FILE
from famcli_models.errors import ConfigError, UnknownNameError
from famcli_models.files import sha256_file

if TYPE_CHECKING:  # torch takes seconds to import, and maps and boxes of others are scored without it
    from famcli_models.methods.method import Method


@dataclass(frozen=True, slots=True)
class Model:
    """The model under test, or a baseline beside it."""

    network: Method = field(repr=False)
    title: str  # what rows of results call it; no two of an evaluation have the same
    name: str | None = None  # what the user called it; none for a baseline that is part of the model under test
    folder: Path | None = None  # its checkpoint, if it was read from one


def find_models(
    model: str | Path | Method,
    method: str | None = None,
    baseline: str | Path | Method | None = None,
    same_classes: bool = True,
    say: Callable[[str], None] | None = None,
) -> list[Model]:
    """The model under test, and its baseline: another model of any method, or that of its own features if it has one.

    ``model`` and ``baseline`` are a packaged name, a checkpoint folder, a name on the Hub, or a model; ``say`` is
    called with a sentence on what is downloaded, or why there is no baseline.
    """
    from famcli_models.methods import BASELINE, METHODS

    first = _open(model, method, say)
    if baseline is not None:
        other = _open(baseline, None, say)
        if same_classes and other.network.class_names != first.network.class_names:
            raise ConfigError(f"--baseline '{other.name}' knows other classes than the model: they cannot be compared")
        title = other.title if other.title != first.title else f"{other.title} (baseline)"
        return [first, replace(other, title=title)]
    usual = METHODS[BASELINE]
    try:
        own = usual.from_model(first.network)
    except ConfigError:
        if say is not None:
            say(
                f"no {usual.title} beside it: this {first.title} has none without training. Train one with 'fam train "
                f"--method {BASELINE}' on the same data and give its run as --baseline RUN"
            )
        return [first]
    return [first] if own is first.network else [first, Model(own, usual.title)]


def _open(model: str | Path | Method, method: str | None, say: Callable[[str], None] | None) -> Model:
    from famcli_models.loading import load_model
    from famcli_models.methods import METHODS
    from famcli_models.methods.method import Method

    if isinstance(model, Method):
        if method is not None and method not in METHODS:
            raise UnknownNameError("method", method, METHODS)
        found = METHODS[method].from_model(model) if method else model
        return Model(found, type(found).title, type(found).title)
    folder = find_model(str(model), say)
    found = load_model(folder, method)
    return Model(found, type(found).title, str(model), folder)


def source(models: Sequence[Model]) -> dict[str, Any]:
    """Where the model under test and its baseline came from, for the result card; JSON values."""
    first, *baselines = models
    config, origin, folder = first.network.config, first.network.provenance, first.folder
    facts = {
        "kind": "model",
        "name": first.name,
        "method": type(first.network).title,
        "backbone": config.backbone,
        "backbone_weights": origin.get("backbone_weights"),
        "weights_sha256": _sha256(first),
        "revision": folder.name if folder and folder.parent.name == "snapshots" else None,
        "input_size": config.size,
        "classifier": config.classifier,
        **{key: origin.get(key) for key in ("data", "recipe", "seed")},
        "tuned_on_test": bool(origin.get("tuned_on_test", False)),
        "baseline": None,
    }
    for other in baselines:
        if other.name is not None:
            facts["baseline"] = other.name
            facts["baseline_weights_sha256"] = _sha256(other)
            facts["baseline_tuned_on_test"] = bool(other.network.provenance.get("tuned_on_test", False))
    return facts


def _sha256(model: Model) -> str | None:
    return sha256_file(model.folder / WEIGHTS_FILE) if model.folder else None
