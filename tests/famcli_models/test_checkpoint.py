"""A checkpoint on disk: strict, without pickle, and never half written."""

from __future__ import annotations

import json
import pickle
import stat
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from famcli_models import FAM
from famcli_models.checkpoint import (
    CONFIG_FILE,
    MAX_CONFIG_BYTES,
    MAX_HEADER_BYTES,
    MAX_WEIGHTS_BYTES,
    WEIGHTS_FILE,
    packaged,
    read_checkpoint,
    read_config,
    read_shapes,
    resolve,
)
from famcli_models.errors import UnknownNameError, WeightsError
from famcli_models.files import sha256_file
from famcli_models.loading import check_checkpoint

Make = Callable[..., Any]

# ---- Saving ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"tau": 0.4, "value_bias": True}, {"fine_channels": 8, "fine_layers": 2}, {"method": "cam", "tau": 0.3}],
    ids=str,
)
def test_round_trip(make_model: Make, tmp_path: Path, options: dict[str, Any]) -> None:
    """A model comes back bit by bit, with all that it says of itself, in float32 and ready to predict."""
    model = make_model(**options).eval()
    model.provenance["data"] = ["none; ünïcode"]
    model.save_pretrained(tmp_path / "m")
    again = type(model).from_pretrained(tmp_path / "m")
    assert type(again) is type(model)
    assert (again.config, again.class_names, again.provenance) == (model.config, model.class_names, model.provenance)
    assert not again.training
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(images).logits, model(images).logits)
        assert torch.equal(again.maps(again(images)), model.maps(model(images)))


def test_float16_is_half_the_size_and_stable(make_model: Make, tmp_path: Path) -> None:
    """Half precision rounds once: saving what was loaded gives the same bytes again."""
    model = make_model()
    model.save_pretrained(tmp_path / "one", half=True)
    FAM.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two", half=True)
    assert sha256_file(tmp_path / "one" / WEIGHTS_FILE) == sha256_file(tmp_path / "two" / WEIGHTS_FILE)
    tensors = load_file(tmp_path / "one" / WEIGHTS_FILE)
    assert {t.dtype for t in tensors.values()} <= {torch.float16, torch.int64}
    loaded = FAM.from_pretrained(tmp_path / "one").state_dict()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded[name], tensor, rtol=1e-3, atol=1e-6, msg=name)


def test_channels_last_models_can_be_saved(make_model: Make, tmp_path: Path) -> None:
    """The memory layout of a model in use does not matter to the file."""
    model = make_model()
    model.save_pretrained(tmp_path / "a")
    model.to(memory_format=torch.channels_last).save_pretrained(tmp_path / "b")
    assert sha256_file(tmp_path / "a" / WEIGHTS_FILE) == sha256_file(tmp_path / "b" / WEIGHTS_FILE)


def test_a_folder_holds_two_readable_files(checkpoint: Path) -> None:
    """Nothing but the config and the weights is written, readable for everybody."""
    assert sorted(p.name for p in checkpoint.iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o644 for p in checkpoint.iterdir())


def test_saving_again(make_model: Make, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is replaced as a whole; if saving stops at the weights, the one that was there still loads."""
    make_model(num_parts=2).save_pretrained(folder)
    assert FAM.from_pretrained(folder).config.num_parts == 2

    def fail(*_: object, **__: object) -> None:
        msg = "disk full"
        raise OSError(msg)

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        make_model(num_parts=3).save_pretrained(folder)
    assert FAM.from_pretrained(folder).config.num_parts == 2


# ---- Finding ---------------------------------------------------------------------------------------------


def test_packaged_names(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> None:
    """Folders beside the package's code are known and load by their names; other names are answered with them."""
    monkeypatch.setattr("famcli_models.checkpoint.PACKAGED_DIR", checkpoint.parent)
    assert packaged() == {checkpoint.name: checkpoint}
    assert FAM.from_pretrained(checkpoint.name).config.num_classes == 5
    with pytest.raises(UnknownNameError, match=r"unknown model 'tinny' \(did you mean: tiny\); or give the path"):
        resolve("tinny")
    with pytest.raises(UnknownNameError, match=r"one of the Hub use famcli\.load_model or fam pull"):
        FAM.from_pretrained("o/fam")


def test_incomplete_folders(folder: Path, tmp_path: Path) -> None:
    """Missing files are named, and pytorch_model.bin is not looked for."""
    with pytest.raises(WeightsError, match=f"{CONFIG_FILE} and {WEIGHTS_FILE} missing"):
        resolve(tmp_path)
    (folder / WEIGHTS_FILE).rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=f"checkpoint: {WEIGHTS_FILE} missing"):
        resolve(folder)


