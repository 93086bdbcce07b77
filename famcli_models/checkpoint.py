"""A checkpoint on disk: a folder with ``config.json`` and ``model.safetensors``.

This file knows folders, JSON and tensors, and nothing about networks; a :class:`famcli_models.methods.method.Method`
turns a :class:`Checkpoint` into a model. No pickle is ever read or written. Only reading and writing tensors needs
torch.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from safetensors import SafetensorError, safe_open

from famcli_models.errors import UnknownNameError, WeightsError, short, shown
from famcli_models.files import GIT_LFS, LFS_POINTER, open_regular, write_atomic

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_MODEL = "fam-lite0-ilsvrc"  # the packaged one that commands take unless they are told otherwise
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
GRAPH_FILE = "graph.onnx"  # the network for ONNX Runtime, without weights: famcli_models.graph
COLLAPSED = "collapsed"  # in the provenance: why the map or the parts of a finished training are of no use
REFERENCE = "golden"  # in the provenance: the reference outputs of these very weights, famcli.checkpoints.reference
GRAPH = "graph"  # in the provenance: the SHA-256 of the graph, and what is to be known of it
FORMAT = "fam-checkpoint"
FORMAT_VERSION = 1
MAX_CONFIG_BYTES = 16 * 2**20  # a config with 100,000 long class names is still below this
MAX_NAME = 1000  # characters of the name of a class
MAX_WEIGHTS_BYTES = 8 * 2**30  # the largest FAM of the paper has 0.2 GB
MAX_HEADER_BYTES = 16 * 2**20  # safetensors takes 100 MB: a million tensors, 430 MB of memory and 5 s
TENSOR_TYPES = ("F16", "F32", "I64")
PACKAGED_DIR = Path(__file__).parent / "weights"
FIELDS = {"format", "format_version", "model", "class_names", "provenance"}
SHOWN_FIELDS = 3  # of the unknown ones, in a message
# Keys by which the configs of other libraries give themselves away.
OTHERS = {"transformers_version": "transformers", "model_type": "transformers", "architectures": "transformers"}
OTHERS |= {"_diffusers_version": "diffusers", "_class_name": "diffusers", "pretrained_cfg": "timm"}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint folder holds.

    Attributes:
        config: The fields of the method's config.
        class_names: One name a class, in the order of the logits.
        provenance: What the weights came from: data, command, versions, measured numbers.
        tensors: The state of the model by name; floating point tensors are float16 or float32.
    """

    config: Mapping[str, Any]
    class_names: tuple[str, ...]
    provenance: Mapping[str, Any]
    tensors: Mapping[str, Tensor] = field(repr=False)

    @property
    def method(self) -> str:
        """Name of the method; a config without one is of the time when there was one method."""
        return method_of(self.config)


def method_of(config: Mapping[str, Any]) -> str:
    """Name of the method that the ``model`` part of a ``config.json`` is of."""
    return str(config.get("method", "fam"))


def packaged() -> dict[str, Path]:
    """Checkpoints that are installed with the package: name to folder."""
    return {p.parent.name: p.parent for p in sorted(PACKAGED_DIR.glob(f"*/{CONFIG_FILE}"))}


def resolve(name_or_path: str | os.PathLike[str]) -> Path:
    """Folder of a packaged checkpoint or of a checkpoint on disk.

    Args:
        name_or_path: A name in :func:`packaged`, or the path of a checkpoint folder.

    Raises:
        UnknownNameError: It is neither.
        WeightsError: The folder exists but is not a checkpoint.
    """
    known = packaged()
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    folder = Path(name_or_path)
    if not folder.is_dir():
        hint = "or give the path of a checkpoint folder; for one of the Hub use famcli.load_model or fam pull"
        raise UnknownNameError("model", str(name_or_path), known, hint)
    missing = [f for f in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / f).exists()]
    if missing:
        raise WeightsError(f"'{folder}' is not a FAM checkpoint: {' and '.join(missing)} missing")
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """Parsed ``config.json`` of a checkpoint folder.

    Raises:
        WeightsError: The file is absent, too large, not JSON, of another library, format or version, or has fields
            that no FAM checkpoint has.
    """
    path = folder / CONFIG_FILE
    try:
        config = strict_json(read_bytes(path, MAX_CONFIG_BYTES))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"cannot read {path}: {short(str(error))}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        others = sorted({OTHERS[key] for key in config if key in OTHERS}) if isinstance(config, dict) else []
        library = f"it is a config of {others[0]}" if others else f"'format' is not '{FORMAT}'"
        raise WeightsError(f"{path} is not a FAM checkpoint: {library}")
    if config.get("format_version") != FORMAT_VERSION:
        given = shown(config.get("format_version"))
        raise WeightsError(f"{path} has format_version {given}; this version of fam reads {FORMAT_VERSION}")
    unknown = sorted(set(config) - FIELDS)
    if unknown:
        more = f" and {len(unknown) - SHOWN_FIELDS} more" if len(unknown) > SHOWN_FIELDS else ""
        listed = ", ".join(map(shown, unknown[:SHOWN_FIELDS])) + more
        raise WeightsError(f"{path} has unknown fields: {listed}; it was made by another version")
    names = config.get("class_names")
    if (
        not isinstance(config.get("model"), dict)
        or not isinstance(names, list)
        or not all(map(_is_class_name, names))
        or not isinstance(config.setdefault("provenance", {}), dict)
    ):
        names_are = f"a list of names in Unicode of at most {MAX_NAME:,} characters"
        raise WeightsError(f"{path} needs 'model' and 'provenance' (objects) and 'class_names' ({names_are})")
    config["model"].setdefault("backbone_head", False)  # the field is newer than the format
    return config


