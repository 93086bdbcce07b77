"""The ONNX graph of a checkpoint: its network for ONNX Runtime, without weights. Reading and checking need no torch.

``graph.onnx`` names its weights as the state of the model does, and has none of their values: whoever runs it gives
those of ``model.safetensors``, with the batch norms that were folded into convolutions when it was made folded again
here. What else is to be known of it is in the config's provenance: see :class:`GraphFacts`.
:mod:`famcli.checkpoints.graph` makes it.

A graph may come from anybody. What ONNX can say and a network of images does not need is refused by
:func:`check_graph`; the sizes of what it computes are the runtime's to bound.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError

from famcli_models.checkpoint import GRAPH, GRAPH_FILE, WEIGHTS_FILE, check_finite, read_bytes, read_shapes
from famcli_models.config import MethodConfig
from famcli_models.errors import WeightsError, short, shown

IMAGES, LABELS = "images", "labels"  # inputs: (B, side, side, 3) uint8 RGB; (B,) int64, -1 for the most probable class
# Outputs, behind the name of a method.
MAPS, SCORES, PARTS, PART_WEIGHTS, BOXES = "maps", "scores", "parts", "part_weights", "boxes"
MAX_GRAPH_BYTES = 16 * 2**20  # that of fam-mobilenetv1-ilsvrc has 24 kB
MAX_NODES = 20_000
MAX_CONSTANTS = 4 * 2**20  # bytes of all constants in it: shapes, means, and the zeros of absent biases
NOT_INSIDE = frozenset({"tau", "temperature", "box_score", "size"})  # settings of a model that no graph depends on
OPSETS = (18, 23)  # the oldest that torch writes; newer than the newest are not known to work
# What networks of images are made of. Nothing here reads files, loops, calls other graphs, draws random numbers, or
# makes a tensor of a size that is a number in another tensor, but Reshape, Expand and Resize, which the runtime bounds,
# and TopK, which gives no more than it gets.
OPERATORS = frozenset(
    "Abs Add And ArgMax Atan AveragePool BatchNormalization Cast CastLike Ceil Clip Concat Constant Conv Cos "  # noqa: SIM905
    "CumSum Div Einsum Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gelu Gemm "
    "GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity "
    "InstanceNormalization IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log MatMul Max MaxPool Mean Min "
    "Mish Mul Neg Not Or Pad Pow PRelu Reciprocal ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
    "ReduceSum Relu Reshape Resize Round ScatterElements Selu Shape Sigmoid Sign Sin Size Slice Softmax Softplus Split "
    "Sqrt Squeeze Sub Sum Tanh TopK Transpose Unsqueeze Where".split()
)


@dataclass(frozen=True, slots=True)
class MapFacts:
    """What is to be known of one method whose map a graph gives.

    Attributes:
        title: The method's name in tables and messages.
        map_title: What its maps are called.
        class_conditional: They depend on the class that is asked for.
        rescaled: They are min-max scaled image by image.
        num_parts: K, or 0.
        tau: The threshold of its config.
        box_score: Likewise.
        gives_boxes: It gives boxes too.
    """

    title: str
    map_title: str
    class_conditional: bool = False
    rescaled: bool = False
    num_parts: int = 0
    tau: float = 0.5
    box_score: tuple[float, ...] = ()
    gives_boxes: bool = False

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the graph gives of the method, in order."""
        parts = (PARTS, PART_WEIGHTS) if self.num_parts else ()
        return (MAPS, SCORES, *parts, *((BOXES,) if self.gives_boxes else ()))


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """What a checkpoint says of its graph.

    Attributes:
        sha256: Of ``graph.onnx``.
        methods: By name; the first is the checkpoint's own, the others share its features.
        norms: Of each batch norm that is folded: the name of its convolution, its own, and its epsilon.
        unused: Tensors of the weights that the graph has no use for.
        side: Its only input size; by default it takes every multiple of the model's stride, from two on.
        settings: Those of the model that it was made with, but for :data:`NOT_INSIDE`; older graphs have none.
    """

    sha256: str
    methods: Mapping[str, MapFacts]
    norms: tuple[tuple[str, str, float], ...] = field(default=(), repr=False)
    unused: tuple[str, ...] = ()
    side: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_provenance(cls, provenance: Mapping[str, Any]) -> GraphFacts | None:
        """Those in a checkpoint's provenance, if it has a graph; a WeightsError if they are damaged."""
        entry = provenance.get(GRAPH)
        if entry is None:
            return None
        try:
            methods = {str(name): MapFacts(**facts) for name, facts in entry["methods"].items()}
            pairs = [str(line).split() for line in entry["norms"]]
            norms = tuple((conv, norm, float(eps)) for conv, norm, eps in pairs)
            side = None if entry["side"] is None else int(entry["side"])
            unused, settings = tuple(map(str, entry["unused"])), dict(entry.get("settings", {}))
            return cls(str(entry["sha256"]), methods, norms, unused, side, settings)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            msg = f"what the config says of {GRAPH_FILE} is damaged: {type(error).__name__} ({short(str(error))})"
            raise WeightsError(msg) from error

    def to_dict(self) -> dict[str, Any]:
        """The JSON-able form; a line of text a batch norm."""
        return {**asdict(self), "norms": [f"{conv} {norm} {eps:g}" for conv, norm, eps in self.norms]}

    def takes(self, side: int, stride: int) -> bool:
        """Whether the graph takes images of a size."""
        return side == self.side if self.side is not None else side % stride == 0 and side >= 2 * stride


