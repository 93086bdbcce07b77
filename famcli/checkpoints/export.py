"""Export of a model as one file that other runtimes read, compared with the model before it is kept.

The file takes images ``(B, size, size, 3)`` uint8 RGB, any number of them, and gives the outputs of
:class:`famcli.checkpoints.graph.Graph`.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from famcli.checkpoints import ExportFormat
from famcli.checkpoints.graph import INPUT, Graph, make_graph
from famcli.checkpoints.reference import reference_images
from famcli.inference.torch_engine import TorchEngine
from famcli_models.boxes import rescale_boxes
from famcli_models.checkpoint import GRAPH, GRAPH_FILE, read_config, write_config
from famcli_models.errors import ConfigError, FamError
from famcli_models.files import check_target, write_atomic, write_pieces
from famcli_models.graph import (
    NOT_INSIDE,
    OPSETS,
    GraphFacts,
    check_graph,
    graph_weights,
    read_graph,
    weight_shapes,
)
from famcli_models.loading import load_model
from famcli_models.localization import localize
from famcli_models.methods.method import Method

if TYPE_CHECKING:
    from famcli.inference.onnx_engine import OnnxEngine

OPSET = OPSETS[0]  # unless another one is asked for
TOLERANCE = 1e-3  # of maps and probabilities; measured with onnxruntime: 0.000004
BOX_TOLERANCE = 1.0  # pixels of the input
ANY_BATCH = ({0: torch.export.Dim("batch", min=1)},)
FACTS = "fam.json"  # beside the graph in the two formats of torch

Example = tuple[torch.Tensor]  # a batch of images
Runner = Callable[[np.ndarray], Sequence[np.ndarray]]  # a loaded file


@dataclass(frozen=True, slots=True)
class Parity:
    """Largest absolute differences between a file and its model, over batches of one and of three images."""

    maps: float  # of the foreground maps
    probabilities: float  # of the class probabilities
    boxes: float | None = None  # of the corners, in pixels of the input; none without boxes

    def __str__(self) -> str:
        """The differences and what is allowed."""
        text = f"maps differ by at most {self.maps:.2g}, probabilities by {self.probabilities:.2g}"
        boxes = "" if self.boxes is None else f"; boxes by {self.boxes:.2g} pixels, allowed {BOX_TOLERANCE:g}"
        return f"{text}, allowed {TOLERANCE:g}{boxes}"

    @property
    def good(self) -> bool:
        """All of them are within their tolerances; NaN is not."""
        close = self.maps <= TOLERANCE and self.probabilities <= TOLERANCE  # each by itself: max() loses a NaN
        return close and (self.boxes is None or self.boxes <= BOX_TOLERANCE)


def export(model: Method, path: Path, form: ExportFormat, *, tau: float | None = None, opset: int = OPSET) -> Parity:
    """Write a model as one file, unless the file gives other results than the model.

    Args:
        model: On the CPU; it is set to evaluation mode.
        path: File or stream to write to; see :func:`famcli_models.files.write_pieces`.
        form: A name in :data:`EXPORT_FORMATS`.
        tau: Find the largest region's box inside, with this threshold; ``None`` gives maps and probabilities alone.
        opset: Of ONNX.

    Raises:
        ConfigError: A value is not allowed.
        OSError: The file cannot be written; see :func:`famcli_models.files.check_target`.
        FamError: torch cannot export the model, or the file does not give the model's results.
    """
    if tau is not None and not 0 <= tau < 1:
        raise ConfigError(f"threshold {tau} is not in [0, 1)")
    check_opset(opset)
    check_target(path)
    graph = Graph(model.eval(), tau).eval().requires_grad_(requires_grad=False)
    side, row = graph.side, EXPORT_FORMATS[form]
    example = (torch.from_numpy(reference_images(side)[:2]),)  # two, for tracers take one for a constant
    facts = {  # what a program that has only the file may want to know
        "class_names": json.dumps(model.class_names, ensure_ascii=False),
        "input": f"RGB, uint8, (batch, {side}, {side}, 3); resize the whole image to this",
        "threshold": f"{model.config.tau if tau is None else tau:g}",
        "backbone": model.config.backbone,
    }
    with warnings.catch_warnings():
        # Tracers warn of every constant they meet, and torch of its own older parts. The parity tells.
        warnings.simplefilter("ignore")
        try:
            content = row.write(graph, example, facts, opset)  # in memory: on a full disk torch would end the process
            found = parity(model, row.read(content), tau)
        except Exception as error:  # each exporter and runtime has its own errors
            raise FamError(_cannot(form, error)) from error
    if not found.good:
        raise FamError(f"the file's results are not the model's ({found}); it was not kept, try another --format")
    write_pieces(path, [content])
    return found


def check_opset(opset: int) -> None:
    """Raise a ConfigError if an opset of ONNX cannot be written."""
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise ConfigError(f"opset {opset} is not in {OPSETS[0]} to {OPSETS[1]}")


def parity(model: Method, run: Runner, tau: float | None) -> Parity:
    """Compare a loaded file with the model, and its boxes with :func:`famcli_models.localize`, on reference images."""
    images = reference_images(model.config.size)
    engine = TorchEngine(model, "cpu", fold=False)
    frame, gaps = (model.config.size, model.config.size), []
    for batch in (images[:1], images[1:]):
        maps, probabilities, _, given = engine.infer([batch])
        wanted = [maps[:, None], probabilities]
        got = list(run(batch))[: 2 if tau is None else 3]
        if tau is not None:
            regions = [localize(M, frame, tau).regions for M in maps]
            found = np.array([of[0].xyxy if of else (0.0,) * 4 for of in regions])
            wanted.append(found if given is None else rescale_boxes(given, (1, 1), frame))
            got[2] = rescale_boxes(got[2], (1, 1), frame)
        gaps.append([_gap(a, b) for a, b in zip(got, wanted, strict=True)])
    return Parity(*np.max(gaps, axis=0).tolist())


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max()) if a.shape == b.shape else float("inf")


def write_graph(folder: Path, model: Method | None = None, like: Path | None = None) -> Parity:
    """Give a checkpoint its ``graph.onnx``, and its config what is to be known of it; see :mod:`famcli_models.graph`.

    Args:
        folder: Of the checkpoint.
        model: The same in memory, on the CPU; read if not given.
        like: Of a checkpoint with the same network, whose graph is taken.

    Raises:
        FamError: torch cannot export the model, its graph has what is not run of anybody's, or ONNX Runtime does not
            give the model's results; then the folder stays as it is.
    """
    from famcli.inference.onnx_engine import OnnxEngine, Session

    model = (model or load_model(folder)).eval()
    stored = {**read_config(folder), "model": model.config.to_dict()}  # with fields that are newer than the file
    facts = GraphFacts.from_provenance(read_config(like)["provenance"]) if like else None
    data, facts = (read_graph(like, facts, stored["model"]), facts) if like and facts else _make_graph(model)
    facts = replace(facts, settings={k: v for k, v in stored["model"].items() if k not in NOT_INSIDE})
    check_graph(data, weight_shapes(folder, facts), facts)
    engine = OnnxEngine(Session(data, graph_weights(folder, facts)), facts, stored)
    found = _compare(engine, TorchEngine(model, "cpu", fold=False))
    if not found.good:
        raise FamError(f"the results of ONNX Runtime are not the model's ({found}); {GRAPH_FILE} was not kept")
    write_atomic(folder / GRAPH_FILE, lambda path: path.write_bytes(data))
    stored["provenance"][GRAPH] = facts.to_dict()
    write_config(folder, stored)
    return found


def _make_graph(model: Method) -> tuple[bytes, GraphFacts]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constants that tracers meet, and of torch's own older parts
        try:
            return make_graph(model)
        except Exception as error:  # each network that torch cannot export fails in its own way
            raise FamError(_cannot(GRAPH_FILE, error)) from error


def _cannot(form: str, error: Exception) -> str:
    """That a network cannot be exported, and the first line of why."""
    reason = (str(error).strip().splitlines() or ["no reason given"])[0]
    return f"torch {torch.__version__} cannot write this as {form}: {type(error).__name__}: {reason}"


def _compare(engine: OnnxEngine, wanted: TorchEngine) -> Parity:
    """Largest differences of two engines over the methods of the first, on batches of one and of three images."""
    images, gaps = reference_images(wanted.config.size), []
    for name in engine.facts.methods:
        pair = [one.beside(name) for one in (engine, wanted)]
        for batch in (images[:1], images[1:]):
            a, b = (one.infer([batch], parts=True) for one in pair if one is not None)
            gaps.append([_gap(a.maps, b.maps), _gap(a.probabilities, b.probabilities)])
            if a.boxes is not None and b.boxes is not None:
                gaps.append([_gap(a.boxes, b.boxes), 0.0])
            for p, q in zip(a.parts or (), b.parts or (), strict=True):
                gaps.append([_gap(p.A, q.A), _gap(np.array(p.weights), np.array(q.weights))])
    return Parity(*np.max(gaps, axis=0).tolist())


def _write_onnx(graph: Graph, example: Example, facts: dict[str, str], opset: int) -> bytes:
    import onnx

    made: Any = torch.onnx.export(
        graph,
        example,
        dynamic_shapes=ANY_BATCH,
        opset_version=opset,
        input_names=[INPUT],
        output_names=list(graph.outputs),
        external_data=False,
        dynamo=True,
        verbose=False,
    )
    proto = made.model_proto
    onnx.helper.set_model_props(proto, facts)
    return bytes(proto.SerializeToString())


def _write_torchscript(graph: Graph, example: Example, facts: dict[str, str], _: int) -> bytes:
    traced, file = torch.jit.trace(graph, example, check_trace=False), io.BytesIO()
    torch.jit.save(traced, file, _extra_files={FACTS: json.dumps(facts).encode()})
    return file.getvalue()


def _write_torch_export(graph: Graph, example: Example, facts: dict[str, str], _: int) -> bytes:
    program, file = torch.export.export(graph, example, dynamic_shapes=ANY_BATCH), io.BytesIO()
    torch.export.save(program, file, extra_files={FACTS: json.dumps(facts)})
    return file.getvalue()


def _read_onnx(content: bytes) -> Runner:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {INPUT: images})


def _in_torch(module: Callable[[torch.Tensor], Sequence[torch.Tensor]]) -> Runner:
    return lambda images: [output.numpy() for output in module(torch.from_numpy(images))]


def _read_torchscript(content: bytes) -> Runner:
    return _in_torch(torch.jit.load(io.BytesIO(content)))


def _read_torch_export(content: bytes) -> Runner:
    return _in_torch(torch.export.load(io.BytesIO(content)).module())


class FormatRow(NamedTuple):
    """A row of :data:`EXPORT_FORMATS`."""

    suffix: str  # of the file's name
    write: Callable[[Graph, Example, dict[str, str], int], bytes]  # with facts and ONNX's opset
    read: Callable[[bytes], Runner]  # loads the file's content with its runtime


EXPORT_FORMATS: Mapping[ExportFormat, FormatRow] = {
    "onnx": FormatRow(".onnx", _write_onnx, _read_onnx),
    "torchscript": FormatRow(".pt", _write_torchscript, _read_torchscript),
    "torch-export": FormatRow(".pt2", _write_torch_export, _read_torch_export),
}
