"""The networks that ``fam export`` writes: pixels in, maps, class scores and perhaps boxes out.

Normalisation is inside, so that a runtime needs no code of ours. The box is found with tensor operations alone, in the
frame of the input: tracers cannot follow OpenCV.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same_arg
from torch import Tensor, nn

from famcli.checkpoints.reference import reference_images
from famcli.inference.engine import UNKNOWN
from famcli_models.checkpoint import WEIGHTS_FILE
from famcli_models.errors import ConfigError
from famcli_models.fusion import fold_norms, norm_pairs
from famcli_models.graph import IMAGES, LABELS, OPSETS, GraphFacts, MapFacts
from famcli_models.methods import METHODS
from famcli_models.methods.method import Method
from famcli_models.preprocess import normalize

MAX_SIDE = 16_384  # pixels: four times the largest input of a config
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


def mean_inside(M: Tensor, side: int, boxes: Tensor) -> Tensor:
    """Mean ``(B,)`` of each enlarged map ``(B, 1, H, W)`` over the pixels whose centre its box ``(B, 4)`` holds."""
    full = F.interpolate(M, size=(side, side), mode="bilinear", align_corners=False)[:, 0]
    centres = (torch.arange(side, dtype=torch.float32, device=M.device) + 0.5) / side
    x0, y0, x1, y1 = boxes[..., None].unbind(dim=1)  # (B, 1) each
    columns, rows = ((low <= centres) & (centres < high) for low, high in ((x0, x1), (y0, y1)))
    inside = (rows[:, :, None] & columns[:, None, :]).to(torch.float32)
    return (full * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp(min=1)


class Graph(nn.Module):
    """A copy of a model on the CPU with normalisation and, given a threshold, boxes inside."""

    def __init__(self, model: Method, tau: float | None = None) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval()
        for name in model.trunks:
            self.model.set_submodule(name, fold_norms(model.get_submodule(name)))
        self.side = model.config.size
        self.tau = tau
        self.outputs = OUTPUTS if tau is None else BOX_OUTPUTS  # names, in order

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images ``(B, side, side, 3)`` uint8 RGB to the outputs, in the order of their names."""
        out = self.model.head(self.model.features(normalize(images, self.model.config.mean, self.model.config.std)))
        M = self.model.maps(out)[:, None]
        results = (M, self.model.probabilities(out))
        if self.tau is None:
            return results
        boxes = self.model.boxes(out)
        found = largest_box(M, self.side, self.tau) if boxes is None else (boxes, mean_inside(M, self.side, boxes))
        return (*results, *found)


class MapsGraph(nn.Module):
    """What ``graph.onnx`` of a checkpoint gives: maps, class scores and parts of a model on the CPU.

    And those of each other method whose map its features give without training; they share backbone and classifier.
    """

    def __init__(self, model: Method) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval()
        self.norms: tuple[tuple[str, str, float], ...] = ()
        for name in model.trunks:
            trunk = self.model.get_submodule(name)
            folded = fold_norms(trunk)
            self.norms += () if folded is trunk else tuple(_norms(name, trunk))
            self.model.set_submodule(name, folded)
            _fix_padding(folded, model.config.size)
        # No submodules: their tensors are those of the model, by whose names the graph asks for them.
        self.methods = {model.name(): self.model}
        for name, other in METHODS.items():
            if other.fitted_to_images:  # which no checkpoint can hold
                continue
            with suppress(ConfigError):  # there is none without training
                self.methods.setdefault(name, other.from_model(self.model))
        self.facts = {name: _facts(method) for name, method in self.methods.items()}
        self.outputs = [f"{name}.{kind}" for name, facts in self.facts.items() for kind in facts.outputs]

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """Images ``(B, side, side, 3)`` uint8 RGB and labels ``(B,)`` to the outputs; -1 is the most probable class."""
        config, results = self.model.config, []
        features = self.model.features(normalize(images, config.mean, config.std))
        for method in self.methods.values():
            out = method.head(features, labels)
            results += [method.maps(out, labels), out.logits, *(method.parts(out) or ())]
            results += [boxes] if (boxes := method.boxes(out)) is not None else []
        return tuple(results)


