"""Geometry Constrained network (Lu et al., ECCV 2020): a detector gives an ellipse that must hold what makes the class.

Three networks. The *classifier*, ``image I -> backbone -> mean -> FC``, is trained first and alone, by the cross
entropy CE of the label y. The *detector*, a second trunk with a linear layer behind its mean, gives through a sigmoid
the five numbers of an ellipse: centre, side lengths w and h, all in shares of the image, and the angle π (θ - 0.5).
The *generator* draws the ellipse as a mask m, soft enough to have a gradient, and has no weights here (the analytic
variant). Of the three only the detector learns from what the classifier says of the image in the mask and around it:

``L_obj = CE(cls(I m), y)``, ``L_back = ln L - H(softmax cls(I (1 - m)))`` with the entropy H, ``L_area = mean(w h)``;
their sum, with 2.5 before L_area, is minimised. At test time the box of the ellipse is the answer; there is no
threshold, and the class is that of the whole image.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famcli_models.config import MethodConfig, Ranges
from famcli_models.errors import ConfigError
from famcli_models.features import Features
from famcli_models.losses import Losses, classification_loss
from famcli_models.methods.method import Batch, Method, run_constant

if TYPE_CHECKING:
    from typing_extensions import Self

    from famcli_models.pretrained import BackboneWeights

SHARPNESS = 10.0  # s, before it is learnt
SMALLEST = 1e-3  # half axis, in shares of the image, that the mask is drawn with at least


@dataclass(frozen=True, kw_only=True)
class GCNetConfig(MethodConfig):
    """Settings of GC-Net: those of every method, and its own.

    The authors train the two networks one after the other, by schedules that their code leaves unclear; doing it in
    one run, and the share of it that each network has, are ours. So is ``ln L`` for their constant 5.3.

    Attributes:
        method: ``gcnet``.
        tau: Threshold τ on the mask, for its pixels alone: 0.5 is the ellipse's edge. The box does not depend on it.
        classifier_share: Share of all steps, from the first on, that train the classifier alone; the others train the
            detector, with the classifier frozen in evaluation mode. 0 where the run starts from a trained classifier.
        lambda_area: Weight of L_area; too little gives the whole image, too much a dot.
    """

    method: str = "gcnet"
    tau: float = 0.5
    classifier_share: float = 0.5
    lambda_area: float = 2.5

    RANGES: ClassVar[Ranges] = {**MethodConfig.RANGES, "classifier_share": (0, 0.99), "lambda_area": (0, 1e3)}
    OF_TRAINING: ClassVar[frozenset[str]] = MethodConfig.OF_TRAINING | {"classifier_share", "lambda_area"}


class GCNetOutput(NamedTuple):
    """What one forward pass gives.

    Attributes:
        ellipse: ``(B, 5)`` in (0, 1): centre x and y, side lengths w and h in shares of the input, and θ.
        mask: ``(B, H, W)`` in (0, 1), of the ellipse at feature resolution.
        logits: ``(B, L)`` class scores of the whole image.
        object_logits: ``(B, L)`` class scores of the image in the mask; ``(0, L)`` but where the detector learns.
        background_logits: Likewise of the image around it.
    """

    ellipse: Tensor
    mask: Tensor
    logits: Tensor
    object_logits: Tensor
    background_logits: Tensor


class GCNet(Method):
    """A classifier, and a detector of one ellipse that it teaches; arguments are those of :class:`famcli_models.CAM`.

    Attributes:
        localizer: The detector's trunk, which starts from the weights of the backbone.
        detector: Its averaged features to the five numbers of the ellipse.
        sharpness: s, how steep the mask's edge is.
    """

    config_class = GCNetConfig
    title = "GC-Net"
    map_title = "ellipse masks"
    needs_images = True
    gives_boxes = True
    learns_in_stages = True
    trunks = ("backbone", "localizer")
    config: GCNetConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.localizer = copy.deepcopy(self.backbone)
        self.detector = nn.Linear(self.channels, 5)
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS))
        self.classifier = nn.Linear(self.channels, self.config.num_classes)
        self.learns_detector = True

    @classmethod
    def from_backbone(
        cls, config: MethodConfig, weights: str | BackboneWeights = "imagenet", class_names: Sequence[str] | None = None
    ) -> Self:
        """See :meth:`Method.from_backbone`."""
        model = super().from_backbone(config, weights, class_names)
        return _checked(model, model.provenance.get("classifier") == "pretrained")

    @classmethod
    def from_trained(
        cls,
        config: MethodConfig,
        model: Method,
        class_names: Sequence[str] | None = None,
        stated: Collection[str] = (),
    ) -> Self:
        """See :meth:`Method.from_trained`."""
        new = super().from_trained(config, model, class_names, stated)
        same = new.class_names == model.class_names and new.head_width == model.head_width
        return _checked(new, same and new.classifier.weight.shape == model.classifier.weight.shape)

    def begin_step(self, step: int, steps: int) -> None:
        """Train the classifier alone in the first of the steps, and the detector alone in the others."""
        self.learns_detector = step >= self.config.classifier_share * steps

    def forward(self, images: Tensor, labels: Tensor | None = None) -> GCNetOutput:
        """See :meth:`Method.forward`; in training what the loss needs of the classifier or of the detector alone."""
        if not self.training:
            return super().forward(images, labels)  # type: ignore[no-any-return]
        self.backbone.train(not self.learns_detector)
        if not self.learns_detector:
            with torch.no_grad():
                X = self.localizer(images).X
            features: Features = self.backbone(images)
            return self.head(features._replace(tapped=(X,)))
        with torch.no_grad():
            features = self.backbone(images)
        out = self.head(features._replace(tapped=(self.localizer(images).X,)))
        mask = ellipse_mask(out.ellipse, self.sharpness, (images.shape[-2], images.shape[-1]))[:, None]
        # The mean colour is 0 in normalised images, so this is what fills the rest.
        masked = torch.cat([images * mask, images * (1 - mask)])
        X = run_constant(self.backbone, masked).X
        scores = F.linear(X.mean(dim=(2, 3)), self.classifier.weight.detach(), self.classifier.bias.detach())
        of_object, of_background = scores.chunk(2)
        return out._replace(logits=out.logits.detach(), object_logits=of_object, background_logits=of_background)

    def head(self, features: Features, labels: Tensor | None = None) -> GCNetOutput:
        """Everything behind the trunks."""
        del labels
        X, of_detector = features.X, features.tapped[-1]
        ellipse = self.detector(of_detector.mean(dim=(2, 3))).sigmoid()
        mask = ellipse_mask(ellipse, self.sharpness, (X.shape[-2], X.shape[-1]))
        logits = self.classifier(X.mean(dim=(2, 3)))
        return GCNetOutput(ellipse, mask, logits, logits[:0], logits[:0])

    def maps(self, output: GCNetOutput, labels: Tensor | None = None) -> Tensor:
        """The masks ``(B, H, W)``, of no class."""
        del labels
        return output.mask

    def boxes(self, output: GCNetOutput) -> Tensor:
        """The boxes ``(B, 4)`` of the ellipses, cut to the image."""
        return ellipse_box(output.ellipse).clamp(0, 1)

    def loss(self, output: GCNetOutput, batch: Batch) -> Losses:
        """The cross entropy of the classes, or L_obj + L_back + λ L_area."""
        if not len(output.object_logits):
            cla = classification_loss(output.logits, batch.labels, batch.class_weight)
            return Losses(cla, {"cla": cla, **dict.fromkeys(("obj", "back", "area"), torch.zeros_like(cla))})
        obj = classification_loss(output.object_logits, batch.labels, batch.class_weight)
        back, area = background_loss(output.background_logits), area_loss(output.ellipse)
        total = obj + back + self.config.lambda_area * area
        with torch.no_grad():
            cla = classification_loss(output.logits, batch.labels, batch.class_weight)
        return Losses(total, {"cla": cla, "obj": obj, "back": back, "area": area})

    def term_weights(self) -> dict[str, float]:
        """Those of the detector, which is what training ends with."""
        return {"cla": 0.0, "obj": 1.0, "back": 1.0, "area": self.config.lambda_area}

    def measures(self, output: GCNetOutput, labels: Tensor) -> dict[str, Tensor]:
        """What every method logs, and the share of steps in which the detector learnt."""
        learnt = output.logits.new_tensor(float(len(output.object_logits) > 0))
        return {**super().measures(output, labels), "detector": learnt}

    def collapsed(self, measures: Mapping[str, float]) -> bool:
        """Whether an epoch's masks say nothing: until the detector learns in all of its steps they do not."""
        return measures["detector"] < 1 or super().collapsed(measures)


