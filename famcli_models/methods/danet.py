"""Divergent Activation Network (DANet; Xue et al., ICCV 2019): K maps for each class, made different from each other.

Hierarchical divergent activation: heads at three depths of the backbone give the classes of three levels of a tree,
``root -> parent -> child``, the last being the classes of the data. A class has K maps, whose mean is its class map,
whose mean over the cells is its logit. Discrepant divergent activation: half of the 3K maps of the image's own classes,
drawn for each step, m_1..m_n, are kept from being alike by

    L_cos = mean over images of |sum over i < j of cos(m_i, m_j)| / (n (n - 1) / 2),
    L = (CE(root) + CE(parent) + CE(child)) / 2 + α L_cos.

The map is the sum over the levels of the mean over K of the maps after a ReLU. CUB alone has a hierarchy here, of
orders, families and species. That of ILSVRC was not published: there the method is its second half, one level with the
cosine loss, "DANet without HDA", and the loss is ``CE(child) + α L_cos``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famcli_models.backbones import Layers
from famcli_models.config import Choices, Ranges
from famcli_models.errors import ConfigError
from famcli_models.features import Features
from famcli_models.losses import Losses, classification_loss
from famcli_models.methods.cam import CAM, CAMConfig, map_convolutions
from famcli_models.methods.method import Batch, min_max, wanted_classes

# Of root and parent; the child's is X. VGG16 and InceptionV3 as in the authors' code, the others ours: ends of stages.
LAYERS = Layers(
    {
        "vgg16": ("features_16", "features_23"),  # pool3, pool4
        "resnet50": ("layer2", "layer3"),
        "inceptionv3": ("Pool2", "Mixed_5d"),
        "mobilenetv1": ("blocks.2.1", "blocks.3.5"),
    },
    stages=(-2, -1),
)

# CUB's families, "first-last:family" of classes from 1 on, and the orders that the families are of, 3 for most.
FAMILIES = """
1-3:0 4:1 5-8:2 9-13:3 14-17:4 18:5 19:6 20:7 21:8 22:9 23-25:10 26-27:3 28:11 29-30:12 31-33:1 34-35:13 36:14 37-43:15
44:16 45:17 46:18 47-48:13 49:3 50-53:19 54:4 55-56:13 57:4 58:2 59-66:20 67-70:21 71-72:22 73-75:12 76:8 77-78:15
79-83:23 84:20 85:24 86:25 87:18 88:3 89-90:18 91:6 92:9 93:12 94:26 95-98:3 99:27 100-101:28 102-103:15 104:29 105:9
106:2 107-108:12 109:27 110:1 111-112:30 113-117:8 118:31 119-129:8 130:31 131-133:8 134:32 135-138:33 139-140:4
141-147:20 148:8 149-150:6 151-157:34 158-184:27 185-186:35 187-192:14 193-199:36 200:27
"""
ORDERS = {0: 0, 1: 1, 2: 2, 9: 4, 10: 5, 14: 5, 16: 5, 17: 0, 18: 6, 19: 7, 20: 2, 21: 8, 22: 2, 23: 8, 25: 9, 28: 10}


def _families() -> tuple[int, ...]:
    found: list[int] = []
    for part in FAMILIES.split():
        classes, _, family = part.partition(":")
        first, _, last = classes.partition("-")
        found += [int(family)] * (int(last or first) - int(first) + 1)
    return tuple(found)


CUB_FAMILIES = _families()  # of each class, from 0 on
CUB_ORDERS = tuple(ORDERS.get(family, 3) for family in CUB_FAMILIES)

Hierarchy = Literal["none", "cub"]


@dataclass(frozen=True, kw_only=True)
class DANetConfig(CAMConfig):
    """Settings of DANet.

    Attributes:
        method: ``danet``.
        tau: The middle of 0.05 to 0.3, which the authors' code tries on the test set (ours).
        hierarchy: ``cub`` for the 200 classes of CUB in their own order, ``none`` for other data.
        maps_per_class: K; the authors' is 8 for VGG16 and 4 for InceptionV3.
        head_channels: Of the convolutions of the child's head.
        parent_channels: Of the parent's; the authors' is 1,024 for VGG16 and 384 for InceptionV3.
        root_channels: Of the root's; 512 and 256.
        level_weight: Weight of the cross entropy of each of three levels; that of one level alone is 1.
        alpha: α, that of the authors' script for CUB, whose code has 0.2 by default.
    """

    method: str = "danet"
    tau: float = 0.1
    hierarchy: Hierarchy = "none"
    maps_per_class: int = 8
    head_channels: int = 1024
    parent_channels: int = 1024
    root_channels: int = 512
    level_weight: float = 0.5
    alpha: float = 0.01

    CHOICES: ClassVar[Choices] = {**CAMConfig.CHOICES, "hierarchy": get_args(Hierarchy)}
    RANGES: ClassVar[Ranges] = {
        **CAMConfig.RANGES,
        "maps_per_class": (1, 64),
        "parent_channels": (0, 8192),
        "root_channels": (0, 8192),
        "level_weight": (0, 1e3),
        "alpha": (0, 1e3),
    }
    OF_TRAINING: ClassVar[frozenset[str]] = CAMConfig.OF_TRAINING | {"level_weight", "alpha"}


class DANetOutput(NamedTuple):
    """What one forward pass gives; with one level, what is of the others is ``(B, 0)``.

    Attributes:
        X: ``(B, D, H, W)`` features that the child's maps are made of.
        logits: ``(B, L)`` class scores of the child.
        X_parent: ``(B, D', H', W')`` features that the parent's maps are made of.
        logits_parent: ``(B, L')`` its scores.
        X_root: ``(B, D'', H'', W'')`` features that the root's maps are made of.
        logits_root: ``(B, L'')`` its scores.
    """

    X: Tensor
    logits: Tensor
    X_parent: Tensor
    logits_parent: Tensor
    X_root: Tensor
    logits_root: Tensor


class DANet(CAM):
    """A CAM with several maps for a class, of one level or of three; arguments are those of :class:`famcli_models.CAM`.

    Each classifier has K rows for a class: first one for all classes, then another for all, and so on.

    Raises:
        ConfigError: The hierarchy is CUB's, and the classes are not 200.
    """

    config_class = DANetConfig
    title = "DANet"
    needs_images = True
    config: DANetConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config = self.config
        self.classifier = nn.Linear(self.classifier.in_features, config.maps_per_class * config.num_classes)
        if self.reads is not None:
            if config.num_classes != len(CUB_FAMILIES):
                raise ConfigError(
                    f"hierarchy is 'cub', of {len(CUB_FAMILIES)} classes, and there are {config.num_classes}: "
                    "set hierarchy=none"
                )
            root, parent = self.backbone.tapped_channels  # type: ignore[misc]  # nn.Module types it as a Tensor
            self.parent = Level(parent, config.parent_channels, max(CUB_FAMILIES) + 1, config)
            self.root = Level(root, config.root_channels, max(CUB_ORDERS) + 1, config)

    @property
    def reads(self) -> Layers | None:  # type: ignore[override]
        """The layers of root and parent, where there is a hierarchy."""
        return LAYERS if self.config.hierarchy != "none" else None

    def head(self, features: Features, labels: Tensor | None = None) -> DANetOutput:  # type: ignore[override]
        """The class scores of each level, and what its maps are made of."""
        X, rows = super().head(features, labels)
        child = X, mean_of_rows(rows, self.config.maps_per_class)
        if self.reads is None:
            none = rows[:, :0]
            return DANetOutput(*child, none, none, none, none)
        root, parent = features.tapped
        return DANetOutput(*child, *self.parent(parent), *self.root(root))

    def maps(self, output: DANetOutput, labels: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Maps ``(B, H, W)`` of given classes ``(B,)``, or of the most probable ones, at the size of the largest level.

        Parent and root are those of the class (ours), where the authors' code takes what each level finds most
        probable.
        """
        levels = self._own_maps(output, wanted_classes(output.logits, labels))
        return min_max(torch.stack([m.relu().mean(dim=1) for m in _alike(levels, align_corners=False)]).sum(dim=0))

    def loss(self, output: DANetOutput, batch: Batch) -> Losses:
        """L of the module's docstring."""
        y = batch.labels
        maps = torch.cat(_alike(self._own_maps(output, y), align_corners=True), dim=1)  # (B, K or 3K, H, W)
        half = torch.randperm(maps.shape[1])[: maps.shape[1] // 2].to(maps.device)
        terms = {
            "cla": classification_loss(output.logits, y, batch.class_weight),
            "cos": likeness(maps[:, half]),
        }
        if self.reads is not None:
            families, orders = groups_of(y)
            terms["parent"] = classification_loss(output.logits_parent, families)
            terms["root"] = classification_loss(output.logits_root, orders)
        weights = self.term_weights()
        return Losses(torch.stack([weights[name] * term for name, term in terms.items()]).sum(), terms)

    def term_weights(self) -> dict[str, float]:
        """The weight of each term."""
        weights = {"cla": 1.0, "cos": self.config.alpha}
        if self.reads is not None:
            weights |= dict.fromkeys(("cla", "parent", "root"), self.config.level_weight)
        return weights

    def _own_maps(self, output: DANetOutput, y: Tensor) -> list[Tensor]:
        """The K maps ``(B, K, H, W)`` of classes ``(B,)`` and of what is above them, of each level."""
        K = self.config.maps_per_class
        levels = [class_maps(output.X, self.classifier, y, K)]
        if self.reads is not None:
            families, orders = groups_of(y)
            levels.append(class_maps(output.X_parent, self.parent.classifier, families, K))
            levels.append(class_maps(output.X_root, self.root.classifier, orders, K))
        return levels


class Level(nn.Module):
    """The head of a level: features of a layer to what its maps are made of, and the scores of its classes."""

    def __init__(self, channels: int, width: int, classes: int, config: DANetConfig) -> None:
        super().__init__()
        self.maps_per_class = config.maps_per_class
        self.convolutions = map_convolutions(channels, width, config.head_dropout)
        self.classifier = nn.Linear(width or channels, config.maps_per_class * classes)

    def forward(self, layer: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, H, W)`` to ``(B, D, H, W)`` and scores ``(B, classes)``."""
        X = self.convolutions(layer)
        return X, mean_of_rows(self.classifier(X.mean(dim=(2, 3))), self.maps_per_class)


def mean_of_rows(scores: Tensor, maps_per_class: int) -> Tensor:
    """Class scores ``(B, L)`` of those of all maps, ``(B, K L)``."""
    return scores.view(scores.shape[0], maps_per_class, -1).mean(dim=1)


def class_maps(X: Tensor, classifier: nn.Linear, y: Tensor, maps_per_class: int) -> Tensor:
    """The K maps of a class of each image, as a 1x1 convolution with the classifier's weights gives them.

    Args:
        X: ``(B, D, H, W)`` features.
        classifier: With K rows for a class.
        y: ``(B,)`` classes.
        maps_per_class: K.

    Returns:
        ``(B, K, H, W)``.
    """
    weight = classifier.weight.view(maps_per_class, -1, X.shape[1])[:, y]  # (K, B, D)
    bias = classifier.bias.view(maps_per_class, -1)[:, y]
    return torch.einsum("bdhw,kbd->bkhw", X, weight) + bias.T[..., None, None]


def likeness(maps: Tensor) -> Tensor:
    """L_cos of maps ``(B, n, H, W)``, where a map and its opposite cancel each other; 0 for fewer than two."""
    n = maps.shape[1]
    if n < 2:
        return maps.sum() * 0
    unit = F.normalize(maps.flatten(2), dim=2)
    cosines = unit @ unit.mT  # (B, n, n)
    others = cosines.sum(dim=(1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(dim=1)
    return others.abs().mean() / (n * (n - 1))


def groups_of(y: Tensor) -> tuple[Tensor, Tensor]:
    """Families and orders of species ``(B,)``."""
    return torch.tensor(CUB_FAMILIES, device=y.device)[y], torch.tensor(CUB_ORDERS, device=y.device)[y]


def _alike(levels: list[Tensor], *, align_corners: bool) -> list[Tensor]:
    """Maps ``(B, K, H, W)`` of each level at the size of the largest, which is the last."""
    size = levels[-1].shape[-2:]
    resized = [F.interpolate(m, size=size, mode="bilinear", align_corners=align_corners) for m in levels[:-1]]
    return [*resized, levels[-1]]
