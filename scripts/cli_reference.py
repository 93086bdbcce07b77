"""Write docs/reference/cli.md from the commands themselves.

With ``--check`` nothing is written; the exit code is 1 if the page is out of date.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

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
    lines = (line.rstrip() for line in run.stdout.splitlines())
    return NOTE + "\n".join(lines).strip() + "\n"


def main() -> int:
    """Write or compare."""
    new = reference()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(new, encoding="utf-8")
        print(f"wrote {PAGE}")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == new:
        return 0
    print(f"{PAGE} is out of date: run python scripts/cli_reference.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
