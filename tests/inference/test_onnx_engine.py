"""The ONNX engine: the answers of PyTorch, without PyTorch, and from graphs of anybody."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from famcli import Predictor
from famcli.checkpoints.export import write_graph
from famcli.demo import PHOTOS, photo_folder
from famcli.inference import engine as module
from famcli.inference.engine import OutOfMemoryError, choose_engine, input_sides, open_engine
from famcli.inference.onnx_engine import OnnxEngine
from famcli.inference.torch_engine import TorchEngine
from famcli_models import FAMConfig, packaged
from famcli_models.checkpoint import DEFAULT_MODEL, GRAPH_FILE, read_config
from famcli_models.errors import ConfigError, WeightsError
from famcli_models.files import sha256_file
from famcli_models.graph import MAX_GRAPH_BYTES, NOT_INSIDE, OPERATORS, OPSETS

Make = Callable[..., Any]
PACKAGED = packaged()[DEFAULT_MODEL]
CONFIG = FAMConfig.from_dict(read_config(PACKAGED)["model"])
SIDE = CONFIG.size
X_SHAPE = (1, SIDE // CONFIG.stride, SIDE // CONFIG.stride)
M_SHAPE = (1, *(CONFIG.fine_factor * side for side in X_SHAPE[1:]))
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "everything": {"parts": True, "topk": 5, "max_boxes": 3, "masks": True},
    "views": {"flip": True, "scales": (1.0, 1.5)},
}


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    """Photographs of several shapes."""
    return [np.asarray(Image.open(photo_folder() / photo.file).convert("RGB")) for photo in PHOTOS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the default model, which is not trusted."""
    return Path(shutil.copytree(PACKAGED, tmp_path / "copy"))


def edit(folder: Path, change: Callable[[Any], object]) -> None:
    """Change the graph of a checkpoint, and the hash that its config states."""
    model = onnx.load(folder / GRAPH_FILE, load_external_data=False)
    change(model)
    (folder / GRAPH_FILE).write_bytes(model.SerializeToString())
    edit_config(folder, lambda facts: facts.update(sha256=sha256_file(folder / GRAPH_FILE)))


def edit_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what the config of a checkpoint says of its graph."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    change(config["provenance"]["graph"])
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize("method", ["fam", "cam", "rcam"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_the_answers_are_those_of_pytorch(photos: list[np.ndarray], method: str, settings: str) -> None:
    """Boxes, classes, masks and parts are the same, of one view and of several, and those of CAM and RCAM too."""
    chosen = {k: v for k, v in SETTINGS[settings].items() if k != "parts" or method == "fam"}
    found, wanted = (
        Predictor(DEFAULT_MODEL, "cpu", engine=e, method=method, **chosen)(photos) for e in ("onnx", "torch")
    )
    for a, b in zip(found, wanted, strict=True):
        assert a.labels == b.labels
        assert [c.index for c in a.classes] == [c.index for c in b.classes]
        np.testing.assert_allclose(a.boxes, b.boxes, atol=1)
        np.testing.assert_allclose(a.M, b.M, atol=1e-4)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-3)
        if a.region_map is not None:
            assert np.mean(a.region_map != b.region_map) < 1e-3
        if a.parts is not None:
            np.testing.assert_allclose(a.parts.A, b.parts.A, atol=1e-3)


@pytest.mark.skipif(torch.__version__.startswith("2.6."), reason="PyTorch 2.6 does not export finer maps")
def test_the_graph_has_the_class_pooling(make_model: Make, photos: list[np.ndarray], tmp_path: Path) -> None:
    """Class scores are of the same feature in both engines, and not of the default one."""
    make_model(class_pooling="foreground+image", fine_channels=8).save_pretrained(tmp_path)
    write_graph(tmp_path)
    facts = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["provenance"]["graph"]
    assert (facts["settings"]["class_pooling"], "tau" in facts["settings"]) == ("foreground+image", False)
    images = np.stack([np.asarray(Image.fromarray(photo).resize((64, 64))) for photo in photos])
    found, wanted = (open_engine(tmp_path, device="cpu", name=name).infer([images]) for name in ("onnx", "torch"))
    np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=1e-5)
    paper = TorchEngine(make_model(fine_channels=8), "cpu").infer([images])
    assert np.abs(paper.probabilities - found.probabilities).max() > 1e-4