def read_graph(folder: Path, facts: GraphFacts, model: Mapping[str, Any]) -> bytes:
    """``graph.onnx`` of a checkpoint, if it is the file that the facts are of, made with the settings of ``model``.

    Else a ``WeightsError`` says what to do. ``model`` is that part of the ``config.json``.
    """
    path = folder / GRAPH_FILE
    again = f"get the files again, or make it anew with: fam export '{folder}' --format graph"
    for name, value in facts.settings.items():
        if model.get(name) != value:
            values = f"{short(name)} is {shown(model.get(name))}, and was {shown(value)}"
            raise WeightsError(f"the config of '{folder}' was changed since {GRAPH_FILE} was made: {values}; {again}")
    try:
        data = read_bytes(path, MAX_GRAPH_BYTES)
    except WeightsError as error:
        raise WeightsError(f"{error}; {again}") from error
    if (found := hashlib.sha256(data).hexdigest()) != facts.sha256:
        raise WeightsError(f"{path} has SHA-256 {found}, not {short(facts.sha256)} as the config states; {again}")
    return data


def weight_shapes(folder: Path, facts: GraphFacts) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights of :func:`graph_weights`, from the header of the file alone."""
    stored = read_shapes(folder / WEIGHTS_FILE)
    shapes = {n: shape for n, (dtype, shape) in stored.items() if dtype != "I64" and n not in facts.unused}
    for conv, norm, _ in facts.norms:
        shapes = {name: shape for name, shape in shapes.items() if name.rpartition(".")[0] != norm}
        shapes[f"{conv}.bias"] = shapes.get(f"{conv}.weight", ())[:1]
    return shapes


def graph_weights(folder: Path, facts: GraphFacts) -> dict[str, npt.NDArray[np.float32]]:
    """The weights that a graph asks for, by name: float32, batch norms folded; a WeightsError if they cannot be had."""
    from safetensors.numpy import load_file

    path = folder / WEIGHTS_FILE
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot read {path}: {error}") from error
    check_finite(path, {name: bool(np.isfinite(array).all()) for name, array in stored.items()})
    weights = {n: a.astype(np.float32) for n, a in stored.items() if a.dtype.kind == "f" and n not in facts.unused}
    try:
        for conv, norm, eps in facts.norms:  # as torch.nn.utils.fusion does
            mean, variance = weights.pop(f"{norm}.running_mean"), weights.pop(f"{norm}.running_var")
            gamma, beta = weights.pop(f"{norm}.weight", np.float32(1)), weights.pop(f"{norm}.bias", np.float32(0))
            with np.errstate(invalid="ignore", divide="ignore"):  # of a damaged file, see below
                scale = gamma / np.sqrt(variance + np.float32(eps))
            weights[f"{conv}.weight"] *= scale[:, None, None, None]
            weights[f"{conv}.bias"] = (weights.get(f"{conv}.bias", np.float32(0)) - mean) * scale + beta
    except (KeyError, ValueError, IndexError) as error:
        msg = f"{GRAPH_FILE} and weights of '{folder}' do not belong together: {short(str(error))}"
        raise WeightsError(msg) from error
    check_finite(path, {name: bool(np.isfinite(array).all()) for name, array in weights.items()})
    return weights


def check_graph(data: bytes, shapes: Mapping[str, tuple[int, ...]], facts: GraphFacts) -> None:
    """Refuse a graph that a network of images does not need, or that does not take exactly these weights.

    Args:
        data: The bytes of ``graph.onnx``.
        shapes: Of the weights by name, as :func:`graph_weights` gives them.
        facts: What the config says of it.

    Raises:
        WeightsError: It is no ONNX, too large, has an operator that is not in :data:`OPERATORS` or of another domain,
            a function or an inner graph, a reference to a file, or other weights, inputs or outputs than it should.
    """
    # Imported here: it costs as much as ONNX Runtime, and graphs of the package itself need no check.
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise WeightsError(f"{GRAPH_FILE} is no ONNX file, or is damaged") from error
    graph, nodes = model.graph, model.graph.node
    external = {tensor.name: tensor for tensor in graph.initializer if tensor.data_location == tensor.EXTERNAL}
    constants = [tensor for tensor in graph.initializer if tensor.name not in external]
    attributes = [attribute for node in nodes for attribute in node.attribute]
    constants += [tensor for attribute in attributes for tensor in (attribute.t, *attribute.tensors)]
    inner = any(a.HasField("g") or a.graphs or a.HasField("sparse_tensor") or a.sparse_tensors for a in attributes)
    opset = next((one.version for one in model.opset_import if one.domain in {"", "ai.onnx"}), 0)
    odd = sorted({f"{node.domain}.{node.op_type}".lstrip(".") for node in nodes if _odd(node)})
    references = [t.name for t in external.values() if [(e.key, e.value) for e in t.external_data] != [_LOCATION]]
    references += [tensor.name for tensor in constants if tensor.data_location == tensor.EXTERNAL]
    wanted = {f"{name}.{kind}" for name, of in facts.methods.items() for kind in of.outputs}
    for problem, found in (
        (odd, f"the operator {short(', '.join(odd[:3]))}"),
        (inner or model.functions or graph.sparse_initializer or model.training_info, "functions or inner graphs"),
        (len(nodes) > MAX_NODES, f"{len(nodes):,} operators, more than {MAX_NODES:,}"),
        (sum(tensor.ByteSize() for tensor in constants) > MAX_CONSTANTS, f"more than {MAX_CONSTANTS:,} bytes inside"),
        (not OPSETS[0] <= opset <= OPSETS[1], f"opset {opset}, not one of {OPSETS[0]} to {OPSETS[1]}"),
        (references, f"a reference to another file ({short(references[0]) if references else ''})"),
        ({put.name for put in graph.input} - {IMAGES, LABELS}, "other inputs than images and labels"),
        ({put.name for put in graph.output} != wanted, "other outputs than the config states"),
    ):
        if problem:
            raise WeightsError(f"{GRAPH_FILE} has {found}, which no graph of fam has; it is not run")
    for name in sorted({*external, *shapes}):
        asked = tuple(external[name].dims) if name in external else None
        if asked != shapes.get(name):
            what = f"{short(name)} has shape {shapes.get(name)} in the weights and {asked} in the graph"
            raise WeightsError(f"{GRAPH_FILE} and {WEIGHTS_FILE} do not belong together: {what}")


_LOCATION = ("location", WEIGHTS_FILE)


def _odd(node: Any) -> bool:
    return node.domain not in {"", "ai.onnx"} or node.op_type not in OPERATORS


def config_of(facts: GraphFacts, model: Mapping[str, Any], method: str) -> MethodConfig:
    """The shared settings of a method of a graph, from the ``model`` part of a ``config.json``.

    Raises:
        ConfigError: A value is not allowed.
    """
    own, of = next(iter(facts.methods)), facts.methods[method]
    changes = {} if method == own else {"tau": of.tau, "box_score": of.box_score}
    return MethodConfig.shared(model, method=method, **changes)
