"""One step of a training, and its state to and fro."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._inductor import config as inductor

from famcli.data.sample import Sample
from famcli.training.accelerator import make_accelerator
from famcli.training.config import TrainConfig
from famcli.training.loop import fit
from famcli.training.monitor import Epoch
from famcli.training.resume import State, read_state, write_state
from famcli.training.sampler import Order
from famcli.training.step import Training, target_loss
from famcli_models.errors import FamError, WeightsError
from famcli_models.losses import Losses
from famcli_models.methods.fam import FAM
from famcli_models.methods.method import Batch

Make = Callable[..., FAM]
TRAINED: Mapping[str, Any] = {"backbone": "trained", "backbone_lr": 0.1}


def train(
    model: FAM, samples: list[Sample], on_step: Callable[[Training], None] = lambda _: None, **fields: Any
) -> Any:
    """A short run on the CPU, without other processes."""
    config = TrainConfig(**{"epochs": 2, "batch_size": 4, "lr": 1e-3, **fields})
    return fit(model, samples, config, make_accelerator("cpu", config.precision), workers=0, on_step=on_step)


def copied(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_close(first: FAM, second: FAM, atol: float) -> None:
    other = second.state_dict()
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(
            tensor, other[name], rtol=0, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_target_loss_by_hand() -> None:
    """M = (1/4, 1/2) with targets (0, 1): -(log 3/4 + log 1/2) / 2."""
    M = torch.tensor([[[0.25, 0.5]]])
    assert target_loss(M, torch.tensor([[[0.0, 1.0]]])).item() == pytest.approx(-math.log(0.75 * 0.5) / 2)
    assert torch.isfinite(target_loss(torch.ones(1, 1, 1), torch.zeros(1, 1, 1)))


def test_the_average_by_hand(make_model: Make, labelled: list[Sample]) -> None:
    """After the first step the average is the weights; then each step it keeps its share d and takes 1 - d of them."""
    d, mean = 0.75, {}
    model = make_model(frozen_norm=False)

    def follow(now: Training) -> None:
        for name, parameter in now.model.named_parameters():
            value = parameter.detach().double()
            mean[name] = d * mean[name] + (1 - d) * value if name in mean else value

    done = train(model, labelled, follow, ema=d, **TRAINED)
    assert done.weights is not model
    for name, parameter in done.weights.named_parameters():
        torch.testing.assert_close(parameter.double(), mean[name], rtol=1e-5, atol=1e-6)
    moved = [
        name
        for name, p in model.named_parameters()
        if not torch.allclose(p, dict(done.weights.named_parameters())[name])
    ]
    assert moved
    statistics = dict(model.named_buffers())
    assert all(torch.equal(buffer, statistics[name]) for name, buffer in done.weights.named_buffers())


def test_without_an_average_the_model_is_what_is_saved(make_model: Make, labelled: list[Sample]) -> None:
    """The weights of a training without ``ema`` are the model's."""
    model = make_model()
    assert train(model, labelled, epochs=1).weights is model


def test_accumulating_is_the_same_training(make_model: Make, labelled: list[Sample]) -> None:
    """Two or four forward passes a step give the weights that one gives, up to rounding, and the same means."""
    runs = []
    for accumulate in (1, 2, 4):
        model = make_model()
        runs.append((model, train(model, labelled, accumulate=accumulate, **TRAINED).history))
    for model, history in runs[1:]:
        assert_close(model, runs[0][0], atol=1e-4)
        assert history[-1].images == 8
        assert history[-1].terms == pytest.approx(runs[0][1][-1].terms, abs=1e-4)
        assert history[-1].measures["top1"] == runs[0][1][-1].measures["top1"]


def test_channels_last_is_the_same_training(make_model: Make, labelled: list[Sample]) -> None:
    """Another layout of memory changes the weights by rounding alone, and the layout is there."""
    plain, last = make_model(), make_model()
    train(plain, labelled, **TRAINED)
    train(last, labelled, channels_last=True, **TRAINED)
    assert_close(plain, last, atol=1e-4)
    filters = [p for p in last.backbone.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert filters
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in filters)


def test_half_precision_trains(make_model: Make, labelled: list[Sample]) -> None:
    """In bfloat16 the weights stay float32, nearly those of float32, and the losses are finite."""
    plain, half = make_model(), make_model()
    before = copied(half)
    train(plain, labelled)
    history = train(half, labelled, precision="bf16").history
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in half.state_dict().values())
    assert not torch.equal(half.part_attention.discovery.weight, before["part_attention.discovery.weight"])
    assert_close(plain, half, atol=0.02)
    assert all(math.isfinite(value) for epoch in history for value in epoch.terms.values())


