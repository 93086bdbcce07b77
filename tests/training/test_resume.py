"""The file that a run is resumed from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from famcli.training.monitor import Epoch, Meter
from famcli.training.resume import State, read_state, write_state
from famcli_models.errors import FamError, WeightsError


def example() -> State:
    """Tensors of several types and shapes, one without dimensions, and nested facts."""
    tensors = {
        "model.a": torch.randn(2, 3, 1, 1).to(memory_format=torch.channels_last),
        "optimizer.a.step": torch.tensor(7.0),
        "average.n_averaged": torch.tensor(3, dtype=torch.int64),
        "model.b": torch.randn(4).bfloat16(),
    }
    epoch = asdict(Epoch(number=1, terms={"total": 0.1 + 0.2}, measures={}, images=2, seconds=1.5, waiting=0.0))
    facts = {"step": 3, "steps": 9, "size": 2, "meter": asdict(Meter()), "scaler": {}, "history": [epoch]}
    return State(tensors, {**facts, "unreadable": {"ä/\udcff.png": "x"}})


def test_round_trip(tmp_path: Path) -> None:
    """Every tensor comes back bit by bit with its type and shape, and every fact with it."""
    before = example()
    write_state(tmp_path / "s.safetensors", before)
    after = read_state(tmp_path / "s.safetensors")
    assert after.facts == before.facts
    assert after.tensors.keys() == before.tensors.keys()
    for name, tensor in before.tensors.items():
        assert after.tensors[name].dtype == tensor.dtype
        assert after.tensors[name].shape == tensor.shape
        assert torch.equal(after.tensors[name], tensor)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"holds no s\.safetensors: the run ended before its first save; start it again with fam train --recipe"),
        (b"no state at all", r"cannot read .*s\.safetensors"),
        (b"", r"cannot read .*s\.safetensors"),
    ],
)
def test_damaged(tmp_path: Path, content: bytes | None, message: str) -> None:
    """A file that is not there, cut short, no state, without JSON or of another version is an error that names it."""
    path = tmp_path / "s.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_state(path)
    write_state(path, example())
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(WeightsError, match="cannot read"):
        read_state(path)
    save_file({"a": torch.zeros(1)}, path, metadata={"fam-state": "1", "facts": "{"})
    with pytest.raises(WeightsError, match="cannot read"):
        read_state(path)
    for header in (None, {"fam-state": "2", "facts": "{}"}, {"fam-state": "1", "facts": "[]"}, {"fam-state": "1"}):
        save_file({"a": torch.zeros(1)}, path, metadata=header)
        with pytest.raises(WeightsError, match="this version of fam reads '1'"):
            read_state(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": "x"}, "step has to be"),
        ({"step": None}, "step has to be a whole number"),
        ({"history": [{"number": 1}]}, r"history\[0\].* is missing"),
        ({"meter": []}, "meter has to be an object"),
        ({"run": {"best_epoch": 1}}, "run.recipe is missing"),
    ],
)
def test_changed_facts(tmp_path: Path, change: dict[str, object], message: str) -> None:
    """Facts of another form than a run writes are a sentence that says which, and so are values that are not finite."""
    path, state = tmp_path / "s.safetensors", example()
    write_state(path, State(state.tensors, {**state.facts, **change}))
    with pytest.raises(FamError, match=message):
        read_state(path)
    write_state(path, State({"model.a": torch.tensor([1.0, torch.nan])}, state.facts))
    with pytest.raises(WeightsError, match=r"1 of 1 tensors hold values that are not finite, first model\.a"):
        read_state(path)


def test_a_failing_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk filling up half-way destroys nothing and leaves no rubbish."""
    path = tmp_path / "s.safetensors"
    write_state(path, example())
    before = path.read_bytes()

    def fail(_tensors: object, temporary: Path, metadata: object) -> None:
        Path(temporary).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match="No space"):
        write_state(path, State({"a": torch.zeros(1)}, {}))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]
