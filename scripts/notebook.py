"""Run docs/notebooks/first_steps.ipynb from top to bottom, and keep what its cells print and draw.

    python scripts/notebook.py            # write the outputs into the notebook
    python scripts/notebook.py --check    # does every cell run, and are the outputs in it of the same form?

It runs in an empty folder, so on the photographs of scikit-image, with the packages of this Python. Two minutes.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebooks" / "first_steps.ipynb"
MOST_BYTES = 400_000  # of the file with its pictures
SECONDS = 900  # a cell may take on a slow machine
NUMBER = re.compile(r"\d+(\.\d+)?")


def run(notebook: NotebookNode) -> None:
    """Put the outputs of all cells into a notebook; a cell that fails is a ``CellExecutionError``."""
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # tqdm's, of a package that is not needed
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            coalesce_streams=True,
            record_timing=False,
        ).execute()


def form(notebook: NotebookNode) -> list[object]:
    """Cells, the place of each in the order of the run, and outputs: texts without their numbers, and kinds of data."""
    cells: list[object] = []
    for cell in notebook.cells:
        outputs = [
            (
                output.output_type,
                " ".join(NUMBER.sub("", output.get("text", "")).split()),
                *sorted(output.get("data", ())),
            )
            for output in cell.get("outputs", ())
        ]
        cells.append((cell.cell_type, cell.source, cell.get("execution_count"), outputs))
    return cells


def main() -> int:
    """Write or compare."""
    kept, new = (nbformat.read(NOTEBOOK, as_version=4) for _ in range(2))
    run(new)
    if "--check" in sys.argv[1:]:
        for before, after in zip(form(kept), form(new), strict=True):
            if before != after:
                print(
                    f"{NOTEBOOK} is out of date: run python scripts/notebook.py",
                    before,
                    after,
                    sep="\n",
                    file=sys.stderr,
                )
                return 1
        return 0
    new.metadata.language_info = {"name": "python"}  # not the version of this Python
    nbformat.write(new, NOTEBOOK)
    size = NOTEBOOK.stat().st_size
    print(f"wrote {NOTEBOOK}, {size:,} bytes")
    return int(size > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
