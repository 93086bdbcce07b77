"""The two attention modules of FAM, with the paper's letters.

====== ===================== ====================================================
symbol shape                 what
====== ===================== ====================================================
X      (B, C, H, W)          feature map of the backbone
Q      (B, C/16, H, W)       queries: the encoder's output, one per pixel
k_n    (N, C/16)             memory keys: appearance templates
v_n    (N, C)                memory values: one foreground classifier per template
s      (B, N, H, W)          similarity of each pixel to each template, eq. (1)
M      (B, 1, H, W)          foreground map in (0, 1), eq. (3) and its sigmoid
X̃      (B, C, H, W)          foreground features X * M, eq. (5)
A      (B, K, H, W)          part maps in (0, 1), eq. (6)
P      (B, K, C)             part features, eq. (7)
t      (B, K)                importance of the parts, eq. (9)
o      (B, C)                object feature, eq. (9)
====== ===================== ====================================================
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

QUERY_REDUCTION = 16  # "memory keys are embedded as C/16 dimensional vectors"
RATIO_EPS = 1e-6  # keeps eq. (1) as printed finite where its signed denominator crosses zero

MIN_FOREGROUND = 1e-6  # keeps the mean over a foreground finite where M is 0 everywhere

SIMILARITIES = ("softmax", "ratio", "ratio-relu")
POOLINGS = ("foreground", "features")


def query_channels(channels: int) -> int:
    """C/16, the length of queries and keys (at least 1)."""
    return max(1, channels // QUERY_REDUCTION)


def similarity(beta: Tensor, kind: str) -> Tensor:
    """Equation (1): normalise the scaled dot products β over the N templates.

    Args:
        beta: ``(B, N, H, W)`` values of β = qᵀk / sqrt(C/16).
        kind: ``softmax``; ``ratio``: β over its sum, as printed, with the sum kept at least 1e-6 away
            from zero; or ``ratio-relu``: the same ratio of max(β, 0), so that it cannot change sign.

    Returns:
        ``(B, N, H, W)``, summing to 1 over N (``ratio-relu``: to 0 where no β is positive).
    """
    if kind == "softmax":
        return beta.softmax(dim=1)
    if kind == "ratio-relu":
        beta = beta.relu()
    total = beta.sum(dim=1, keepdim=True)
    floor = torch.full_like(total, RATIO_EPS)
    safe = torch.where(total < 0, torch.minimum(total, -floor), torch.maximum(total, floor))
    return beta / safe


class ObjectAwareAttention(nn.Module):
    """Feature map to foreground map through a foreground memory: equations (1) to (3).

    Equations (2) and (3) blend a classifier w = Σ s_n v_n for each pixel and apply it to x. The dot
    product is linear in w, so Σ s_n (v_nᵀ x) is the same number: N maps from one 1x1 convolution,
    blended by the similarities, without a C-vector per pixel.

    Args:
        channels: C.
        num_templates: N.
        similarity_kind: One of :data:`SIMILARITIES`.
        value_bias: Give each foreground classifier a bias b_n (an extension: the paper has none).
    """

    def __init__(
        self, channels: int, num_templates: int = 3, similarity_kind: str = "softmax", value_bias: bool = False
    ) -> None:
        super().__init__()
        queries = query_channels(channels)
        self.similarity_kind = similarity_kind
        self.encoder = nn.Conv2d(channels, queries, 1)
        self.keys = nn.Parameter(torch.randn(num_templates, queries))
        self.values = nn.Parameter(torch.randn(num_templates, channels) / math.sqrt(channels))
        self.bias = nn.Parameter(torch.zeros(num_templates)) if value_bias else None

    def similarities(self, X: Tensor) -> Tensor:
        """Equation (1): ``(B, C, H, W)`` to the similarities s, ``(B, N, H, W)``."""
        Q = self.encoder(X)  # (B, C/16, H, W)
        keys = self.keys / math.sqrt(self.keys.shape[1])
        beta = F.conv2d(Q, keys[:, :, None, None])  # (B, N, H, W)
        return similarity(beta, self.similarity_kind)

    def forward(self, X: Tensor, prior: Tensor | float = 0.0) -> Tensor:
        """Foreground map: X ``(B, C, H, W)`` to M ``(B, 1, H, W)`` in (0, 1); ``prior`` is added within the sigmoid."""
        s = self.similarities(X)
        votes = F.conv2d(X, self.values[:, :, None, None], self.bias)  # v_nᵀ x: (B, N, H, W)
        return ((s * votes).sum(dim=1, keepdim=True) + prior).sigmoid()


class ConvolutionAttention(nn.Module):
    """Table 2 without the foreground memory: three 1x1 convolutions with a similar number of parameters.

    The memory has C·C/16 + N·C/16 + N·C weights. Here the first convolution has the encoder's C·C/16,
    and the hidden width of the other two is chosen so that they make up the rest.

    Args:
        channels: C.
        num_templates: N of the memory being replaced; it sets the hidden width.
    """

    def __init__(self, channels: int, num_templates: int = 3) -> None:
        super().__init__()
        first = query_channels(channels)
        memory = num_templates * (first + channels)
        hidden = max(1, round((memory - 1) / (first + 2)))  # each hidden channel: first + 1 in, 1 out; 1 last bias
        self.layers = nn.Sequential(
            nn.Conv2d(channels, first, 1),
            nn.ReLU(),
            nn.Conv2d(first, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, 1, 1),
        )

    def forward(self, X: Tensor, prior: Tensor | float = 0.0) -> Tensor:
        """Foreground map: X ``(B, C, H, W)`` to M ``(B, 1, H, W)`` in (0, 1); ``prior`` is added within the sigmoid."""
        return torch.sigmoid(self.layers(X) + prior)


class Parts(NamedTuple):
    """What the part-aware attention module found.

    Attributes:
        A: ``(B, K, H, W)`` part maps in (0, 1).
        P: ``(B, K, C)`` part features.
        t: ``(B, K)`` importance weights, summing to 1.
        o: ``(B, C)`` object feature.
    """

    A: Tensor
    P: Tensor
    t: Tensor
    o: Tensor


class PartAwareAttention(nn.Module):
    """Foreground features to parts and one object feature: equations (5) to (7) and (9).

    Args:
        channels: C.
        num_parts: K.
        pooling: What equation (7) pools with A: ``features`` pools X, as printed; ``foreground`` pools
            X̃. With ``features`` a model can classify without M, and M collapses (see the method page).
        importance: Learn t (Table 3); otherwise every part weighs 1/K.
    """

    def __init__(self, channels: int, num_parts: int = 5, pooling: str = "foreground", importance: bool = True) -> None:
        super().__init__()
        self.num_parts = num_parts
        self.pooling = pooling
        self.discovery = nn.Conv2d(channels, num_parts, 1)  # f(·|θ)
        # No bias: it would add the same number to every part, and softmax would cancel it.
        self.importance = nn.Linear(channels, 1, bias=False) if importance else None  # g(·|φ)

    def forward(self, X: Tensor, M: Tensor) -> Parts:
        """Parts of a batch: X ``(B, C, H, W)`` and M ``(B, 1, H, W)`` to :class:`Parts`."""
        B, _, H, W = X.shape
        X_fg = X * M  # eq. (5)
        A = self.discovery(X_fg).sigmoid()  # (B, K, H, W), eq. (6)
        pooled = X if self.pooling == "features" else X_fg
        P = A.flatten(2) @ pooled.flatten(2).transpose(1, 2) / (H * W)  # (B, K, C), eq. (7)
        if self.importance is None:
            t = P.new_full((B, self.num_parts), 1 / self.num_parts)
        else:
            t = self.importance(P).squeeze(-1).softmax(dim=1)  # (B, K), eq. (9)
        o = (t[:, None, :] @ P).squeeze(1)  # (B, C), eq. (9)
        return Parts(A, P, t, o)


def foreground_mean(X: Tensor, M: Tensor) -> Tensor:
    """Mean of X ``(B, C, H, W)`` over its cells, weighted by M ``(B, 1, H, W)``: ``(B, C)``, on the scale of X."""
    return (X * M).mean(dim=(2, 3)) / M.mean(dim=(2, 3)).clamp(min=MIN_FOREGROUND)
