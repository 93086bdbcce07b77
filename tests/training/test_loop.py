"""The training loop: what it learns, what is frozen, what repeats exactly, and how it ends."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._inductor import config as inductor

from famcli.data.sample import Sample
from famcli.training.config import TrainConfig
from famcli.training.environment import make_accelerator
from famcli.training.loop import EpochEnd, Step, Training, fit, make_optimizer, rate_at, target_loss
from famcli.training.resume import State, read_state, write_state
from famcli.training.sampler import Order
from famcli_models import CAM, FAM
from famcli_models.errors import ConfigError, DataError, FamError, WeightsError
from famcli_models.losses import Losses
from famcli_models.methods.method import Batch

Make = Callable[..., FAM]
Train = Callable[..., Training]
TRAINED: Mapping[str, Any] = {"backbone": "trained", "backbone_lr": 0.1}


def copied(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def assert_close(first: FAM, second: FAM, atol: float) -> None:
    torch.testing.assert_close(dict(first.state_dict()), dict(second.state_dict()), rtol=0, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fam", "cam"])
def test_overfits_a_few_images(make_model: Make, train: Train, method: str) -> None:
    """Eight images are learnt by heart in a few epochs."""
    done = train(make_model(method=method, frozen_norm=False), epochs=25, lr=0.03, **TRAINED)
    assert done.history[-1].terms["cla"] < 0.5 * done.history[0].terms["cla"]
    assert done.history[-1].measures["top1"] == 1.0
    assert list(done.history[0].terms) == ["total", "cla", *(("spa", "div") if method == "fam" else ())]
    assert type(done.weights) is (FAM if method == "fam" else CAM)


@pytest.mark.parametrize("fields", [{}, {"cached_views": 2}, {"backbone": "trained", "ema": 0.9}])
def test_the_same_seed_gives_the_same_weights(make_model: Make, train: Train, fields: dict[str, Any]) -> None:
    """A run repeats bit by bit whatever was drawn before it, and another seed is another run."""
    states = []
    for number, seed in enumerate((0, 0, 1)):
        model = make_model(part_std=1.0)
        torch.manual_seed(number)
        states.append(train(model, seed=seed, **fields).weights.state_dict())
    assert same(states[0], states[1])
    assert not same(states[0], states[2])


@pytest.mark.parametrize("classifier", ["frozen", "trained"])
def test_what_is_frozen_stays(make_model: Make, train: Train, classifier: str) -> None:
    """A frozen backbone and a frozen classifier keep every value; the attention modules move; then the model rests."""
    model = make_model(classifier=classifier)
    before = copied(model)
    train(model, epochs=1)
    moved = {name.split(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"object_attention", "part_attention"} | ({"classifier"} if classifier == "trained" else set())
    assert not any(module.training for module in model.modules())


def test_targets_draw_m(make_model: Make, train: Train, labelled: list[Sample]) -> None:
    """Targets of 1 raise M, targets of 0 lower it, and the term is logged; with ``lambda_target`` 0 there is none."""
    means = []
    for value in (0.0, 1.0):
        targets = [np.full((8, 8), value, np.float16)] * len(labelled)
        history = train(make_model(), epochs=10, lambda_target=10.0, lr=0.1, targets=targets).history
        assert list(history[-1].terms) == ["total", "cla", "spa", "div", "target"]
        means.append(history[-1].measures["foreground"])
    assert means[1] - means[0] > 0.1
    assert "target" not in train(make_model(), epochs=1, targets=targets).history[0].terms


def test_an_event_for_each_step(make_model: Make, labelled: list[Sample]) -> None:
    """The last step of an epoch brings it, and training mode comes back; who stops asking leaves no process behind."""
    training = Training(make_model(), labelled, TrainConfig(epochs=2, batch_size=4), make_accelerator("cpu"))
    events = []
    for event in fit(training, workers=0):
        assert training.model.training
        training.weights.eval()  # as measuring does
        events.append(event)
        if not isinstance(event, EpochEnd):
            training.model.train()
    assert [(type(event), event.number, event.images) for event in events] == [
        *((Step, 1, 4), (EpochEnd, 2, 4), (Step, 3, 4), (EpochEnd, 4, 4))
    ]
    assert training.history == [event.epoch for event in events if isinstance(event, EpochEnd)]
    training = Training(make_model(), labelled, TrainConfig(epochs=50, batch_size=4), make_accelerator("cpu"))
    with closing(fit(training, workers=1)) as events:
        next(events)
        assert torch.multiprocessing.active_children()
    assert not torch.multiprocessing.active_children()
    assert training.step == 1


def test_the_numbers_of_an_epoch(make_model: Make, train: Train) -> None:
    """An epoch knows its images, its time, the share of it spent waiting, and means that make sense."""
    config, history = make_model().config, train(make_model()).history
    assert [epoch.number for epoch in history] == [1, 2]
    for epoch in history:
        assert (epoch.images, epoch.seconds > 0, 0 <= epoch.waiting <= 1) == (8, True, True)
        assert all(0 <= epoch.measures[name] <= 1 for name in ("foreground", "top1"))
        total = epoch.terms["cla"] + config.lambda_spa * epoch.terms["spa"] + config.lambda_div * epoch.terms["div"]
        assert epoch.terms["total"] == pytest.approx(total, abs=1e-5)


def test_bad_input(make_model: Make, train: Train, labelled: list[Sample]) -> None:
    """Labels beyond the classes, steps that cannot be shared and data without a readable image are named."""
    with pytest.raises(DataError, match="'x.png' has label 9"):
        train(make_model(), [*labelled[:-1], Sample("x.png", labelled[0].path, 9, np.zeros((0, 4)))])
    with pytest.raises(ConfigError, match="multiple of 3"):
        train(make_model(), accumulate=3)
    for sample in labelled:
        sample.path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"8 images in a row cannot be read, the first is .*\.png: not a JPEG"):
        train(make_model())


@pytest.mark.parametrize(
    ("raised", "error", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
            FamError,
            r"out of memory on cpu with 2 images a forward pass .*--set accumulate=4",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), FamError, "lower"),
        (RuntimeError("MPS backend out of memory"), FamError, "out of memory on cpu"),
        # Torch reports the death wherever the main process is, and not only where it waits for a batch.
        (
            RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed."),
            DataError,
            r"a process that decodes images died.*lower --workers \(now 1;",
        ),
        (RuntimeError("shapes differ"), RuntimeError, "^shapes differ$"),
    ],
)
def test_errors_in_words(
    make_model: Make,
    train: Train,
    monkeypatch: pytest.MonkeyPatch,
    raised: RuntimeError,
    error: type[Exception],
    message: str,
) -> None:
    """What torch says becomes a sentence with what to change, a mistake of ours stays one; no process outlives it."""

    def fail(*_: object) -> None:
        assert torch.multiprocessing.active_children()
        raise raised

    monkeypatch.setattr(FAM, "loss", fail)
    with pytest.raises(error, match=message):
        train(make_model(), epochs=50, accumulate=2, workers=1)
    assert not torch.multiprocessing.active_children()


def test_a_loss_that_is_not_finite_stops(
    make_model: Make, train: Train, labelled: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has step, epoch and the batch's files; the weights and the average are those of the step before."""
    plain = FAM.loss

    def break_third(self: FAM, output: Any, batch: Batch) -> Losses:
        losses = plain(self, output, batch)
        return losses if batch.step < 2 else Losses(losses.total * math.nan, losses.terms)

    monkeypatch.setattr(FAM, "loss", break_third)
    kept: list[dict[str, Tensor]] = []
    trainings: list[Training] = []

    def keep(now: Training) -> None:
        kept.append({name: tensor.clone() for name, tensor in now.state().tensors.items()})
        trainings.append(now)

    with pytest.raises(FamError, match=r"the loss is nan at step 2 \(epoch 2\).*Lower lr") as caught:
        train(make_model(), on_step=keep, ema=0.5, **TRAINED)
    order = Order(images=8, batch_size=4, epochs=2, seed=0)
    assert str(caught.value).endswith(", ".join(labelled[image].name for _, image in list(order.batches())[2]))
    now = trainings[-1].state()
    assert (now.facts["step"], len(kept)) == (2, 2)
    assert same(now.tensors, kept[-1])


