"""The network that ``fam export`` writes: pixels in, maps, probabilities and perhaps boxes out.

Normalisation is inside, so that a runtime needs no code of ours. The box is found with tensor operations alone, in the
frame of the input: tracers cannot follow OpenCV.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famcli_models.fusion import fold_norms
from famcli_models.methods.method import Method
from famcli_models.preprocess import normalize

ROUNDS = 20  # measured: 9 for maps of random numbers, 14 for the worst mazes of 224 x 224, 18 for those of 1000 x 1000
INPUT = "images"
OUTPUTS = ("maps", "probabilities")
BOX_OUTPUTS = (*OUTPUTS, "boxes", "foreground")


def largest_component(mask: Tensor, rounds: int = ROUNDS) -> Tensor:
    """The largest 8-connected component of each mask; of equals the one met first, read row by row.

    ``(B, 1, h, w)`` bool of at most 2**24 pixels to float32, 1 on the component; all 0 where the mask is empty. Each
    pixel points to a pixel of its component that comes no later, at first to itself. In a round it looks at
    what its eight neighbours point to, makes the pixel it points to point there too, and follows its pointer one
    step. Trees of pointers merge and become flat, so that rounds needed grow like the logarithm of the number of
    pixels (the FastSV algorithm of Zhang, Azad and Hu, 2020, with a fixed number of rounds).
    """
    h, w = mask.shape[-2:]
    n = h * w
    inside = mask.to(torch.float32)
    order = torch.arange(n, 0, -1, dtype=torch.float32, device=mask.device).view(1, 1, h, w)
    # A pointer to pixel i is kept as the label n - i: the maximum is the first, and 0 is the background. Labels are
    # floats, which pooling needs, and exact below 2**24.
    label = order * inside
    for _ in range(rounds):
        near = F.max_pool2d(label, 3, stride=1, padding=1) * inside
        target = _pixel(label, n)
        flat = label.flatten(1).scatter_reduce(1, target, near.flatten(1), "amax")
        flat = torch.maximum(flat, near.flatten(1))
        flat = torch.maximum(flat, flat.gather(1, _pixel(flat, n)) * inside.flatten(1))
        label = flat.view(-1, 1, h, w)
    area = torch.zeros_like(label).flatten(1).scatter_add(1, _pixel(label, n), inside.flatten(1))
    # One number that orders by area, then by which comes first; 64 bits, for it is up to n squared.
    key = area.to(torch.int64) * (n + 1) + order.flatten(1).to(torch.int64)
    winner = torch.remainder(key.amax(dim=1), n + 1).to(torch.float32)
    return (label == winner.view(-1, 1, 1, 1)).to(torch.float32) * inside


def _pixel(label: Tensor, n: int) -> Tensor:
    """Index of the pixel that each label points to, ``(B, n)``; the background points to the last pixel."""
    return (n - label.flatten(1)).clamp(max=n - 1).to(torch.int64)


def largest_box(M: Tensor, side: int, tau: float) -> tuple[Tensor, Tensor]:
    """Box of the largest component of each map ``(B, 1, H, W)``, by the rules of :mod:`famcli_models.localization`.

    The boxes ``(B, 4)`` are half-open xyxy as fractions of the frame of ``side`` pixels, all 0 if nothing passes
    ``tau``; with them comes the mean of the enlarged M in the component, ``(B,)``.
    """
    full = F.interpolate(M, size=(side, side), mode="bilinear", align_corners=False)
    region = largest_component(full > tau)
    edge = torch.arange(side, dtype=torch.float32, device=M.device)
    columns, rows = region.amax(dim=2).flatten(1), region.amax(dim=3).flatten(1)  # (B, side): 1 where it reaches
    first = [(side - (side - edge) * reached).amin(dim=1) for reached in (columns, rows)]
    last = [((edge + 1) * reached).amax(dim=1) for reached in (columns, rows)]
    found = columns.amax(dim=1)
    boxes = torch.stack([*first, *last], dim=1) * found[:, None] / side
    area = region.sum(dim=(1, 2, 3)).clamp(min=1)
    return boxes, (full * region).sum(dim=(1, 2, 3)) / area


class Graph(nn.Module):
    """A copy of a model on the CPU with normalisation and, given a threshold, boxes inside."""

    def __init__(self, model: Method, tau: float | None = None) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval()
        self.model.backbone = fold_norms(self.model.backbone)
        self.side = model.config.size
        self.tau = tau
        self.outputs = OUTPUTS if tau is None else BOX_OUTPUTS  # names, in order

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images ``(B, side, side, 3)`` uint8 RGB to the outputs, in the order of their names."""
        out = self.model.head(self.model.features(normalize(images, self.model.config.mean, self.model.config.std)))
        M = self.model.maps(out)[:, None]
        results = (M, self.model.probabilities(out))
        return results if self.tau is None else (*results, *largest_box(M, self.side, self.tau))
