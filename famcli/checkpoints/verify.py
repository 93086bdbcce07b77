"""Is a checkpoint what it says it is, and does it still say what it said?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from famcli.checkpoints.reference import (
    MAP_TOLERANCE,
    Golden,
    answers,
    compare,
    digest_of_config,
    digest_of_pictures,
    stored,
)
from famcli_models.checkpoint import CONFIG_FILE, WEIGHTS_FILE, read_config
from famcli_models.errors import FamError, WeightsError, short
from famcli_models.files import sha256_file
from famcli_models.loading import check_checkpoint, load_model
from famcli_models.methods.method import Method

CARD_FILE = "README.md"
CARD_HASH = re.compile(rf"{re.escape(WEIGHTS_FILE)}[^\n]*?\b([0-9a-f]{{64}})\b")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What it is.
        good: Whether it is right; ``None`` where nothing is stored to compare with.
        detail: The finding in one sentence.
    """

    name: str
    good: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was looked at in a checkpoint.

    Attributes:
        folder: Its folder.
        sha256: Of ``model.safetensors``; empty if it cannot be read.
        checks: In the order they were made.
        map_difference: Largest difference of M from the golden prediction; ``None`` if they were not compared.
    """

    folder: Path
    sha256: str
    checks: tuple[Check, ...]
    map_difference: float | None = None

    @property
    def problems(self) -> list[str]:
        """One sentence for each thing that is wrong."""
        return [check.detail for check in self.checks if check.good is False]


def inspect(folder: Path, device: str = "cpu") -> Report:
    """Look at a checkpoint: files, hashes, config against weights, golden prediction.

    Args:
        folder: Folder of a checkpoint.
        device: Where the golden prediction is made again; see :func:`famcli.inference.torch_engine.pick_device`.

    Raises:
        ConfigError: The device is not there.
    """
    try:
        check_checkpoint(folder)
        sha256 = sha256_file(folder / WEIGHTS_FILE)
        model = load_model(folder)
    except (FamError, OSError) as error:
        return Report(folder, "", (Check("config and weights", good=False, detail=str(error)),))
    checks = [_finite(model)]
    map_difference = None
    try:
        kept = stored(model.provenance)
        checks.append(_hashes(folder, sha256, kept))
        if kept is None:
            detail = f"none is stored in {CONFIG_FILE}; 'fam verify {folder} --record' stores one"
            checks.append(Check("golden prediction", good=None, detail=detail))
        elif checks[0].good:
            found, map_difference = _golden(model, kept, device)
            checks.append(found)
    except WeightsError as error:
        checks.append(Check("golden prediction", good=False, detail=str(error)))
    return Report(folder, sha256, tuple(checks), map_difference)


def verify_checkpoint(folder: Path, device: str = "cpu") -> list[str]:
    """What is wrong with a checkpoint, one sentence each; an empty list is a good checkpoint.

    That no golden prediction is stored is not counted as wrong; :func:`famcli.checkpoints.reference.record` stores one.

    Args:
        folder: Folder of a checkpoint.
        device: See :func:`inspect`.

    Raises:
        ConfigError: The device is not there.
    """
    return inspect(folder, device).problems


def _finite(model: Method) -> Check:
    """Shapes, types and names were compared when the model was loaded; values were not."""
    tensors = model.state_dict()
    odd = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if odd:
        detail = (
            f"{len(odd)} tensors of {WEIGHTS_FILE} hold values that are not finite, first {odd[0]}; get the file again"
        )
        return Check("config and weights", good=False, detail=detail)
    numbers = sum(tensor.numel() for tensor in tensors.values())
    detail = f"{len(tensors)} tensors with {numbers:,} finite values belong to the config"
    return Check("config and weights", good=True, detail=detail)


def _hashes(folder: Path, sha256: str, kept: Mapping[str, Any] | None) -> Check:
    """Compare the hashes of the weights and of the config's fields with those that the config and the card state."""
    stated = {} if kept is None else {CONFIG_FILE: str(kept.get("weights_sha256"))}
    card = folder / CARD_FILE
    if card.is_file() and (match := CARD_HASH.search(card.read_text(encoding="utf-8", errors="replace"))):
        stated[CARD_FILE] = match[1]
    wrong = [
        f"{WEIGHTS_FILE} has SHA-256 {sha256}, but {name} states {short(value)}"
        for name, value in stated.items()
        if value != sha256
    ][:1]
    known = None if kept is None else kept.get("config_sha256")
    if known is not None and known != digest_of_config(read_config(folder)):
        wrong.append(f"the model's settings or class names in {CONFIG_FILE} are not those that were recorded")
    if wrong:
        fix = "get the files again, or, if you changed them yourself, run 'fam verify --record'"
        return Check("SHA-256", good=False, detail=f"{', and '.join(wrong)}: {fix}")
    where = f"as {' and '.join(stated)} state{'s' if len(stated) == 1 else ''}" if stated else "stated nowhere"
    if kept is not None:
        fix = "no hash of the settings and class names is stored, so they were not compared: run 'fam verify --record'"
        where += f"; {fix}" if known is None else "; settings and class names as recorded"
    return Check("SHA-256", good=True if stated else None, detail=f"{sha256}, {where}")


def _golden(model: Method, kept: Mapping[str, Any], device: str) -> tuple[Check, float | None]:
    golden = Golden.from_dict(kept)
    if kept.get("pictures_sha256") != digest_of_pictures(model.config.size):
        msg = "the pictures of the golden prediction were drawn otherwise; try pip install -U famcli"
        raise WeightsError(msg)
    found = answers(model, device)
    comparison = compare(golden, found)
    if comparison.problems:
        detail = "; ".join(comparison.problems)
    elif Golden.of(found).digest() == golden.digest():
        detail = f"the same to the last stored digit, digest {golden.digest()}"
    else:
        detail = f"the same within {MAP_TOLERANCE:g} (largest difference of M: {comparison.map_difference:.4f})"
    return Check("golden prediction", good=not comparison.problems, detail=detail), comparison.map_difference
