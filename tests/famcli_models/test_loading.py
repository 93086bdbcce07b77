"""Checkpoints that nobody vouches for: what their weights claim, and whether config and weights belong together."""

from __future__ import annotations

import json
import shutil
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from famcli_models.checkpoint import (
    CONFIG_FILE,
    MAX_HEADER_BYTES,
    MAX_WEIGHTS_BYTES,
    WEIGHTS_FILE,
    read_checkpoint,
    read_config,
    read_shapes,
)
from famcli_models.errors import ConfigError, FamError, WeightsError
from famcli_models.loading import check_checkpoint


def write(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    """A safetensors file with any header."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    """One tensor of a header."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A tiny checkpoint to be damaged."""
    return Path(shutil.copytree(checkpoint, tmp_path / "tiny"))


def test_shapes(folder: Path) -> None:
    """Names, types and shapes are those of the tensors in the file."""
    types = {torch.float32: "F32", torch.int64: "I64"}
    tensors = load_file(folder / WEIGHTS_FILE)
    assert read_shapes(folder / WEIGHTS_FILE) == {n: (types[t.dtype], tuple(t.shape)) for n, t in tensors.items()}


# What safetensors itself refuses, and the number of bytes behind the header.
BROKEN: dict[str, tuple[Any, int]] = {
    "empty": (b"", 0),
    "no JSON": (b"xx", 0),
    "deep": (b"[" * 100_000, 0),
    "long number": (b'{"a": ' + b"9" * 5000 + b"}", 0),
    "negative": ({"a": entry(shape=(-1, -2))}, 8),
    "huge shape": ({"a": entry(shape=(2**40, 2**40))}, 8),
    "huge place": ({"a": entry(shape=(2**60,), offsets=(0, 2**62))}, 8),
    "hole": ({"a": entry(offsets=(4, 12))}, 12),
    "shared": ({"a": entry(), "b": entry()}, 8),
    "hidden data": ({"a": entry()}, 9),
    "cut off": ({"a": entry()}, 7),
    "far place": ({"a": entry(offsets=(10**30, 10**30 + 8))}, 8),
    "no UTF-8": (b'{"\xff": 1}', 0),
    "UTF-16": (json.dumps({"a": entry()}).encode("utf-16"), 8),
    "two places": (f'{{"a": {json.dumps(entry())}, "a": {json.dumps(entry(offsets=(8, 16)))}}}'.encode(), 16),
    "digits": ({"a": entry(shape=[int("9" * 4000)] * 8)}, 12),
    "many dimensions": ({"a": entry(shape=[10**5] * 200_000)}, 12),
    "long type": ({"a": entry(dtype="F" * 10**6)}, 12),
    "long name": ({"a" * 10**6: entry(shape=(3,))}, 12),
    "escapes": ({"\x1b[31m" * 10**5: entry(offsets=(4, 12))}, 12),
}


@pytest.mark.parametrize(("header", "data"), BROKEN.values(), ids=BROKEN)
def test_broken_headers(tmp_path: Path, header: Any, data: int) -> None:
    """A header that claims what the file cannot hold is refused at once, in a short line without escapes."""
    path = write(tmp_path / "w", header, bytes(data))
    start = time.process_time()
    with pytest.raises(WeightsError, match="cannot read .* it may be damaged or cut off") as error:
        read_shapes(path)
    assert time.process_time() - start < 1
    assert len(str(error.value).replace(str(path), "")) < 500
    assert str(error.value).isprintable()


@pytest.mark.parametrize("dtype", ["BOOL", "U8", "F64", "BF16"])
def test_types_that_no_checkpoint_has(tmp_path: Path, dtype: str) -> None:
    """safetensors has more types than a checkpoint."""
    header = {"a": entry(dtype, (2,), (0, 2 * {"F64": 8, "BF16": 2}.get(dtype, 1)))}
    with pytest.raises(WeightsError, match=f"a is {dtype}; only F16, F32, I64 are allowed"):
        read_shapes(write(tmp_path / "w", header, bytes(header["a"]["data_offsets"][1])))


def test_headers_may_be_padded(tmp_path: Path) -> None:
    """Spaces after the object, which safetensors itself writes, and metadata of strings are read over."""
    header = json.dumps({"__metadata__": {"format": "pt"}, "a": entry()}).encode() + b"   "
    assert read_shapes(write(tmp_path / "w", header, bytes(8))) == {"a": ("F32", (2,))}


@pytest.mark.parametrize(("header", "size"), [(2**62, 100), (MAX_HEADER_BYTES + 1, 2 * MAX_HEADER_BYTES)])
def test_long_headers(tmp_path: Path, header: int, size: int) -> None:
    """A header longer than any FAM's is not read."""
    path = write(tmp_path / "w", {}, bytes(size), header)
    with pytest.raises(WeightsError, match=f"a header of {header:,} bytes; no FAM checkpoint needs more than"):
        read_shapes(path)


def test_huge_files_are_refused_by_their_size(tmp_path: Path) -> None:
    """A file larger than any FAM is not read."""
    path = write(tmp_path / "w", {})
    with path.open("r+b") as file:
        file.truncate(MAX_WEIGHTS_BYTES + 1)  # sparse: takes no room
    with pytest.raises(WeightsError, match="a size of .* bytes; no FAM checkpoint needs more than"):
        read_shapes(path)


def test_nothing_is_allocated_for_claims(folder: Path) -> None:
    """A header that claims terabytes is refused before they are asked for, by loading too."""
    header = {"classifier.weight": entry(shape=(2**20, 2**20), offsets=(0, 2**42))}
    write(folder / WEIGHTS_FILE, header)
    tracemalloc.start()
    for read in (check_checkpoint, read_checkpoint):
        with pytest.raises(WeightsError, match="cut off"):
            read(folder)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_many_dimensions_are_not_shown(folder: Path) -> None:
    """A tensor of a hundred thousand dimensions fits into a sentence."""
    tensors = {name: tensor for name, tensor in load_file(folder / WEIGHTS_FILE).items() if name != "classifier.bias"}
    save_file(tensors, folder / WEIGHTS_FILE)
    data = (folder / WEIGHTS_FILE).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    header["classifier.bias"] = entry(shape=[1] * 100_000 + [5], offsets=(len(body), len(body) + 20))
    write(folder / WEIGHTS_FILE, header, body + bytes(20))
    with pytest.raises(WeightsError, match=r"classifier\.bias has shape \(1, 1, 1, 1, 1, 1, \.\.\.\), not \(5,\)"):
        check_checkpoint(folder)


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a config."""
    path = folder / CONFIG_FILE
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config))


def test_good_checkpoints_pass(folder: Path, make_model: Any, tmp_path: Path) -> None:
    """What ``save_pretrained`` writes passes, in both precisions."""
    assert check_checkpoint(folder).num_classes == 5
    make_model().save_pretrained(tmp_path / "half", half=True)
    assert check_checkpoint(tmp_path / "half").num_classes == 5


CONFIGS: list[tuple[str, Callable[[dict[str, Any]], object], type[FamError], str]] = [
    ("field", lambda c: c["model"].update(heads=1), ConfigError, "unknown field 'heads'"),
    ("range", lambda c: c["model"].update(num_parts=10**9), ConfigError, r"num_parts is 1000000000; it must be in"),
    ("beyond floats", lambda c: c["model"].update(lambda_spa=10**400), ConfigError, "must be a finite number"),
    ("mean beyond floats", lambda c: c["model"].update(mean=[10**400, 0, 0]), ConfigError, "three finite numbers"),
    ("many fields", lambda c: c["model"].update(dict.fromkeys("abcde", 1)), ConfigError, "'c' and 2 more in"),
    ("network", lambda c: c["model"].update(backbone="no-such"), FamError, "unknown backbone 'no-such'"),
    ("elsewhere", lambda c: c["model"].update(backbone="hf-hub:a/b"), FamError, "unknown backbone"),
    ("names", lambda c: c.update(class_names=["a"]), ConfigError, "1 class names for 5 classes"),
    ("shape", lambda c: c["model"].update(num_parts=4), WeightsError, "do not belong together: part_attention"),
    ("missing", lambda c: c["model"].update(value_bias=True), WeightsError, "is missing"),
    ("top field", lambda c: c.update(auto_map={}), WeightsError, "unknown fields: 'auto_map'"),
]


@pytest.mark.parametrize(("edit", "kind", "message"), [c[1:] for c in CONFIGS], ids=[c[0] for c in CONFIGS])
def test_bad_configs_are_refused(
    folder: Path, edit: Callable[[dict[str, Any]], object], kind: type[FamError], message: str
) -> None:
    """Config and weights must belong together; the first difference is named."""
    change(folder, edit)
    with pytest.raises(kind, match=message):
        check_checkpoint(folder)


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c.update(format_version="1" * 10**6),
        lambda c: c.update({"\x1b" * 10**5: 1}),
        lambda c: c["model"].update({"x" * 10**6: 1}),
        lambda c: c["model"].update(tau=[[[0] * 100] * 100] * 100),
        lambda c: c["model"].update(backbone="\x1b[31m" * 10**5),
        lambda c: c["model"].update(lambda_spa=int("9" * 4000)),
    ],
    ids=["version", "top field", "field", "list", "backbone", "digits"],
)
def test_refusals_of_configs_are_short(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """A value of any size or with escapes is shown in a short line that can be printed."""
    change(folder, edit)
    with pytest.raises(FamError) as error:
        check_checkpoint(folder)
    message = str(error.value).replace(str(folder), "")
    assert len(message) < 700
    assert message.isprintable()


def test_huge_networks_cost_nothing(folder: Path) -> None:
    """A config that asks for the largest of everything is refused by shapes, not by memory."""
    change(folder, lambda c: c.update(class_names=["x"] * 100_000))
    change(folder, lambda c: c["model"].update(num_classes=100_000, backbone="vgg16", num_parts=256))
    with pytest.raises(WeightsError, match="do not belong together"):
        check_checkpoint(folder)


def test_surplus_and_mistyped_tensors(folder: Path) -> None:
    """A tensor that the model has not, and a counter in place of a number, are refused by name."""
    tensors = load_file(folder / WEIGHTS_FILE)
    save_file({**tensors, "extra": torch.zeros(1)}, folder / WEIGHTS_FILE)
    with pytest.raises(WeightsError, match="extra is no tensor of the model"):
        check_checkpoint(folder)
    save_file({**tensors, "classifier.bias": torch.zeros(5, dtype=torch.int64)}, folder / WEIGHTS_FILE)
    with pytest.raises(WeightsError, match=r"classifier\.bias is I64"):
        check_checkpoint(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"model_type": "bert", "transformers_version": "4"}', "it is a config of transformers"),
        ('{"_class_name": "UNet", "_diffusers_version": "1"}', "it is a config of diffusers"),
        ('{"architecture": "resnet50", "pretrained_cfg": {}}', "it is a config of timm"),
        ('{"format": "other"}', "'format' is not 'fam-checkpoint'"),
        ("[" * 100_000, "cannot read"),
        ('{"a": ' + "9" * 5000 + "}", "cannot read"),
    ],
)
def test_configs_of_others(folder: Path, content: str, message: str) -> None:
    """A config of another library is called so, and one that is no config at all is refused."""
    (folder / CONFIG_FILE).write_text(content)
    with pytest.raises(WeightsError, match=message):
        read_config(folder)
