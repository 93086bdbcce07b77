"""Every choice of a FAM in one frozen object, and how the fields of a config are checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from famcli_models.errors import ConfigError, shown

RGB = tuple[float, float, float]
HALF = (0.5, 0.5, 0.5)  # x / 127.5 - 1, as mean and as standard deviation of values in [0, 1]

SHOWN_FIELDS = 3  # of the unknown ones, in a message
CAM_TAU = 0.2  # Zhou et al. (2016), section 3.2: regions above a fifth of the map's maximum

Method = Literal["fam", "cam"]
Similarity = Literal["softmax", "ratio", "ratio-relu"]
Pooling = Literal["foreground", "features"]
Classifier = Literal["trained", "slow", "frozen"]
_CHOICES = {
    "method": get_args(Method),
    "similarity": get_args(Similarity),
    "pooling": get_args(Pooling),
    "classifier": get_args(Classifier),
    "stride": (8, 16, 32),
}
_RANGES: Mapping[str, tuple[float, float]] = {
    "num_classes": (1, 100_000),
    "num_templates": (1, 256),
    "num_parts": (1, 256),
    "size": (16, 4096),
    "lambda_spa": (0, 1e6),
    "lambda_div": (0, 1e6),
    "tau": (0, 1),
    "object_scale": (1e-3, 1e3),
    "fine_channels": (0, 4096),
    "fine_layers": (1, 8),
}


@dataclass(frozen=True, kw_only=True)
class FAMConfig:
    """Every choice of a FAM, JSON-able; the defaults follow the paper wherever its text can be followed.

    :meth:`paper` gives the paper's printed reading of equations (1) and (7) instead, and :meth:`cam` is CAM (Zhou et
    al., 2016), the paper's baseline. A CAM has no attention modules and one loss: it takes no notice of the fields from
    ``num_templates`` to ``lambda_div`` and from ``value_bias`` to ``fine_layers``.

    Attributes:
        method: ``fam`` or ``cam``.
        backbone: A row of ``BACKBONES`` or the name of a timm model.
        num_classes: L.
        num_templates: N, the number of memory keys and values.
        num_parts: K.
        similarity: Equation (1): ``softmax``; ``ratio``, as printed; ``ratio-relu``, the ratio kept non-negative.
        pooling: Equation (7): over ``foreground`` features X̃, or over ``features`` X, as printed.
        memory: Foreground memory on; off is Table 2's three 1x1 convolutions.
        sparsity: Use the sparsity loss, equation (4).
        diversity: Use the diversity loss, equation (8).
        importance: Learn the importance of parts, equation (9); off weighs every part 1/K.
        lambda_spa: λ_spa of equation (11).
        lambda_div: λ_div of equation (11).
        tau: Threshold τ, not specific to a dataset: on the raw sigmoid map of a FAM; on the map of a CAM, min-max
            scaled image by image, where it starts from 0.2 in :meth:`cam`, in recipes and in files.
        classifier: h is ``trained``, ``slow`` (a tenth of the learning rate) or ``frozen``.
        value_bias: Extension: a bias for each foreground classifier.
        object_scale: Extension: h is applied to this times o. A starts near 1/2, so 2 lets a pretrained
            classifier see features of the size it knows.
        fine_channels: Extension: M has half the stride of X and comes from features of this many channels, fused of X
            and of earlier layers, see :class:`famcli_models.fine.FineFeatures`; 0 makes M from X, as the paper does.
        fine_layers: Depthwise convolutions in them; of no consequence without ``fine_channels``.
        stride: Pixels of the input per pixel of X.
        dilation: See :class:`famcli_models.backbones.Backbone`.
        same_padding: Likewise.
        frozen_norm: Likewise.
        size: Side of the square input, in pixels.
        mean: Input normalisation, for values in [0, 1], RGB.
        std: Likewise.

    Raises:
        ConfigError: A value is not allowed; the message names the field and what is.
    """

    method: Method = "fam"
    backbone: str = "mobilenetv1"
    num_classes: int = 1000
    num_templates: int = 3
    num_parts: int = 5
    similarity: Similarity = "softmax"
    pooling: Pooling = "foreground"
    memory: bool = True
    sparsity: bool = True
    diversity: bool = True
    importance: bool = True
    lambda_spa: float = 0.04
    lambda_div: float = 0.01
    tau: float = 0.5
    classifier: Classifier = "trained"
    value_bias: bool = False
    object_scale: float = 1.0
    fine_channels: int = 0
    fine_layers: int = 1
    stride: int = 16
    dilation: bool = True
    same_padding: bool = False
    frozen_norm: bool = True
    size: int = 224
    mean: RGB = HALF
    std: RGB = HALF

    def __post_init__(self) -> None:
        """Check every field's type and range."""
        for name in ("mean", "std"):  # JSON gives lists
            value = getattr(self, name)
            triple = isinstance(value, (tuple, list)) and len(value) == 3 and all(map(_is_number, value))
            require(triple, name, value, "three finite numbers")
            object.__setattr__(self, name, tuple(float(v) for v in value))
        check_fields(self, _CHOICES, _RANGES)
        require(self.tau < 1, "tau", self.tau, "below 1")
        require(min(self.std) > 0, "std", self.std, "positive")

    @classmethod
    def paper(cls, **overrides: Any) -> FAMConfig:
        """The printed equations: ``ratio`` in (1) and ``features`` in (7); findings on both are on the method page."""
        return cls(**{"similarity": "ratio", "pooling": "features", **overrides})

    @classmethod
    def cam(cls, **overrides: Any) -> FAMConfig:
        """A CAM, with the threshold of its own paper: a fifth of the map's maximum."""
        return cls(**{"method": "cam", "tau": CAM_TAU, **overrides})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FAMConfig:
        """The config of a JSON object; a field that is absent has the default of the method.

        Raises:
            ConfigError: A field is unknown or a value is not allowed.
        """
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            more = f" and {len(unknown) - SHOWN_FIELDS} more" if len(unknown) > SHOWN_FIELDS else ""
            listed = ", ".join(map(shown, unknown[:SHOWN_FIELDS])) + more
            msg = f"unknown field {listed} in a FAM config; it was made by another version"
            raise ConfigError(msg)
        return cls.cam(**values) if values.get("method") == "cam" else cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dict that :meth:`from_dict` reads back to an equal config."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


_KINDS = {int: "an integer", float: "a finite number", bool: "true or false", str: "a string", tuple: "a list"}


def check_fields(config: Any, choices: Mapping[str, Sequence[Any]], ranges: Mapping[str, tuple[float, float]]) -> None:
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


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Raise a ``ConfigError`` for a field unless a condition holds."""
    if not condition:
        msg = f"{name} is {shown(value)}; it must be {allowed}"
        raise ConfigError(msg)


def _is_number(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False
