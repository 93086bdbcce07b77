"""A checkpoint on disk: strict, without pickle, and never half written."""

from __future__ import annotations

import json
import pickle
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from famcli_models import checkpoint as module
from famcli_models.checkpoint import (
    CONFIG_FILE,
    MAX_CONFIG_BYTES,
    WEIGHTS_FILE,
    packaged,
    read_checkpoint,
    read_config,
    resolve,
)
from famcli_models.errors import ConfigError, FamError, UnknownNameError, WeightsError
from famcli_models.files import sha256_file, write_atomic
from famcli_models.methods.fam import FAM


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that a test may damage."""
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit config.json."""
    path = folder / CONFIG_FILE
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config))


def test_exact_in_float32(make_model: Callable[..., FAM], tmp_path: Path) -> None:
    """Saving and loading gives every tensor back bit by bit, and everything the model says of itself."""
    model = make_model(tau=0.4, value_bias=True)
    model.provenance["data"] = "none; ünïcode"
    model.save_pretrained(tmp_path / "m")
    again = FAM.from_pretrained(tmp_path / "m")
    assert again.config == model.config
    assert again.class_names == model.class_names
    assert again.provenance == model.provenance
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(images).logits, model.eval()(images).logits)


def test_loaded_models_are_ready_to_predict(checkpoint: Path) -> None:
    """A loaded model is in evaluation mode, in float32."""
    model = FAM.from_pretrained(checkpoint)
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_float16_is_half_the_size_and_stable(make_model: Callable[..., FAM], tmp_path: Path) -> None:
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


def test_channels_last_models_can_be_saved(make_model: Callable[..., FAM], tmp_path: Path) -> None:
    """The memory layout of a model in use does not matter to the file."""
    model = make_model()
    model.save_pretrained(tmp_path / "a")
    model.to(memory_format=torch.channels_last).save_pretrained(tmp_path / "b")
    assert sha256_file(tmp_path / "a" / WEIGHTS_FILE) == sha256_file(tmp_path / "b" / WEIGHTS_FILE)


def test_a_folder_holds_two_readable_files(checkpoint: Path) -> None:
    """Nothing but the config and the weights is written, readable for everybody."""
    assert sorted(p.name for p in checkpoint.iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o644 for p in checkpoint.iterdir())


def test_saving_again_replaces(make_model: Callable[..., FAM], tmp_path: Path) -> None:
    """An existing checkpoint is replaced as a whole."""
    make_model(seed=1).save_pretrained(tmp_path)
    make_model(seed=2, num_parts=2).save_pretrained(tmp_path)
    assert FAM.from_pretrained(tmp_path).config.num_parts == 2


MISMATCHES: list[tuple[str, dict[str, Any]]] = [
    ("num_parts", {"num_parts": 4}),
    ("memory", {"memory": False}),
    ("importance", {"importance": False}),
    ("value_bias", {"value_bias": True}),
    ("backbone", {"backbone": "test_resnet"}),
]


@pytest.mark.parametrize(("name", "fields"), MISMATCHES)
def test_config_and_weights_must_belong_together(folder: Path, name: str, fields: dict[str, Any]) -> None:
    """A config that makes other tensors than the file holds is refused, with a tensor's name."""
    change(folder, lambda c: c["model"].update(fields))
    with pytest.raises(WeightsError, match="do not belong together"):
        FAM.from_pretrained(folder)


def test_missing_and_surplus_tensors_are_refused(folder: Path) -> None:
    """A tensor too few or too many is named."""
    tensors = load_file(folder / WEIGHTS_FILE)
    bias = tensors.pop("classifier.bias")
    save_file(tensors, folder / WEIGHTS_FILE)
    with pytest.raises(WeightsError, match="classifier.bias"):
        FAM.from_pretrained(folder)
    save_file({**tensors, "classifier.bias": bias, "extra": bias.clone()}, folder / WEIGHTS_FILE)
    with pytest.raises(WeightsError, match="extra"):
        FAM.from_pretrained(folder)


def test_unknown_config_fields_are_refused(folder: Path) -> None:
    """A field of another version is named."""
    change(folder, lambda c: c["model"].update(attention_heads=8))
    with pytest.raises(ConfigError, match="attention_heads"):
        FAM.from_pretrained(folder)


def test_wrong_number_of_class_names_is_refused(folder: Path) -> None:
    """Names and classes must be as many."""
    change(folder, lambda c: c.update(class_names=["one"]))
    with pytest.raises(ConfigError, match="class names"):
        FAM.from_pretrained(folder)


