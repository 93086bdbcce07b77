"""``fam doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from famcli.cli.console import console
from famcli.cli.options import JsonOption, QuietOption


def doctor(
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the Hub.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Look at what fam stands on here, and say what to do about what is wrong.

    Versions, devices, caches, room on disks, the Hub, and the packaged model. Exit code 1 if fam predict would not
    work; anything else, such as a Hub that cannot be reached, is a note. No token is shown.

    Example: fam doctor
    """
    from famcli.checkpoints.doctor import examine

    findings = list(examine(offline=offline))
    broken = [finding for finding in findings if finding.state == "broken"]
    if as_json:
        keys = ("group", "name", "value", "state", "fix")
        console.result_json(
            {"ok": not broken, "findings": [{key: getattr(finding, key) for key in keys} for finding in findings]}
        )
    else:
        console.table(("", "what", "found", ""), [(f.group, f.name, f.value, f.state) for f in findings])
    for finding in findings:
        if finding.fix:
            console.warn(f"{finding.state}: {finding.name}: {finding.value}. To fix it: {finding.fix}")
    if broken:
        raise typer.Exit(1)
