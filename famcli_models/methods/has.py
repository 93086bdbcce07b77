"""Hide-and-Seek (HaS; Singh and Lee, ICCV 2017): CAM trained on images whose squares are hidden at random.

A network that cannot see the most telling part of an object has to learn its other parts. Only training images change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from famcli_models.config import Ranges, require
from famcli_models.methods.cam import CAM, CAMConfig


@dataclass(frozen=True, kw_only=True)
class HaSConfig(CAMConfig):
    """Settings of HaS.

    Attributes:
        method: ``has``.
        grid: Side of the squares in pixels for an input of 224, and in proportion for another; one is drawn for each
            image, and 0 hides nothing. The default is the "mixed" setting of the authors' code.
        hide: Probability that a square is hidden.
    """

    method: str = "has"
    grid: tuple[int, ...] = (0, 16, 32, 44, 56)
    hide: float = 0.5

    RANGES: ClassVar[Ranges] = {**CAMConfig.RANGES, "hide": (0, 1)}
    OF_TRAINING: ClassVar[frozenset[str]] = CAMConfig.OF_TRAINING | {"grid", "hide"}

    def __post_init__(self) -> None:
        """Check every field's type and range."""
        sides: Any = self.grid
        good = isinstance(sides, (list, tuple)) and all(type(side) is int and 0 <= side <= 4096 for side in sides)
        require(good and len(sides) > 0, "grid", sides, "a list of sides in pixels")
        object.__setattr__(self, "grid", tuple(sides))
        super().__post_init__()


class HaS(CAM):
    """A CAM that learns from images with hidden squares; arguments are those of :class:`famcli_models.CAM`."""

    config_class = HaSConfig
    title = "HaS"
    needs_images = True
    config: HaSConfig

    def augment(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Hide squares of normalised images: what is hidden is 0, the mean colour of the weights' own images."""
        return hide_squares(images, self.config.grid, self.config.hide), labels


def hide_squares(images: Tensor, grid: tuple[int, ...], hide: float) -> Tensor:
    """Set squares of each image to 0 at random.

    Squares are aligned to the top left; those of the last row and column may be cut off.

    Args:
        images: ``(B, 3, h, w)``.
        grid: Sides to draw from, in pixels of an image of 224.
        hide: Probability that a square is hidden.
    """
    h, w = images.shape[-2:]
    hidden = images.clone()
    for image in hidden:
        side = round(grid[int(torch.randint(len(grid), ()))] * max(h, w) / 224)
        if side:
            cells = torch.rand(-(-h // side), -(-w // side)) < hide
            squares = cells.repeat_interleave(side, 0).repeat_interleave(side, 1)[:h, :w]
            image[:, squares.to(images.device)] = 0
    return hidden
