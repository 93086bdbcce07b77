"""The ONNX Runtime engine: a checkpoint's graph with its weights, on the CPU, without PyTorch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as states

from famcli.inference.engine import AUTO, Engine, OutOfMemoryError
from famcli_models import graph
from famcli_models.checkpoint import GRAPH_FILE, packaged, read_config
from famcli_models.errors import ConfigError, WeightsError, short

MEMORY_SHARE = 0.5  # of the machine's: what ONNX Runtime may take, whatever a graph asks for
ERRORS = (states.Fail, states.RuntimeException, states.InvalidArgument, states.InvalidGraph, states.NotImplemented)
Arrays = Mapping[str, np.ndarray]


class Session:
    """A graph with its weights in ONNX Runtime; it keeps what it gave for the last batch, so that methods share a run.

    A ``WeightsError`` if ONNX Runtime refuses the graph, or graph and weights do not belong together.
    """

    def __init__(self, data: bytes, weights: Mapping[str, np.ndarray]) -> None:
        _bound_memory()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised, and need not be printed too
        options.intra_op_num_threads = _threads()
        options.add_session_config_entry("session.use_env_allocators", "1")
        # The session borrows their memory.
        self.weights = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers(list(weights), self.weights)
        try:
            self.session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except ERRORS as error:
            msg = f"ONNX Runtime does not take {GRAPH_FILE} with these weights: {short(str(error))}"
            raise WeightsError(msg) from error
        self.inputs = {put.name for put in self.session.get_inputs()}
        self._wanted: list[str] = []
        self._last: dict[bool, tuple[np.ndarray, np.ndarray, Arrays]] = {}

    @property
    def wanted(self) -> tuple[str, ...]:
        """Outputs of the methods that are in use."""
        return tuple(self._wanted)

    def want(self, outputs: Sequence[str]) -> None:
        """Give these outputs too from now on."""
        self._wanted += [output for output in outputs if output not in self._wanted]
        self._last.clear()

    def run(self, images: np.ndarray, labels: np.ndarray, flipped: bool) -> Arrays:
        """The outputs that are wanted, by name, for images ``(B, side, side, 3)`` and the classes ``(B,)`` of maps."""
        last = self._last.get(flipped)
        if last is None or last[0] is not images or not np.array_equal(last[1], labels):
            given = {graph.IMAGES: images[:, :, ::-1] if flipped else images, graph.LABELS: labels}
            feeds = {name: np.ascontiguousarray(array) for name, array in given.items() if name in self.inputs}
            try:
                found = self.session.run(self._wanted, feeds)
            except ERRORS as error:
                if "BFCArena" in str(error) or "bad_alloc" in str(error):
                    raise OutOfMemoryError(
                        f"out of memory on the CPU with {len(images)} images a batch; lower --batch-size"
                    ) from error
                raise WeightsError(f"ONNX Runtime cannot run {GRAPH_FILE}: {short(str(error))}") from error
            last = self._last[flipped] = images, labels, dict(zip(self._wanted, found, strict=True))
        return last[2]


def _threads() -> int:
    """As many as PyTorch would take; 0 leaves it to ONNX Runtime."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if re.fullmatch("[0-9]{1,4}", given) else 0


@cache
def _bound_memory() -> None:
    """Bound what ONNX Runtime may allocate in this process, and let it grow by what is needed, not by powers of two."""
    kinds = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    most = int(MEMORY_SHARE * _machine_memory())
    growth = {"arena_extend_strategy": 1, "initial_chunk_size_bytes": -1, "max_dead_bytes_per_chunk": -1}
    settings = onnxruntime.OrtArenaCfg({"max_mem": most, **growth})
    onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", *kinds), settings)


def _machine_memory() -> int:
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 16 * 2**30  # Windows does not tell without another package


class Outputs(NamedTuple):
    """What a session gave, and for what."""

    found: Arrays
    images: np.ndarray
    labels: np.ndarray
    flipped: bool


