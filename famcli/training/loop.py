"""The training loop: steps of an optimizer on batches of labelled images, as a generator with an event for each.

Boxes are never read here. Every random choice comes from the seed, the step and the image's number, so that a run
on the same machine and versions repeats exactly, and one that was killed goes on exactly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from famcli.data.sample import Sample, check_labels
from famcli.training.config import Optimizer, TrainConfig
from famcli.training.loading import CachedFeatures, ImageBatch, Views, load_batches, map_size
from famcli.training.monitor import Epoch, Meter, Progress, no_progress
from famcli.training.resume import State
from famcli.training.sampler import Order
from famcli_models.errors import ConfigError, DataError, FamError, WeightsError, short
from famcli_models.features import Features
from famcli_models.losses import balanced_class_weight
from famcli_models.methods.method import Batch, Method
from famcli_models.preprocess import normalize

SLOW = 0.1  # share of the learning rate for a "slow" classifier
OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")  # what torch's devices say
LOADER_DIED = "DataLoader worker"
SLOTS: Mapping[Optimizer, Collection[str]] = {  # what torch's optimizers keep for a parameter
    "adamw": {"step", "exp_avg", "exp_avg_sq"},
    "sgd": {"momentum_buffer"},
}


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the optimizer has been taken: the ``number``-th, on ``images`` images of all processes together."""

    number: int
    images: int


@dataclass(frozen=True, slots=True)
class EpochEnd(Step):
    """The step was the last of an epoch, whose means end the training's history; more may be added to them there."""

    epoch: Epoch


def fit(
    training: Training,
    workers: int = 2,
    batches: Iterator[ImageBatch] | None = None,
    progress: Progress = no_progress,
) -> Generator[Step, None, None]:
    """Train from the next step to the end: an event after each step, and one after the last step of an epoch.

    Whoever stops asking for events stops the training between two steps. ``batches`` may stand in for those of the
    training's images. ``progress`` shows how far the features are that are cached first. A ``FamError`` says that the
    loss is not finite, or that hardly any image can be read.
    """
    order = training.order
    # Closed whatever happens: loading processes that outlive the loop are complained about at exit.
    with closing(training.batches(workers, progress)) if batches is None else nullcontext(batches) as source:
        training.model.train()
        while training.step < order.steps:
            training.take_step(source)
            if training.step % order.epoch_steps:
                yield Step(training.step, order.size)
            else:
                yield EpochEnd(training.step, order.size, training.end_epoch())
                training.model.train()  # measuring may have left it in evaluation mode
    training.model.eval()