NO_COMPILER = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="torch.compile needs a C++ compiler"
)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=[pytest.mark.slow, NO_COMPILER])])
def test_compiling_is_the_same_training(
    make_model: Make, labelled: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """The compiled network gives the same weights up to rounding, and was compiled."""
    compiled = []
    original = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self: compiled.append(self) or original(self, backend=backend)
    )
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()  # of what another test compiled
    # With features in memory it is the head alone: the backbone's graph would take minutes.
    plain, fast = make_model(), make_model()
    train(plain, labelled, epochs=1, cached_views=1)
    with inductor.patch(compile_threads=1):  # no pool of processes for so little
        train(fast, labelled, epochs=1, cached_views=1, compile=True)
    assert len(compiled) == 1
    assert_close(plain, fast, atol=1e-4)


def test_long_gradients_are_cut(make_model: Make, labelled: list[Sample]) -> None:
    """With ``clip_norm`` no step's gradient is longer, over all parameters together; without it they are."""
    lengths: dict[float, list[float]] = {0.0: [], 1e-3: []}
    for limit, found in lengths.items():

        def note(now: Training, found: list[float] = found) -> None:
            grads = [p.grad for p in now.model.parameters() if p.grad is not None]
            found.append(float(torch.stack([g.norm() for g in grads]).norm()))

        train(make_model(), labelled, note, clip_norm=limit)
    assert min(lengths[0.0]) > 1e-3
    assert max(lengths[1e-3]) <= 1e-3 * (1 + 1e-4)


