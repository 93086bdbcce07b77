"""Equations (1) to (3), (5) to (7) and (9), and Table 2's replacement."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from famcli_models.attention import (
    POOLINGS,
    SIMILARITIES,
    ConvolutionAttention,
    ObjectAwareAttention,
    PartAwareAttention,
    query_channels,
    similarity,
)

SHAPE = (2, 3, 4, 4)  # B, C, H, W


def gradcheck(module: torch.nn.Module, *inputs: Tensor) -> bool:
    """torch's gradcheck over the inputs and over every parameter of a float64 module."""
    names = [name for name, _ in module.named_parameters()]

    def call(*args: Tensor) -> Any:
        weights = dict(zip(names, args[len(inputs) :], strict=True))
        return torch.func.functional_call(module, weights, args[: len(inputs)])

    return torch.autograd.gradcheck(call, (*inputs, *module.parameters()))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", SIMILARITIES)
def test_object_aware_attention_gradcheck(kind: str, bias: bool) -> None:
    """Numerical and analytical gradients of M agree for the features, keys, values, encoder and bias."""
    module = ObjectAwareAttention(32, 3, kind, bias).double()
    X = torch.randn(1, 32, 1, 2, dtype=torch.float64, requires_grad=True)
    beta = torch.einsum("bqhw,nq->bnhw", module.encoder(X), module.keys) / math.sqrt(2)
    assert kind != "ratio" or beta.sum(dim=1).abs().min() > 1e-3  # the ratio has poles: not to be met here
    assert gradcheck(module, X)


