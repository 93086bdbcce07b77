"""Resume state of a run: weights, optimizer, position and history in one file of tensors and JSON, without pickle.

Importing this needs no torch, so that a finished run can say at once that it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, TypeAdapter
from safetensors import SafetensorError, safe_open
from typing_extensions import NotRequired, TypedDict

from famcli.results.schema import check
from famcli.training.monitor import Epoch, Meter
from famcli_models.checkpoint import (
    COLLAPSED,
    CONFIG_FILE,
    MAX_WEIGHTS_BYTES,
    REFERENCE,
    check_finite,
    open_file,
    read_config,
    strict_json,
)
from famcli_models.errors import WeightsError, short, shown
from famcli_models.files import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = "1"
SWEEP_FILE = "sweep.json"  # in the folder of a sweep: the recipe of each run, as it was asked for
LAST, BEST = "last.safetensors", "best"  # in the folder of a run: the state, and the checkpoint of the best epoch


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a finished run leaves.

    Attributes:
        folder: The run folder, which is a checkpoint too: the model of the last epoch.
        best: Checkpoint of the best epoch; ``None`` if no epoch's map says anything.
        best_epoch: Its number, from 1.
        selected_by: What the best epoch was chosen by, in words.
        history: Every epoch.
        collapsed: Why the model of the last epoch is of no use and what to change, if its map covers everything or
            nothing, or its parts are all alike; its checkpoint is marked.
        main: This process wrote the folder; false in all but one of several.
    """

    folder: Path
    best: Path | None
    best_epoch: int | None
    selected_by: str
    history: tuple[Epoch, ...]
    collapsed: str | None = None
    main: bool = True


@dataclass(frozen=True, slots=True)
class State:
    """A moment between two steps: tensors of model, average and optimizer by name, and JSON-able facts."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    def below(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with ``prefix.``, by the rest of their names."""
        whole = f"{prefix}."
        return {name.removeprefix(whole): t for name, t in self.tensors.items() if name.startswith(whole)}


class _RunFacts(TypedDict):
    recipe: dict[str, dict[str, Any]]
    provenance: dict[str, Any]
    best: float | None
    best_epoch: int


class _Facts(TypedDict):
    """What the facts of a state have to be, so that a changed file is a sentence and no run of something else."""

    step: int
    steps: int
    size: int
    meter: Meter
    history: list[Annotated[Epoch, BeforeValidator(Epoch.current)]]
    unreadable: dict[Any, Any]  # names may be no Unicode
    scaler: dict[str, Any]
    run: NotRequired[_RunFacts]


_FACTS: TypeAdapter[Mapping[str, Any]] = TypeAdapter(_Facts)


def write_state(path: Path, state: State) -> None:
    """Write a state; a reader finds the old file or the new one, never half of one."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    from safetensors.torch import save_file

    header = {"fam-state": FORMAT_VERSION, "facts": json.dumps(state.facts)}
    try:
        write_atomic(path, lambda temporary: save_file(tensors, temporary, metadata=header))
    except SafetensorError as error:  # a full disk, most often
        raise WeightsError(f"cannot write {path}: {error}") from error


def read_state(path: Path, *, facts_alone: bool = False) -> State:
    """Read a state, or its facts without the tensors, which takes no time.

    A ``WeightsError``, or a ``DataError`` of a fact, says that it is absent, damaged, or of another version.
    """
    if not path.exists():
        again = f"fam train --recipe {path.parent / 'recipe.toml'} --out {path.parent} --exist-ok"
        msg = f"'{path.parent}' holds no {path.name}: the run ended before its first save; start it again with {again}"
        raise WeightsError(msg)
    with open_file(path, MAX_WEIGHTS_BYTES):
        pass  # it is a regular file
    try:
        with safe_open(path, framework="numpy" if facts_alone else "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in (() if facts_alone else file.keys())}
        version, facts = header.get("fam-state"), strict_json(header.get("facts", "null"))
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise WeightsError(f"cannot read {path}: {short(str(error))}") from error
    if version != FORMAT_VERSION or not isinstance(facts, dict):
        raise WeightsError(f"{path} has format {shown(version)}; this version of fam reads {FORMAT_VERSION!r}")
    if not facts_alone:
        check_finite(path, {name: bool(tensor.isfinite().all()) for name, tensor in tensors.items()})
    return State(tensors, _FACTS.dump_python(check(_FACTS, facts, str(path))))


def is_sweep(folder: Path) -> bool:
    """Whether a folder is that of several runs."""
    return (folder / SWEEP_FILE).is_file()


def finished_run(folder: Path, say: Callable[[str], None]) -> TrainResult | None:
    """What the run in a folder left, which is said too, if it has come to its end; no tensors and no data are read."""
    if not (folder / LAST).is_file():
        return None
    facts = read_state(folder / LAST, facts_alone=True).facts
    configs = [read_config(at) for at in (folder, folder / BEST) if (at / CONFIG_FILE).is_file()]
    recorded = all(REFERENCE in config["provenance"] for config in configs)  # what is written last
    if facts["step"] < facts["steps"] or not configs or not recorded:
        return None
    number, selected_by = facts["run"]["best_epoch"] or None, facts["run"]["provenance"]["selected_by"]
    best = folder / BEST if number else None
    history = tuple(Epoch(**epoch) for epoch in facts["history"])
    main = os.environ.get("RANK", "0") == "0"  # set by whoever launches several processes
    if main:
        say(f"{folder} is finished after {len(history)} epochs")
    if main and best:
        say(f"best epoch {number}, by {selected_by}: {best}")
    return TrainResult(folder, best, number, selected_by, history, configs[0]["provenance"].get(COLLAPSED), main)