def test_balanced_classes_by_hand(make_model: Make, labelled: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    """Six images of one class and two of another: weights 8/12 and 8/4; no weights unless asked for."""
    few = [s for s in labelled if s.label == 0] + [s for s in labelled if s.label == 1][:2]
    few += [labelled[0], labelled[2]]
    seen: list[Tensor | None] = []
    plain = FAM.loss

    def spy(self: FAM, output: Any, batch: Batch) -> Losses:
        seen.append(batch.class_weight)
        return plain(self, output, batch)

    monkeypatch.setattr(FAM, "loss", spy)
    train(make_model(), few, epochs=1, class_balanced=True)
    assert seen[0] is not None
    assert seen[0].tolist() == pytest.approx([8 / 12, 8 / 4, 0, 0, 0])
    seen.clear()
    train(make_model(), few, epochs=1)
    assert set(seen) == {None}


def test_the_sparsity_warmup_by_hand(make_model: Make, labelled: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    """Over half of four steps λ_spa rises from 0: 0, 1/2, 1 and 1 of it; the model's own stays as it was."""
    seen: list[float] = []
    plain = FAM.loss

    def spy(self: FAM, output: Any, batch: Batch) -> Losses:
        losses = plain(self, output, batch)
        seen.append(((losses.total - losses.terms["cla"]) / losses.terms["spa"]).item())
        return losses

    monkeypatch.setattr(FAM, "loss", spy)
    model = make_model(lambda_spa=0.8, sparsity_warmup=0.5, diversity=False)
    train(model, labelled)
    assert seen == pytest.approx([0.0, 0.4, 0.8, 0.8], abs=1e-5)
    assert model.config.lambda_spa == 0.8


def test_a_loss_that_is_not_finite_stops(
    make_model: Make, labelled: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has step, epoch and the batch's files; the weights and the average are those of the step before."""
    plain = FAM.loss

    def break_third(self: FAM, output: Any, batch: Batch) -> Losses:
        losses = plain(self, output, batch)
        return losses if batch.step < 2 else Losses(losses.total * math.nan, losses.terms)

    monkeypatch.setattr(FAM, "loss", break_third)
    kept: list[State] = []
    model = make_model()

    def keep(now: Training) -> None:
        state = now.state()
        kept.append(State({name: tensor.clone() for name, tensor in state.tensors.items()}, state.facts))

    last: list[Training] = []
    with pytest.raises(FamError, match=r"the loss is nan at step 2 \(epoch 2\).*Lower lr") as caught:
        train(model, labelled, lambda now: (keep(now), last.append(now)), ema=0.5, **TRAINED)
    order = Order(images=8, batch_size=4, epochs=2, seed=0)
    names = [labelled[image].name for _, image in list(order.batches())[2]]
    assert str(caught.value).endswith(", ".join(names))
    now = last[-1].state()
    assert (now.facts["step"], len(kept)) == (2, 2)
    assert all(torch.equal(tensor, kept[-1].tensors[name]) for name, tensor in now.tensors.items())


def test_a_gradient_that_is_not_finite_stops(make_model: Make, labelled: list[Sample]) -> None:
    """A finite loss with a gradient that is not stops before it reaches the weights."""
    model = make_model()
    model.classifier.weight.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(FamError, match=r"the length of its gradient is nan at step 0 \(epoch 1\)"):
        train(model, labelled)
    assert all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values())


def test_the_numbers_of_an_epoch(make_model: Make, labelled: list[Sample]) -> None:
    """An epoch knows its images, its time, the share of it spent waiting, and means that make sense."""
    history: list[Epoch] = train(make_model(), labelled).history
    assert [epoch.number for epoch in history] == [1, 2]
    for epoch in history:
        assert list(epoch.terms) == ["total", "cla", "spa", "div"]
        assert epoch.images == 8
        assert epoch.seconds > 0
        assert 0 <= epoch.waiting <= 1
        assert 0 <= epoch.measures["foreground"] <= 1
        assert 0 <= epoch.measures["top1"] <= 1
        config = make_model().config
        total = epoch.terms["cla"] + config.lambda_spa * epoch.terms["spa"] + config.lambda_div * epoch.terms["div"]
        assert epoch.terms["total"] == pytest.approx(total, abs=1e-5)


RUNS: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {  # fields of the model and of the training
    "frozen": ({}, {}),
    "everything": ({"frozen_norm": False}, {**TRAINED, "ema": 0.9, "accumulate": 2, "clip_norm": 1.0}),
    "channels last": ({"frozen_norm": False, "part_std": 1.0}, {**TRAINED, "channels_last": True}),
    "dropout": ({}, {}),
    "cached": ({"frozen_norm": False}, {"cached_views": 2, "class_balanced": True}),
    "rising": ({"sparsity_warmup": 0.8}, {}),
    "cam": ({"method": "cam", "frozen_norm": False}, {**TRAINED, "ema": 0.9}),
    "cached cam": ({"method": "cam"}, {"cached_views": 2}),
    "bf16": ({}, {"precision": "bf16", "backbone": "trained"}),
}


@pytest.mark.parametrize("name", RUNS)
def test_resuming_is_exact(make_model: Make, labelled: list[Sample], tmp_path: Path, name: str) -> None:
    """From the file of any step, another model ends with the very weights, statistics, average and history."""
    model_fields, fields = RUNS[name]
    config = TrainConfig(**{"epochs": 3, "batch_size": 4, "lr": 0.01, **fields})

    def run(seed: int, start: State | None, on_step: Callable[[Training], None] = lambda _: None) -> Training:
        torch.manual_seed(seed)  # whatever happened before in the process must not matter
        model = make_model(seed=seed, **model_fields)
        if name == "dropout":
            model.part_attention.register_forward_pre_hook(
                lambda part, X_M: (F.dropout(X_M[0], 0.5, part.training), X_M[1])
            )
        accelerator = make_accelerator("cpu", config.precision)
        return fit(model, labelled, config, accelerator, 0, start=start, on_step=on_step)

    def files(step: int) -> Path:
        return tmp_path / f"{step}.safetensors"

    whole = run(0, None, lambda now: write_state(files(now.step), now.state())).state()
    for step in (1, 2, 5, 6):  # in the middle and at the end of an epoch; 6 is the end
        again = run(step, read_state(files(step))).state()
        assert again.tensors.keys() == whole.tensors.keys()
        different = [key for key, tensor in again.tensors.items() if not torch.equal(tensor, whole.tensors[key])]
        assert different == [], step
        assert (again.facts["step"], len(again.facts["history"])) == (6, 3)
        for mine, theirs in zip(again.facts["history"], whole.facts["history"], strict=True):
            for timed in ("seconds", "waiting"):
                del mine[timed]
            assert mine == {key: value for key, value in theirs.items() if key in mine}


def test_a_state_of_another_run_is_refused(make_model: Make, labelled: list[Sample], tmp_path: Path) -> None:
    """Another number of steps, another model and another kind of training are errors that say so."""
    path = tmp_path / "s.safetensors"
    write_state(path, train(make_model(), labelled, epochs=1).state())
    state = read_state(path)
    cases: list[tuple[FAM, dict[str, Any], str]] = [
        (make_model(), {"epochs": 2}, "the saved run has 2 steps of 4 images, this one 4 of 4"),
        (make_model(num_parts=2), {"epochs": 1}, "does not fit the model"),
        (make_model(), {"epochs": 1, "ema": 0.5}, "does not fit the model"),
    ]
    for model, fields, message in cases:
        config = TrainConfig(**{"batch_size": 4, **fields})
        with pytest.raises(WeightsError, match=message):
            fit(model, labelled, config, make_accelerator("cpu"), 0, start=state)
