"""How to train: every choice in one frozen object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from famcli_models.config import check_fields, require
from famcli_models.errors import ConfigError

BackboneTraining = Literal["frozen", "trained"]
Precision = Literal["fp32", "bf16", "fp16"]
Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["cosine", "step"]

_CHOICES = {
    "backbone": get_args(BackboneTraining),
    "precision": get_args(Precision),
    "optimizer": get_args(Optimizer),
    "schedule": get_args(Schedule),
}
_RANGES = {
    "epochs": (0, 100_000),
    "batch_size": (1, 100_000),
    "accumulate": (1, 100_000),
    "lr": (0.0, 100.0),
    "momentum": (0.0, 0.9999),
    "decay": (0.0, 1.0),
    "weight_decay": (0.0, 100.0),
    "warmup": (0.0, 1.0),
    "clip_norm": (0.0, 1e6),
    "backbone_lr": (0.0, 100.0),
    "lambda_target": (0.0, 1e6),
    "cached_views": (-1, 1000),
    "ema": (0.0, 0.999999),
    "save_minutes": (0.0, 1e6),
    "view_size": (0, 4096),
    "seed": (0, 2**32 - 1),
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train; the method's own settings are in its config.

    The paper names no optimiser, schedule, batch size or number of epochs; these are ours. Images are resized to
    256/224 of the input size, cropped at random and flipped, as in section 4.1.

    Attributes:
        epochs: Passes over the images; 0 takes as many as their number asks for, see :meth:`Recipe.fitted`.
        batch_size: Images a step, all processes together: the same recipe trains alike on one GPU and on many.
        accumulate: Forward passes that each process makes for a step; more of them need less memory.
        optimizer: ``adamw``, or ``sgd`` with Nesterov momentum, which most other methods were published with.
        momentum: Of ``sgd``.
        lr: Peak learning rate of what is new, the attention modules for example.
        weight_decay: Of the optimizer; not on biases.
        warmup: Share of all steps in which the rate rises linearly; then ``schedule`` says how it falls.
        schedule: ``cosine`` to 0, or ``step``: constant, but for ``decay_epochs``.
        decay_epochs: After each of these epochs ``step`` multiplies the rate by ``decay``.
        decay: See above.
        clip_norm: Longest gradient, over all parameters; 0 leaves gradients as they are.
        backbone: ``frozen``, or ``trained`` at ``backbone_lr`` times the rate.
        backbone_lr: See above.
        class_balanced: Weigh the classes by inverse frequency in equation (10).
        lambda_target: Extension: weight of the term that draws the map to targets made from image labels alone.
        cached_views: With a frozen backbone, compute the features of this many random views of each image
            once, keep them in memory in float16, and take them in turn, one an epoch; 0 computes anew; -1 is 2, or
            fewer where they would need more than 4 GiB, and 0 with a backbone that is trained or a method that changes
            training images or layers.
        view_size: Side in pixels of the views that are trained on; 0 takes the model's input size. Random crops enlarge
            objects, so a model may do better on larger images than it was trained on (Touvron et al. 2019).
        ema: Decay of the exponential moving average of the weights, which is then what is saved; 0 for none.
        precision: Of the network: ``fp32``, ``bf16`` or, on a GPU, ``fp16`` with a scaled loss. Weights and losses
            stay in float32.
        channels_last: Keep the weights in channels-last memory, which most GPUs and some CPUs prefer.
        compile: Compile the network with ``torch.compile``; takes a minute at the start.
        save_minutes: Save what ``--resume`` needs when this many minutes have passed; 0 saves after each step. It is
            saved after each epoch and at Ctrl-C too.
        seed: Of everything random.

    Raises:
        ConfigError: A value is not allowed; the message names the field and what is.
    """

    epochs: int = 12
    batch_size: int = 32
    accumulate: int = 1
    optimizer: Optimizer = "adamw"
    momentum: float = 0.9
    lr: float = 3e-3
    weight_decay: float = 1e-4
    warmup: float = 0.05
    schedule: Schedule = "cosine"
    decay_epochs: tuple[int, ...] = ()
    decay: float = 0.1
    clip_norm: float = 0.0
    backbone: BackboneTraining = "frozen"
    backbone_lr: float = 0.01
    class_balanced: bool = False
    lambda_target: float = 0.0
    cached_views: int = 0
    view_size: int = 0
    ema: float = 0.0
    precision: Precision = "fp32"
    channels_last: bool = False
    compile: bool = False
    save_minutes: float = 10.0
    seed: int = 0

    def side(self, size: int) -> int:
        """Side of the views of a model of an input size."""
        return self.view_size or size

    def __post_init__(self) -> None:
        """Check every field's type and range."""
        epochs: Any = self.decay_epochs
        good = isinstance(epochs, (list, tuple)) and all(type(epoch) is int and epoch > 0 for epoch in epochs)
        require(good, "decay_epochs", epochs, "a list of numbers of epochs")
        object.__setattr__(self, "decay_epochs", tuple(epochs))  # TOML gives a list
        check_fields(self, _CHOICES, _RANGES)
        if self.decay_epochs and self.schedule != "step":
            raise ConfigError("decay_epochs needs schedule = 'step': a cosine falls in every step")
        if self.cached_views > 0 and self.backbone != "frozen":
            msg = "cached_views needs backbone = 'frozen': the features of a trained backbone change at every step"
            raise ConfigError(msg)
