"""The K part maps of a few images, with the weights of the parts (the paper's Fig. 5), computed anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from famcli.results.results import Results
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
    if str(source.get("method", "fam")).lower() != "fam":
        return Checked(None, "The model that was evaluated has no parts.")
    # Imported here: torch is not needed for a report without parts.
    from famcli.hub import find_model
    from famcli_models.checkpoint import WEIGHTS_FILE, packaged

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
    return Checked(folder)


def part_maps(folder: Path, photos: Sequence[tuple[int, Path]], device: str = "auto") -> Iterator[tuple[int, Parts]]:
    """Run the model on some photos; those that cannot be read are left out.

    Args:
        folder: A checkpoint.
        photos: Number and file of each.
        device: See :func:`famcli.inference.device.pick_device`.

    Raises:
        FamError: The model cannot be loaded.
    """
    import torch

    from famcli.data.images import DECODE_MARGIN, read_picture
    from famcli.data.squash import squash
    from famcli.data.transforms import Normalize
    from famcli.inference.device import pick_device
    from famcli_models.methods.fam import FAM

    where = pick_device(device)
    model = FAM.from_pretrained(folder).to(where)
    size, normalize = model.config.size, Normalize(model.config.mean, model.config.std)
    for start in range(0, len(photos), BATCH):
        numbers, views = [], []
        for number, path in photos[start : start + BATCH]:
            try:
                views.append(squash(read_picture(path, at_least=DECODE_MARGIN * size).image, size))
            except DataError:
                continue
            numbers.append(number)
        if not views:
            continue
        with torch.inference_mode():
            out = model(normalize(views, where))
        A, t = out.A.float().cpu().numpy(), out.t.float().cpu().numpy()
        for number, maps, weights in zip(numbers, A, t, strict=True):
            yield number, Parts(np.round(255 * maps).astype(np.uint8), [round(float(w), 4) for w in weights])
