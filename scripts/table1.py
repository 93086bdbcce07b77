"""Train and measure the small Table 1, and write docs/concepts/rivals.md from what it gave.

    python scripts/table1.py run --weights mobilenet_v1.safetensors --root data/
    python scripts/table1.py write [--check]

``run`` adds a line to docs/assets/methods.jsonl for each run that has ended and leaves out runs that are there, so
that an interruption costs one run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from table1_page import DATA, ROWS, write
from table1_results import RESULTS, append, read

SEEDS = (0, 1, 2)


def run(options: argparse.Namespace) -> None:
    """Train and measure what is missing, seed by seed."""
    import torch  # not needed to write the page
    from table1_bench import run_cell

    torch.set_num_threads(options.threads)
    for seed in options.seeds:
        for data in options.data:
            for method in options.methods:
                recipe = f"{method}-{options.backbone}-{data}"
                if any((r.recipe, r.data, r.seed) == (recipe, data, seed) for r in read(options.results)):
                    continue
                result = run_cell(recipe, data, options.root / data, options.weights, seed, options.recipes)
                append(options.results, result)
                said = "  ".join(f"{name} {value:.1f}" for name, value in result.scores.items())
                print(f"seed {seed}  {recipe}: {said}  ({result.step_seconds:.2f} s a step)", flush=True)


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the runs that have ended")
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="train and measure what is missing")
    running.add_argument("--root", type=Path, required=True, help="folder that holds the prepared data sets")
    running.add_argument("--weights", type=Path, required=True, help="safetensors file of the backbone's weights")
    running.add_argument("--recipes", type=Path, help="folder of recipes, instead of the packaged ones")
    running.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    running.add_argument("--methods", nargs="+", default=[row.name for row in ROWS])
    running.add_argument("--backbone", default="mobilenetv1")
    running.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    running.add_argument("--threads", type=int, default=1)
    writing = commands.add_parser("write", help="fill the page's tables and draw the plot")
    writing.add_argument("--check", action="store_true", help="exit 1 if they are out of date instead of writing them")
    options = parser.parse_args()
    if options.command == "write":
        return write(options.results, check=options.check)
    run(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
