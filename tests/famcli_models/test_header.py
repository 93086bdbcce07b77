"""Headers of safetensors files, and checkpoints that nobody vouches for."""

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

from famcli_models.checkpoint import CONFIG_FILE, WEIGHTS_FILE, read_checkpoint, read_config
from famcli_models.errors import ConfigError, FamError, WeightsError
from famcli_models.header import MAX_WEIGHTS_BYTES, read_header
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


def test_headers_say_what_is_there(folder: Path) -> None:
    """Names, types and shapes are those that safetensors itself reads."""
    header = read_header(folder / WEIGHTS_FILE)
    tensors = load_file(folder / WEIGHTS_FILE)
    types = {torch.float32: "F32", torch.int64: "I64"}
    assert {name: (t.dtype, t.shape) for name, t in header.items()} == {
        name: (types[t.dtype], tuple(t.shape)) for name, t in tensors.items()
    }


BAD: list[tuple[str, Any, bytes, int | None, str]] = [
    ("longer than the file", {}, b"", 2**63, "claims a header of"),
    ("empty", b"", b"", 0, "claims a header of"),
    ("no JSON", b"xx", b"", None, "header is damaged"),
    ("no object", [], b"", None, "header is damaged"),
    ("deep", b"[" * 100_000, b"", None, "header is damaged"),
    ("long number", b'{"a": ' + b"9" * 5000 + b"}", b"", None, "header is damaged"),
    ("no type", {"a": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8), None, "damaged"),
    ("other type", {"a": entry("F64", (1,))}, bytes(8), None, "a is 'F64'; only F16, F32, I64"),
    ("type is a list", {"a": entry([])}, bytes(8), None, "damaged"),
    ("negative", {"a": entry(shape=(-1, -2))}, bytes(8), None, "no list of sizes"),
    ("bool", {"a": entry(shape=(True, 2))}, bytes(8), None, "no list of sizes"),
    ("float", {"a": entry(shape=(2.0,))}, bytes(8), None, "no list of sizes"),
    ("huge shape", {"a": entry(shape=(2**40, 2**40))}, bytes(8), None, "but 8 bytes"),
    ("huge place", {"a": entry(shape=(2**60,), offsets=(0, 2**62))}, bytes(8), None, "it may be cut off"),
    ("hole", {"a": entry(offsets=(4, 12))}, bytes(12), None, "begins at byte 4 of the data, not at 0"),
    ("shared", {"a": entry(), "b": entry()}, bytes(8), None, "begins at byte 0 of the data, not at 8"),
    ("hidden data", {"a": entry()}, bytes(9), None, "describes 8 bytes of data and it has 9"),
    ("many dimensions", {"a": entry(shape=[1] * 9)}, bytes(8), None, "a has 9 dimensions; at most 8 are allowed"),
    ("huge number", {"a": entry(shape=(2**63,))}, bytes(8), None, "no list of sizes"),
    ("far place", {"a": entry(offsets=(10**30, 10**30 + 8))}, bytes(8), None, "no list of sizes"),
    ("no UTF-8", b'{"\xff": 1}', b"", None, "can't decode byte 0xff"),
    ("UTF-16", json.dumps({"a": entry()}).encode("utf-16"), bytes(8), None, "does not begin with '{'"),
    ("space first", b" " + json.dumps({"a": entry()}).encode(), bytes(8), None, "does not begin with '{'"),
    ("twice", b'{"a": ' + json.dumps(entry()).encode() + b', "a": 1}', bytes(8), None, "names 'a' twice"),
    ("field twice", b'{"a": {"dtype": "F16", "dtype": "F32"}}', b"", None, "names 'dtype' twice"),
    ("NaN", b'{"a": NaN}', b"", None, "NaN is no JSON"),
    ("metadata", {"__metadata__": 5}, b"", None, "__metadata__ is no object of strings"),
    ("metadata value", {"__metadata__": {"format": 5}}, b"", None, "__metadata__ is no object of strings"),
]


@pytest.mark.parametrize(("header", "data", "length", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_headers_are_refused(tmp_path: Path, header: Any, data: bytes, length: int | None, message: str) -> None:
    """What a header claims is held against the file, and refused with the reason."""
    with pytest.raises(WeightsError, match=message):
        read_header(write(tmp_path / "w", header, data, length))


def test_headers_may_be_padded(tmp_path: Path) -> None:
    """Spaces after the object, which safetensors itself writes, and metadata of strings are read over."""
    header = json.dumps({"__metadata__": {"format": "pt"}, "a": entry()}).encode() + b"   "
    assert list(read_header(write(tmp_path / "w", header, bytes(8)))) == ["a"]


@pytest.mark.parametrize(
    "header",
    [
        {"a": entry(shape=[10**5] * 200_000)},
        {"a": entry(shape=[int("9" * 4000)] * 8)},
        {"a": entry(dtype="F" * 10**6)},
        {"a" * 10**6: entry(shape=(3,))},
        {"\x1b[31m" * 10**5: entry(offsets=(4, 12))},
        b'{"' + b"a" * 10**6 + b'": 1, "' + b"a" * 10**6 + b'": 1}',
    ],
    ids=["dimensions", "digits", "type", "name", "place", "twice"],
)
def test_refusals_are_short(tmp_path: Path, header: Any) -> None:
    """Whatever a header claims, the refusal takes no time and is a short line without a stranger's escapes."""
    path = write(tmp_path / "w", header, bytes(12))
    start = time.process_time()
    with pytest.raises(WeightsError) as error:
        read_header(path)
    assert time.process_time() - start < 1  # 200,000 sizes multiplied took 20 s
    assert len(str(error.value).replace(str(path), "")) < 500
    assert str(error.value).isprintable()


def test_huge_files_are_refused_by_their_size(tmp_path: Path) -> None:
    """A file larger than any FAM is not read."""
    path = write(tmp_path / "w", {})
    with path.open("r+b") as file:
        file.truncate(MAX_WEIGHTS_BYTES + 1)  # sparse: takes no room
    with pytest.raises(WeightsError, match="no FAM checkpoint has more than"):
        read_header(path)


def test_nothing_is_allocated_for_claims(folder: Path) -> None:
    """A header that claims terabytes is refused before they are asked for, by loading too."""
    header = {"classifier.weight": entry(shape=(2**20, 2**20), offsets=(0, 2**42))}
    write(folder / WEIGHTS_FILE, header)
    tracemalloc.start()
    for read in (check_checkpoint, read_checkpoint):
        with pytest.raises(WeightsError, match="it may be cut off"):
            read(folder)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


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