def _is_class_name(name: object) -> bool:
    return isinstance(name, str) and len(name) <= MAX_NAME and not any("\ud800" <= c <= "\udfff" for c in name)


def strict_json(text: str | bytes) -> Any:
    """The value of a JSON text; NaN and infinity, which are no JSON, and numbers beyond every float are refused."""

    def finite(number: str) -> float:
        if not math.isfinite(value := float(number)):
            raise ValueError(f"{short(number)} is no finite number")
        return value

    return json.loads(text, parse_constant=finite, parse_float=finite)


def open_file(path: Path, most: int) -> BinaryIO:
    """Open a file of a checkpoint; a ``WeightsError`` says that it is no regular file, too large, or a pointer."""
    try:
        file = open_regular(path)
        start, size = file.read(len(LFS_POINTER)), os.fstat(file.fileno()).st_size
        file.seek(0)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error
    if start == LFS_POINTER or size > most:
        file.close()
        why = f"it has {size:,} bytes, and no FAM checkpoint needs more than {most:,}"
        raise WeightsError(f"cannot read {path}: {f'it is {GIT_LFS}' if start == LFS_POINTER else why}")
    return file


def read_bytes(path: Path, most: int) -> bytes:
    """The bytes of a file of a checkpoint; raises as :func:`open_file`."""
    with open_file(path, most) as file:
        return file.read()


def check_finite(path: Path, finite: Mapping[str, bool]) -> None:
    """Refuse the weights of a file unless, by the name of each tensor, all its values are finite."""
    if odd := [name for name, good in finite.items() if not good]:
        some = f"{len(odd)} of {len(finite)} tensors hold values that are not finite, first {short(odd[0])}"
        raise WeightsError(f"{path} is damaged: {some}; get the file again")


def read_shapes(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each tensor of a weights file by name, from its header alone.

    safetensors holds what a header claims against the size of the file before anything is allocated; what it takes
    and a FAM does not need is refused here.

    Raises:
        WeightsError: The file or its header is too large or damaged, or a tensor is not fp16, fp32 or int64.
    """
    with open_file(path, MAX_WEIGHTS_BYTES) as file:
        header = int.from_bytes(file.read(8), "little")
    if header > MAX_HEADER_BYTES:
        most = f"no FAM checkpoint needs more than {MAX_HEADER_BYTES:,}"
        raise WeightsError(f"{path} has a header of {header:,} bytes; {most}")
    try:
        with safe_open(path, framework="np") as tensors:
            found = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118  (it is no mapping)
            shapes = {name: (str(part.get_dtype()), tuple(part.get_shape())) for name, part in found.items()}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot read {path}: {short(str(error))}; it may be damaged or cut off") from error
    for name, (dtype, _) in shapes.items():
        if dtype not in TENSOR_TYPES:
            msg = f"cannot read {path}: {short(name)} is {dtype}; only {', '.join(TENSOR_TYPES)} are allowed"
            raise WeightsError(msg)
    return shapes


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        WeightsError: A file is missing, damaged or of another format, or a tensor is not fp16, fp32 or integer, or
            not finite.
    """
    from safetensors.torch import load_file

    config = read_config(folder)
    read_shapes(folder / WEIGHTS_FILE)  # what it claims is checked before anything is allocated
    try:
        tensors = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot read {folder / WEIGHTS_FILE}: {error}") from error
    check_finite(folder / WEIGHTS_FILE, {name: bool(tensor.isfinite().all()) for name, tensor in tensors.items()})
    return Checkpoint(config["model"], tuple(config["class_names"]), config["provenance"], tensors)


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint folder; the weights first, so that a folder with a new config is complete."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": dict(checkpoint.config),
        "class_names": list(checkpoint.class_names),
        "provenance": dict(checkpoint.provenance),
    }
    try:
        write_atomic(folder / WEIGHTS_FILE, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    except SafetensorError as error:  # a full disk, most often
        raise WeightsError(f"cannot write {folder / WEIGHTS_FILE}: {error}") from error
    write_config(folder, config)
    if GRAPH not in checkpoint.provenance:
        (folder / GRAPH_FILE).unlink(missing_ok=True)  # of the weights that were there before


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write the ``config.json`` of a checkpoint folder."""
    text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomic(folder / CONFIG_FILE, lambda path: path.write_text(text, encoding="utf-8"))