def make_graph(model: Method) -> tuple[bytes, GraphFacts]:
    """The bytes of a model's ``graph.onnx``, and what is to be known of it; what torch raises is given on.

    It takes every multiple of the stride as input size, or that of the model alone where torch cannot export so much.
    """
    network, config = MapsGraph(model).eval().requires_grad_(requires_grad=False), model.config
    example = torch.from_numpy(reference_images(config.size)[:2]), torch.tensor([UNKNOWN, 0])
    batch = torch.export.Dim("batch", min=1)
    side, fixed = config.stride * torch.export.Dim("cells", min=2, max=MAX_SIDE // config.stride), False
    try:
        program = torch.export.export(network, example, dynamic_shapes=({0: batch, 1: side, 2: side}, {0: batch}))
    except Exception:  # noqa: BLE001  (each network fails in its own way)
        fixed = True
        program = torch.export.export(network, example, dynamic_shapes=({0: batch}, {0: batch}))
    made: Any = torch.onnx.export(
        program,
        opset_version=OPSETS[0],
        input_names=[IMAGES, LABELS],
        output_names=network.outputs,
        dynamo=True,
        verbose=False,
        optimize=False,
    )
    proto = _without_weights(made, {*dict(network.named_parameters()), *dict(network.named_buffers())})
    used = {name for node in proto.graph.node for name in node.input}
    floating = [name for name, tensor in model.state_dict().items() if tensor.is_floating_point()]
    folded = {norm for _, norm, _ in network.norms}
    unused = tuple(n for n in floating if n not in used and n.rpartition(".")[0] not in folded)
    data = proto.SerializeToString()
    side_only = config.size if fixed else None
    return data, GraphFacts(hashlib.sha256(data).hexdigest(), network.facts, network.norms, unused, side_only)


def _without_weights(made: Any, names: set[str]) -> Any:
    """An exported program as ONNX whose weights are references by their names in the state of the model."""
    from onnx import TensorProto
    from onnxscript import optimizer

    graph = made.model.graph
    weights = {name: graph.initializers.pop(name) for name in list(graph.initializers) if name in names}
    for name, value in weights.items():  # as inputs, so that nothing is computed from their values
        value.const_value, value.name = None, name.removeprefix("model.")
        graph.inputs.append(value)
    optimizer.optimize(made.model)
    proto = made.model_proto
    used = {name for node in proto.graph.node for name in node.input}
    for put in [put for put in proto.graph.input if put.name not in {IMAGES, LABELS}]:
        proto.graph.input.remove(put)
        if put.name in used:
            dims = [dim.dim_value for dim in put.type.tensor_type.shape.dim]
            reference = proto.graph.initializer.add(name=put.name, dims=dims, data_type=TensorProto.FLOAT)
            reference.data_location = TensorProto.EXTERNAL
            reference.external_data.add(key="location", value=WEIGHTS_FILE)
    parts = proto.graph.node, proto.graph.input, proto.graph.output, proto.graph.initializer
    for part in (proto, proto.graph, *itertools.chain(*parts)):
        part.ClearField("doc_string")  # they say on which machine and from which files it was made
        part.ClearField("metadata_props")
    proto.graph.ClearField("value_info")
    return proto


def _norms(name: str, trunk: nn.Module) -> Iterator[tuple[str, str, float]]:
    for conv, norm in norm_pairs(trunk):
        yield f"{name}.{conv}", f"{name}.{norm}", float(trunk.get_submodule(norm).eps)  # type: ignore[arg-type]


def _facts(method: Method) -> MapFacts:
    config = method.config
    kinds = method.title, method.map_title, method.class_conditional, method.rescaled
    return MapFacts(*kinds, method.num_parts, config.tau, config.box_score, method.gives_boxes)


def _fix_padding(backbone: nn.Module, side: int) -> None:
    """Give TensorFlow's padding, which timm computes from each image, its numbers: they are those of all even sizes.

    Sides are multiples of the stride, so that every map up to X is even where a stride halves it.
    """

    def fix(conv: Any, args: tuple[Tensor]) -> None:
        pads = pad_same_arg(list(args[0].shape[-2:]), conv.kernel_size, conv.stride, conv.dilation)
        settings = conv.stride, 0, conv.dilation, conv.groups
        conv.forward = lambda x: F.conv2d(F.pad(x, pads), conv.weight, conv.bias, *settings)

    hooks = [m.register_forward_pre_hook(fix) for m in backbone.modules() if isinstance(m, Conv2dSame)]
    with torch.inference_mode():
        backbone(torch.zeros(1, 3, side, side))
    for hook in hooks:
        hook.remove()