# ---- config.json; what is wrong in its fields is in test_loading.py ----------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot read"),
        (b"{", "cannot read"),
        (b"\xff\xfe\x00", "cannot read"),
        (b"[" * 100_000, "cannot read"),
        (b'{"a": ' + b"9" * 5000 + b"}", "cannot read"),
        (b"[]", "'format' is not 'fam-checkpoint'"),
        (b"null", "'format' is not 'fam-checkpoint'"),
        (b'{"format": "other"}', "'format' is not 'fam-checkpoint'"),
        (b'{"model_type": "bert", "transformers_version": "4"}', "it is a config of transformers"),
        (b'{"_class_name": "UNet", "_diffusers_version": "1"}', "it is a config of diffusers"),
        (b'{"architecture": "resnet50", "pretrained_cfg": {}}', "it is a config of timm"),
    ],
    ids=lambda value: value[:20],
)
def test_other_configs_are_refused(folder: Path, content: bytes, message: str) -> None:
    """What is no JSON object, no config or one of another library is called so, with the file's path."""
    (folder / CONFIG_FILE).write_bytes(content)
    with pytest.raises(WeightsError, match=message) as error:
        read_config(folder)
    assert str(folder / CONFIG_FILE) in str(error.value)


def test_huge_files_are_not_read(folder: Path) -> None:
    """A config or a weights file too large to be one is refused by its size."""
    for name, limit in ((WEIGHTS_FILE, MAX_WEIGHTS_BYTES), (CONFIG_FILE, MAX_CONFIG_BYTES)):
        with (folder / name).open("r+b") as file:
            file.truncate(limit + 1)  # sparse: takes no room
    with pytest.raises(WeightsError, match="16,777,217 bytes, and no FAM checkpoint needs more than"):
        read_config(folder)
    with pytest.raises(WeightsError, match="bytes, and no FAM checkpoint needs more than"):
        read_shapes(folder / WEIGHTS_FILE)


# ---- model.safetensors -------------------------------------------------------------------------------------


def write(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    """A safetensors file with any header."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    """One tensor of a header."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_shapes(folder: Path, tmp_path: Path) -> None:
    """Names, types and shapes are those of the tensors in the file; padding and metadata are read over."""
    types = {torch.float32: "F32", torch.int64: "I64"}
    tensors = load_file(folder / WEIGHTS_FILE)
    assert read_shapes(folder / WEIGHTS_FILE) == {n: (types[t.dtype], tuple(t.shape)) for n, t in tensors.items()}
    header = json.dumps({"__metadata__": {"format": "pt"}, "a": entry()}).encode() + b"   "
    assert read_shapes(write(tmp_path / "w", header, bytes(8))) == {"a": ("F32", (2,))}


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


@pytest.mark.parametrize(("header", "size"), [(2**62, 100), (MAX_HEADER_BYTES + 1, 2 * MAX_HEADER_BYTES)])
def test_long_headers(tmp_path: Path, header: int, size: int) -> None:
    """A header longer than any FAM's is not read."""
    path = write(tmp_path / "w", {}, bytes(size), header)
    with pytest.raises(WeightsError, match=f"a header of {header:,} bytes; no FAM checkpoint needs more than"):
        read_shapes(path)


def test_nothing_is_allocated_for_claims(folder: Path) -> None:
    """A header that claims terabytes is refused before they are asked for, by loading too."""
    write(folder / WEIGHTS_FILE, {"classifier.weight": entry(shape=(2**20, 2**20), offsets=(0, 2**42))})
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


@pytest.mark.parametrize("name", ["bool", "uint8", "float64", "bfloat16"])
def test_other_tensor_types_are_refused(folder: Path, name: str) -> None:
    """A checkpoint holds float16, float32 and counters, and says which tensor is something else."""
    tensors = load_file(folder / WEIGHTS_FILE)
    save_file(tensors | {"classifier.bias": torch.zeros(5, dtype=getattr(torch, name))}, folder / WEIGHTS_FILE)
    short = {"bool": "BOOL", "uint8": "U8", "float64": "F64", "bfloat16": "BF16"}[name]
    for read in (read_checkpoint, check_checkpoint):
        with pytest.raises(WeightsError, match=f"classifier.bias is {short}; only F16, F32, I64 are allowed"):
            read(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.99])
def test_truncated_weights_are_refused(folder: Path, keep: float) -> None:
    """A weights file cut short anywhere is refused with its path."""
    path = folder / WEIGHTS_FILE
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if 0 < keep < 1 else int(keep)])
    with pytest.raises(WeightsError, match=WEIGHTS_FILE):
        FAM.from_pretrained(folder)


def test_pickle_is_not_read(folder: Path, tmp_path: Path) -> None:
    """A pickle under the weights' name is refused, and nothing in it runs."""
    mark = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (mark,)

    (folder / WEIGHTS_FILE).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(WeightsError):
        FAM.from_pretrained(folder)
    torch.save({"x": torch.zeros(1)}, folder / WEIGHTS_FILE)
    with pytest.raises(WeightsError):
        FAM.from_pretrained(folder)
    assert not mark.exists()
