"""Write docs/reference/cli.md from the commands themselves.

With ``--check`` nothing is written; the exit code is 1 if the page is out of date.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from generated import write_or_check

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "cli.md"
NOTE = "<!-- Written by scripts/cli_reference.py. Change the commands, not this page. -->\n\n"
COMMAND = ("-m", "typer", "famcli.cli.app", "utils", "docs", "--name", "fam", "--title", "Commands")


def reference() -> str:
    """The page as Typer writes it for the installed famcli."""
    environment = {**os.environ, "PYTHONUTF8": "1", "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "120"}
    with tempfile.TemporaryDirectory() as elsewhere:  # -m would take famcli from the current folder
        run = subprocess.run(
            [sys.executable, *COMMAND],
            cwd=elsewhere,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
    if run.returncode:
        sys.exit(f"typer could not describe the commands:\n{run.stderr}")
    # A synopsis is nothing to type, so no block of commands.
    lines = (line.rstrip() for line in run.stdout.replace("```console", "```text").splitlines())
    return NOTE + "\n".join(lines).strip() + "\n"


def main() -> int:
    """Write or compare."""
    return write_or_check({PAGE: reference()}, "scripts/cli_reference.py", check="--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
