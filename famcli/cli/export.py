"""``fam export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from famcli.cli.console import console
from famcli.cli.options import JsonOption, QuietOption, ThresholdOption
from famcli.names import ExportFormat


def export(
    model: Annotated[
        str, typer.Argument(metavar="NAME|PATH", help="Packaged name, checkpoint folder, or Hub id as for --model.")
    ],
    format: Annotated[ExportFormat, typer.Option(help="Form of the file.")] = ExportFormat.onnx,  # noqa: A002
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File; NAME with the format's ending if not given.")
    ] = None,
    with_boxes: Annotated[
        bool, typer.Option("--with-boxes", help="Find the largest region's box inside the graph too.")
    ] = False,
    threshold: ThresholdOption = None,
    opset: Annotated[int | None, typer.Option(help="Of ONNX; 18 if not given.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Write a model as one file for another runtime, compared with PyTorch.

    The file takes 8-bit RGB pictures of the model's input size, any number of them, and gives foreground maps and
    class probabilities. Normalisation is inside. Exit code 1, and no file, if its results are not the model's.

    Example: fam export fam-mobilenetv1-ilsvrc --format onnx --with-boxes --out fam.onnx
    """
    if threshold is not None and not with_boxes:
        raise typer.BadParameter("--threshold is that of --with-boxes")  # noqa: EM101, TRY003
    if opset is not None and format is not ExportFormat.onnx:
        raise typer.BadParameter("--opset is ONNX's; use it with --format onnx")  # noqa: EM101, TRY003
    from famcli.checkpoints import export as exporting
    from famcli.hub import find_model
    from famcli_models.errors import ConfigError
    from famcli_models.files import check_target
    from famcli_models.loading import load_model

    opset = opset or exporting.OPSETS[0]
    if format is ExportFormat.onnx:
        exporting.check_onnx(opset)  # before anything is downloaded
    if out is None:
        name = Path(model).resolve().name if Path(model).is_dir() else model.partition("@")[0].rpartition("/")[2]
        out = Path(name + exporting.SUFFIXES[format])
    try:
        check_target(out)
    except OSError as error:
        msg = f"cannot write '{out}': {error.strerror}; give another file with --out"
        raise ConfigError(msg) from error
    fam = load_model(find_model(model, console.say))
    if format is ExportFormat.torchscript:
        console.say("TorchScript is deprecated in PyTorch: prefer --format torch-export where your runtime allows")
    tau = (fam.config.tau if threshold is None else threshold) if with_boxes else None
    parity = exporting.export(fam, out, format, tau=tau, opset=opset)
    console.say(f"compared with PyTorch on batches of 1 and 3: {parity.words()}")
    if as_json:
        console.result_json(
            {
                "out": str(out),
                "format": format.value,
                "bytes": out.stat().st_size,
                "opset": opset if format is ExportFormat.onnx else None,
                "threshold": tau,
                "map_difference": parity.maps,
                "probability_difference": parity.probabilities,
                "box_difference": parity.boxes,
                "tolerance": exporting.TOLERANCE,
            }
        )
    else:
        console.result(str(out))
