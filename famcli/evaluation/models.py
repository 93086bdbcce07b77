"""The model under test and its baselines: loaded by name, and where their weights came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from famcli.hub.names import find_model
from famcli.inference.engine import AUTO, Engine, open_engine
from famcli_models.checkpoint import WEIGHTS_FILE
from famcli_models.errors import ConfigError, UnknownNameError
from famcli_models.files import sha256_file

if TYPE_CHECKING:  # torch takes seconds to import, and maps and boxes of others are scored without it
    from famcli_models.methods.method import Method


BASELINE = "cam"  # what an evaluation compares with, unless it is told otherwise


@dataclass(frozen=True, slots=True)
class Model:
    """The model under test, or a baseline beside it."""

    engine: Engine[Any] = field(repr=False)
    title: str  # what rows of results call it; no two of an evaluation have the same
    name: str | None = None  # what the user called it; none for a baseline that is part of the model under test
    folder: Path | None = None  # its checkpoint, if it was read from one


def find_models(
    model: str | Path | Method,
    method: str | None = None,
    baseline: str | Path | Method | None = None,
    same_classes: bool = True,
    say: Callable[[str], None] | None = None,
    *,
    device: str = AUTO,
    engine: str = AUTO,
) -> list[Model]:
    """The model under test, and its baseline: another model of any method, or that of its own features if it has one.

    ``model`` and ``baseline`` are a packaged name, a checkpoint folder, a name on the Hub, or a model; ``say`` is
    called with a sentence on what is downloaded, or why there is no baseline.
    """
    opened = partial(_open, say=say, device=device, engine=engine)
    first = opened(model, method)
    if baseline is not None:
        other = opened(baseline, None)
        if same_classes and other.engine.class_names != first.engine.class_names:
            raise ConfigError(f"--baseline '{other.name}' knows other classes than the model: they cannot be compared")
        title = other.title if other.title != first.title else f"{other.title} (baseline)"
        return [first, replace(other, title=title)]
    if first.engine.config.method == BASELINE:
        return [first]
    own = first.engine.beside(BASELINE)
    if own is not None:
        return [first, Model(own, own.title)]
    if say is not None:
        say(
            f"no {BASELINE.upper()} beside it: this {first.title} has none without training. Train one with 'fam train "
            f"--method {BASELINE}' on the same data and give its run as --baseline RUN"
        )
    return [first]


def _open(
    model: str | Path | Method, method: str | None, say: Callable[[str], None] | None, device: str, engine: str
) -> Model:
    if isinstance(model, (str, Path)):
        folder = find_model(str(model), say)
        found = open_engine(folder, method, device, name=engine, say=say)
        return Model(found, found.title, str(model), folder)
    from famcli.inference.torch_engine import TorchEngine
    from famcli_models.methods import METHODS

    if method is not None and method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    network = METHODS[method].from_model(model) if method else model
    return Model(TorchEngine(network, device), network.title, network.title)


def source(models: Sequence[Model]) -> dict[str, Any]:
    """Where the model under test and its baseline came from, for the result card; JSON values."""
    first, *baselines = models
    config, origin, folder = first.engine.config, first.engine.provenance, first.folder
    facts = {
        "kind": "model",
        "name": first.name,
        "method": first.engine.title,
        "backbone": config.backbone,
        "backbone_weights": origin.get("backbone_weights"),
        "weights_sha256": _sha256(first),
        "revision": folder.name if folder and folder.parent.name == "snapshots" else None,
        "input_size": config.size,
        "classifier": config.classifier,
        **{key: origin.get(key) for key in ("data", "recipe", "seed", "settings_sha256")},
        "tuned_on_test": bool(origin.get("tuned_on_test", False)),
        "baseline": None,
    }
    for other in baselines:
        if other.name is not None:
            facts["baseline"] = other.name
            facts["baseline_weights_sha256"] = _sha256(other)
            facts["baseline_tuned_on_test"] = bool(other.engine.provenance.get("tuned_on_test", False))
    return facts


def _sha256(model: Model) -> str | None:
    return sha256_file(model.folder / WEIGHTS_FILE) if model.folder else None