Model = TypeVar("Model", bound=GCNet)


def _checked(model: Model, known: bool) -> Model:
    """The model, if its classifier is known or will be trained."""
    if not known and model.config.classifier_share == 0:
        raise ConfigError(
            "with classifier_share=0 the classifier is never trained, and these weights have none of these classes "
            "behind the mean of X: start from a CAM run of the same data (--init RUN), or leave classifier_share"
        )
    return model


def ellipse_mask(ellipse: Tensor, sharpness: Tensor | float, size_hw: tuple[int, int]) -> Tensor:
    """Draw ellipses ``(B, 5)``, see :class:`GCNetOutput`, on a grid over the input: ``(B, h, w)`` in (0, 1).

    A cell has the value at its centre, ``0.5 - atan(s (q - 1)) / π``, where q is 1 on the edge and grows outwards.
    """
    h, w = size_hw
    y, x = ((ellipse.new_ones(n).cumsum(0) - 0.5) / n for n in (h, w))  # not arange, which no graph may have
    cx, cy, a, b, cos, sin = (number[:, None, None] for number in _axes(ellipse))
    dx, dy = x - cx, y[:, None] - cy
    along, across = dx * cos + dy * sin, dx * sin - dy * cos
    q = (along / a.clamp(min=SMALLEST)) ** 2 + (across / b.clamp(min=SMALLEST)) ** 2
    return 0.5 - torch.atan(sharpness * (q - 1)) / math.pi


