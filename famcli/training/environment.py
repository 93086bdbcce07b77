"""What a run ran on: versions, device, commit."""

from __future__ import annotations

import datetime as dt
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from famcli.checkpoints.doctor import package_versions


def environment(accelerator: Accelerator) -> dict[str, Any]:
    """JSON-able facts for the run folder."""
    device = accelerator.device
    return {
        "started": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "command": ["fam", *sys.argv[1:]],
        "versions": package_versions(),
        "platform": platform.platform(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit of the source that runs, if it runs from a checkout."""
    source = Path(__file__).parent
    # Tracked: an installed copy may well lie inside somebody else's checkout.
    for arguments in (["ls-files", "--error-unmatch", "environment.py"], ["rev-parse", "HEAD"]):
        try:
            done = subprocess.run(  # noqa: S603  (no user input)
                ["git", *arguments],  # noqa: S607
                cwd=source,
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode:
            return None
    return done.stdout.strip()
