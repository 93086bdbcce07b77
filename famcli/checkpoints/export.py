"""A model as one file that other runtimes read, compared with the model before it is given a name.

The file takes pictures ``(B, size, size, 3)`` uint8 RGB, any number of them, and gives the outputs of
:class:`famcli.checkpoints.graph.Graph`.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from famcli.checkpoints.graph import INPUT, Graph
from famcli.checkpoints.reference import draw
from famcli.inference.torch_engine import TorchEngine
from famcli.names import ExportFormat
from famcli_models.boxes import rescale_boxes
from famcli_models.errors import ConfigError, FamError
from famcli_models.files import check_target, write_atomic
from famcli_models.localization import localize
from famcli_models.methods.method import Method

SUFFIXES = {ExportFormat.onnx: ".onnx", ExportFormat.torchscript: ".pt", ExportFormat.torch_export: ".pt2"}
NEEDS = ("onnx", "onnxruntime", "onnxscript")  # of the format onnx alone
OPSETS = (18, 23)  # the oldest that torch writes; newer than the newest are not known to work
TORCH_FOR_ONNX = (2, 6)  # the first with a stable exporter through torch.export
TOLERANCE = 1e-3  # of maps and probabilities; measured with onnxruntime: 0.000004
BOX_TOLERANCE = 1.0  # pixels of the input
FACTS = "fam.json"  # beside the graph in the two formats of torch

Runner = Callable[[np.ndarray], Sequence[np.ndarray]]


@dataclass(frozen=True, slots=True)
class Parity:
    """Largest absolute differences between a file and its model, over batches of one and of three pictures.

    Attributes:
        maps: Of the foreground maps.
        probabilities: Of the class probabilities.
        boxes: Of the corners, in pixels of the input; ``None`` if the file gives no boxes.
    """

    maps: float
    probabilities: float
    boxes: float | None

    def words(self) -> str:
        """The differences and what is allowed."""
        text = (
            f"maps differ by at most {self.maps:.2g}, probabilities by {self.probabilities:.2g}, allowed {TOLERANCE:g}"
        )
        return text if self.boxes is None else f"{text}; boxes by {self.boxes:.2g} pixels, allowed {BOX_TOLERANCE:g}"

    @property
    def good(self) -> bool:
        """All of them are within their tolerances; NaN is not."""
        close = self.maps <= TOLERANCE and self.probabilities <= TOLERANCE  # each by itself: max() loses a NaN
        return close and (self.boxes is None or self.boxes <= BOX_TOLERANCE)


def export(
    model: Method, path: Path, form: ExportFormat, *, tau: float | None = None, opset: int = OPSETS[0]
) -> Parity:
    """Write a model as one file, unless the file gives other results than the model.

    Args:
        model: On the CPU; it is set to evaluation mode.
        path: File to write.
        form: Its format.
        tau: Find the largest region's box inside, with this threshold; ``None`` gives maps and probabilities alone.
        opset: Of ONNX.

    Raises:
        ConfigError: A package for ONNX is missing, or a value is not allowed.
        OSError: The file cannot be written; see :func:`famcli_models.files.check_target`.
        FamError: torch cannot export the model, or the file does not give the model's results.
    """
    if tau is not None and not 0 <= tau < 1:
        msg = f"threshold {tau} is not in [0, 1)"
        raise ConfigError(msg)
    if form is ExportFormat.onnx:
        check_onnx(opset)
    check_target(path)
    graph = Graph(model.eval(), tau).eval().requires_grad_(requires_grad=False)
    found: list[Parity] = []

    def write(temporary: Path) -> None:
        with warnings.catch_warnings():
            # Tracers warn of every constant they meet, and torch of its own older parts. The parity tells.
            warnings.simplefilter("ignore")
            try:
                WRITERS[form](graph, temporary, _facts(model, tau), opset)
                found.append(parity(model, READERS[form](temporary), tau))
            except OSError:  # a full disk
                raise
            except Exception as error:  # each exporter and runtime has its own errors
                reason = (str(error).strip().splitlines() or ["no reason given"])[0]
                reason = reason.replace(str(temporary), str(path))
                msg = f"torch {torch.__version__} cannot write this as {form.value}: {type(error).__name__}: {reason}"
                raise FamError(msg) from error
        if not found[0].good:
            msg = f"the file's results are not the model's ({found[0].words()}); it was not kept, try another --format"
            raise FamError(msg)

    write_atomic(path, write)
    return found[0]


def check_onnx(opset: int) -> None:
    """Make sure that ONNX can be written here.

    Raises:
        ConfigError: A package is missing, torch is too old, or the opset is not known.
    """
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        msg = f"the format onnx needs {', '.join(missing)}; install with: pip install 'famcli[export]'"
        raise ConfigError(msg)
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < TORCH_FOR_ONNX:
        msg = f"the format onnx needs torch 2.6 or newer, not {torch.__version__}: pip install -U torch torchvision"
        raise ConfigError(msg)
    if not OPSETS[0] <= opset <= OPSETS[1]:
        msg = f"opset {opset} is not in {OPSETS[0]} to {OPSETS[1]}"
        raise ConfigError(msg)


def parity(model: Method, run: Runner, tau: float | None) -> Parity:
    """Compare a loaded file with the model itself and with :func:`famcli_models.localize` on drawn pictures."""
    pictures = draw(model.config.size)
    engine = TorchEngine(model, "cpu", fold=False)
    frame = (model.config.size, model.config.size)
    gaps: list[tuple[float, float, float]] = []
    for batch in (pictures[:1], pictures[1:]):
        maps_wanted, wanted, _ = engine.infer([batch])
        got = run(batch)
        corners = np.zeros((len(batch), 4))
        if tau is not None:
            for i, M in enumerate(maps_wanted):
                corners[i] = next((region.xyxy for region in localize(M, frame, tau).regions), (0.0,) * 4)
        box_gap = 0.0 if tau is None else _gap(rescale_boxes(got[2], (1, 1), frame), corners)
        gaps.append((_gap(got[0][:, 0], maps_wanted), _gap(got[1], wanted), box_gap))
    maps, probabilities, boxes = (float(np.max(column)) for column in zip(*gaps, strict=True))
    return Parity(maps, probabilities, None if tau is None else boxes)


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max()) if a.shape == b.shape else float("inf")


def _facts(model: Method, tau: float | None) -> dict[str, str]:
    """What a program that has only the file may want to know."""
    return {
        "class_names": json.dumps(model.class_names, ensure_ascii=False),
        "input": f"RGB, uint8, (batch, {model.config.size}, {model.config.size}, 3); resize the whole image to this",
        "threshold": f"{model.config.tau if tau is None else tau:g}",
        "backbone": model.config.backbone,
    }


def _example(graph: Graph) -> tuple[torch.Tensor]:
    """A batch of two: tracers take one for a constant."""
    return (torch.from_numpy(draw(graph.side)[:2]),)


def _any_batch() -> Any:
    return ({0: torch.export.Dim("batch", min=1)},)


def _write_onnx(graph: Graph, path: Path, facts: dict[str, str], opset: int) -> None:
    import onnx

    made: Any = torch.onnx.export(
        graph,
        _example(graph),
        dynamic_shapes=_any_batch(),
        opset_version=opset,
        input_names=[INPUT],
        output_names=list(graph.outputs),
        external_data=False,
        dynamo=True,
        verbose=False,
    )
    proto = made.model_proto
    onnx.helper.set_model_props(proto, facts)
    onnx.save_model(proto, str(path))


def _write_torchscript(graph: Graph, path: Path, facts: dict[str, str], _: int) -> None:
    traced = torch.jit.trace(graph, _example(graph), check_trace=False)
    torch.jit.save(traced, str(path), _extra_files={FACTS: json.dumps(facts).encode()})


def _write_program(graph: Graph, path: Path, facts: dict[str, str], _: int) -> None:
    program = torch.export.export(graph, _example(graph), dynamic_shapes=_any_batch())
    with path.open("wb") as file:  # a path must end in .pt2, and this one is temporary
        torch.export.save(program, file, extra_files={FACTS: json.dumps(facts)})


def _read_onnx(path: Path) -> Runner:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda pictures: session.run(None, {INPUT: pictures})


def _read_torchscript(path: Path) -> Runner:
    return _in_torch(torch.jit.load(str(path)))


def _read_program(path: Path) -> Runner:
    with path.open("rb") as file:
        return _in_torch(torch.export.load(file).module())


def _in_torch(module: Callable[[torch.Tensor], Sequence[torch.Tensor]]) -> Runner:
    return lambda pictures: [output.numpy() for output in module(torch.from_numpy(pictures))]


WRITERS: dict[ExportFormat, Callable[[Graph, Path, dict[str, str], int], None]] = {
    ExportFormat.onnx: _write_onnx,
    ExportFormat.torchscript: _write_torchscript,
    ExportFormat.torch_export: _write_program,
}
READERS: dict[ExportFormat, Callable[[Path], Runner]] = {
    ExportFormat.onnx: _read_onnx,
    ExportFormat.torchscript: _read_torchscript,
    ExportFormat.torch_export: _read_program,
}
