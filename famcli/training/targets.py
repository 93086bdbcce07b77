"""Extension: targets for M made from images and their labels alone.

The paper's losses leave open how large M should be (see the method page). These targets say where an object
of the labelled class plausibly ends, without any box: the class activation map of the label (Zhou 2016), carried
along to cells that look alike in the layer below, plus how unlike the picture's border each cell is, weighed by a
centre prior, and sharpened along colour edges by GrabCut (Rother 2004). They are made once, before training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from famcli.data.sample import Sample, read_sample
from famcli.inference.engine import all_finished, run_images
from famcli.inference.torch_engine import TorchEngine
from famcli_models.errors import ConfigError, DataError
from famcli_models.methods.cam import class_activation_maps
from famcli_models.methods.method import Method, min_max
from famcli_models.preprocess import resize

BATCH = 32
WALK_STEPS = 2  # steps along the affinities
AFFINITY_POWER = 2  # sharpens cosine similarities into affinities
BORDER_NEIGHBOURS = 10  # border cells that a cell is compared with
CENTRE_SIGMA = 0.7  # of the centre prior, in half sides of the picture
CUT = 0.475  # value of the fused map that separates object from background
GRABCUT_SIDE = 98  # pixels: seven for each cell of a 14x14 map
GRABCUT_ROUNDS = 3
SURE = 0.25  # GrabCut keeps pixels this far from 1/2, after the sigmoid, as they are
SLOPE = 6.0  # of that sigmoid


def make_targets(
    model: Method,
    samples: Sequence[Sample],
    device: str = "auto",
    workers: int = 2,
) -> list[np.ndarray]:
    """Targets of M for whole images.

    Args:
        model: A model whose backbone and classifier are pretrained on the samples' classes.
        samples: Images with labels.
        device: See :func:`famcli.inference.torch_engine.pick_device`.
        workers: Threads for decoding and GrabCut.

    Returns:
        For each sample a map ``(98, 98)`` float16 of the whole image in [0, 1].

    Raises:
        ConfigError: The method learns no map, or the classifier is not the backbone's own, so that it has no class
            activation maps.
    """
    refuse_without_map(model)
    if model.provenance.get("classifier") != "pretrained":
        msg = (
            "targets need class activation maps: start from backbone weights with a classifier of these classes, or "
            "take the targets from a trained model (teacher=fam-mobilenetv1-ilsvrc)"
        )
        raise ConfigError(msg)
    engine = TorchEngine(model, device, fold=False)
    layer = _LayerBelow(model)

    def infer(batch: Sequence[tuple[Sample, np.ndarray]]) -> np.ndarray:
        X = engine.features(np.stack([view for _, view in batch])).X
        with torch.inference_mode():
            below = F.adaptive_avg_pool2d(layer.output, (X.shape[-2], X.shape[-1]))  # on X's grid
            labels = torch.tensor([sample.label for sample, _ in batch], device=X.device)
            return np.asarray(fuse(X, below, model.classifier.weight[labels]).cpu().numpy())

    with layer:
        return all_finished(
            run_images(
                samples,
                lambda sample: whole_view(sample, model.config.size),
                infer,
                lambda _, view, fused: sharpen(view, fused),
                batch_size=BATCH,
                workers=max(1, workers),
            )
        )


def refuse_without_map(model: Method) -> None:
    """A method whose map is not learnt has nothing to be drawn to targets.

    Raises:
        ConfigError: It is such a method.
    """
    if not model.learns_map:
        msg = f"lambda_target draws a learnt map to targets, and {model.title} has none; set lambda_target=0"
        raise ConfigError(msg)


def whole_view(sample: Sample, size: int) -> np.ndarray:
    """The whole image; black if it cannot be read, for training replaces such an image and its target."""
    try:
        return resize(read_sample(sample, size).image, size)
    except DataError:
        return np.zeros((size, size, 3), np.uint8)


class _LayerBelow:
    """Keeps, while the context lasts, the last output of the stage before the one X comes from."""

    output: Tensor

    def __init__(self, model: Method) -> None:
        net: Any = model.backbone.net
        names = [stage["module"] for stage in net.feature_info.info]
        name = names[max(0, names.index(model.backbone.layer) - 1)]
        modules = dict(net.named_modules())
        self._module = modules.get(name) or modules[name.replace(".", "_")]

    def __enter__(self) -> None:
        self._handle = self._module.register_forward_hook(self._keep)

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _keep(self, _module: object, _inputs: object, output: Tensor) -> None:
        self.output = output


def fuse(X: Tensor, below: Tensor, weights: Tensor) -> Tensor:
    """Class activation map, affinities, border distance and centre prior in one map.

    Args:
        X: ``(B, C, H, W)``.
        below: ``(B, D, H, W)`` features of the stage below.
        weights: ``(B, C)`` classifier weights of the labels.

    Returns:
        ``(B, H, W)`` in [0, 1], min-max scaled per image.
    """
    B, _, H, W = X.shape
    cam = class_activation_maps(X, weights)
    cells = below.flatten(2).transpose(1, 2)  # (B, HW, D)
    centred = F.normalize(cells - cells.mean(dim=(0, 1)), dim=-1)
    affinity = (centred @ centred.transpose(1, 2)).clamp(min=0) ** AFFINITY_POWER  # (B, HW, HW)
    step = affinity / affinity.sum(dim=-1, keepdim=True)
    walked = cam.flatten(1)[..., None]
    for _ in range(WALK_STEPS):
        walked = step @ walked
    unit = F.normalize(cells, dim=-1)
    grid = unit.view(B, H, W, -1)
    border = torch.cat([grid[:, 0], grid[:, -1], grid[:, :, 0], grid[:, :, -1]], dim=1)
    likeness = (unit @ border.transpose(1, 2)).topk(BORDER_NEIGHBOURS, dim=-1).values.mean(dim=-1)
    fused = min_max(min_max(walked.view(B, H, W)) + cam + min_max(1 - likeness.view(B, H, W)))
    y, x = (torch.linspace(-1, 1, n, device=X.device) for n in (H, W))
    centre = torch.exp(-(y[:, None] ** 2 + x**2) / (4 * CENTRE_SIGMA**2))  # the root of a Gaussian
    return min_max(fused * centre)


def sharpen(view: np.ndarray, fused: np.ndarray) -> np.ndarray:
    """Cut a fused map ``(H, W)`` along the colour edges of its view ``(h, w, 3)``; ``(98, 98)`` float16."""
    large = cv2.resize(fused, (GRABCUT_SIDE, GRABCUT_SIDE), interpolation=cv2.INTER_LINEAR)
    return cut_along_edges(view, 1 / (1 + np.exp(-SLOPE * (large - CUT))))


def cut_along_edges(view: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """GrabCut of a view that starts from how likely each pixel is foreground.

    Args:
        view: ``(h, w, 3)`` uint8 RGB.
        soft: ``(98, 98)`` in [0, 1]; what is sure stays as it is.

    Returns:
        ``(98, 98)`` float16, 0 or 1.
    """
    small = cv2.resize(view, soft.shape[::-1], interpolation=cv2.INTER_AREA)[..., ::-1].copy()  # OpenCV wants BGR
    labels = np.where(soft > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[soft > 1 - SURE] = cv2.GC_FGD
    labels[soft < SURE] = cv2.GC_BGD
    if 0 < (soft > 0.5).sum() < soft.size:
        cv2.setRNGSeed(0)  # GrabCut starts with k-means
        rect: Any = None  # a mask stands in for it, which OpenCV's types do not know
        cv2.grabCut(small, labels, rect, np.zeros((1, 65)), np.zeros((1, 65)), GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    return ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.float16)
