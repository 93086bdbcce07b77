"""The K part maps of a few images, with the weights of the parts (the paper's Fig. 5), computed anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from famcli.results.schema import Results
from famcli_models.errors import DataError, FamError
from famcli_models.files import sha256_file

BATCH = 12


@dataclass(frozen=True, slots=True)
class Parts:
    """Part maps of one image.

    Attributes:
        maps: ``(K, h, w)`` uint8: 255 times **A**.
        weights: ``(K,)`` importance weights t, which sum to 1.
    """

    maps: np.ndarray
    weights: Sequence[float]


@dataclass(frozen=True, slots=True)
class Checked:
    """A model that may be asked for parts, or why not.

    Attributes:
        folder: The checkpoint; ``None`` if there is a reason.
        reason: A sentence for the report.
    """

    folder: Path | None
    reason: str = ""


def find(results: Results, model: str | None) -> Checked:
    """The checkpoint that was evaluated, if it is here.

    Without ``model`` nothing is looked for on the network.

    Args:
        results: Whose source says which model it was.
        model: Where it is, if not under the name it had then; as :func:`famcli.hub.find_model` takes it.

    Raises:
        FamError: ``model`` was given and is no checkpoint, or not the one that was evaluated.
    """
    source = results.source
    if source.get("kind") != "model":
        return Checked(None, f"The boxes came from {source.get('kind', 'elsewhere')} and not from a model.")
    name, wanted = str(source.get("name", "")), source.get("weights_sha256")
    # Imported here: torch is not needed for a report without parts.
    from famcli.hub import find_model
    from famcli_models.checkpoint import WEIGHTS_FILE, packaged
    from famcli_models.loading import load_model

    if model is None and name not in packaged() and not Path(name).is_dir():
        return Checked(None, f"The model '{name}' is not here; say where it is with --model.")
    try:
        folder = find_model(model or name)
        if wanted and sha256_file(folder / WEIGHTS_FILE) != wanted:
            msg = f"the weights in '{folder}' are not those that were evaluated"
            raise DataError(msg)
    except FamError as error:
        if model is not None:
            raise
        return Checked(None, f"The model '{name}' cannot be used: {error}.")
    if not load_model(folder).num_parts:
        return Checked(None, "The model that was evaluated has no parts.")
    return Checked(folder)


def part_maps(folder: Path, photos: Sequence[tuple[int, Path]], device: str = "auto") -> Iterator[tuple[int, Parts]]:
    """Run the model on some photos; those that cannot be read are left out.

    Args:
        folder: A checkpoint.
        photos: Number and file of each.
        device: See :func:`famcli.inference.torch_engine.pick_device`.

    Raises:
        FamError: The model cannot be loaded.
    """
    from famcli.inference.predictor import Predictor, Settings
    from famcli.outputs.prediction import Item, Prediction

    predictor = Predictor(folder, device, Settings(batch_size=BATCH, parts=True))
    items = [Item(str(number), path) for number, path in photos]
    for found in predictor.stream(items):
        if isinstance(found, Prediction) and found.parts is not None:
            weights = [round(float(w), 4) for w in found.parts.weights]
            yield int(found.name), Parts(np.round(255 * found.parts.A).astype(np.uint8), weights)
