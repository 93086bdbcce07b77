"""The interface of a method: its config, network, loss and map, and the checkpoint folder it is kept in.

Everything outside this folder works on a :class:`Method` and never asks which one it is.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call

from famcli_models.backbones import Backbone, Layers
from famcli_models.checkpoint import GRAPH, REFERENCE, Checkpoint, read_checkpoint, resolve, write_checkpoint
from famcli_models.class_names import Matches, are_ilsvrc, are_numbers
from famcli_models.config import MethodConfig
from famcli_models.errors import ConfigError, ShapeError, WeightsError
from famcli_models.features import Features
from famcli_models.localization import CONSTANT
from famcli_models.losses import Losses, classification_loss
from famcli_models.preprocess import normalize, resize
from famcli_models.pretrained import BackboneWeights, load_trunk, read_backbone_weights

if TYPE_CHECKING:
    from typing_extensions import Self

BACKBONE_TRAINING = "backbone_training"  # in the provenance: whether the backbone was trained; absent, it was not
FLAT = 0.02  # a map whose standard deviation stays below this separates nothing
FEW, MANY = 0.01, 0.95  # shares of foreground below and above which a map says nothing


class Output(Protocol):
    """What a method's head gives: a named tuple of tensors, the class scores among them."""

    @property
    def logits(self) -> Tensor:
        """``(B, L)`` class scores before the softmax."""


class Batch(NamedTuple):
    """What a loss may use beside the output of the network.

    Attributes:
        labels: ``(B,)`` class indices, or ``(B, L)`` probabilities where :meth:`Method.augment` mixed images.
        class_weight: ``(L,)``, see :func:`famcli_models.losses.balanced_class_weight`; or none.
        step: Steps of the optimizer before this one.
        steps: Steps of the whole training.
        boxes: ``(B, 4)`` of :meth:`Method.first_stage`, half-open xyxy in shares of the view; or none.
    """

    labels: Tensor
    class_weight: Tensor | None = None
    step: int = 0
    steps: int = 1
    boxes: Tensor | None = None


class TrainingImages(Protocol):
    """The images of a training, as a first stage over them reads them."""

    @property
    def labels(self) -> Tensor:
        """``(n,)`` the class of each."""

    def features(self, numbers: Sequence[int], side: int) -> Iterator[Tensor | None]:
        """X ``(C, H, W)`` of the images of these numbers, in order, by the backbone as training starts from it.

        The whole image is resized to ``side`` pixels. There is none of an image that cannot be read.
        """


