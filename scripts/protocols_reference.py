"""Write the tables of docs/concepts/protocols.md from the table of protocols.

With ``--check`` nothing is written; the exit code is 1 if the page is out of date.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from generated import write_or_check

from famcli.evaluation.protocols import PROTOCOLS

PAGE = Path(__file__).parent.parent / "docs" / "concepts" / "protocols.md"
BEGIN, END = (
    "<!-- Written by scripts/protocols_reference.py from famcli/evaluation/protocols.py. -->",
    "<!-- End of what it wrote. -->",
)
QUESTIONS = {"iou": "IoU", "truth": "ground truth", "crops": "classification crops", "source": "from"}


def tables() -> str:
    """A table of questions and answers for each protocol."""
    lines = []
    for name, protocol in PROTOCOLS.items():
        lines += [f"### `{name}`: {protocol.title}", "", "| | |", "|---|---|"]
        for field in dataclasses.fields(protocol):
            if field.name != "title":
                question = QUESTIONS.get(field.name, field.name.replace("_", " "))
                lines.append(f"| {question} | {getattr(protocol, field.name).replace('|', chr(92) + '|')} |")
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Write or compare."""
    old = PAGE.read_text(encoding="utf-8")
    before, _, rest = old.partition(BEGIN)
    _, _, after = rest.partition(END)
    new = f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"
    return write_or_check({PAGE: new}, "scripts/protocols_reference.py", check="--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
