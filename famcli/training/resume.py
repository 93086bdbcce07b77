"""Resume state of a run: weights, optimizer, position and history in one file of tensors and JSON, without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from famcli_models.errors import WeightsError
from famcli_models.files import write_atomic

FORMAT_VERSION = "1"


@dataclass(frozen=True, slots=True)
class State:
    """A moment between two steps: tensors of model, average and optimizer by name, and JSON-able facts."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    def below(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with ``prefix.``, by the rest of their names."""
        whole = f"{prefix}."
        return {name.removeprefix(whole): t for name, t in self.tensors.items() if name.startswith(whole)}


def write_state(path: Path, state: State) -> None:
    """Write a state; a reader finds the old file or the new one, never half of one."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    header = {"fam-state": FORMAT_VERSION, "facts": json.dumps(state.facts)}
    try:
        write_atomic(path, lambda temporary: save_file(tensors, temporary, metadata=header))
    except SafetensorError as error:  # a full disk, most often
        raise WeightsError(f"cannot write {path}: {error}") from error


def read_state(path: Path, *, facts_alone: bool = False) -> State:
    """Read a state, or its facts without the tensors, which takes no time.

    A ``WeightsError`` says that it is absent, damaged, or of another version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in (() if facts_alone else file.keys())}
        version, facts = header.get("fam-state"), json.loads(header.get("facts", "null"))
    except FileNotFoundError as error:
        again = f"fam train --recipe {path.parent / 'recipe.toml'} --out {path.parent} --exist-ok"
        msg = f"'{path.parent}' holds no {path.name}: the run ended before its first save; start it again with {again}"
        raise WeightsError(msg) from error
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise WeightsError(f"cannot read {path}: {error}") from error
    if version != FORMAT_VERSION or not isinstance(facts, dict):
        raise WeightsError(f"{path} has format {version!r}; this version of fam reads {FORMAT_VERSION!r}")
    return State(tensors, facts)