class Method(nn.Module):
    """A network trained on image labels that gives the class of an image and a map of the object.

    A new method is one file in this folder with a subclass, its config and its output, and one row in
    :data:`famcli_models.METHODS`.

    Args:
        config: Every choice.
        class_names: One name a class; by default the class numbers.
        provenance: What the weights came from, kept in the checkpoint.
        backbone: A module that maps images to :class:`Features`, with an attribute ``channels`` (and
            ``earlier_channels``, if the features have earlier maps), instead of ``config.backbone``; such a model
            cannot be loaded back by name.

    Attributes:
        config_class: The method's own config.
        title: The method's name in tables and messages.
        map_title: What its maps are called.
        class_conditional: The map depends on the class that is asked for.
        learns_map: The values of the map are learnt, so that it can be drawn to targets and how much of it passes τ
            tells how training went; a map that is min-max scaled image by image is not.
        rescaled: The map is min-max scaled image by image, and so is the mean of the maps of several views.
        reads: Layers of the backbone that the head reads beside X.
        needs_images: Training changes images or layers of the backbone, so that features cannot be computed once.
        pairs: Training batches are of pairs of images of one class, one after the other.
        gives_boxes: :meth:`boxes` gives a box for each image, beside the map, which is then a picture of it.
        learns_boxes: A first stage over the training images, :meth:`first_stage`, gives boxes that it learns from.
        fitted_to_images: Its maps need a pass over images before, :meth:`fit`, and there is nothing to train.
        learns_in_stages: Some parameters have no gradient in some steps, see :meth:`begin_step`.
        trunks: Names of the submodules that are trained as the backbone is, ``backbone`` first. Each is a network that
            maps images to features, and has its weights where a new model gets those of the backbone; X of the others
            comes last in ``Features.tapped``.
        channels: C.
        classifier: The linear layer that pretrained weights of the backbone may fill, ``(B, C)`` to ``(B, L)``.

    Raises:
        ConfigError: The config is of another method, or the names are not as many as its classes.
    """

    config_class: ClassVar[type[MethodConfig]]
    title: ClassVar[str]
    map_title: ClassVar[str]
    class_conditional: ClassVar[bool] = False
    learns_map: ClassVar[bool] = True
    rescaled: ClassVar[bool] = False
    reads: ClassVar[Layers | None] = None
    needs_images: ClassVar[bool] = False
    pairs: ClassVar[bool] = False
    gives_boxes: ClassVar[bool] = False
    learns_in_stages: ClassVar[bool] = False
    learns_boxes: ClassVar[bool] = False
    fitted_to_images: ClassVar[bool] = False
    trunks: ClassVar[tuple[str, ...]] = ("backbone",)
    config: MethodConfig
    classifier: nn.Linear

    def __init__(
        self,
        config: MethodConfig | None = None,
        class_names: Sequence[str] | None = None,
        provenance: Mapping[str, Any] | None = None,
        *,
        backbone: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config = config or self.config_class()
        if not isinstance(config, self.config_class):
            msg = f"a {type(self).__name__} is made from a {self.config_class.__name__}, not {type(config).__name__}"
            raise ConfigError(msg)
        self.class_names = tuple(class_names) if class_names else tuple(str(i) for i in range(config.num_classes))
        if len(self.class_names) != config.num_classes:
            raise ConfigError(f"{len(self.class_names)} class names for {config.num_classes} classes")
        self.provenance: dict[str, Any] = dict(provenance or {})
        self.backbone = backbone or Backbone(
            config.backbone,
            config.stride,
            dilation=config.dilation,
            same_padding=config.same_padding,
            frozen_norm=config.frozen_norm,
            head=config.backbone_head,
            earlier=self.reads_earlier,
            tapped=self.reads,
        )
        self.channels = int(self.backbone.channels)  # type: ignore[arg-type]  # nn.Module types it as Tensor | Module

    @classmethod
    def name(cls) -> str:
        """The method's name in configs and commands."""
        return str(next(f.default for f in fields(cls.config_class) if f.name == "method"))

    # The network.

    @property
    def reads_earlier(self) -> int:
        """The head reads maps of earlier layers beside X, down to this fraction of its stride; 0 if none."""
        return 0

    @property
    def earlier_channels(self) -> tuple[int, ...]:
        """Channels of the earlier maps that the backbone gives beside X."""
        return tuple(self.backbone.earlier_channels)  # type: ignore[arg-type]  # likewise

    @property
    def head_width(self) -> int:
        """Channels of what the classifier sees, where these are not X's own; else 0."""
        return 0

    def features(self, images: Tensor) -> Features:
        """Features of all trunks: normalised images ``(B, 3, h, w)`` to X ``(B, C, H, W)`` and what goes with it."""
        return run_trunks([self.get_submodule(name) for name in self.trunks], images)

    def head(self, features: Features, labels: Tensor | None = None) -> Any:
        """Everything behind the backbone.

        Args:
            features: Of the backbone.
            labels: ``(B,)``, for methods that erase or mask what a class responds to: those of the images in training,
                and else the classes whose maps will be asked for, -1 for the most probable; or none.

        Returns:
            The method's :class:`Output`.
        """
        raise NotImplementedError

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Any:
        """Localize and classify a batch.

        Args:
            images: ``(B, 3, h, w)`` as :meth:`preprocess` makes them; any height and width, the map's frame is the
                input's.
            labels: See :meth:`head`.

        Returns:
            What ``head`` gives.

        Raises:
            ShapeError: ``images`` is not a batch of three-channel images.
        """
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if images.ndim != 4 or (not tracing and images.shape[1] != 3):
            raise ShapeError(f"images have shape {tuple(images.shape)}; expected (B, 3, h, w)")
        return self.head(self.features(images), labels)

    def preprocess(self, image: Image.Image | npt.NDArray[np.uint8]) -> Tensor:
        """One RGB image as model input ``(1, 3, size, size)`` on the model's device.

        Args:
            image: A Pillow image in mode RGB, or ``(h, w, 3)`` uint8.
        """
        picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        pixels = torch.from_numpy(resize(picture, self.config.size)[None].copy())
        return normalize(pixels.to(self.classifier.weight.device), self.config.mean, self.config.std)

    # The map.

    def maps(self, output: Any, labels: Tensor | None = None) -> Tensor:
        """The map of each image.

        Args:
            output: Of :meth:`head`.
            labels: ``(B,)`` the class wanted for each image; a method whose map depends on no class takes no notice,
                and for the others the most probable class is the default.

        Returns:
            ``(B, h, w)`` in [0, 1] at feature resolution, in the frame of the input.
        """
        raise NotImplementedError

    def boxes(self, output: Any) -> Tensor | None:
        """Boxes ``(B, 4)``, half-open xyxy in shares of the input's sides, of a method that gives them; or none."""
        del output
        return None

    def probabilities(self, output: Any) -> Tensor:
        """``(B, L)`` softmax of the class scores at the model's temperature."""
        return torch.softmax(output.logits / self.config.temperature, dim=1)

    @property
    def num_parts(self) -> int:
        """K, the number of parts that :meth:`parts` gives; 0 for a method without."""
        return 0

    def parts(self, output: Any) -> tuple[Tensor, Tensor] | None:
        """Part maps ``(B, K, h, w)`` in [0, 1] and their weights ``(B, K)``, or none."""
        del output
        return None

    def fit(self, output: Any, labels: Tensor) -> None:
        """Add a batch to the images that the maps are fitted to, of a method with ``fitted_to_images``.

        Args:
            output: Of :meth:`head`.
            labels: ``(B,)`` the class of each image, -1 for the most probable.
        """

    # Training.

    def first_stage(self, images: TrainingImages) -> Tensor:
        """Boxes ``(n, 4)`` of all training images to learn from, half-open xyxy in shares of the whole images.

        Asked of a method with ``learns_boxes`` before its training, of the model as it starts.
        """
        raise NotImplementedError

    def begin_training(self) -> None:
        """Set what training starts from; called once, after the seed is set, and not when a run is resumed."""

    def begin_step(self, step: int, steps: int) -> None:
        """Prepare for a step of so many, counted from 0; for methods that train in stages."""

    def augment(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Change a training batch, as HaS and CutMix do; random numbers come from torch's seeded generator.

        Args:
            images: ``(B, 3, h, w)`` normalised.
            labels: ``(B,)``.

        Returns:
            Images of the same shape, and labels ``(B,)`` or probabilities ``(B, L)``.
        """
        return images, labels

    def loss(self, output: Any, batch: Batch) -> Losses:
        """What is minimised; the default is the cross entropy of the classes."""
        cla = classification_loss(output.logits, batch.labels, batch.class_weight)
        return Losses(cla, {"cla": cla})

    def term_weights(self) -> dict[str, float]:
        """The weight of each of the loss's terms in its total, at the end of training; 0 for one that is off."""
        return {"cla": 1.0}

    def measures(self, output: Any, labels: Tensor) -> dict[str, Tensor]:
        """Scalars that are logged beside the loss: foreground share, spread of the map, accuracy, and what is added.

        Args:
            output: Of :meth:`head`.
            labels: ``(B,)``.
        """
        M = self.maps(output).flatten(1)
        return {
            "foreground": M.gt(self.config.tau).float().mean(),  # share of cells above τ
            "spread": M.std(dim=1, correction=0).mean(),  # standard deviation within an image
            "top1": (output.logits.argmax(dim=1) == labels).float().mean(),
        }

    def collapsed(self, measures: Mapping[str, float]) -> bool:
        """Whether the means of an epoch say that the map separates nothing."""
        share = not self.learns_map or FEW <= measures["foreground"] <= MANY
        return measures["spread"] < FLAT or not share

    def warnings(self, measures: Mapping[str, float]) -> list[str]:
        """What is wrong with the means of an epoch and what to change, one sentence each."""
        if measures["spread"] < FLAT:
            spread = measures["spread"]
            return [f"the maps are flat (standard deviation {spread:.4f}): the features have no pattern left"]
        if not FEW <= measures["foreground"] <= MANY:
            return [f"{measures['foreground']:.1%} of the cells of the maps pass the threshold; set another tau"]
        return []

    # Making, loading and saving.

    @classmethod
    def from_model(cls, model: Method) -> Method:
        """This method's map of another method's trained model, whose parts it shares; a model of its own is kept.

        Raises:
            ConfigError: There is none without training.
        """
        if type(model) is cls:
            return model
        own = type(model).title
        raise ConfigError(f"a {own} has no map of {cls.title}; leave out --method {cls.name()}, or train one with it")

    @classmethod
    def from_backbone(
        cls,
        config: MethodConfig,
        weights: str | BackboneWeights = "imagenet",
        class_names: Sequence[str] | None = None,
    ) -> Self:
        """A new model on a pretrained backbone; its classifier too where the classes are the same.

        Weights have no names of classes. Those from the Hub are ILSVRC's; others go by number.

        Args:
            config: The model; its normalisation and padding are replaced by those of the weights.
            weights: ``imagenet``, ``none``, the path of a safetensors file, or weights read before.
            class_names: One name a class.

        Raises:
            WeightsError: The weights cannot be read or do not fit.
        """
        if weights == "none":
            return cls(config, class_names, {"backbone_weights": "none"})
        of_ilsvrc = weights == "imagenet"
        if isinstance(weights, str):
            weights = read_backbone_weights(config.backbone, weights)
        config = replace(config, mean=weights.mean, std=weights.std, same_padding=weights.same_padding)
        provenance = {"backbone_weights": weights.source, "backbone_sha256": weights.sha256}
        model = cls(config, class_names, provenance)
        for name in cls.trunks:
            load_trunk(model.get_submodule(name), weights)  # type: ignore[arg-type]
        known = weights.classifier if model.head_width == 0 and model.backbone.for_classifier else None
        same = not of_ilsvrc or are_numbers(model.class_names) or are_ilsvrc(model.class_names)
        if known is not None and known[0].shape == model.classifier.weight.shape and same:
            with torch.no_grad():
                model.classifier.weight.copy_(known[0])
                model.classifier.bias.copy_(known[1])
            model.provenance["classifier"] = "pretrained"
        return model

    @classmethod
    def from_trained(
        cls,
        config: MethodConfig,
        model: Method,
        class_names: Sequence[str] | None = None,
        stated: Collection[str] = (),
    ) -> Self:
        """A new model that starts from the weights of a trained one, of these or other classes.

        The backbone is taken over, and of the same method everything up to the classifier, whose rows go by the names
        of the classes; those of new classes start at random.

        Args:
            config: The model; the shape of its network, its input and its threshold are replaced by those of ``model``.
            model: Where the weights come from.
            class_names: One name a class.
            stated: Fields of ``config`` that are kept nevertheless.

        Raises:
            WeightsError: With the fields that are kept the weights do not fit.
        """
        of_the_map = set() if isinstance(model, cls) else {"tau", "box_score"}
        kept = cls.config_class.OF_TRAINING | set(stated) | of_the_map
        shared = {f.name for f in fields(config)} & {f.name for f in fields(model.config)} - kept
        taken = {name: getattr(model.config, name) for name in shared}
        if isinstance(model, cls):  # its weights are not drawn
            unused = cls.config_class.OF_RANDOM_START - set(stated)
            taken |= {f.name: f.default for f in fields(config) if f.name in unused}
        new = cls(replace(config, **taken), class_names)
        state, rows = new.state_dict(), _rows_of(model.class_names, new.class_names)
        given, same_features = model.state_dict(), new.head_width == model.head_width
        for trunk in cls.trunks[len(model.trunks) :]:
            given |= {n.replace("backbone", trunk, 1): t for n, t in given.items() if n.startswith("backbone.")}
        for name, tensor in given.items():
            if name.startswith("classifier."):  # of one or more rows for a class
                own = state[name].unflatten(0, (-1, len(new.class_names)))
                other = tensor.unflatten(0, (-1, len(model.class_names)))
                if own[:, 0].shape == other[:, 0].shape and same_features:
                    own[:, list(rows)] = other[:, list(rows.values())]
            elif name in state and state[name].shape == tensor.shape:
                state[name] = tensor
            elif name.split(".")[0] in cls.trunks:
                own, other = new.config.backbone, model.config.backbone
                raise WeightsError(f"the weights of a model with backbone '{other}' do not fit '{own}' ({name})")
        new.load_state_dict(state)
        origin = model.provenance
        if origin.get("classifier") == "pretrained" and len(rows) == len(new.class_names) and same_features:
            new.provenance["classifier"] = "pretrained"
        new.provenance |= {key: origin[key] for key in (BACKBONE_TRAINING, "tuned_on_test") if key in origin}
        return new

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str]) -> Self:
        """A trained model in evaluation mode, on the CPU, in float32.

        Args:
            name_or_path: The name of a packaged checkpoint, or the path of a checkpoint folder.

        Raises:
            UnknownNameError: It is neither.
            WeightsError: The folder is damaged, its config and weights do not belong together, or it is of
                another method.
            ConfigError: The config has unknown fields or values out of range.
        """
        folder = resolve(name_or_path)
        stored = read_checkpoint(folder)
        name = cls.name()
        if stored.method != name:
            msg = f"'{folder}' is a checkpoint of '{stored.method}', not of '{name}'; famcli_models.load_model reads it"
            raise WeightsError(msg)
        model = cls(cls.config_class.from_dict(stored.config), stored.class_names, stored.provenance)
        expected = model.state_dict()
        wrong = sorted(expected.keys() ^ stored.tensors.keys()) or sorted(
            name for name, tensor in expected.items() if tensor.shape != stored.tensors[name].shape
        )
        if wrong:
            msg = f"config and weights of '{folder}' do not belong together: {len(wrong)} tensors, first {wrong[0]}"
            raise WeightsError(msg)
        model.load_state_dict(dict(stored.tensors), strict=True)
        return model.eval()

    def save_pretrained(self, path: str | os.PathLike[str], *, half: bool = False) -> None:
        """Write a self-describing checkpoint folder that :meth:`from_pretrained` reads back.

        Args:
            path: The folder; made if absent, its two files replaced if there.
            half: Store float16 (half the size) instead of float32 (exact).

        Raises:
            WeightsError: A weight is not finite, or too large for float16.
        """
        of_others = {REFERENCE, GRAPH}  # what is stored of the weights that were there before
        provenance = {name: value for name, value in self.provenance.items() if name not in of_others}
        kind = torch.float16 if half else torch.float32
        tensors = {name: t.to(kind) if t.is_floating_point() else t for name, t in self.state_dict().items()}
        odd = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
        if odd:
            msg = f"{odd[0]} has values that are not finite{' in float16' if half else ''}; nothing was saved"
            raise WeightsError(msg)
        write_checkpoint(Path(path), Checkpoint(self.config.to_dict(), self.class_names, provenance, tensors))