class OnnxEngine(Engine[Outputs]):
    """See :class:`famcli.inference.engine.Engine`.

    Args:
        session: Of the checkpoint's graph.
        facts: What the checkpoint says of it.
        stored: Its parsed ``config.json``.
        method: One of the graph's; by default the checkpoint's own.

    Raises:
        ConfigError: The graph has no such method, or the config is not allowed.
    """

    runs_on = "ONNX Runtime on the CPU"

    def __init__(
        self, session: Session, facts: graph.GraphFacts, stored: Mapping[str, Any], method: str | None = None
    ) -> None:
        self.name = method or next(iter(facts.methods))
        if self.name not in facts.methods:
            known = ", ".join(facts.methods)
            raise ConfigError(
                f"this model's {GRAPH_FILE} has no method '{self.name}', only {known}; use --engine torch"
            )
        of = facts.methods[self.name]
        self.session, self.facts, self.stored = session, facts, stored
        self.config = graph.config_of(facts, stored["model"], self.name)
        self.class_names, self.provenance = tuple(stored["class_names"]), stored["provenance"]
        self.title, self.map_title, self.num_parts = of.title, of.map_title, of.num_parts
        self.class_conditional, self.rescaled, self.gives_boxes = of.class_conditional, of.rescaled, of.gives_boxes
        session.want([f"{self.name}.{kind}" for kind in of.outputs])

    def beside(self, method: str) -> OnnxEngine | None:
        """See :meth:`Engine.beside`."""
        return OnnxEngine(self.session, self.facts, self.stored, method) if method in self.facts.methods else None

    def run(self, images: np.ndarray, labels: np.ndarray, *, flipped: bool = False) -> Outputs:
        """See :meth:`Engine.run`."""
        return Outputs(self.session.run(images, labels, flipped), images, labels, flipped)

    def scores(self, out: Outputs) -> np.ndarray:
        """See :meth:`Engine.scores`."""
        return out.found[f"{self.name}.{graph.SCORES}"]

    def maps(self, out: Outputs, labels: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.maps`; the network runs again if the classes are others than those it was given."""
        if self.class_conditional and not np.array_equal(labels, self._classes(out)):
            out = self.run(out.images, labels, flipped=out.flipped)
        return out.found[f"{self.name}.{graph.MAPS}"]

    def parts(self, out: Outputs) -> tuple[np.ndarray, np.ndarray]:
        """See :meth:`Engine.parts`."""
        return out.found[f"{self.name}.{graph.PARTS}"], out.found[f"{self.name}.{graph.PART_WEIGHTS}"]

    def boxes(self, out: Outputs) -> np.ndarray:
        """See :meth:`Engine.boxes`."""
        return out.found[f"{self.name}.{graph.BOXES}"]

    def _classes(self, out: Outputs) -> np.ndarray:
        """The classes ``(B,)`` that the maps are of."""
        return np.where(out.labels < 0, self.scores(out).argmax(axis=1), out.labels)


def open_engine(folder: Path, method: str | None, device: str, *, amp: bool) -> OnnxEngine:
    """See :func:`famcli.inference.engine.open_engine`; a graph that is not the package's own is checked first."""
    if device not in {AUTO, "cpu"} or amp:
        what = "--amp" if amp else f"--device {device}"
        raise ConfigError(f"--engine onnx runs on the CPU in float32: leave out {what}, or use --engine torch")
    stored = read_config(folder)
    facts = graph.GraphFacts.from_provenance(stored["provenance"])
    if facts is None:
        command = f"fam export '{folder}' --format graph"
        raise ConfigError(f"'{folder}' has no {GRAPH_FILE}; make it with: {command}, or use --engine torch")
    data = graph.read_graph(folder, facts, stored["model"])
    if folder not in packaged().values():
        graph.check_graph(data, graph.weight_shapes(folder, facts), facts)
    engine = OnnxEngine(Session(data, graph.graph_weights(folder, facts)), facts, stored, method)
    if len(engine.class_names) != engine.config.num_classes:
        names, classes = len(engine.class_names), engine.config.num_classes
        raise ConfigError(f"the config of '{folder}' has {names} class names for {classes} classes")
    return engine