@pytest.mark.skipif(torch.__version__.startswith("2.6."), reason="PyTorch 2.6 does not export finer maps")
def test_the_graph_has_the_class_evidence(make_model: Make, photos: list[np.ndarray], tmp_path: Path) -> None:
    """Maps with class evidence are the same in both engines, at other input sizes too."""
    make_model(class_evidence=True, stride=32, fine_channels=8, fine_factor=4).save_pretrained(tmp_path)
    write_graph(tmp_path)
    for side in (64, 96):
        images = np.stack([np.asarray(Image.fromarray(photo).resize((side, side))) for photo in photos])
        found, wanted = (open_engine(tmp_path, device="cpu", name=name).infer([images]) for name in ("onnx", "torch"))
        np.testing.assert_allclose(found.maps, wanted.maps, atol=1e-4)


def test_maps_of_classes_that_are_known(photos: list[np.ndarray]) -> None:
    """A map of a class is that of the class that is asked for, also where several views are averaged."""
    sides = input_sides(CONFIG, (1, 1.5))
    views = [np.stack([np.asarray(Image.fromarray(photo).resize((s, s))) for photo in photos[:2]]) for s in sides]
    found, wanted = (open_engine(PACKAGED, "cam", "cpu", name=name, scales=(1, 1.5)) for name in ("onnx", "torch"))
    for labels in ([3, 700], [None, 700], None):
        a, b = (one.infer(views, labels).maps for one in (found, wanted))
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_methods_share_one_run(photos: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside FAM the CAM of its features costs no second run of the network."""
    fam = open_engine(PACKAGED, device="cpu", name="onnx")
    assert isinstance(fam, OnnxEngine)
    cam, runs = fam.beside("cam"), []
    assert cam is not None
    assert fam.beside("nothing") is None
    whole = fam.session.session
    monkeypatch.setattr(
        fam.session, "session", type("Counted", (), {"run": lambda _, *a: runs.append(1) or whole.run(*a)})()
    )
    images = np.asarray(Image.fromarray(photos[0]).resize((SIDE, SIDE)))[None].copy()
    assert fam.infer([images], [3]).maps.shape == M_SHAPE
    assert cam.infer([images], [3]).maps.shape == X_SHAPE
    assert len(runs) == 1
    later = open_engine(PACKAGED, device="cpu", name="onnx")
    assert later.infer([images]).maps.shape == M_SHAPE
    assert later.beside("cam").infer([images]).maps.shape == X_SHAPE


@pytest.mark.parametrize("program", ["predict", "evaluate", "verify", "python"])
def test_nothing_of_torch_is_loaded(program: str, tmp_path: Path) -> None:
    """On the CPU prediction, evaluation and verification of the default model import no torch, torchvision or timm."""
    photo = str(photo_folder() / PHOTOS[0].file)
    code = {
        "predict": f"famcli.predict_files([{photo!r}], {str(tmp_path / 'o.json')!r}, device='cpu')",
        "evaluate": "famcli.evaluate(device='cpu')",
        "verify": "from famcli.checkpoints.verify import inspect; from famcli_models import packaged; "
        f"assert not inspect(packaged()[{DEFAULT_MODEL!r}], engine='auto', device='cpu').problems",
        "python": f"print(famcli.Predictor({DEFAULT_MODEL!r}, 'cpu')({photo!r}).boxes)",
    }[program]
    check = "import sys; bad = {'torch', 'torchvision', 'timm'} & set(sys.modules); assert not bad, bad"
    done = subprocess.run(
        [sys.executable, "-c", f"import famcli; {code}; {check}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "onnx"),
        ({"device": "auto"}, "onnx"),
        ({"method": "cam", "scales": (1.0, 1.5)}, "onnx"),
        ({"amp": True}, "torch"),
        ({"device": "cuda"}, "torch"),
        ({"method": "psol"}, "torch"),
        ({"scales": (0.05,)}, "torch"),
    ],
    ids=str,
)
def test_the_engine_that_auto_chooses(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], name: str) -> None:
    """It is ONNX Runtime on the CPU where the graph has what is asked for, and PyTorch elsewhere."""
    monkeypatch.setattr(module, "gpu_present", lambda: False)
    assert choose_engine(PACKAGED, **{"device": "cpu", **options}) == (name, "")


def test_a_checkpoint_without_a_graph(checkpoint: Path, folder: Path) -> None:
    """PyTorch runs it, and the hint names the command that makes one; asked for by name it is an error."""
    hints: list[str] = []
    assert "PyTorch" in open_engine(checkpoint, device="cpu", say=hints.append).runs_on
    assert hints[0].endswith(f"for a faster start: fam export '{checkpoint}' --format graph")
    with pytest.raises(ConfigError, match="--format graph"):
        open_engine(checkpoint, name="onnx")
    (folder / GRAPH_FILE).unlink()
    assert choose_engine(folder, device="cpu")[0] == "torch"


@pytest.mark.parametrize(("device", "amp"), [("cuda", False), ("cpu", True)])
def test_the_cpu_alone(device: str, amp: bool) -> None:
    """What it cannot do is refused with what to leave out."""
    with pytest.raises(ConfigError, match="leave out --(device cuda|amp), or use --engine torch"):
        open_engine(PACKAGED, device=device, amp=amp, name="onnx")


def test_too_large_a_batch() -> None:
    """What ONNX Runtime may not allocate is an error of its own, after which it goes on."""
    engine = open_engine(PACKAGED, device="cpu", name="onnx")
    huge = np.broadcast_to(np.zeros((1, 1, 1, 1), np.uint8), (1, 16_384, 16_384, 3))
    with pytest.raises(OutOfMemoryError, match="lower --batch-size"):
        engine.infer([huge])
    assert engine.infer([np.zeros((1, SIDE, SIDE, 3), np.uint8)]).maps.shape == M_SHAPE


# ---- graphs of others ------------------------------------------------------------------------------------


def node(op: str, domain: str = "", **attributes: Any) -> Callable[[Any], object]:
    """A change that adds an operator to a graph."""
    return lambda m: m.graph.node.append(onnx.helper.make_node(op, [], ["new"], domain=domain, **attributes))


def constant(location: str = "", size: int = 1) -> Callable[[Any], object]:
    """A change that adds a constant, perhaps one whose values are in a file."""

    def add(m: Any) -> None:
        tensor = onnx.numpy_helper.from_array(np.zeros(size, np.float32), "new")
        if location:
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=location)
        m.graph.initializer.append(tensor)

    return add


def first_reference(m: Any) -> Any:
    return next(tensor for tensor in m.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL)


EMPTY = onnx.helper.make_graph([], "inner", [], [])
FOREIGN: dict[str, tuple[Callable[[Any], object], str]] = {
    "operator": (node("NonMaxSuppression"), "the operator NonMaxSuppression"),
    "domain": (node("Conv", "com.example"), "the operator com.example.Conv"),
    "loop": (node("Loop", body=EMPTY), "the operator Loop"),
    "inner graph": (node("Relu", body=EMPTY), "functions or inner graphs"),
    "function": (lambda m: m.functions.add(name="f", domain="x"), "functions or inner graphs"),
    "another file": (constant("/etc/passwd"), r"reference to another file \(new\)"),
    "another place of the file": (
        lambda m: first_reference(m).external_data.add(key="offset", value="0"),
        "reference to another file",
    ),
    "large constants": (constant(size=2_000_000), "bytes inside"),
    "opset": (lambda m: setattr(m.opset_import[0], "version", 5), "opset 5"),
    "input": (lambda m: m.graph.input.add(name="more"), "other inputs"),
    "output": (lambda m: m.graph.output.pop(), "other outputs"),
    "another shape": (lambda m: first_reference(m).dims.append(1), "do not belong together"),
    "no such weight": (lambda m: setattr(first_reference(m), "name", "nothing"), "do not belong together"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_graphs_that_are_not_run(folder: Path, case: str) -> None:
    """What a network of images does not need is refused before ONNX Runtime sees it, and the sentence names it."""
    change, words = FOREIGN[case]
    edit(folder, change)
    with pytest.raises(WeightsError, match=words):
        open_engine(folder, device="cpu")


def test_a_graph_that_is_not_the_one(folder: Path) -> None:
    """Bytes that the config does not speak of, no ONNX, or too many bytes are refused."""
    path = folder / GRAPH_FILE
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(WeightsError, match="has SHA-256 .* as the config states"):
        open_engine(folder, device="cpu")
    path.write_bytes(b"no graph")
    edit_config(folder, lambda facts: facts.update(sha256=sha256_file(path)))
    with pytest.raises(WeightsError, match="is no ONNX file"):
        open_engine(folder, device="cpu")
    with path.open("wb") as file:
        file.truncate(MAX_GRAPH_BYTES + 1)
    with pytest.raises(WeightsError, match="no FAM checkpoint needs more"):
        open_engine(folder, device="cpu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda facts: facts.pop("methods"), "is damaged"),
        (lambda facts: facts.update(norms=["one"]), "is damaged"),
        (lambda facts: facts["methods"]["fam"].update(odd=1), "is damaged"),
        (lambda facts: facts.update(settings=3), "is damaged"),
        (lambda facts: facts["norms"].pop(), "do not belong together"),
        (lambda facts: facts["norms"].append("no.conv no.norm 1e-5"), "do not belong together"),
    ],
    ids=["gone", "form", "field", "settings", "one norm less", "one norm more"],
)
def test_damaged_facts(folder: Path, change: Callable[[dict[str, Any]], object], words: str) -> None:
    """What the config says of the graph is checked too."""
    edit_config(folder, change)
    with pytest.raises(WeightsError, match=words):
        open_engine(folder, device="cpu", name="onnx")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda model: model.update(mean=[0.4, 0.5, 0.5]), r"mean is \[0.4, 0.5, 0.5\], and was \[0.5, 0.5, 0.5\]"),
        (lambda model: model.pop("object_scale"), "object_scale is None, and was 2.0"),
        (lambda model: model.update(class_pooling="foreground"), "class_pooling is 'foreground'"),
        (lambda model: model.update(tau=0.4, temperature=2.0, size=256), None),
    ],
    ids=["changed", "gone", "other", "outside of the graph"],
)
def test_a_config_that_was_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], object], words: str | None
) -> None:
    """A setting that is inside of the graph is compared with the one it was made with; the engine reads the others."""
    monkeypatch.setattr(module, "gpu_present", lambda: False)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["model"] = FAMConfig.from_dict(config["model"]).to_dict()
    inside = {name: value for name, value in config["model"].items() if name not in NOT_INSIDE}
    config["provenance"]["graph"]["settings"] = inside
    change(config["model"])
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(WeightsError, match=words) if words else nullcontext():
        open_engine(folder)


def test_a_graph_that_grows(folder: Path) -> None:
    """A graph of allowed operators that asks for more memory than there is fails, and takes none of it."""

    def grow(m: Any) -> None:
        scales = onnx.numpy_helper.from_array(np.array([1, 1, 3000, 3000], np.float32), "scales")
        m.graph.initializer.append(scales)
        resize = next(n for n in m.graph.node if n.op_type == "Resize")
        del resize.input[1:]
        resize.input.extend(["", "scales"])

    edit(folder, grow)
    engine = open_engine(folder, device="cpu", name="onnx")
    with pytest.raises((OutOfMemoryError, WeightsError)):
        engine.infer([np.zeros((1, SIDE, SIDE, 3), np.uint8)])


def test_operators_are_those_of_onnx() -> None:
    """The list has no name that ONNX does not know."""
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    assert known >= OPERATORS
    assert OPSETS[0] <= 18