def test_a_model_that_is_broken_from_the_start(make_model: Make, train: Train) -> None:
    """A first loss or a first gradient that is not finite ends the run before it reaches the weights."""
    model = make_model()
    model.classifier.weight.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(FamError, match=r"the length of its gradient is nan at step 0 \(epoch 1\)"):
        train(model)
    assert all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values())
    with torch.no_grad():
        model.classifier.bias.fill_(math.inf)
    with pytest.raises(FamError, match=r"loss is nan at step 0 \(epoch 1\).* Lower lr"):
        train(model)


def test_the_average_by_hand(make_model: Make, train: Train) -> None:
    """After the first step the average is the weights; then each step it keeps its share d and takes 1 - d of them."""
    d, mean = 0.75, {}
    model = make_model(frozen_norm=False)

    def follow(now: Training) -> None:
        for name, parameter in now.model.named_parameters():
            value = parameter.detach().double()
            mean[name] = d * mean[name] + (1 - d) * value if name in mean else value

    average = dict(train(model, on_step=follow, ema=d, **TRAINED).weights.named_parameters())
    for name, parameter in average.items():
        torch.testing.assert_close(parameter.double(), mean[name], rtol=1e-5, atol=1e-6)
    assert any(not torch.allclose(p, average[name]) for name, p in model.named_parameters())
    done = train(model, ema=d, **TRAINED)
    assert same(dict(model.named_buffers()), dict(done.weights.named_buffers()))  # statistics are not averaged
    assert train(model, epochs=1).weights is model


