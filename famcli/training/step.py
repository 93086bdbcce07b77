"""A training run in memory: one step of it, and its whole state to and fro."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from famcli.training.config import TrainConfig
from famcli.training.loading import Batch
from famcli.training.monitor import Epoch, Meter, stack
from famcli.training.optimizer import make_optimizer, rate_at
from famcli.training.resume import State
from famcli.training.sampler import Order
from famcli_models.errors import FamError, WeightsError
from famcli_models.features import Features
from famcli_models.methods.method import Batch as Supervision
from famcli_models.methods.method import Method
from famcli_models.preprocess import normalize


class Trainee(nn.Module):
    """What the processes train together: normalised images ``(B, 3, h, w)``, or features, to the model's output."""

    def __init__(self, model: Method) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor | Features, labels: Tensor) -> Any:
        """The model, or its head alone."""
        if isinstance(inputs, Features):
            return self.model.head(inputs, labels)
        return self.model(inputs, labels)


@dataclass(slots=True)
class Training:
    """Everything that a step changes, and what a step needs.

    Attributes:
        model: The model, on its device; changed in place.
        config: How to train.
        order: Which images when.
        names: Of the images.
        accelerator: Processes, device and precision.
        class_weight: ``(L,)`` weights of equation (10), or ``None``.
        use_targets: Add the target term.
        from_features: Batches hold features.
        step: The next one.
        meter: The epoch so far.
        history: The epochs so far.
        unreadable: Images that could not be read, and why.
        measured: Names of the logged values that are no terms of the loss.
    """

    model: Method
    config: TrainConfig
    order: Order
    names: Sequence[str]
    accelerator: Accelerator
    class_weight: Tensor | None = None
    use_targets: bool = False
    from_features: bool = False
    step: int = 0
    meter: Meter = field(default_factory=Meter)
    history: list[Epoch] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    measured: tuple[str, ...] = field(init=False, default=())
    average: AveragedModel | None = field(init=False, default=None)
    trainee: nn.Module = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)  # AdamW itself, inside Accelerate's
    _prepared: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        """Make the optimiser, and hand it and the model to the processes."""
        self.optimizer = make_optimizer(self.model, self.config)
        if self.config.ema:
            self.average = AveragedModel(
                self.model, multi_avg_fn=get_ema_multi_avg_fn(self.config.ema), use_buffers=False
            )
        trainee = Trainee(self.model)
        self.trainee, self._prepared = self.accelerator.prepare(trainee, self.optimizer)
        if self.config.compile:
            self.trainee.compile()

    @property
    def weights(self) -> Method:
        """The model to save and to measure: the average if there is one."""
        return self.average.module if self.average is not None else self.model  # type: ignore[return-value]

    def take_step(self, batches: Iterator[Batch], stopping: Callable[[], bool]) -> bool:
        """One step of the optimiser.

        Args:
            batches: The next ``accumulate`` of them are taken.
            stopping: Asked once, in each process.

        Returns:
            Whether any process wants to stop.

        Raises:
            FamError: The loss is not finite.
        """
        began, waited = time.monotonic(), 0.0
        number, total = self.step, self.order.steps
        # Dropout and the like: the same numbers for the same step, whatever came before.
        torch.manual_seed((self.config.seed * 1_000_003 + number) * 4099 + self.accelerator.process_index)
        rate = self.config.lr * rate_at(number, total, self.config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        self._prepared.zero_grad(set_to_none=True)
        logged: list[Tensor] = []
        seen: list[int] = []
        for part in range(self.config.accumulate):
            asked = time.monotonic()
            batch = next(batches)
            waited += 0.0 if self.from_features else time.monotonic() - asked  # no image is waited for then
            self.unreadable |= {self.names[image]: reason for image, reason in batch.unreadable.items()}
            seen += batch.images
            last = part == self.config.accumulate - 1
            with nullcontext() if last else self.accelerator.no_sync(self.trainee):
                names, values, loss = self._forward(batch)
                self.accelerator.backward(loss / self.config.accumulate)
            logged.append(values)
        # One tensor travels to the other processes and to the CPU: one wait a step.
        mine = torch.stack(logged).mean(dim=0)
        norm = self.accelerator.clip_grad_norm_(self.trainee.parameters(), self.config.clip_norm or math.inf)
        sent = torch.cat([mine, mine.new_tensor([norm, float(stopping())])])
        *means, length, stop = self.accelerator.reduce(sent, reduction="mean").tolist()
        values_by_name = dict(zip(names, means, strict=True))
        if not math.isfinite(values_by_name["total"]):
            self._refuse(f"loss is {values_by_name['total']}", seen if not mine.isfinite().all() else [])
        if not math.isfinite(length) and self.config.precision != "fp16":  # whose scaler skips such a step
            self._refuse(f"loss is {values_by_name['total']:.4g}, but the length of its gradient is {length}", seen)
        self._prepared.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.step += 1
        self.meter.add(values_by_name, self.order.size, time.monotonic() - began, waited)
        return stop > 0

    def end_epoch(self) -> Epoch:
        """Close the epoch that has just been passed and open the next."""
        gathered: list[tuple[str, str]] = gather_object(list(self.unreadable.items()))
        self.unreadable = dict(gathered)
        epoch = self.meter.epoch(self.step // self.order.epoch_steps, len(self.unreadable), self.measured)
        self.meter = Meter()
        self.history.append(epoch)
        return epoch

    def state(self) -> State:
        """Everything that a step changes; the tensors are the training's own, and the next step changes them."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            slots = self.optimizer.state.get(parameter, {})
            tensors |= {f"optimizer.{name}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
        if self.average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        scaler = self.accelerator.scaler
        facts = {
            "step": self.step,
            "steps": self.order.steps,
            "size": self.order.size,
            "meter": asdict(self.meter),
            "history": [asdict(epoch) for epoch in self.history],
            "unreadable": self.unreadable,
            "scaler": scaler.state_dict() if scaler is not None else {},
        }
        return State(tensors, facts)

    def restore(self, state: State) -> None:
        """Go on from a state.

        Raises:
            WeightsError: It is the state of another model or of another training.
        """
        facts, stored = state.facts, state.tensors
        groups = _by_prefix(stored)
        before, now = (facts["steps"], facts["size"]), (self.order.steps, self.order.size)
        if before != now:
            msg = (
                f"the saved run has {before[0]} steps of {before[1]} images, this one {now[0]} of {now[1]}: the data, "
                "the settings or, with very few images, the number of processes have changed"
            )
            raise WeightsError(msg)
        try:
            self.model.load_state_dict(groups["model"])
            if self.average is not None:
                self.average.load_state_dict(groups["average"])
            for name, parameter in self.model.named_parameters():
                slots = {key.removeprefix(f"{name}."): t for key, t in groups["optimizer"].items() if _owns(name, key)}
                if slots:
                    self.optimizer.state[parameter] = {
                        slot: tensor if tensor.ndim == 0 else torch.empty_like(parameter).copy_(tensor)
                        for slot, tensor in slots.items()
                    }
        except (KeyError, RuntimeError) as error:
            msg = f"the saved state does not fit the model: {error}"
            raise WeightsError(msg) from error
        if facts["scaler"] and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(facts["scaler"])
        self.step = facts["step"]
        self.meter = Meter(**facts["meter"])
        self.history = [Epoch.from_dict(epoch) for epoch in facts["history"]]
        self.unreadable = dict(facts["unreadable"])

    def _forward(self, batch: Batch) -> tuple[list[str], Tensor, Tensor]:
        """Names and values of what is logged, and the loss."""
        device, labels = self.accelerator.device, batch.labels.to(self.accelerator.device)
        inputs: Tensor | Features
        mixed = labels
        if self.from_features:
            inputs = Features(batch.inputs, batch.earlier).to(device)
        else:
            config = self.model.config
            inputs, mixed = self.model.augment(normalize(batch.inputs.to(device), config.mean, config.std), labels)
        out = self.trainee(inputs, labels)
        losses = self.model.loss(out, Supervision(mixed, self.class_weight, self.step, self.order.steps))
        total, terms = losses.total, dict(losses.terms)
        if self.use_targets:
            terms["target"] = target_loss(self.model.maps(out), batch.targets.to(device))
            total = total + self.config.lambda_target * terms["target"]
        with torch.no_grad():
            measures = self.model.measures(out, labels)
        self.measured = tuple(measures)
        logged = {"total": total, **terms, **measures}
        return list(logged), stack(logged), total

    def _refuse(self, what: str, images: Sequence[int]) -> None:
        guilty = gather_object([self.names[image] for image in images])
        msg = (
            f"the {what} at step {self.step} (epoch {self.step // self.order.epoch_steps + 1}), so training stops; "
            "what was saved before is sound. Lower lr or set clip_norm, or look at the images of this step: "
            f"{', '.join(guilty)}"
        )
        raise FamError(msg)


def target_loss(M: Tensor, targets: Tensor) -> Tensor:
    """Extension: binary cross entropy of maps ``(B, H, W)`` with targets ``(B, H, W)`` in [0, 1]."""
    eps = torch.finfo(M.dtype).eps
    return F.binary_cross_entropy(M.clamp(eps, 1 - eps), targets)


def _owns(name: str, key: str) -> bool:
    """Whether an optimiser's tensor belongs to a parameter: its name and one more word."""
    return key.rpartition(".")[0] == name


def _by_prefix(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    groups: dict[str, dict[str, Tensor]] = {"optimizer": {}}
    for key, tensor in tensors.items():
        prefix, _, name = key.partition(".")
        groups.setdefault(prefix, {})[name] = tensor
    return groups
