"""Inter-Image Communication (I²C; Zhang, Wei and Yang, ECCV 2020): CAM whose features of a class's objects agree.

A batch is of pairs of images of one class. In each image, n cells at random whose map of the class y, min-max scaled,
is above a threshold are seeds of the object, with features f_1..f_n of the backbone.

- Stochastic consistency: ``L_sc``, the mean over pairs and j of ``|f_j - f'_j|``, f' of the other image.
- Global consistency: ``L_gc``, the mean over pairs of ``|C_y - f̄|``, f̄ the mean of both images' seeds and C_y what is
  remembered of the class; then ``C_y <- (1 - r) C_y + r f̄`` with ``r = exp(-0.002 t)`` after t updates of it.

``L = CE(y) + λ_sc L_sc + λ_gc L_gc``. Training starts from a CAM with the same head: ``backbone_weights`` is its run.
On VGG16 X is smoothed first, which that CAM does not do. The pairs of a batch are drawn from all images, so that
classes come as often as they have images, and one may come twice; in the authors' code a batch has 40 different ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from famcli_models.config import Choices, Ranges
from famcli_models.features import Features
from famcli_models.losses import Losses, classification_loss
from famcli_models.methods.cam import CAM, CAMConfig, class_activation_maps, smoothing
from famcli_models.methods.method import Batch

SeedChoice = Literal["random", "raster"]
NONE = -1  # the class of a pair that is none


@dataclass(frozen=True, kw_only=True)
class I2CConfig(CAMConfig):
    """Settings of I²C.

    Attributes:
        method: ``i2c``.
        head_channels: Those of the head, and of the CAM to start from.
        head_dropout: Likewise; in evaluation there is none.
        seeds: n, cells of an image that are compared; where fewer pass the threshold they are repeated.
        seed_threshold: Of the map of the class.
        seed_choice: ``random``, as the paper says, or the first in ``raster`` order, as the authors' code does.
        lambda_sc: λ_sc, for distances of features of VGG16, ResNet50 and InceptionV3. Distances grow with the size of
            features and the root of their number: on another backbone, set both λ so that λ_sc L_sc begins near 0.1 to
            0.2 of the cross entropy (ours). On MobileNetV1 L_sc begins near 90, which asks for 0.001 and 0.000125.
        lambda_gc: λ_gc; that of the authors' script, whose code has 0.01 by default.
        decay: Of the rate r of the memory with each update of a class. It stays near 1 for hundreds of updates, so in a
            short training the memory is little more than the last pair.
    """

    method: str = "i2c"
    head_channels: int = 1024
    head_dropout: float = 0.5
    seeds: int = 3
    seed_threshold: float = 0.7
    seed_choice: SeedChoice = "random"
    lambda_sc: float = 0.008
    lambda_gc: float = 0.001
    decay: float = 0.002

    CHOICES: ClassVar[Choices] = {**CAMConfig.CHOICES, "seed_choice": get_args(SeedChoice)}
    RANGES: ClassVar[Ranges] = {
        **CAMConfig.RANGES,
        "seeds": (1, 1024),
        "seed_threshold": (0, 1),
        "lambda_sc": (0, 1e6),
        "lambda_gc": (0, 1e6),
        "decay": (0, 1e3),
    }
    OF_TRAINING: ClassVar[frozenset[str]] = CAMConfig.OF_TRAINING | {
        *("seeds", "seed_threshold", "seed_choice", "lambda_sc", "lambda_gc", "decay"),
    }


class I2COutput(NamedTuple):
    """What one forward pass gives.

    Attributes:
        X: ``(B, D, H, W)`` features of the head, whose mean the classifier sees.
        logits: ``(B, L)`` class scores.
        compared: ``(B, C, H, W)`` features of the backbone, which are compared.
    """

    X: Tensor
    logits: Tensor
    compared: Tensor


class I2C(CAM):
    """A CAM that learns from pairs; arguments are those of :class:`famcli_models.CAM`.

    Attributes:
        memory: ``(L, C)`` what is remembered of each class; 0 before the first update.
        updates: ``(L,)`` how often each was updated.
    """

    config_class = I2CConfig
    title = "I²C"
    needs_images = True  # features that cannot change cannot come to agree
    pairs = True
    config: I2CConfig
    memory: Tensor
    updates: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.smoothing = smoothing(self.config.backbone)
        self.register_buffer("memory", torch.zeros(self.config.num_classes, self.channels))
        self.register_buffer("updates", torch.zeros(self.config.num_classes, dtype=torch.int64))

    @property
    def before_average(self) -> nn.Module:
        """X to the features that the classifier sees the mean of."""
        return nn.Sequential(self.smoothing, self.convolutions)

    def head(  # type: ignore[override]
        self, features: Features, labels: Tensor | None = None
    ) -> I2COutput:
        """CAM's head, and the features that it reads."""
        compared = self.smoothing(features.X)
        return I2COutput(*super().head(Features(compared), labels), compared)

    def begin_training(self) -> None:
        """Forget the classes that another training knew."""
        self.memory.zero_()
        self.updates.zero_()

    def loss(self, output: I2COutput, batch: Batch) -> Losses:
        """L, of a batch in which each image with an even number is followed by the other of its pair.

        Two that are not of one class, because an image could not be read, are no pair.
        """
        config, y = self.config, batch.labels
        with torch.no_grad():
            maps = class_activation_maps(output.X, self.classifier.weight[y])
        cells, found = choose_seeds(maps, config.seeds, config.seed_threshold, config.seed_choice)
        f = output.compared.flatten(2).gather(2, cells[:, None].expand(-1, self.channels, -1)).mT  # (B, n, C)
        even = len(y) // 2 * 2
        first, second = f[0:even:2], f[1:even:2]
        of_one_class = (y[0:even:2] == y[1:even:2]) & found[0:even:2] & found[1:even:2]
        classes = torch.where(of_one_class, y[0:even:2], NONE)
        mean = torch.cat([first, second], dim=1).mean(dim=1)  # f̄, (pairs, C)
        remembered = of_one_class & (self.updates[classes] > 0)  # not against the nothing that C_y begins with
        terms = {
            "cla": classification_loss(output.logits, y, batch.class_weight),
            "sc": _mean_of(F.pairwise_distance(first, second).mean(dim=1), of_one_class),
            "gc": _mean_of(F.pairwise_distance(self.memory[classes], mean), remembered),
        }
        self._remember(mean.detach(), classes)
        return Losses(terms["cla"] + config.lambda_sc * terms["sc"] + config.lambda_gc * terms["gc"], terms)

    def term_weights(self) -> dict[str, float]:
        """The weight of each term."""
        return {"cla": 1.0, "sc": self.config.lambda_sc, "gc": self.config.lambda_gc}

    def _remember(self, means: Tensor, classes: Tensor) -> None:
        """Update the memory with the pairs of all processes, one after the other."""
        for mean, y in zip(_of_all_processes(means.float()), _of_all_processes(classes).tolist(), strict=True):
            if y != NONE:
                rate = torch.exp(-self.config.decay * self.updates[y])
                self.memory[y] += rate * (mean - self.memory[y])
                self.updates[y] += 1


