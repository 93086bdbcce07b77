"""The settings that every method has, and how the fields of a config are checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from famcli_models.errors import ConfigError, shown

if TYPE_CHECKING:
    from typing_extensions import Self

RGB = tuple[float, float, float]
HALF = (0.5, 0.5, 0.5)  # x / 127.5 - 1, as mean and as standard deviation of values in [0, 1]
SHOWN_FIELDS = 3  # of the unknown ones, in a message
PIXEL_BYTES = 512  # of memory for a pixel of an image in the network: VGG16 took 402, ResNet-50 and MobileNetV1 180
MAX_WEIGHT = 10_000  # of what box scores are made of
MAX_INPUT_BYTES = 4 << 30  # for an image; 2,896 pixels squared

Classifier = Literal["trained", "slow", "frozen"]
Choices = Mapping[str, Sequence[Any]]
Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """Settings of any method, JSON-able; each method adds its own in a subclass.

    Attributes:
        method: A name in :data:`famcli_models.METHODS`; each subclass allows its own alone, this class any.
        backbone: A row of ``BACKBONES`` or the name of a timm model.
        num_classes: L.
        tau: Threshold τ on the map, not specific to a data set; the default is the method's.
        temperature: Class scores are divided by it before the softmax, so that probabilities are those of being right;
            training fits it to held-out images, or to training images where there are none.
        box_score: How boxes are scored, see :mod:`famcli.inference.scores`: a bias, the weight of the mean of the map
            in the region, and that of the log-probability of the best class before calibration; empty for the mean
            itself.
        classifier: The linear classifier is ``trained``, ``slow`` (a tenth of the learning rate) or ``frozen``.
        stride: Pixels of the input per pixel of the feature map X.
        dilation: See :class:`famcli_models.backbones.Backbone`.
        same_padding: Likewise.
        frozen_norm: Likewise.
        backbone_head: Likewise its ``head``; checkpoints that do not say are from before there was one, and have none.
        size: Side of the square input, in pixels.
        mean: Input normalisation, for values in [0, 1], RGB.
        std: Likewise.

    Raises:
        ConfigError: A value is not allowed; the message names the field and what is.
    """

    method: str = ""
    backbone: str = "mobilenetv1"
    num_classes: int = 1000
    tau: float = 0.5
    temperature: float = 1.0
    box_score: tuple[float, ...] = ()
    classifier: Classifier = "trained"
    stride: int = 16
    dilation: bool = True
    same_padding: bool = False
    frozen_norm: bool = True
    backbone_head: bool = True
    size: int = 224
    mean: RGB = HALF
    std: RGB = HALF

    CHOICES: ClassVar[Choices] = {"classifier": get_args(Classifier), "stride": (8, 16, 32)}
    RANGES: ClassVar[Ranges] = {
        "num_classes": (1, 100_000),
        "size": (16, math.isqrt(MAX_INPUT_BYTES // PIXEL_BYTES)),
        "tau": (0, 1),
        "temperature": (1e-3, 1e3),
    }
    NOT_READ: ClassVar[frozenset[str]] = frozenset()  # fields of older files that the method takes no notice of
    # Fields that each training has for itself; a model that starts from another one takes the rest from it.
    OF_TRAINING: ClassVar[frozenset[str]] = frozenset({"method", "num_classes", "temperature", "classifier"})
    OF_RANDOM_START: ClassVar[frozenset[str]] = frozenset()  # those of them that say how weights are drawn at random

    def __post_init__(self) -> None:
        """Check every field's type and range."""
        for name in ("mean", "std"):  # JSON gives lists
            value = getattr(self, name)
            triple = isinstance(value, (tuple, list)) and len(value) == 3 and all(map(_is_number, value))
            require(triple, name, value, "three finite numbers")
            object.__setattr__(self, name, tuple(float(v) for v in value))
        weights = self.box_score
        numbers = isinstance(weights, (tuple, list)) and len(weights) in (0, 3) and all(map(_is_number, weights))
        small = numbers and all(abs(weight) <= MAX_WEIGHT for weight in weights)
        require(small, "box_score", weights, f"three numbers of at most {MAX_WEIGHT:,}, or none")
        object.__setattr__(self, "box_score", tuple(float(v) for v in weights))
        own = next(f.default for f in fields(self) if f.name == "method")
        require(own in ("", self.method), "method", self.method, f"'{own}' in a {type(self).__name__}")
        if _is_number(self.size):
            check_side(int(self.size))
        check_fields(self, self.CHOICES, self.RANGES)
        require(self.tau < 1, "tau", self.tau, "below 1")
        require(0 <= min(self.mean) <= max(self.mean) <= 1, "mean", self.mean, "in [0, 1]")
        require(0 < min(self.std) <= max(self.std) <= 10, "std", self.std, "positive, and at most 10")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The config of a JSON object; a field that is absent has its default.

        Raises:
            ConfigError: A field is unknown or a value is not allowed.
        """
        unknown = sorted(set(values) - {f.name for f in fields(cls)} - cls.NOT_READ)
        if unknown:
            more = f" and {len(unknown) - SHOWN_FIELDS} more" if len(unknown) > SHOWN_FIELDS else ""
            listed = ", ".join(map(shown, unknown[:SHOWN_FIELDS])) + more
            raise ConfigError(f"unknown field {listed} in a {cls.__name__}; it was made by another version")
        return cls(**{name: value for name, value in values.items() if name not in cls.NOT_READ})

    @staticmethod
    def shared(values: Mapping[str, Any], **changes: Any) -> MethodConfig:
        """The settings that every method has, of a JSON object that may hold those of one method too."""
        names = {f.name for f in fields(MethodConfig)}
        return MethodConfig(**{**{name: value for name, value in values.items() if name in names}, **changes})

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dict that :meth:`from_dict` reads back to an equal config."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


_KINDS = {int: "an integer", float: "a finite number", bool: "true or false", str: "a string", tuple: "a list"}


def check_fields(config: Any, choices: Choices, ranges: Ranges) -> None:
    """Check the fields of a config: each has the type of its default, and is a choice or in its range.

    Args:
        config: An instance of a dataclass whose fields all have defaults.
        choices: Allowed values by field.
        ranges: Smallest and largest allowed value by field.

    Raises:
        ConfigError: The message names the field, its value and what is allowed.
    """
    for f in fields(config):
        value, kind = getattr(config, f.name), type(f.default)
        good = _is_number(value) if kind is float else type(value) is kind
        require(good, f.name, value, _KINDS[kind])
    for name, allowed in choices.items():
        require(getattr(config, name) in allowed, name, getattr(config, name), f"one of {', '.join(map(str, allowed))}")
    for name, (low, high) in ranges.items():
        require(low <= getattr(config, name) <= high, name, getattr(config, name), f"in [{low:g}, {high:g}]")


def check_side(side: int) -> None:
    """Raise a ``ConfigError`` for an input size whose images would take too much memory in a network."""
    need = PIXEL_BYTES * side * side
    if need > MAX_INPUT_BYTES:
        takes = f"about {need / 2**30:,.1f} GiB of memory an image"
        most = f"{MAX_INPUT_BYTES >> 30} GiB ({math.isqrt(MAX_INPUT_BYTES // PIXEL_BYTES):,} pixels squared)"
        raise ConfigError(f"an input of size {side:,}x{side:,} takes {takes}; at most {most} are allowed")


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Raise a ``ConfigError`` for a field unless a condition holds."""
    if not condition:
        raise ConfigError(f"{name} is {shown(value)}; it must be {allowed}")


def _is_number(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False