def test_accumulating_and_channels_last_are_the_same_training(make_model: Make, train: Train) -> None:
    """Several forward passes a step, and another layout of memory, give the same weights up to rounding."""
    whole = train(make_model(), **TRAINED)
    for accumulate in (2, 4):
        parts = train(make_model(), accumulate=accumulate, **TRAINED)
        assert_close(parts.model, whole.model, atol=1e-4)
        assert parts.history[-1].images == 8
        assert parts.history[-1].terms == pytest.approx(whole.history[-1].terms, abs=1e-4)
        assert parts.history[-1].measures["top1"] == whole.history[-1].measures["top1"]
    last = train(make_model(), channels_last=True, **TRAINED).model
    assert_close(whole.model, last, atol=1e-4)
    filters = [p for p in last.backbone.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert filters
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in filters)


def test_half_precision_trains(make_model: Make, train: Train) -> None:
    """In bfloat16 the weights stay float32, nearly those of float32, and the losses are finite."""
    plain, half = make_model(), make_model()
    before = copied(half)["part_attention.discovery.weight"]
    train(plain)
    history = train(half, precision="bf16").history
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in half.state_dict().values())
    assert not torch.equal(half.part_attention.discovery.weight, before)
    assert_close(plain, half, atol=0.02)
    assert all(math.isfinite(value) for epoch in history for value in epoch.terms.values())