def choose_seeds(maps: Tensor, count: int, threshold: float, choice: SeedChoice) -> tuple[Tensor, Tensor]:
    """Cells of each map that are above a threshold.

    Args:
        maps: ``(B, H, W)`` in [0, 1].
        count: n; where fewer are above, they are repeated in turn.
        threshold: See above.
        choice: ``random`` or in ``raster`` order.

    Returns:
        Their numbers in the flattened map, ``(B, n)``, and whether there is any, ``(B,)``.
    """
    flat = maps.flatten(1)
    order = torch.rand(flat.shape) if choice == "random" else torch.linspace(1, 0, flat.shape[1]).expand(flat.shape)
    above = flat > threshold
    ranked = torch.where(above, order.to(flat.device), -1.0).argsort(dim=1, descending=True)
    number = above.sum(dim=1, keepdim=True)
    turn = torch.arange(count, device=flat.device) % number.clamp(min=1)
    return ranked.gather(1, turn), number[:, 0] > 0


def _mean_of(values: Tensor, wanted: Tensor) -> Tensor:
    """The mean of those of ``(n,)`` values that are wanted; 0 without any."""
    return torch.where(wanted, values, 0.0).sum() / wanted.sum().clamp(min=1)


def _of_all_processes(rows: Tensor) -> Tensor:
    """The same number of rows from each process of a training, joined in the order of the processes."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return rows
    parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)
