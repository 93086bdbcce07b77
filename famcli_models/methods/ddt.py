"""Deep Descriptor Transforming (DDT; Wei et al., Pattern Recognition 2019): what the images of a class have in common.

Nothing is trained. The features f of all cells of all images of a class have a mean μ and a first principal direction
v, of length 1: what varies most among them together, which is whether a cell shows the object. The score of a cell is
``s = (f - μ)·v``, and the foreground is where s is positive.

The sign of v is arbitrary. Here the cell with the largest absolute score is positive: objects cover less of images than
what is around them, and so lie further from the mean.

The maps of :class:`DDT` need a first pass over images, for it is their μ and v. PSOL learns from :func:`boxes`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from famcli_models.config import MethodConfig
from famcli_models.errors import ConfigError
from famcli_models.features import Features
from famcli_models.localization import CONSTANT, localize
from famcli_models.methods.method import Method, wanted_classes

FEWEST = 10  # images of a class from which on it has a direction of its own: of fewer it is one of the background
CHUNK = 64  # images whose cells are in float64 at once
POOLED = -1  # stands for the classes with fewer images


@dataclass(frozen=True, kw_only=True)
class DDTConfig(MethodConfig):
    """Settings of DDT: those of every method.

    Ours, where :func:`boxes`, which PSOL learns from, is as the authors' code: images have the model's input size, and
    not 448 pixels; X is not pooled; the map is enlarged as other methods' maps are, and not cell by cell. μ and v come
    from the images that are predicted or scored, at most 2,000, by their labels where these are known, so that with
    many classes most share one direction.

    Attributes:
        method: ``ddt``.
        tau: Threshold τ on the map, which is 0.5 where the score is 0.
    """

    method: str = "ddt"
    tau: float = 0.5


class Direction(NamedTuple):
    """Of one class: μ and v, ``(C,)`` each."""

    mean: Tensor
    v: Tensor


def find_direction(X: Tensor) -> Direction:
    """μ and v of features ``(n, C, H, W)`` of the images of one class; the covariance is added up in float64."""
    C = X.shape[1]
    total, products = X.new_zeros(C, dtype=torch.float64), X.new_zeros(C, C, dtype=torch.float64)
    for chunk in torch.split(X, CHUNK):
        cells = _cells(chunk).double()
        total += cells.sum(dim=0)
        products += cells.T @ cells
    count = X.shape[0] * X.shape[2] * X.shape[3]
    mean = total / count
    v = torch.linalg.eigh(products / count - torch.outer(mean, mean)).eigenvectors[:, -1]
    direction = Direction(mean.float(), v.float())
    scores = torch.cat([find_scores(chunk, *direction) for chunk in torch.split(X, CHUNK)]).flatten()
    return direction if scores[scores.abs().argmax()] > 0 else direction._replace(v=-direction.v)


def find_scores(X: Tensor, mean: Tensor, v: Tensor) -> Tensor:
    """s ``(B, H, W)`` of features ``(B, C, H, W)``, given μ and v of all, ``(C,)``, or of each, ``(B, C)``."""
    offset = (mean * v).sum(dim=-1)
    if v.ndim == 1:
        return torch.einsum("bchw,c->bhw", X.float(), v) - offset
    return torch.einsum("bchw,bc->bhw", X.float(), v) - offset[:, None, None]


def boxes(scores: Tensor) -> Tensor:
    """Boxes ``(B, 4)`` of the largest positive component of scores ``(B, H, W)``; the whole image where none is.

    They are half-open xyxy in shares of the image's sides; a cell is a square of it.
    """
    h, w = scores.shape[1:]
    found = []
    for s in scores.cpu().numpy():
        regions = localize((s > 0).astype(np.float32), (h, w)).regions
        found.append(regions[0].xyxy if regions else (0.0, 0.0, float(w), float(h)))
    return torch.tensor(found) / torch.tensor([w, h, w, h])


def group_labels(labels: Tensor) -> Tensor:
    """Labels ``(n,)`` with :data:`POOLED` for all of the classes that have few images."""
    classes, inverse, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    return torch.where(counts < FEWEST, POOLED, classes)[inverse]


def _cells(X: Tensor) -> Tensor:
    return X.permute(0, 2, 3, 1).flatten(0, 2)  # (BHW, C)


class DDTOutput(NamedTuple):
    """What one forward pass gives.

    Attributes:
        X: ``(B, C, H, W)`` features.
        logits: ``(B, L)`` class scores of the model that the features are of.
    """

    X: Tensor
    logits: Tensor


class DDT(Method):
    """The maps of a trained model's features, see :meth:`from_model`; it is fitted to images before it gives any.

    Args:
        config: Every choice.
        model: The model, whose class scores stay what they are.
    """

    config_class = DDTConfig
    title = "DDT"
    map_title = "DDT maps"
    class_conditional = True
    learns_map = False
    fitted_to_images = True
    config: DDTConfig

    def __init__(self, config: DDTConfig, model: Method) -> None:
        super().__init__(config, model.class_names, model.provenance, backbone=model.backbone)
        self.model, self.classifier = model, model.classifier
        self.trunks = tuple(f"model.{name}" for name in model.trunks)  # type: ignore[misc]
        self.training = model.training  # train() would reach into the shared modules
        self._fitted: list[tuple[Tensor, Tensor]] = []  # X in float16 and the classes, of each batch
        self._directions: tuple[Tensor, Tensor] | None = None

    @classmethod
    def from_model(cls, model: Method) -> DDT:
        """DDT of a model's own features; classes are those that the model gives.

        Args:
            model: Of any method; a DDT is given back as it is.
        """
        if isinstance(model, cls):
            return model
        shared = {f.name: getattr(model.config, f.name) for f in fields(MethodConfig)}
        of_the_map = {"tau": DDTConfig.tau, "box_score": ()}  # that of the model is fitted to other maps
        return cls(DDTConfig(**{**shared, "method": "ddt", **of_the_map}), model)

    def head(self, features: Features, labels: Tensor | None = None) -> DDTOutput:
        """Everything behind the backbone."""
        return DDTOutput(features.X, self.model.head(features, labels).logits)

    def fit(self, output: DDTOutput, labels: Tensor) -> None:
        """Add images to those that μ and v are of; see :meth:`Method.fit`."""
        self._fitted.append((output.X.half().cpu(), wanted_classes(output.logits, labels).cpu()))
        self._directions = None

    def maps(self, output: DDTOutput, labels: Tensor | None = None) -> Tensor:
        """Maps ``(B, H, W)`` by μ and v of given classes ``(B,)``, or of the most probable ones.

        Scores are divided by the largest absolute one of the image and moved from [-1, 1] to [0, 1].

        Raises:
            ConfigError: It was fitted to no image.
        """
        means, vs = self._find_directions()
        wanted = wanted_classes(output.logits, labels).cpu()
        s = find_scores(output.X, *(of[wanted].to(output.X.device) for of in (means, vs)))
        return 0.5 + s / (2 * s.abs().amax(dim=(1, 2), keepdim=True)).clamp(min=CONSTANT)

    def _find_directions(self) -> tuple[Tensor, Tensor]:
        """μ and v of all classes, ``(L, C)`` each; those with few images have those of all images."""
        if self._directions is None:
            if not self._fitted:
                raise ConfigError("DDT has maps only after a pass over images: call fit of the predictor with them")
            X, classes = map(torch.cat, zip(*self._fitted, strict=True))
            pooled, groups = find_direction(X), group_labels(classes)
            means, vs = (of.repeat(self.config.num_classes, 1) for of in pooled)
            for label in torch.unique(groups[groups != POOLED]).tolist():
                means[label], vs[label] = find_direction(X[groups == label])
            self._directions = means, vs
        return self._directions