class Training:
    """A training in memory: everything that a step changes, and what a step needs.

    ``model`` is trained in place. ``targets`` are, for each sample, a map ``(h, w)`` in [0, 1] of the whole image that
    the model's map is drawn to with weight ``config.lambda_target``. ``start`` is a saved state to go on from.
    ``boxes`` ``(n, 4)`` are those of the method's first stage.
    """

    def __init__(
        self,
        model: Method,
        samples: Sequence[Sample],
        config: TrainConfig,
        accelerator: Accelerator,
        targets: Sequence[np.ndarray] | None = None,
        start: State | None = None,
        boxes: np.ndarray | None = None,
    ) -> None:
        check_labels(samples, model.config.num_classes)
        if config.cached_views and accelerator.num_processes > 1:
            msg = "cached_views keeps all features in one process: set cached_views=0 to train with several"
            raise ConfigError(msg)
        if config.cached_views and model.needs_images:
            raise ConfigError(f"{model.title} changes images or layers in training: set cached_views=0")
        torch.manual_seed(config.seed)
        self.model = model = model.to(accelerator.device).train()
        if config.channels_last:
            model.to(memory_format=torch.channels_last)
        if start is None:
            model.begin_training()
        self.samples, self.config, self.accelerator, self.targets = samples, config, accelerator, targets
        self.boxes = boxes
        self.order = Order(
            images=len(samples),
            batch_size=config.batch_size,
            epochs=config.epochs,
            seed=config.seed,
            accumulate=config.accumulate,
            processes=accelerator.num_processes,
            process=accelerator.process_index,
            paired_by=[sample.label for sample in samples] if model.pairs else (),
        )
        self._class_weight: Tensor | None = None
        if config.class_balanced:
            labels = torch.tensor([sample.label for sample in samples])
            counts = torch.bincount(labels, minlength=model.config.num_classes)
            self._class_weight = balanced_class_weight(counts).to(accelerator.device)
        self.step, self._meter, self.history = 0, Meter(), list[Epoch]()
        self.unreadable: dict[str, str] = {}
        self._measured: list[str] = []  # names of the logged values that are no terms of the loss
        self.optimizer = make_optimizer(model, config)
        self._average: AveragedModel | None = None
        if config.ema:
            self._average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=False)
        self._network, self._prepared = accelerator.prepare(_Network(model), self.optimizer)
        if config.compile:
            self._network.compile()
        if start is not None:
            self._restore(start)

    @property
    def weights(self) -> Method:
        """The model to save and to measure: the average if there is one."""
        return self._average.module if self._average is not None else self.model  # type: ignore[return-value]

    def views(self) -> Views:
        """The images as they are trained on, with their targets."""
        size = self.config.side(self.model.config.size)
        map_hw = map_size(self.model, size, self.accelerator.device)
        return Views(self.samples, size, map_hw, self.config.seed, self.targets, self.boxes)

    def batches(self, workers: int, progress: Progress = no_progress) -> Generator[ImageBatch, None, None]:
        """What this process passes forward, from the next step on; computes features that are to be cached."""
        config, device, views = self.config, self.accelerator.device, self.views()
        if not config.cached_views:
            return load_batches(views, self.order.batches(self.step), workers, pin=device.type == "cuda")
        cached = CachedFeatures(self.model, views, config.batch_size, device, workers, config.cached_views, progress)
        self._note_unreadable(cached.unreadable)
        return cached.batches(self.order, self.step)

    def take_step(self, batches: Iterator[ImageBatch]) -> None:
        """One step of the optimizer on the next ``accumulate`` batches; a ``FamError`` if the loss is not finite."""
        config = self.config
        began, waited = time.monotonic(), 0.0
        # Dropout and the like: the same numbers for the same step, whatever came before.
        torch.manual_seed((config.seed * 1_000_003 + self.step) * 4099 + self.accelerator.process_index)
        rate = config.lr * rate_at(config, self.step, self.order.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        self._prepared.zero_grad(set_to_none=True)
        self.model.begin_step(self.step, self.order.steps)
        logged: list[Tensor] = []
        images: list[int] = []
        for part in range(config.accumulate):
            asked = time.monotonic()
            batch = next(batches)
            waited += 0.0 if config.cached_views else time.monotonic() - asked  # no image is waited for then
            self._note_unreadable(batch.unreadable)
            images += batch.images
            last = part == config.accumulate - 1
            with nullcontext() if last else self.accelerator.no_sync(self._network):
                names, values, loss = self._forward(batch)
                self.accelerator.backward(loss / config.accumulate)
            logged.append(values)
        # One tensor travels to the other processes and to the CPU: one wait a step.
        mine = torch.stack(logged).mean(dim=0)
        norm = self.accelerator.clip_grad_norm_(self._network.parameters(), config.clip_norm or math.inf)
        sent = torch.cat([mine, mine.new_tensor([norm])])
        *means, length = self.accelerator.reduce(sent, reduction="mean").tolist()
        named = dict(zip(names, means, strict=True))
        if not math.isfinite(named["total"]):
            self._refuse(f"loss is {named['total']}", images if not mine.isfinite().all() else [])
        if not math.isfinite(length) and config.precision != "fp16":  # whose scaler skips such a step
            self._refuse(f"loss is {named['total']:.4g}, but the length of its gradient is {length}", images)
        self._prepared.step()
        if self._average is not None:
            self._average.update_parameters(self.model)
        self.step += 1
        self._meter.add(named, self.order.size, time.monotonic() - began, waited)

    def end_epoch(self) -> Epoch:
        """Close the epoch whose last step has been taken and open the next."""
        gathered: list[tuple[str, str]] = gather_object(list(self.unreadable.items()))
        self.unreadable = dict(gathered)
        epoch = self._meter.epoch(self.step // self.order.epoch_steps, len(self.unreadable), self._measured)
        self._meter = Meter()
        self.history.append(epoch)
        return epoch

    def state(self) -> State:
        """Everything that a step changes; the tensors are the training's own, and the next step changes them."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            slots = self.optimizer.state.get(parameter, {})
            tensors |= {f"optimizer.{name}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
        if self._average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self._average.state_dict().items()}
        if self.boxes is not None:
            tensors["boxes"] = torch.from_numpy(self.boxes)
        scaler = self.accelerator.scaler
        facts: dict[str, Any] = {
            "step": self.step,
            "steps": self.order.steps,
            "size": self.order.size,
            "meter": asdict(self._meter),
            "history": [asdict(epoch) for epoch in self.history],
            "unreadable": self.unreadable,
            "scaler": scaler.state_dict() if scaler is not None else {},
        }
        return State(tensors, facts)

    def _restore(self, state: State) -> None:
        facts = state.facts
        before, now = (facts["steps"], facts["size"]), (self.order.steps, self.order.size)
        if before != now:
            raise WeightsError(
                f"the saved run has {before[0]} steps of {before[1]} images, this one {now[0]} of {now[1]}: the data, "
                "the settings or, with very few images, the number of processes have changed"
            )
        slots: dict[str, dict[str, Tensor]] = {}
        for key, tensor in state.below("optimizer").items():
            name, _, slot = key.rpartition(".")
            slots.setdefault(name, {})[slot] = tensor
        try:
            self.model.load_state_dict(state.below("model"))
            if self._average is not None:
                self._average.load_state_dict(state.below("average"))
            parameters = dict(self.model.named_parameters())
            for name, found in slots.items():
                parameter = parameters.get(name)
                if parameter is None or not _fits(found, parameter, self.config.optimizer):
                    what = short(f"{', '.join(sorted(found))} of {name}")
                    raise WeightsError(f"the saved state of the optimizer has {what}, which does not fit the model")
                self.optimizer.state[parameter] = {
                    slot: tensor if slot == "step" else torch.empty_like(parameter).copy_(tensor)
                    for slot, tensor in found.items()
                }
        except RuntimeError as error:
            raise WeightsError(f"the saved state does not fit the model: {short(str(error))}") from error
        if facts["scaler"] and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(facts["scaler"])
        self.step = facts["step"]
        self._meter = Meter(**facts["meter"])
        self.history = [Epoch(**epoch) for epoch in facts["history"]]
        self.unreadable = dict(facts["unreadable"])

    def _forward(self, batch: ImageBatch) -> tuple[list[str], Tensor, Tensor]:
        """Names and values ``(n,)`` of what is logged, and the loss."""
        device, model = self.accelerator.device, self.model
        labels = mixed = batch.labels.to(device)
        inputs: Tensor | Features
        if self.config.cached_views:
            inputs = Features(batch.inputs, batch.earlier).to(device)
        else:
            pixels = normalize(batch.inputs.to(device), model.config.mean, model.config.std)
            inputs, mixed = model.augment(pixels, labels)
        out = self._network(inputs, labels)
        boxes = None if batch.boxes is None else batch.boxes.to(device)
        total, terms = model.loss(out, Batch(mixed, self._class_weight, self.step, self.order.steps, boxes))
        terms = dict(terms)
        if self.targets is not None and self.config.lambda_target:
            terms["target"] = target_loss(model.maps(out), batch.targets.to(device))
            total = total + self.config.lambda_target * terms["target"]
        with torch.no_grad():
            measures = model.measures(out, labels)
        self._measured = list(measures)
        logged = {"total": total, **terms, **measures}
        return list(logged), torch.stack([value.detach().float().reshape(()) for value in logged.values()]), total

    def _note_unreadable(self, found: dict[int, str]) -> None:
        self.unreadable |= {self.samples[image].name: reason for image, reason in found.items()}

    def _refuse(self, what: str, images: Sequence[int]) -> None:
        guilty = gather_object([self.samples[image].name for image in images])
        raise FamError(
            f"the {what} at step {self.step} (epoch {self.step // self.order.epoch_steps + 1}), so training stops; "
            "what was saved before is sound. Lower lr or set clip_norm, or look at the images of this step: "
            f"{', '.join(guilty)}"
        )


def _fits(slots: Mapping[str, Tensor], parameter: Tensor, optimizer: Optimizer) -> bool:
    """Whether these tensors are what an optimizer keeps for a parameter."""
    shapes = {slot: () if slot == "step" else parameter.shape for slot in SLOTS[optimizer]}
    return shapes == {slot: tensor.shape for slot, tensor in slots.items()}


class _Network(nn.Module):
    """What the processes train together: normalised images ``(B, 3, h, w)``, or features, to the model's output."""

    def __init__(self, model: Method) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor | Features, labels: Tensor) -> Any:
        """The model, or its head alone."""
        return self.model.head(inputs, labels) if isinstance(inputs, Features) else self.model(inputs, labels)


def make_optimizer(model: Method, config: TrainConfig) -> torch.optim.Optimizer:
    """Each part of the model at its ``share`` of the peak rate, with no decay on vectors; freezes the rest."""
    classifier = {"trained": 1.0, "slow": SLOW, "frozen": 0.0}[model.config.classifier]
    trunk = config.backbone_lr if config.backbone == "trained" else 0.0
    shares = {"classifier": classifier, **dict.fromkeys(model.trunks, trunk)}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        share = shares.get(name.split(".")[0], 1.0)
        parameter.requires_grad_(share > 0)
        if share > 0:
            groups.setdefault((share, parameter.ndim > 1), []).append(parameter)
    if not groups:
        raise ConfigError("nothing to train: backbone and classifier are both frozen; use --set classifier=trained")
    settings = [
        {"params": parameters, "share": share, "weight_decay": config.weight_decay if decay else 0.0}
        for (share, decay), parameters in groups.items()
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(settings, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    return torch.optim.AdamW(settings, lr=config.lr)


def rate_at(config: TrainConfig, step: int, steps: int) -> float:
    """Share of the peak learning rate at a step: a linear rise, then the config's schedule."""
    rise = max(1, round(steps * config.warmup))
    if step < rise:
        return (step + 1) / rise
    if config.schedule == "step":
        done = step * config.epochs // steps
        return config.decay ** sum(epoch <= done for epoch in config.decay_epochs)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def target_loss(M: Tensor, targets: Tensor) -> Tensor:
    """Extension: binary cross entropy of maps ``(B, H, W)`` with targets ``(B, H, W)`` in [0, 1]."""
    eps = torch.finfo(M.dtype).eps
    return F.binary_cross_entropy(M.clamp(eps, 1 - eps), targets)


@contextmanager
def explained(training: Training, workers: int) -> Iterator[None]:
    """Torch's errors about memory and dead loading processes as one sentence that says what to change."""
    try:
        yield
    except RuntimeError as error:
        if LOADER_DIED in str(error):  # torch says so from a signal's handler: wherever the main thread is
            raise DataError(
                "a process that decodes images died, most often for lack of memory (in a container: of shared memory); "
                f"lower --workers (now {workers}; 0 decodes in the main process)"
            ) from error
        if not any(words in str(error).lower() for words in OUT_OF_MEMORY):
            raise
        order = training.order
        raise FamError(
            f"out of memory on {training.accelerator.device} with {order.size // order.shares} images a forward pass "
            f"({error}); lower it with --set accumulate={2 * training.config.accumulate} (as many images a step), or "
            "lower batch_size or size"
        ) from error
