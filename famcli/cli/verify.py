"""``fam verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from famcli.cli.console import console
from famcli.cli.options import DeviceOption, JsonOption, QuietOption

WORDS = {True: "ok", False: "WRONG", None: "-"}


def verify(
    model: Annotated[
        str, typer.Argument(metavar="NAME|PATH", help="Packaged name, checkpoint folder, or Hub id as for --model.")
    ],
    record: Annotated[
        bool,
        typer.Option("--record", help="Store the golden prediction of a folder's model as it is now, then verify."),
    ] = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Check a checkpoint: hashes, config against weights, and its golden prediction.

    The golden prediction is what the model said of four drawn pictures when it was made. Here it is made again and
    compared. Exit code 1 if anything is wrong.

    Example: fam verify fam-mobilenetv1-ilsvrc
    """
    from famcli.checkpoints import reference as golden
    from famcli.checkpoints.verify import inspect
    from famcli.hub import find_model
    from famcli_models.checkpoint import packaged
    from famcli_models.errors import ConfigError

    own = model not in packaged() and Path(model).is_dir()
    # A folder that is wrong is a finding here, and no error.
    folder = Path(model) if own else find_model(model, console.say)
    if record:
        if model not in packaged() and not own:
            msg = f"--record changes config.json, so it needs a folder of yours; '{model}' is a copy from the Hub"
            raise ConfigError(msg)
        made = golden.record(folder, device)
        console.say(f"stored the golden prediction of '{folder}', digest {made.digest()}")
    report = inspect(folder, device)
    if as_json:
        console.result_json(
            {
                "model": model,
                "folder": str(folder),
                "ok": not report.problems,
                "problems": report.problems,
                "sha256": report.sha256,
                "golden": {"map_difference": report.map_difference, "tolerance": golden.MAP_TOLERANCE},
                "checks": [{"name": c.name, "good": c.good, "detail": c.detail} for c in report.checks],
            }
        )
    else:
        console.table(("check", "", "found"), [(c.name, WORDS[c.good], c.detail) for c in report.checks])
    for problem in report.problems:
        console.warn(f"{model}: {problem}")
    if report.problems:
        raise typer.Exit(1)