DAMAGE: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("format", lambda c: c.update(format="other")),
    ("format_version", lambda c: c.update(format_version=2)),
    ("model", lambda c: c.pop("model")),
    ("model", lambda c: c.update(model=[])),
    ("class_names", lambda c: c.update(class_names="cat")),
    ("class_names", lambda c: c.update(class_names=[1, 2, 3, 4, 5])),
    ("provenance", lambda c: c.update(provenance="made by me")),
    ("provenance", lambda c: c.update(provenance=["made", "by", "me"])),
]


@pytest.mark.parametrize(("word", "edit"), DAMAGE)
def test_damaged_configs_are_refused(folder: Path, word: str, edit: Callable[[dict[str, Any]], object]) -> None:
    """A config of another format, version or shape is refused with what is wrong."""
    change(folder, edit)
    with pytest.raises(WeightsError, match=word):
        FAM.from_pretrained(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe\x00"])
def test_configs_that_are_no_json_object_are_refused(folder: Path, content: bytes) -> None:
    """Not JSON, not an object, not text: refused with the file's path."""
    (folder / CONFIG_FILE).write_bytes(content)
    with pytest.raises(WeightsError, match=CONFIG_FILE):
        read_config(folder)


def test_huge_configs_are_not_read(folder: Path) -> None:
    """A config too large to be one is refused by its size."""
    with (folder / CONFIG_FILE).open("r+b") as file:
        file.truncate(MAX_CONFIG_BYTES + 1)  # sparse: takes no room
    with pytest.raises(WeightsError, match="larger than 16 MiB"):
        read_config(folder)


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


def test_a_folder_with_pickled_weights_alone_is_no_checkpoint(folder: Path) -> None:
    """pytorch_model.bin is not looked for."""
    (folder / WEIGHTS_FILE).rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=f"{WEIGHTS_FILE} missing"):
        resolve(folder)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.uint8])
def test_other_tensor_types_are_refused(folder: Path, dtype: torch.dtype) -> None:
    """A checkpoint holds float16, float32 and counters, and says which tensor is something else."""
    tensors = load_file(folder / WEIGHTS_FILE)
    tensors["classifier.bias"] = tensors["classifier.bias"].to(dtype)
    save_file(tensors, folder / WEIGHTS_FILE)
    with pytest.raises(WeightsError, match="classifier.bias"):
        read_checkpoint(folder)


def test_unknown_names_list_the_packaged_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A name that is neither packaged nor a folder is answered with the packaged names."""
    (tmp_path / "tiny-fam").mkdir()
    (tmp_path / "tiny-fam" / CONFIG_FILE).write_text("{}")
    monkeypatch.setattr(module, "PACKAGED_DIR", tmp_path)
    with pytest.raises(
        UnknownNameError, match=r"unknown model 'tiny-fan' \(did you mean: tiny-fam\); or give the path"
    ):
        resolve("tiny-fan")
    with pytest.raises(UnknownNameError, match=r"one of the Hub use famcli\.load_model or fam pull"):
        FAM.from_pretrained("o/fam")


def test_packaged_names(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> None:
    """Folders beside the package's code are known by their names, and load by them."""
    monkeypatch.setattr(module, "PACKAGED_DIR", checkpoint.parent)
    assert packaged() == {checkpoint.name: checkpoint}
    assert FAM.from_pretrained(checkpoint.name).config.num_classes == 5


def test_an_empty_folder_is_no_checkpoint(tmp_path: Path) -> None:
    """Both missing files are named."""
    with pytest.raises(WeightsError, match=f"{CONFIG_FILE} and {WEIGHTS_FILE} missing"):
        resolve(tmp_path)


def test_interrupted_write_leaves_no_file(tmp_path: Path) -> None:
    """A write that fails half-way leaves neither the file nor its temporary neighbour."""

    def fail(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "out.json", fail)
    assert list(tmp_path.iterdir()) == []


def test_interrupted_write_keeps_the_old_file(tmp_path: Path) -> None:
    """A write that fails leaves what was there before."""
    path = tmp_path / "out.json"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        msg = "disk full"
        raise OSError(msg)

    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_write_makes_the_folder(tmp_path: Path) -> None:
    """Folders on the way are made."""
    path = tmp_path / "a" / "b" / "c.txt"
    write_atomic(path, lambda temporary: temporary.write_text("x"))  # type: ignore[arg-type, return-value]
    assert path.read_text() == "x"


def test_interrupted_save_leaves_a_whole_checkpoint(
    make_model: Callable[..., FAM], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If saving stops at the weights, the checkpoint that was there still loads."""

    def fail(*_: object, **__: object) -> None:
        msg = "disk full"
        raise OSError(msg)

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        make_model(num_parts=2).save_pretrained(folder)
    assert FAM.from_pretrained(folder).config.num_parts == 5


def test_every_refusal_is_a_fam_error() -> None:
    """The command line needs one except clause."""
    assert issubclass(WeightsError, FamError)
    assert issubclass(ConfigError, FamError)
