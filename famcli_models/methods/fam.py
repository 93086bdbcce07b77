"""Foreground Activation Maps (Meng et al., ICCV 2021): settings, network, loss and map.

``image -> backbone -> X -> (M -> X̃ -> A -> P -> t -> o) -> h(o)``; the letters are those of
:mod:`famcli_models.attention`, with L the number of classes and ``y = h(o)`` the logits ``(B, L)``.
With :attr:`FAMConfig.class_pooling` the class is that of another feature, in training the loss is of h(o) all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famcli_models.attention import ConvolutionAttention, ObjectAwareAttention, PartAwareAttention, foreground_mean
from famcli_models.config import Choices, MethodConfig, Ranges
from famcli_models.evidence import class_evidence, expected_weights
from famcli_models.features import Features
from famcli_models.fine import FineFeatures
from famcli_models.losses import Losses, classification_loss, diversity_loss, sparsity_loss
from famcli_models.methods.method import FEW, FLAT, MANY, Batch, Method

ALIKE = 0.99  # cosine of part maps that are one and the same
EVIDENCE_GAIN = 2.0  # that training starts from

Similarity = Literal["softmax", "ratio", "ratio-relu"]
Pooling = Literal["foreground", "features"]
ClassPooling = Literal["parts", "foreground", "foreground+image"]


@dataclass(frozen=True, kw_only=True)
class FAMConfig(MethodConfig):
    """Settings of FAM, JSON-able; the defaults follow the paper wherever its text can be followed.

    :meth:`paper` gives the paper's printed reading of equations (1) and (7) instead. The settings of every method are
    those of :class:`famcli_models.MethodConfig`.

    Attributes:
        method: ``fam``.
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
        tau: Threshold τ on the raw sigmoid map.
        sparsity_warmup: Extension: share of all training steps in which λ_spa rises linearly from 0. Before a new
            classifier has learnt anything, the sparsity loss is all that moves M, and it moves M to 0.
        part_std: Standard deviation of the initial part filters, 0 for torch's default; parts that start
            alike stay alike.
        value_bias: Extension: a bias for each foreground classifier.
        object_scale: Extension: h is applied to this times o. A starts near 1/2, so 2 lets a pretrained
            classifier see features of the size it knows.
        class_pooling: Extension: the feature that class scores are of: ``parts``, o of equation (9) as in the paper;
            ``foreground``, the mean of X weighted by M; or ``foreground+image``, half of that and half of the plain
            mean of X. The loss is of o in any case. For a classifier that was pretrained on the mean of X.
        fine_channels: Extension: M has a finer stride than X and comes from features of this many channels, fused of X
            and of earlier layers, see :class:`famcli_models.fine.FineFeatures`; 0 makes M from X, as the paper does.
        fine_factor: The stride of M is that of X divided by this, 2, 4 or 8; of no consequence without
            ``fine_channels``.
        fine_layers: Depthwise convolutions in them; of no consequence without ``fine_channels``.
        class_evidence: Extension: M takes the evidence for the most probable classes into account, see
            :mod:`famcli_models.evidence`; for a pretrained classifier that is frozen.
    """

    method: str = "fam"
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
    sparsity_warmup: float = 0.0
    part_std: float = 0.0
    value_bias: bool = False
    object_scale: float = 1.0
    class_pooling: ClassPooling = "parts"
    fine_channels: int = 0
    fine_factor: int = 2
    fine_layers: int = 1
    class_evidence: bool = False

    CHOICES: ClassVar[Choices] = {
        **MethodConfig.CHOICES,
        "similarity": get_args(Similarity),
        "pooling": get_args(Pooling),
        "class_pooling": get_args(ClassPooling),
        "fine_factor": (2, 4, 8),
    }
    RANGES: ClassVar[Ranges] = {
        **MethodConfig.RANGES,
        "num_templates": (1, 256),
        "num_parts": (1, 256),
        "lambda_spa": (0, 1e6),
        "lambda_div": (0, 1e6),
        "sparsity_warmup": (0, 1),
        "part_std": (0, 1e3),
        "object_scale": (1e-3, 1e3),
        "fine_channels": (0, 4096),
        "fine_layers": (1, 8),
    }

    OF_TRAINING: ClassVar[frozenset[str]] = MethodConfig.OF_TRAINING | {
        *("sparsity", "diversity", "lambda_spa", "lambda_div", "sparsity_warmup", "part_std", "class_pooling"),
    }

    OF_RANDOM_START: ClassVar[frozenset[str]] = frozenset({"part_std"})

    @classmethod
    def paper(cls, **overrides: Any) -> FAMConfig:
        """The printed equations: ``ratio`` in (1) and ``features`` in (7); findings on both are on the method page."""
        return cls(**{"similarity": "ratio", "pooling": "features", **overrides})


class FAMOutput(NamedTuple):
    """What one forward pass gives, frozen; a plain tuple to tracers and exporters.

    Attributes:
        M: ``(B, 1, H, W)`` foreground map in (0, 1) at feature resolution, in the frame of the input;
            ``(B, 1, fH, fW)`` or nearly so with ``fine_channels``, f being ``fine_factor``.
        A: ``(B, K, H, W)`` part maps in (0, 1), in the same frame.
        P: ``(B, K, C)`` part features.
        t: ``(B, K)`` importance weights, summing to 1.
        o: ``(B, C)`` object feature.
        logits: ``(B, L)`` class scores before the softmax, of the feature that ``config.class_pooling`` names.
        object_logits: ``(B, L)`` h(o), which the loss is of; the same as ``logits`` with ``parts``.
    """

    M: Tensor
    A: Tensor
    P: Tensor
    t: Tensor
    o: Tensor
    logits: Tensor
    object_logits: Tensor


class FAM(Method):
    """The full model: one forward pass gives the foreground map, the parts and the class.

    Args:
        config: Every choice; the default is a 1,000-class MobileNetV1.
        class_names: One name a class; by default the class numbers.
        provenance: What the weights came from, kept in the checkpoint.
        backbone: A module that maps images to :class:`famcli_models.features.Features`, with an attribute
            ``channels`` (and ``earlier_channels``, if the features have earlier maps), instead of
            ``config.backbone``; such a model cannot be loaded back by name.
    """

    config_class = FAMConfig
    title = "FAM"
    map_title = "Foreground Activation Maps"
    config: FAMConfig

    def __init__(
        self,
        config: FAMConfig | None = None,
        class_names: Sequence[str] | None = None,
        provenance: Mapping[str, Any] | None = None,
        *,
        backbone: nn.Module | None = None,
    ) -> None:
        super().__init__(config, class_names, provenance, backbone=backbone)
        config = self.config
        C, D = self.channels, config.fine_channels
        self.fine = FineFeatures(C, self.earlier_channels, D, config.fine_layers, config.fine_factor) if D else None
        self.object_attention: nn.Module = (
            ObjectAwareAttention(D or C, config.num_templates, config.similarity, config.value_bias)
            if config.memory
            else ConvolutionAttention(D or C, config.num_templates)
        )
        # Of the class activation map and of what is carried of it, each less a half: the share they have in M's logit.
        self.evidence_gain = nn.Parameter(torch.full((2,), EVIDENCE_GAIN)) if config.class_evidence else None
        self.part_attention = PartAwareAttention(C, config.num_parts, config.pooling, config.importance)
        self.classifier = nn.Linear(C, config.num_classes)  # h(·|σ)

    @property
    def reads_earlier(self) -> int:
        """The finer M reads maps of earlier layers."""
        return self.config.fine_factor if self.config.fine_channels else 0

    def head(self, features: Features, labels: Tensor | None = None) -> FAMOutput:
        """Everything behind the backbone: X ``(B, C, H, W)``, and what goes with it, to :class:`FAMOutput`."""
        del labels
        X = features.X
        if self.fine is None:
            M = at_X = self.object_attention(X, self.prior(features, X))
        else:
            Z = self.fine(features)  # (B, D, fH, fW)
            M = self.object_attention(Z, self.prior(features, Z))
            # The mean of M in each cell of X; at the edge a cell may be half there, or there in M alone.
            at_X = F.avg_pool2d(M, self.config.fine_factor, ceil_mode=True)[..., : X.shape[-2], : X.shape[-1]]
        A, P, t, o = self.part_attention(X, at_X)
        logits = object_logits = self.classifier(o * self.config.object_scale)
        if self.config.class_pooling != "parts":
            pooled = foreground_mean(X, at_X)
            if self.config.class_pooling == "foreground+image":
                pooled = (pooled + X.mean(dim=(2, 3))) / 2
            logits = self.classifier(pooled)
        return FAMOutput(M, A, P, t, o, logits, object_logits)

    def prior(self, features: Features, Z: Tensor) -> Tensor | float:
        """What the evidence for the most probable classes adds to the logit of M, ``(B, 1, fH, fW)``; 0 without it."""
        if self.evidence_gain is None:
            return 0.0
        X = features.X
        with torch.no_grad():
            evidence = class_evidence(X, expected_weights(X, self.classifier), features.cells)
        share = ((evidence - 0.5) * self.evidence_gain[:, None, None]).sum(dim=1, keepdim=True)
        return F.interpolate(share, size=(Z.shape[-2], Z.shape[-1]), mode="bilinear", align_corners=False)

    def maps(self, output: FAMOutput, labels: Tensor | None = None) -> Tensor:
        """M ``(B, H, W)`` in (0, 1), of no class."""
        del labels
        return output.M[:, 0]

    @property
    def num_parts(self) -> int:
        """K."""
        return self.config.num_parts

    def parts(self, output: FAMOutput) -> tuple[Tensor, Tensor]:
        """A ``(B, K, H, W)`` of equation (6) and t ``(B, K)`` of equation (9)."""
        return output.A, output.t

    def begin_training(self) -> None:
        """Draw the part filters anew with ``config.part_std``."""
        if self.config.part_std:
            nn.init.normal_(self.part_attention.discovery.weight, std=self.config.part_std)

    def loss(self, output: FAMOutput, batch: Batch) -> Losses:
        """Equation (11): L_cla + λ_spa L_spa + λ_div L_div, with the λ_spa of the step."""
        weights, rising = self.term_weights(), self.config.sparsity_warmup * batch.steps
        if batch.step < rising:
            weights["spa"] = weights["spa"] * batch.step / rising
        terms = {
            "cla": classification_loss(output.object_logits, batch.labels, batch.class_weight),
            "spa": sparsity_loss(output.M),
            "div": diversity_loss(output.P),
        }
        total = torch.stack([weights[name] * term for name, term in terms.items() if weights[name]]).sum()
        return Losses(total, terms)

    def term_weights(self) -> dict[str, float]:
        """Equation (11): the weight of each term; 0 for one that is switched off."""
        return {
            "cla": 1.0,
            "spa": self.config.lambda_spa if self.config.sparsity else 0.0,
            "div": self.config.lambda_div if self.config.diversity else 0.0,
        }

    def measures(self, output: FAMOutput, labels: Tensor) -> dict[str, Tensor]:
        """What every method logs, and the mean cosine between the part maps A of an image."""
        found = super().measures(output, labels)
        top1 = found.pop("top1")
        cosine = diversity_loss(output.A.flatten(2))  # of maps here, of features in equation (8)
        return {**found, "part_similarity": cosine, "top1": top1}

    def warnings(self, measures: Mapping[str, float]) -> list[str]:
        """What is wrong with M and the parts, and which setting to change."""
        found = []
        share, spread, similarity = (measures[name] for name in ("foreground", "spread", "part_similarity"))
        change = "lower lambda_spa" if share < FEW else "raise lambda_spa" if share > MANY else "lower lr"
        if spread < FLAT:
            found.append(
                f"M is flat (standard deviation {spread:.4f}): it has collapsed and no threshold will find a box; "
                f"{change}, and see 'The method' in the documentation, equation (7)"
            )
        elif not FEW <= share <= MANY:
            found.append(f"M passes the threshold in {share:.1%} of the cells; {change}")
        if similarity > ALIKE:
            found.append(f"the part maps are alike (cosine {similarity:.3f}); raise part_std, so that they start apart")
        return found