def ellipse_box(ellipse: Tensor) -> Tensor:
    """The tight boxes ``(B, 4)`` around ellipses ``(B, 5)``: half-open xyxy, in the shares of the ellipses."""
    cx, cy, a, b, cos, sin = _axes(ellipse)
    half_w = ((a * cos) ** 2 + (b * sin) ** 2).sqrt()
    half_h = ((a * sin) ** 2 + (b * cos) ** 2).sqrt()
    return torch.stack([cx - half_w, cy - half_h, cx + half_w, cy + half_h], dim=1)


def _axes(ellipse: Tensor) -> tuple[Tensor, ...]:
    """Centre, half axes a and b, cosine and sine of the angle, ``(B,)`` each."""
    cx, cy, w, h, theta = ellipse.unbind(dim=1)
    angle = math.pi * (theta - 0.5)
    return cx, cy, w / 2, h / 2, angle.cos(), angle.sin()


def background_loss(logits: Tensor) -> Tensor:
    """L_back of class scores ``(B, L)``: ln L less their entropy, 0 where nothing is said of the class."""
    log_p = logits.log_softmax(dim=1)
    return math.log(logits.shape[1]) + (log_p.exp() * log_p).sum(dim=1).mean()


def area_loss(ellipse: Tensor) -> Tensor:
    """L_area: the mean of w h, the area of the box that the ellipse would have unturned."""
    return (ellipse[:, 2] * ellipse[:, 3]).mean()