NO_COMPILER = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="torch.compile needs a C++ compiler"
)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=[pytest.mark.slow, NO_COMPILER])])
def test_compiling_is_the_same_training(
    make_model: Make, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
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
    train(plain, epochs=1, cached_views=1)
    with inductor.patch(compile_threads=1):  # no pool of processes for so little
        train(fast, epochs=1, cached_views=1, compile=True)
    assert len(compiled) == 1
    assert_close(plain, fast, atol=1e-4)


def test_long_gradients_are_cut(make_model: Make, train: Train) -> None:
    """With ``clip_norm`` no step's gradient is longer, over all parameters together; without it they are."""
    lengths: dict[float, list[float]] = {0.0: [], 1e-3: []}
    for limit, found in lengths.items():

        def note(now: Training, found: list[float] = found) -> None:
            grads = [p.grad for p in now.model.parameters() if p.grad is not None]
            found.append(float(torch.stack([g.norm() for g in grads]).norm()))

        train(make_model(), on_step=note, clip_norm=limit)
    assert min(lengths[0.0]) > 1e-3
    assert max(lengths[1e-3]) <= 1e-3 * (1 + 1e-4)


def test_what_a_loss_is_given(
    make_model: Make, train: Train, labelled: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps, over half of which λ_spa rises; weights 8/12 and 8/4 for six images of one class, two of another."""
    few = [s for s in labelled if s.label == 0] + [s for s in labelled if s.label == 1][:2] + [labelled[0], labelled[2]]
    given: list[tuple[Batch, float]] = []
    plain = FAM.loss

    def spy(self: FAM, output: Any, batch: Batch) -> Losses:
        losses = plain(self, output, batch)
        given.append((batch, ((losses.total - losses.terms["cla"]) / losses.terms["spa"]).item()))
        return losses

    monkeypatch.setattr(FAM, "loss", spy)
    train(make_model(lambda_spa=0.8, sparsity_warmup=0.5, diversity=False), few)
    assert [(batch.step, batch.steps, batch.class_weight) for batch, _ in given] == [(i, 4, None) for i in range(4)]
    assert [weight for _, weight in given] == pytest.approx([0.0, 0.4, 0.8, 0.8], abs=1e-5)
    given.clear()
    train(make_model(), few, epochs=1, class_balanced=True)
    assert given[0][0].class_weight.tolist() == pytest.approx([8 / 12, 8 / 4, 0, 0, 0])


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
    "sgd": ({"frozen_norm": False}, {**TRAINED, "optimizer": "sgd", "schedule": "step", "decay_epochs": (1, 2)}),
    "sgd without momentum": ({}, {"optimizer": "sgd", "momentum": 0.0, "channels_last": True}),
}


@pytest.mark.parametrize("name", RUNS)
def test_resuming_is_exact(make_model: Make, train: Train, tmp_path: Path, name: str) -> None:
    """From the file of any step, another model ends with the very weights, statistics, average and history."""
    model_fields, fields = RUNS[name]

    def run(seed: int, start: State | None, on_step: Callable[[Training], None] = lambda _: None) -> State:
        torch.manual_seed(seed)  # whatever happened before in the process must not matter
        model = make_model(seed=seed, **model_fields)
        if name == "dropout":
            model.part_attention.register_forward_pre_hook(
                lambda part, X_M: (F.dropout(X_M[0], 0.5, part.training), X_M[1])
            )
        return train(model, start=start, on_step=on_step, epochs=3, **{"lr": 0.01, **fields}).state()

    whole = run(0, None, lambda now: write_state(tmp_path / f"{now.step}.safetensors", now.state()))
    for step in (1, 2, 5, 6):  # in the middle and at the end of an epoch; 6 is the end
        again = run(step, read_state(tmp_path / f"{step}.safetensors"))
        assert same(again.tensors, whole.tensors), step
        assert (again.facts["step"], len(again.facts["history"])) == (6, 3)
        for mine, theirs in zip(again.facts["history"], whole.facts["history"], strict=True):
            timed = {"seconds": 0.0, "waiting": 0.0}
            assert {**mine, **timed} == {**theirs, **timed}


def test_a_state_of_another_run_is_refused(make_model: Make, train: Train, tmp_path: Path) -> None:
    """Another number of steps, another model and another kind of training are errors that say so."""
    write_state(tmp_path / "s.safetensors", train(make_model(), epochs=1).state())
    state = read_state(tmp_path / "s.safetensors")
    cases: list[tuple[FAM, dict[str, Any], str]] = [
        (make_model(), {"epochs": 2}, "the saved run has 2 steps of 4 images, this one 4 of 4"),
        (make_model(num_parts=2), {"epochs": 1}, "does not fit the model"),
        (make_model(), {"epochs": 1, "ema": 0.5}, "does not fit the model"),
    ]
    for model, fields, message in cases:
        with pytest.raises(WeightsError, match=message):
            train(model, start=state, **fields)


SLOT = "optimizer.classifier.weight.exp_avg"
ODD_SLOTS: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "one less": lambda tensors: tensors.pop(SLOT),
    "another shape": lambda tensors: tensors.update({SLOT: torch.zeros(1)}),  # which copying would spread
    "another optimizer's": lambda tensors: tensors.update({f"{SLOT}_max": tensors[SLOT]}),
    "of nothing": lambda tensors: tensors.update({"optimizer.nothing.exp_avg": torch.zeros(1)}),
}


@pytest.mark.parametrize("case", ODD_SLOTS)
def test_what_an_optimizer_does_not_keep_is_refused(make_model: Make, train: Train, case: str) -> None:
    """A changed file is one sentence that names the parameter, and no training that goes on with other numbers."""
    state = train(make_model(), epochs=1).state()
    tensors = dict(state.tensors)
    ODD_SLOTS[case](tensors)
    with pytest.raises(WeightsError, match=r"has .* of (classifier.weight|nothing), which does not"):
        train(make_model(), epochs=1, start=State(tensors, state.facts))


def test_groups_of_the_optimizer(make_model: Make) -> None:
    """A slow classifier has a tenth of the rate, the backbone its share; a frozen CAM is refused."""
    model = make_model(classifier="slow")
    config = TrainConfig(backbone="trained", backbone_lr=0.01, weight_decay=0.5)
    groups = make_optimizer(model, config).param_groups
    share_of = {id(p): g["share"] for g in groups for p in g["params"]}
    assert share_of[id(model.classifier.weight)] == 0.1
    assert share_of[id(next(model.backbone.parameters()))] == 0.01
    assert all(g["weight_decay"] == (0.5 if p.ndim > 1 else 0) for g in groups for p in g["params"])
    assert len(share_of) == len(list(model.parameters()))
    with pytest.raises(ConfigError, match="nothing to train.*classifier=trained"):
        make_optimizer(make_model(method="cam", classifier="frozen"), TrainConfig())
    cam = make_optimizer(make_model(method="cam"), TrainConfig()).param_groups
    assert {p.numel() for group in cam for p in group["params"]} == {5, 5 * make_model().channels}


def test_what_is_frozen_is_in_no_group(make_model: Make) -> None:
    """A frozen backbone and a frozen classifier need no gradient and no memory in the optimizer."""
    for fields in ({"backbone": "frozen"}, {"backbone": "trained", "backbone_lr": 0.0}):
        model = make_model(classifier="frozen")
        held = {id(p) for group in make_optimizer(model, TrainConfig(**fields)).param_groups for p in group["params"]}
        for name, parameter in model.named_parameters():
            trained = name.split(".")[0] in ("object_attention", "part_attention")
            assert parameter.requires_grad == trained == (id(parameter) in held), name


def test_the_rate_falls_in_steps(make_model: Make, train: Train) -> None:
    """It is constant, and a quarter of what it was after the first and after the third epoch, in every group."""
    rates: list[set[float]] = []

    def note(now: Training) -> None:
        rates.append({group["lr"] / group["share"] for group in now.optimizer.param_groups})

    step = {"schedule": "step", "decay_epochs": (1, 3), "decay": 0.25, "warmup": 0.0}
    train(make_model(), on_step=note, epochs=4, optimizer="sgd", lr=0.01, **step, **TRAINED)
    expected = [0.01, 0.01, 0.0025, 0.0025, 0.0025, 0.0025, 0.000625, 0.000625]
    assert [max(each) for each in rates] == pytest.approx(expected)
    assert all(max(each) == pytest.approx(min(each)) for each in rates)


def test_sgd_by_hand(make_model: Make, train: Train) -> None:
    """Two steps of Nesterov's momentum: v = 0.5 v + g, w = w - r (g + 0.5 v), with decay in g for matrices alone."""
    model = make_model(classifier="trained")
    weight, bias = model.classifier.weight, model.classifier.bias
    w, b = weight.detach().double(), bias.detach().double()
    v_w, v_b = torch.zeros_like(w), torch.zeros_like(b)

    def follow(now: Training) -> None:
        nonlocal w, b, v_w, v_b
        del now
        g_w, g_b = weight.grad.double() + 0.1 * w, bias.grad.double()
        v_w, v_b = 0.5 * v_w + g_w, 0.5 * v_b + g_b
        w, b = w - 0.2 * (g_w + 0.5 * v_w), b - 0.2 * (g_b + 0.5 * v_b)

    fields = {"optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.1, "schedule": "step", "warmup": 0.0}
    train(model, on_step=follow, epochs=1, lr=0.2, **fields)
    torch.testing.assert_close(weight.double(), w, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(bias.double(), b, rtol=1e-5, atol=1e-6)


def test_rate_and_target_loss() -> None:
    """With a tenth of warm-up: 1/10 first, 1 at the tenth step, 1/2 half-way; M = (1/4, 1/2) has targets (0, 1)."""
    rates = [rate_at(TrainConfig(warmup=0.1), step, 100) for step in (0, 9, 55, 99)]
    assert rates == pytest.approx([0.1, 1.0, 0.5, 0.5 * (1 + math.cos(math.pi * 89 / 90))])
    for steps, warmup in ((1, 0.0), (1, 1.0), (3, 0.0), (7, 1.0), (2, 0.5)):
        rates = [rate_at(TrainConfig(warmup=warmup), step, steps) for step in range(steps)]
        assert all(0 < rate <= 1 for rate in rates)
        assert max(rates) == 1
    M = torch.tensor([[[0.25, 0.5]]])
    assert target_loss(M, torch.tensor([[[0.0, 1.0]]])).item() == pytest.approx(-math.log(0.75 * 0.5) / 2)
    assert torch.isfinite(target_loss(torch.ones(1, 1, 1), torch.zeros(1, 1, 1)))
