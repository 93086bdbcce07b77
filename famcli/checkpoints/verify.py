"""Verification of a checkpoint: files, hashes, config against weights, and its reference outputs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from famcli.checkpoints import reference
from famcli.hub.pull import CARD_FILE, FILES
from famcli.inference.engine import AUTO, Engine, choose_engine, open_engine
from famcli_models.checkpoint import CONFIG_FILE, GRAPH, GRAPH_FILE, WEIGHTS_FILE, read_config, read_shapes, resolve
from famcli_models.errors import FamError, WeightsError, short
from famcli_models.files import sha256_file

HASH = re.compile(r"\b[0-9a-f]{64}\b")
BOTH = "both"  # every engine that can run it
WEIGHTS, HASHES, OUTPUTS = "config and weights", "SHA-256", "reference outputs"


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a checkpoint."""

    name: str
    good: bool | None  # none where nothing is stored to compare with
    detail: str  # the finding in one sentence


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of a checkpoint, in the order they were made."""

    sha256: str  # of model.safetensors; empty if it cannot be read
    checks: Sequence[Check]
    map_difference: float | None = None  # the largest of M from the reference outputs, if they were compared

    @property
    def problems(self) -> list[str]:
        """One sentence for each thing that is wrong."""
        return [check.detail for check in self.checks if check.good is False]


def verify_checkpoint(folder: Path, device: str = "cpu", engine: str = BOTH) -> list[str]:
    """What is wrong with a checkpoint, one sentence each; an empty list is a good checkpoint.

    It checks files, hashes, config against weights, the graph, and reference outputs. That no reference outputs are
    stored is not counted as wrong; ``fam verify --record`` stores them.

    Args:
        folder: Folder of a checkpoint.
        device: Where PyTorch runs the model: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        engine: What runs it: ``onnx``, ``torch``, ``both``, which leaves out ONNX Runtime if there is no graph, or
            ``auto``, as :func:`famcli.predict_files` chooses.

    Raises:
        ConfigError: The device is not there.
    """
    return inspect(folder, device, engine).problems


def inspect(folder: Path, device: str = "cpu", engine: str = BOTH) -> Report:
    """Check a checkpoint; see :func:`verify_checkpoint`."""
    if device not in {AUTO, "cpu"}:
        from famcli.inference.torch_engine import pick_device

        pick_device(device)  # that it is not there says nothing of the checkpoint
    try:
        resolve(folder)
        provenance, sha256 = read_config(folder)["provenance"], sha256_file(folder / WEIGHTS_FILE)
        names = [choose_engine(folder, None, device)[0]] if engine == AUTO else [engine]
        if engine == BOTH:
            names = ["torch", "onnx"] if GRAPH in provenance else ["torch"]
        engines = [_open(folder, device, name) for name in names]
        checks, map_differences = [_weights(folder)], []
    except (FamError, OSError) as error:
        return Report("", [Check(WEIGHTS, good=False, detail=str(error))])
    try:
        kept = reference.stored(provenance)
        checks.append(_hashes(folder, sha256, kept))
        if kept is None:
            detail = f"none are stored in {CONFIG_FILE}; 'fam verify {folder} --record' stores them"
            checks.append(Check(OUTPUTS, good=None, detail=detail))
        elif checks[0].good:
            for one in engines:
                check, map_difference = _outputs(one, kept)
                checks.append(check)
                map_differences.append(map_difference)
    except WeightsError as error:
        checks.append(Check(OUTPUTS, good=False, detail=str(error)))
    if GRAPH not in provenance:
        detail = f"none, so PyTorch runs the model; 'fam export {folder} --format graph' makes it"
        checks.append(Check(GRAPH_FILE, good=None, detail=detail))
    return Report(sha256, checks, max(map_differences, default=None))


def _open(folder: Path, device: str, name: str) -> Engine[Any]:
    """An engine, its norms not folded if it is PyTorch's: the reference outputs were made so."""
    if name != "torch":
        return open_engine(folder, None, AUTO, name=name)
    from famcli.inference.torch_engine import TorchEngine
    from famcli_models.loading import load_model

    return TorchEngine(load_model(folder), device, fold=False)


def _weights(folder: Path) -> Check:
    """That they were loaded means that names, shapes and types are those of the model, and values finite."""
    sizes = [math.prod(shape) for _, shape in read_shapes(folder / WEIGHTS_FILE).values()]
    detail = f"{len(sizes)} tensors with {sum(sizes):,} finite values belong to the config"
    return Check(WEIGHTS, good=True, detail=detail)


def _hashes(folder: Path, sha256: str, kept: Mapping[str, Any] | None) -> Check:
    """Compare the hashes of the weights and of the config's fields with those that the config and the card state."""
    stated = {} if kept is None else {CONFIG_FILE: str(kept.get("weights_sha256"))}
    if of_card := _card_hash(folder / CARD_FILE):
        stated[CARD_FILE] = of_card
    wrong = [
        f"{WEIGHTS_FILE} has SHA-256 {sha256}, but {name} states {short(value)}"
        for name, value in stated.items()
        if value != sha256
    ][:1]
    known = None if kept is None else kept.get("config_sha256")
    if known is not None and known != reference.config_digest(read_config(folder)):
        wrong.append(f"the model's settings or class names in {CONFIG_FILE} are not those that were recorded")
    if wrong:
        fix = "get the files again, or, if you changed them yourself, run 'fam verify --record'"
        return Check(HASHES, good=False, detail=f"{', and '.join(wrong)}: {fix}")
    where = f"as {' and '.join(stated)} state{'s' if len(stated) == 1 else ''}" if stated else "stated nowhere"
    if kept is not None:
        fix = "no hash of the settings and class names is stored, so they were not compared: run 'fam verify --record'"
        where += f"; {fix}" if known is None else "; settings and class names as recorded"
    return Check(HASHES, good=True if stated else None, detail=f"{sha256}, {where}")


def _card_hash(card: Path) -> str | None:
    """The first hash behind the name of the weights, on a line of a card; a card larger than any is cut off."""
    if not card.is_file():
        return None
    with card.open(encoding="utf-8", errors="replace") as file:
        parts = (line.partition(WEIGHTS_FILE)[2] for line in file.read(FILES[CARD_FILE]).split("\n"))
    return next((found[0] for part in parts if (found := HASH.search(part))), None)


def _outputs(engine: Engine[Any], kept: Mapping[str, Any]) -> tuple[Check, float]:
    """Run an engine on the reference images and compare its outputs with those that are stored."""
    if kept.get("pictures_sha256") != reference.images_digest(engine.config.size):
        raise WeightsError("the reference images were drawn otherwise; try pip install -U famcli")
    now = reference.run_engine(engine)
    map_difference, problems = reference.compare(kept, now)
    if problems:
        detail = "; ".join(problems)
    elif reference.rounded(now)["digest"] == kept["digest"]:
        detail = f"the same to the last stored digit, digest {kept['digest']}"
    else:
        detail = f"the same within {reference.MAP_TOLERANCE:g} (largest difference of M: {map_difference:.4f})"
    return Check(f"{OUTPUTS}, {engine.runs_on}", good=not problems, detail=detail), map_difference