def run_trunks(trunks: Sequence[nn.Module], images: Tensor) -> Features:
    """Features of the first of some networks, and behind its tapped layers X of each of the others."""
    first: Features
    first, *others = (trunk(images) for trunk in trunks)
    return first._replace(tapped=(*first.tapped, *(other.X for other in others))) if others else first


def run_constant(trunk: nn.Module, images: Tensor) -> Features:
    """Features by a network whose weights are constants: gradients flow to the images and what is inserted alone."""
    constants = {name: tensor.detach() for name, tensor in trunk.named_parameters()}
    constants |= {name: tensor.clone() for name, tensor in trunk.named_buffers()}  # statistics stay as they are
    found: Features = functional_call(trunk, constants, (images,))
    return found


def _rows_of(known: Sequence[str], names: Sequence[str]) -> dict[int, int]:
    """Index of each name that is one of the known classes, and its index there."""
    places = Matches.from_names(names, known).places
    return {i: places[name] for i, name in enumerate(names) if name in places}


def wanted_classes(logits: Tensor, labels: Tensor | None) -> Tensor:
    """The class ``(B,)`` that each map is wanted of: its label, or the most probable where that is none or -1."""
    best = logits.argmax(dim=1)
    return best if labels is None else torch.where(labels < 0, best, labels)


def min_max(maps: Tensor) -> Tensor:
    """Scale each of the maps ``(B, H, W)`` to [0, 1]."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    span = high - low
    return torch.where(span < CONSTANT, 0.0, (maps - low) / span.clamp(min=CONSTANT))
