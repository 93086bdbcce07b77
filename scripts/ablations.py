"""Run the ablations on real images, and write docs/concepts/ablations.md from what they gave.

    python scripts/ablations.py run --weights mobilenet_v1.safetensors
    python scripts/ablations.py write [--check]

``run`` adds a line to docs/assets/ablations.jsonl for each run that has ended and leaves out runs that are there, so
that an interruption costs one run. It trains what ``fam train --recipe`` trains; only the features of a frozen
backbone, which are the same for all rows of a seed, are computed once.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ablation_page import write
from ablation_results import RESULTS, append, read
from ablation_rows import GROUPS, SEEDS, SINGLE


def run(options: argparse.Namespace) -> None:
    """Train and measure what is missing, seed by seed."""
    import torch  # neither is needed to write the page
    from ablation_bench import Bench

    torch.set_num_threads(options.threads)
    bench = Bench(options.weights, options.root)
    several = [row for group in options.only for row in GROUPS.get(group, ())]
    once = [row for group in options.only for row in SINGLE.get(group, ())]
    for seed in options.seeds:
        for row in several + (once if seed == SEEDS[0] else []):
            if any(result.of(row) and result.seed == seed for result in read(options.results)):
                continue
            result = bench.result(row, seed)
            append(options.results, result)
            said = result.failed or "  ".join(f"{name} {value:.4g}" for name, value in result.scores.items())
            print(f"seed {seed}  {row.recipe} {' '.join(row.overrides)}: {said}  ({result.seconds:.0f} s)", flush=True)


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the runs that have ended")
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="train and measure what is missing")
    running.add_argument("--root", type=Path, help="folder that holds the prepared data sets")
    running.add_argument("--weights", required=True, help="safetensors file of the MobileNetV1 of ILSVRC")
    running.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    running.add_argument(
        "--only", nargs="+", choices=GROUPS | SINGLE, default=[*GROUPS, *SINGLE], help="some of the comparisons"
    )
    running.add_argument("--threads", type=int, default=1)
    writing = commands.add_parser("write", help="write the page and its plot")
    writing.add_argument("--check", action="store_true", help="exit 1 if they are out of date instead of writing them")
    options = parser.parse_args()
    if options.command == "write":
        return write(options.results, check=options.check)
    run(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
