"""The header of a safetensors file, read and checked before any tensor is allocated; needs no torch.

A file begins with the length of its header (8 bytes, little-endian), then the header, a JSON object that gives each
tensor's type, shape and place in the rest of the file. A damaged or hostile header may claim anything; what it claims
is held against the size of the file first.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from famcli_models.errors import WeightsError, short, shown

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 16 * 2**20  # about 100 bytes a tensor: room for more tensors than any network has
MAX_WEIGHTS_BYTES = 8 * 2**30  # the largest FAM of the paper has 0.2 GB
MAX_DIMENSIONS = 8  # a network's tensors have 4 at most
MAX_NUMBER = 2**63  # no size or place is as large; it keeps products of sizes small
TYPE_BYTES = {"F16": 2, "F32": 4, "I64": 8}  # what a FAM checkpoint may hold
_METADATA = "__metadata__"


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """What the header says of one tensor.

    Attributes:
        dtype: safetensors' name of the type: a key of :data:`TYPE_BYTES`.
        shape: Sizes, each at least 0.
        start: Its first byte, counted from the end of the header.
        stop: The byte after its last.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(path: Path) -> dict[str, TensorHeader]:
    """Tensors of a safetensors file by name, from its header alone.

    Raises:
        WeightsError: The file is too large, its header is longer than the file or than any FAM needs, is no JSON of
            the right form in UTF-8, names something twice, or claims types, shapes or places that the file cannot hold.
    """
    try:
        size = path.stat().st_size
        if size > MAX_WEIGHTS_BYTES:
            msg = f"{path} has {size:,} bytes; no FAM checkpoint has more than {MAX_WEIGHTS_BYTES:,}"
            raise WeightsError(msg)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            room = size - LENGTH_BYTES
            if not 2 <= length <= min(room, MAX_HEADER_BYTES):
                msg = f"{path} is no safetensors file: it claims a header of {length:,} bytes and has {size:,} in all"
                raise WeightsError(msg)
            raw = file.read(length)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}"
        raise WeightsError(msg) from error
    try:
        header = _parse(raw)
        _check_metadata(header.get(_METADATA, {}))
        tensors = {name: _tensor(name, entry) for name, entry in header.items() if name != _METADATA}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        msg = f"cannot read {path}: its safetensors header is damaged ({error})"
        raise WeightsError(msg) from error
    _check_places(path, tensors, room - length)
    return tensors


def _parse(raw: bytes) -> dict[str, Any]:
    """The header as safetensors reads it; ``json.loads`` alone takes more encodings and lets names come twice."""
    if not raw.startswith(b"{"):
        msg = "it does not begin with '{'"
        raise ValueError(msg)
    parsed: dict[str, Any] = json.loads(raw.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    return parsed


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        msg = f"it names {shown(twice)} twice"
        raise ValueError(msg)
    return made


def _no_constant(constant: str) -> None:
    msg = f"{constant} is no JSON"
    raise ValueError(msg)


def _check_metadata(metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        msg = f"{_METADATA} is no object of strings"
        raise ValueError(msg)


def _tensor(name: str, entry: Any) -> TensorHeader:
    dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
    name = short(name)
    if dtype not in TYPE_BYTES:
        msg = f"{name} is {shown(dtype)}; only {', '.join(TYPE_BYTES)} are allowed"
        raise ValueError(msg)
    if isinstance(shape, list) and len(shape) > MAX_DIMENSIONS:
        msg = f"{name} has {len(shape):,} dimensions; at most {MAX_DIMENSIONS} are allowed"
        raise ValueError(msg)
    if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < MAX_NUMBER for n in [*shape, start, stop]):
        msg = f"{name} has a shape or place that is no list of sizes"
        raise ValueError(msg)
    if math.prod(shape) * TYPE_BYTES[dtype] != stop - start:
        msg = f"{name} has shape {tuple(shape)} but {stop - start:,} bytes"
        raise ValueError(msg)
    return TensorHeader(dtype, tuple(shape), start, stop)


def _check_places(path: Path, tensors: dict[str, TensorHeader], room: int) -> None:
    """The tensors lie one behind the other and fill the file: nothing is shared, hidden or missing."""
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if tensor.start != end:
            msg = f"cannot read {path}: {short(name)} begins at byte {tensor.start:,} of the data, not at {end:,}"
            raise WeightsError(msg)
        end = tensor.stop
    if end != room:
        msg = f"cannot read {path}: its header describes {end:,} bytes of data and it has {room:,}; it may be cut off"
        raise WeightsError(msg)
