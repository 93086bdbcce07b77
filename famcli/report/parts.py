"""Part maps of a few images with the weights of the parts (the paper's Fig. 5), from the model that was evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from famcli.results.schema import Results
from famcli_models.errors import DataError, FamError
from famcli_models.files import sha256_file

if TYPE_CHECKING:
    from famcli.inference.engine import Engine
    from famcli.outputs.prediction import PartMaps


def open_parts(results: Results, model: str | None, device: str = "auto") -> tuple[Engine[Any] | None, str]:
    """The model that was evaluated, if it is here and has parts; else none, and a sentence that says why.

    ``model`` says where it is, if not under the name it had; without, nothing is looked for on the network. One that is
    given has to be the model that was evaluated.
    """
    source = results.source
    if source["kind"] != "model":
        return None, f"The boxes came from {source['kind']} and not from a model."
    # Imported here: torch is not needed for a report without parts.
    from famcli.hub import find_model
    from famcli.inference.engine import open_engine
    from famcli_models.checkpoint import WEIGHTS_FILE, packaged
    from famcli_models.methods import METHODS

    name, wanted = source["name"], source.get("weights_sha256")
    if model is None and name not in packaged() and not Path(name).is_dir():
        return None, f"The model '{name}' is not here; say where it is with --model."
    method = next((key for key, method in METHODS.items() if method.title == source.get("method")), None)
    try:
        folder = find_model(model or name)
        if wanted and sha256_file(folder / WEIGHTS_FILE) != wanted:
            raise DataError(f"the weights in '{folder}' are not those that were evaluated")
        engine = open_engine(folder, method, device)
    except FamError as error:
        if model is not None:
            raise
        return None, f"The model '{name}' cannot be used: {error}."
    return (engine, "") if engine.num_parts else (None, "The model that was evaluated has no parts.")


def part_maps(engine: Engine[Any], photos: Sequence[tuple[int, Path]]) -> Iterator[tuple[int, PartMaps]]:
    """The parts of some photos, each a number and a file; those that cannot be read are left out."""
    from famcli.inference.predictor import Predictor, Settings
    from famcli.outputs.prediction import Item, Prediction

    predictor = Predictor(engine, settings=Settings(batch_size=12, parts=True))
    for found in predictor.stream(Item(str(number), path) for number, path in photos):
        if isinstance(found, Prediction) and found.parts is not None:
            yield int(found.name), found.parts
