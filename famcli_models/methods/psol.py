"""Pseudo Supervised Object Localization (PSOL; Zhang, Cao and Wu, CVPR 2020): a regressor of boxes that DDT found.

A first stage gives each training image the box of :mod:`famcli_models.methods.ddt`, made class by class at 448 pixels.
Two networks learn then, one beside the other ("PSOL-Sep"): the *classifier*, ``backbone -> mean -> FC``, by the cross
entropy CE of the label; and the *regressor*, a second trunk with ``mean -> FC, ReLU -> FC -> sigmoid``, the numbers
(x, y, w, h) of the box in shares of the view, by ``50 MSE`` to those of the pseudo-label. At test time (x, y, x + w,
y + h), cut to the image, is the box, whatever the class is; there is no threshold.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famcli_models.config import MethodConfig, Ranges
from famcli_models.errors import ConfigError
from famcli_models.features import Features
from famcli_models.losses import Losses, classification_loss
from famcli_models.methods import ddt
from famcli_models.methods.method import Batch, Method, TrainingImages

DDT_SIDE = 448  # pixels that the first stage resizes images to
DDT_STRIDE = 32  # its grid: the authors take VGG16 behind its fifth pooling, 14x14 cells
MOST = 2000  # images of a class that its direction comes from
WIDTH = 512  # of the regressor's hidden layer
USUAL_BOX = (0.2, 0.2, 0.6, 0.6)  # x, y, w, h


@dataclass(frozen=True, kw_only=True)
class PSOLConfig(MethodConfig):
    """Settings of PSOL: those of every method, and its own.

    Ours are: that both networks learn in one run at one rate; that DDT reads the features of the backbone that is
    trained, with a maximum over 2x2 cells where its stride is 16; one direction of DDT for all classes of fewer than
    10 images; training views as every method here has them, with a box outside of the view cut to its edge, where the
    authors draw a view of 0.2 to 1 of the image again until it meets the box; and that the regressor's last layer
    starts at a usual box, ``(0.2, 0.2, 0.6, 0.6)``, and not at 0.5s.

    Attributes:
        method: ``psol``.
        tau: Threshold τ on the map, the share of each cell that the box covers, for pixels alone. The box does not
            depend on it.
        lambda_box: Weight of the mean squared error of the box.
    """

    method: str = "psol"
    tau: float = 0.5
    lambda_box: float = 50.0

    RANGES: ClassVar[Ranges] = {**MethodConfig.RANGES, "lambda_box": (0, 1e6)}
    OF_TRAINING: ClassVar[frozenset[str]] = MethodConfig.OF_TRAINING | {"lambda_box"}


class PSOLOutput(NamedTuple):
    """What one forward pass gives.

    Attributes:
        xywh: ``(B, 4)`` in (0, 1): corner and size of the box, in shares of the input.
        map: ``(B, H, W)`` the share of each cell of X that the box covers.
        logits: ``(B, L)`` class scores before the softmax.
    """

    xywh: Tensor
    map: Tensor
    logits: Tensor


class PSOL(Method):
    """A classifier and a regressor of boxes; arguments are those of :class:`famcli_models.CAM`.

    Attributes:
        localizer: The regressor's trunk, which starts from the weights of the backbone.
        regressor: Its averaged features to the logits of the box.
    """

    config_class = PSOLConfig
    title = "PSOL"
    map_title = "boxes"
    learns_map = False
    needs_images = True
    gives_boxes = True
    learns_boxes = True
    trunks = ("backbone", "localizer")
    config: PSOLConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.localizer = copy.deepcopy(self.backbone)
        last = nn.Linear(WIDTH, 4)
        nn.init.normal_(last.weight, std=0.01)
        with torch.no_grad():
            last.bias.copy_(torch.logit(torch.tensor(USUAL_BOX)))
        self.regressor = nn.Sequential(nn.Linear(self.channels, WIDTH), nn.ReLU(), last)
        self.classifier = nn.Linear(self.channels, self.config.num_classes)

    def first_stage(self, images: TrainingImages) -> Tensor:
        """Boxes ``(n, 4)`` by DDT, class by class, in shares of the whole images; all of one that cannot be read."""
        found, groups = torch.tensor([0.0, 0, 1, 1]).repeat(len(images.labels), 1), ddt.group_labels(images.labels)
        for group in sorted(set(groups.tolist())):
            numbers = (groups == group).nonzero()[:, 0].tolist()
            some = numbers[:: -(-len(numbers) // MOST)]
            kept = list(self._descriptors(images, some))
            if kept:
                direction = ddt.find_direction(torch.stack([X for _, X in kept]))
                for number, X in kept if some == numbers else self._descriptors(images, numbers):
                    found[number] = ddt.boxes(ddt.find_scores(X[None], *direction))[0]
        return found

    def _descriptors(self, images: TrainingImages, numbers: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Number and DDT's features ``(C, H, W)`` in float16 of the images that can be read."""
        pool = max(1, DDT_STRIDE // self.config.stride)
        for number, X in zip(numbers, images.features(numbers, DDT_SIDE), strict=True):
            if X is not None:
                yield number, F.max_pool2d(X, pool).half().cpu()

    def head(self, features: Features, labels: Tensor | None = None) -> PSOLOutput:
        """Everything behind the trunks."""
        del labels
        X, of_regressor = features.X, features.tapped[-1]
        xywh = self.regressor(of_regressor.mean(dim=(2, 3))).sigmoid()
        covered = cover(to_corners(xywh), (X.shape[-2], X.shape[-1]))
        return PSOLOutput(xywh, covered, self.classifier(X.mean(dim=(2, 3))))

    def maps(self, output: PSOLOutput, labels: Tensor | None = None) -> Tensor:
        """The share ``(B, H, W)`` of each cell that the box covers, of no class."""
        del labels
        return output.map

    def boxes(self, output: PSOLOutput) -> Tensor:
        """The boxes ``(B, 4)``, cut to the image."""
        return to_corners(output.xywh)

    def loss(self, output: PSOLOutput, batch: Batch) -> Losses:
        """CE + λ MSE of the box."""
        if batch.boxes is None:
            raise ConfigError("PSOL learns from boxes of a first stage, and there are none")
        cla = classification_loss(output.logits, batch.labels, batch.class_weight)
        corner, far = batch.boxes.chunk(2, dim=1)
        box = F.mse_loss(output.xywh, torch.cat([corner, far - corner], dim=1))
        return Losses(cla + self.config.lambda_box * box, {"cla": cla, "box": box})

    def term_weights(self) -> dict[str, float]:
        """1 and λ."""
        return {"cla": 1.0, "box": self.config.lambda_box}


def to_corners(xywh: Tensor) -> Tensor:
    """Corner and size ``(B, 4)`` to half-open xyxy, cut to the image."""
    corner, size = xywh.chunk(2, dim=1)
    return torch.cat([corner, corner + size], dim=1).clamp(0, 1)


def cover(boxes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """The share of each cell of a grid over the input that boxes ``(B, 4)`` cover: ``(B, h, w)``."""
    h, w = size_hw
    x0, y0, x1, y1 = boxes[..., None].unbind(dim=1)  # (B, 1) each

    def along(low: Tensor, high: Tensor, n: int) -> Tensor:
        far = boxes.new_ones(n).cumsum(0) / n  # not arange, which no graph may have
        return (torch.minimum(high, far) - torch.maximum(low, far - 1 / n)).clamp(min=0) * n

    return along(y0, y1, h)[:, :, None] * along(x0, x1, w)[:, None, :]