def test_convolution_attention_gradcheck() -> None:
    """Numerical and analytical gradients of Table 2's replacement agree."""
    module = ConvolutionAttention(SHAPE[1], 3).double()
    assert gradcheck(module, torch.randn(SHAPE, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("importance", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_part_aware_attention_gradcheck(pooling: str, importance: bool) -> None:
    """Numerical and analytical gradients of A, P, t and o agree in both poolings, t learnt or not."""
    module = PartAwareAttention(SHAPE[1], 2, pooling, importance).double()
    X = torch.randn(SHAPE, dtype=torch.float64, requires_grad=True)
    M = torch.rand(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(module, X, M)


@pytest.mark.parametrize("kind", SIMILARITIES)
def test_blending_maps_equals_blending_classifiers(kind: str) -> None:
    """M equals equations (2) and (3) with a classifier w = Σ s_n v_n written out for every pixel."""
    B, C, H, W, N = 2, 48, 5, 4, 3
    module = ObjectAwareAttention(C, N, kind).double()
    X = torch.randn(B, C, H, W, dtype=torch.float64)
    weight, bias = module.encoder.weight[:, :, 0, 0], module.encoder.bias
    M = torch.empty(B, 1, H, W, dtype=torch.float64)
    for b in range(B):
        for i in range(H):
            for j in range(W):
                x = X[b, :, i, j]
                q = weight @ x + bias
                beta = torch.stack([q @ k / math.sqrt(C / 16) for k in module.keys])
                s = {
                    "softmax": lambda v: v.exp() / v.exp().sum(),
                    "ratio": lambda v: v / v.sum(),
                    "ratio-relu": lambda v: v.relu() / v.relu().sum().clamp(min=1e-6),
                }[kind](beta)
                w = sum(s[n] * module.values[n] for n in range(N))  # eq. (2)
                M[b, 0, i, j] = 1 / (1 + torch.exp(-(w @ x)))  # eq. (3) and the sigmoid
    torch.testing.assert_close(module(X), M, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "beta", "expected"),
    [
        ("softmax", [0.0, math.log(3)], [1 / 4, 3 / 4]),  # e⁰ : e^ln3 = 1 : 3
        ("ratio", [3.0, 2.0, -1.0], [3 / 4, 2 / 4, -1 / 4]),  # as printed, over the sum 4
        ("ratio", [1.0, -3.0], [-1 / 2, 3 / 2]),  # the sum -2 turns both signs
        ("ratio-relu", [3.0, 1.0, -5.0], [3 / 4, 1 / 4, 0.0]),  # without the negative part the sum is 4
        ("ratio-relu", [-2.0, -2.0, -2.0], [0.0, 0.0, 0.0]),  # no template answers, and nothing is NaN
    ],
)
def test_similarity_by_hand(kind: str, beta: list[float], expected: list[float]) -> None:
    """Equation (1) in its three readings."""
    found = similarity(torch.tensor(beta).view(1, -1, 1, 1), kind).flatten()
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize("kind", SIMILARITIES)
def test_similarities(kind: str) -> None:
    """Over the templates they sum to 1; β of zero and sums of exactly zero are finite."""
    s = similarity(torch.rand(2, 3, 4, 4) + 0.1, kind)
    torch.testing.assert_close(s.sum(dim=1), torch.ones(2, 4, 4))
    beta = torch.tensor([[0.0, 0.0], [1.0, -1.0], [1e4, 1e4], [-1e4, 1e4]]).view(4, 2, 1, 1)
    assert similarity(beta, kind).isfinite().all()


def test_sizes() -> None:
    """Queries and keys have C/16 numbers, and at least one; M is a sigmoid: (B, 1, H, W) in (0, 1)."""
    module = ObjectAwareAttention(1024, 3)
    assert module.encoder.weight.shape == (64, 1024, 1, 1)
    assert module.keys.shape == (3, 64)
    assert module.values.shape == (3, 1024)
    assert query_channels(3) == 1
    for attention in (ObjectAwareAttention(32), ConvolutionAttention(32)):
        M = attention(torch.randn(2, 32, 5, 7))
        assert M.shape == (2, 1, 5, 7)
        assert ((M > 0) & (M < 1)).all()


def test_value_bias() -> None:
    """An extension, absent unless asked for; with softmax the same bias for all templates adds to M's logit."""
    assert ObjectAwareAttention(32).bias is None
    module = ObjectAwareAttention(32, 3, "softmax", value_bias=True).double()
    assert dict(module.named_parameters())["bias"].shape == (3,)
    X = torch.randn(1, 32, 3, 3, dtype=torch.float64)
    before = module(X).logit()
    with torch.no_grad():
        module.bias.fill_(0.7)
    torch.testing.assert_close(module(X).logit(), before + 0.7)


@pytest.mark.parametrize("channels", [64, 512, 768, 1024, 2048])
def test_replacement(channels: int) -> None:
    """Table 2's three 1x1 convolutions have as many parameters as the memory they replace, within 5 percent."""
    memory, replacement = ObjectAwareAttention(channels, 3), ConvolutionAttention(channels, 3)
    count = [sum(p.numel() for p in module.parameters()) for module in (memory, replacement)]
    assert count[1] == pytest.approx(count[0], rel=0.05)
    convolutions = [m for m in replacement.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [c.kernel_size for c in convolutions] == [(1, 1)] * 3
    assert convolutions[-1].out_channels == 1


@pytest.mark.parametrize(("pooling", "expected"), [("foreground", 5 / 8), ("features", 12 / 8)])
def test_pooling_by_hand(pooling: str, expected: float) -> None:
    """With A = 1/2, P is half of the sum over four pixels of X̃ = (0, 2, 3, 0), or as printed of X, whatever M is."""
    module = PartAwareAttention(1, 2, pooling, importance=False)
    torch.nn.init.zeros_(module.discovery.weight)
    torch.nn.init.zeros_(module.discovery.bias)
    X, M = torch.tensor([1.0, 2.0, 3.0, 6.0]).view(1, 1, 2, 2), torch.tensor([0.0, 1.0, 1.0, 0.0]).view(1, 1, 2, 2)
    parts = module(X, M)
    torch.testing.assert_close(parts.A, torch.full((1, 2, 2, 2), 0.5))
    torch.testing.assert_close(parts.P, torch.full((1, 2, 1), expected))


def test_part_maps_see_the_foreground_only() -> None:
    """Equation (6) reads X̃ in both poolings: where M is 0, A is the sigmoid of the bias alone."""
    for pooling in POOLINGS:
        module = PartAwareAttention(8, 2, pooling)
        A = module(torch.randn(1, 8, 3, 3), torch.zeros(1, 1, 3, 3)).A
        torch.testing.assert_close(A, module.discovery.bias.sigmoid().view(1, 2, 1, 1).expand_as(A))


def test_importance_by_hand() -> None:
    """P = (0, ln 3) and g = 1 give t = softmax = (1/4, 3/4) and o = 3/4 ln 3."""
    module = PartAwareAttention(1, 2)
    torch.nn.init.ones_(module.importance.weight)
    torch.nn.init.zeros_(module.discovery.weight)
    with torch.no_grad():
        module.discovery.bias.copy_(torch.tensor([-100.0, 100.0]))  # A is 0 for one part and 1 for the other
    X = torch.full((1, 1, 2, 2), math.log(3))
    parts = module(X, torch.ones(1, 1, 2, 2))
    torch.testing.assert_close(parts.P.flatten(), torch.tensor([0.0, math.log(3)]))
    torch.testing.assert_close(parts.t.flatten(), torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(parts.o.flatten(), torch.tensor([0.75 * math.log(3)]))


@pytest.mark.parametrize("importance", [True, False])
def test_importance_sums_to_one(importance: bool) -> None:
    """t is a softmax over the parts; without importance every part weighs 1/K and o is the mean of the parts."""
    module = PartAwareAttention(8, 5, importance=importance)
    parts = module(torch.randn(3, 8, 3, 3), torch.rand(3, 1, 3, 3))
    assert [tuple(part.shape) for part in parts] == [(3, 5, 3, 3), (3, 5, 8), (3, 5), (3, 8)]
    torch.testing.assert_close(parts.t.sum(dim=1), torch.ones(3))
    if not importance:
        torch.testing.assert_close(parts.t, torch.full((3, 5), 1 / 5))
        torch.testing.assert_close(parts.o, parts.P.mean(dim=1))
        assert module.importance is None
