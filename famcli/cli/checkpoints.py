"""``fam export``, ``fam verify`` and ``fam doctor``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from famcli.checkpoints import AnyFormat
from famcli.cli import completion
from famcli.cli.console import console
from famcli.cli.options import DeviceOption, JsonOption, QuietOption, ThresholdOption, check_stdout

CONFIG_FILE, GRAPH_FILE = "config.json", "graph.onnx"
STATES = {True: "ok", False: "WRONG", None: "-"}
_ENGINE = "onnx, torch, both, or auto as fam predict chooses."
ModelArgument = Annotated[
    str,
    Argument(
        metavar="NAME|PATH",
        help="Packaged name, checkpoint folder, or Hub id as for --model.",
        autocompletion=completion.models,
    ),
]


def export(
    model: ModelArgument,
    format: Annotated[  # noqa: A002
        AnyFormat, Option(help="Form of the file; graph is graph.onnx in the model's own folder.")
    ] = "onnx",
    out: Annotated[Path | None, Option("--out", "-o", help="File; NAME with the format's ending if not given.")] = None,
    with_boxes: Annotated[
        bool, Option("--with-boxes", help="Find the largest region's box inside the graph too.")
    ] = False,
    threshold: ThresholdOption = None,
    opset: Annotated[int | None, Option(help="Of ONNX; 18 if not given.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Write a model as one file for another runtime, compared with PyTorch.

    The file takes 8-bit RGB images of the model's input size, any number of them, and gives foreground maps and
    class probabilities. Normalisation is inside. Exit code 1, and no file, if its results are not the model's. The form
    graph is what fam predict runs without PyTorch: without weights, beside those of a checkpoint folder of yours.

    Example: fam export fam-mobilenetv1-ilsvrc --format onnx --with-boxes --out fam.onnx
    """
    if threshold is not None and not with_boxes:
        raise typer.BadParameter("--threshold is that of --with-boxes")
    if opset is not None and format != "onnx":
        raise typer.BadParameter("--opset is ONNX's; use it with --format onnx")
    if format == "graph" and (out is not None or with_boxes or opset is not None):
        raise typer.BadParameter(
            "--format graph writes into the model's folder, without --out, --with-boxes and --opset"
        )
    from famcli.checkpoints import export as exporting
    from famcli.hub import find_model
    from famcli_models.errors import ConfigError
    from famcli_models.files import check_target, is_stdout, is_stream
    from famcli_models.loading import load_model
    from famcli_models.locks import only_writer

    if format == "graph":
        folder = _own_folder(model, f"--format graph writes {GRAPH_FILE} and {CONFIG_FILE}")
        with only_writer(folder / CONFIG_FILE, "model"):
            console.say(f"compared with PyTorch on batches of 1 and 3: {exporting.write_graph(folder)}")
        if as_json:
            console.result_json({"out": str(folder / GRAPH_FILE), "format": format})
        else:
            console.result(str(folder / GRAPH_FILE))
        return
    opset = opset or exporting.OPSET
    exporting.check_opset(opset)  # before anything is downloaded
    if out is None:
        name = Path(model).resolve().name if Path(model).is_dir() else model.partition("@")[0].rpartition("/")[2]
        out = Path(name + exporting.EXPORT_FORMATS[format].suffix)
    try:
        check_target(out)
    except OSError as error:
        raise ConfigError(f"cannot write '{out}': {error.strerror}; give another file with --out") from error
    check_stdout(out, as_json)
    loaded = load_model(find_model(model, console.say))
    if format == "torchscript":
        console.say("TorchScript is deprecated in PyTorch: prefer --format torch-export where your runtime allows")
    tau = (loaded.config.tau if threshold is None else threshold) if with_boxes else None
    with only_writer(out):
        parity = exporting.export(loaded, out, format, tau=tau, opset=opset)
    console.say(f"compared with PyTorch on batches of 1 and 3: {parity}")
    if not as_json:
        if not is_stdout(out):
            console.result(str(out))
        return
    opset_written = opset if format == "onnx" else None
    size = None if is_stream(out) else out.stat().st_size
    facts = {"out": str(out), "format": format, "bytes": size, "opset": opset_written, "threshold": tau}
    facts |= {"map_difference": parity.maps, "probability_difference": parity.probabilities}
    console.result_json(facts | {"box_difference": parity.boxes, "tolerance": exporting.TOLERANCE})


def verify(
    model: ModelArgument,
    record: Annotated[
        bool, Option("--record", help="Store the reference outputs of a folder's model as it is now, then verify.")
    ] = False,
    device: DeviceOption = "auto",
    engine: Annotated[
        str, Option(metavar="NAME", help=_ENGINE, autocompletion=lambda: [*completion.engines(), "both"])
    ] = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Check a checkpoint: hashes, config against weights, its graph, and its reference outputs.

    The reference outputs are what the model gave for four drawn images when it was made. Here it is run on them again
    and compared; --engine both runs it by ONNX Runtime and by PyTorch. Exit code 1 if anything is wrong.

    Example: fam verify fam-mobilenetv1-ilsvrc
    """
    from famcli.checkpoints import reference
    from famcli.checkpoints.verify import inspect
    from famcli.hub import find_model
    from famcli_models.checkpoint import packaged
    from famcli_models.locks import only_writer

    own = model not in packaged() and Path(model).is_dir()
    folder = Path(model) if own else find_model(model, console.say)  # a folder that is wrong is a finding, not an error
    if record:
        folder = _own_folder(model, f"--record changes {CONFIG_FILE}")
        with only_writer(folder / CONFIG_FILE, "model"):
            digest = reference.record(folder, device)["digest"]
        console.say(f"stored the reference outputs of '{folder}', digest {digest}")
    report = inspect(folder, device, engine)
    if as_json:
        facts = {"ok": not report.problems, "problems": report.problems, "sha256": report.sha256}
        outputs = {"map_difference": report.map_difference, "tolerance": reference.MAP_TOLERANCE}
        checks = [asdict(check) for check in report.checks]
        console.result_json({"model": model, "folder": str(folder), **facts, "golden": outputs, "checks": checks})
    else:
        console.table(("check", "", "found"), [(c.name, STATES[c.good], c.detail) for c in report.checks])
    for problem in report.problems:
        console.warn(f"{model}: {problem}")
    if report.problems:
        raise typer.Exit(1)


def _own_folder(model: str, why: str) -> Path:
    """A checkpoint folder that may be changed."""
    from famcli_models.checkpoint import packaged
    from famcli_models.errors import ConfigError

    if model not in packaged() and not Path(model).is_dir():
        raise ConfigError(f"{why}, so it needs a folder of yours; '{model}' is none")
    return packaged().get(model, Path(model))


def doctor(
    offline: Annotated[bool, Option("--offline", help="Do not ask the Hub.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Check the installation, and say what to do about what is wrong.

    Versions, devices, caches, room on disks, the Hub, and each packaged model. Exit code 1 if fam predict would not
    work; anything else, such as a Hub that cannot be reached, is a note. No token is shown.

    Example: fam doctor
    """
    from famcli.checkpoints.doctor import examine

    findings = list(examine(offline=offline))
    broken = any(finding.state == "broken" for finding in findings)
    if as_json:
        console.result_json({"ok": not broken, "findings": [asdict(finding) for finding in findings]})
    else:
        console.table(("", "what", "found", ""), [(f.group, f.name, f.value, f.state) for f in findings])
    for finding in findings:
        if finding.fix:
            console.warn(f"{finding.state}: {finding.name}: {finding.value}. To fix it: {finding.fix}")
    if broken:
        raise typer.Exit(1)
