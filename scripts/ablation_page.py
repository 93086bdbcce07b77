"""docs/concepts/ablations.md and its plot, from the results of ``ablations.py run``.

What the page concludes is computed here from the numbers, so that it cannot say what they do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from ablation_plot import draw
from ablation_readings import ROWS as READING_ROWS, of_readings, which
from ablation_results import EMPTY, FULL, NOISE, Mean, Result, collapses, mean, read, spread
from ablation_rows import AXES, FROZEN, GROUPS, LIGHTER, SEEDS, TABLE_2, TABLE_3, Axis, Row
from generated import write_or_check
from markdown_table import table

PAGE = Path("docs/concepts/ablations.md")
PLOT = Path("docs/assets/ablations.svg")
ROOT = Path(__file__).parent.parent
NAMES = {"gt_known": "GT-known Loc", "top1_cls": "Top-1 Cls"}

INTRO = """<!-- Written by scripts/ablations.py from docs/assets/ablations.jsonl. Change those, not this page. -->

# Ablations

The paper's Tables 2 and 3 and its figure 7 on real photographs, and the readings of equations (1) and (7) side by
side. The paper uses VGG16, fine-tuned on the 5,994 training images of CUB-200-2011. Here it is MobileNetV1 with its
ILSVRC weights on `cub-mini`: 463 training photographs of CUB-200-2011, two or three of each of 200 kinds, and 240
test photographs. So compare the *order* of our rows with the paper's, not the numbers.

- Training reads image labels only. Boxes are read to score the test photographs, with τ = 0.5 for every row.
- A number is mean ± sample standard deviation over the seeds {seeds}, in percent, of the model after the last step.
- Settings are those of the base recipe. They were found for its last row, with the memory, both losses and the
  importance weights, and not anew for each row.
- A difference of two rows is called *{noise}* if it is no larger than the root of the sum of their
  two squared standard deviations.
- *No box* is the share of test images in which M nowhere passes τ. *Foreground* is the share of cells of M that do.
- M counts as *collapsed* in a run if it has no box in {empty} % of the test images or more, or if more than {full} % of
  its cells are foreground.
- With so few photographs of a kind Top-1 Cls is low, and one image is 0.4 points.
"""

TABLES_NOTE = f"""The rows are the recipes `ablation-mini-table2-...` and `ablation-mini-table3-...`, which differ from
`{FROZEN}` in what the row names: 20 epochs on the features of a frozen backbone, with a new classifier.
The last row of Table 2 and the first of Table 3 are the same model, as in the paper.
"""

LIGHTER_NOTE = """The λ_spa of all rows is the one that was found with the memory. The second row at smaller weights:
"""

FIGURE_NOTE = f"""Each value is `{FROZEN}` with one setting changed. The paper's figure has no numbers on its
axes; its text gives the best value of each. The λ differ from the paper's because they weigh a loss against the
classification loss of another network: frozen features, another backbone, two or three photographs a class. The grids
are laid around the values of our recipe.
"""

RUN_NOTE = """## Run it again

<!-- not run: takes 87 minutes, and the data are not fam's to pass on -->
```sh
python scripts/ablations.py run --weights mobilenet_v1.safetensors
python scripts/ablations.py write
```

The {runs} runs took {minutes:.0f} minutes of one core of a machine whose two cores were shared with other work, not
counting the cached features. `run` leaves out the runs that [`ablations.jsonl`](../assets/ablations.jsonl) has; give
another file with `--results` to begin anew. One row alone is
`fam train --recipe ablation-mini-table2-none --set backbone_weights=mobilenet_v1.safetensors`.
"""


def verdict(before: Mean, after: Mean, paper: float) -> str:
    """A step from one row to the next beside the paper's step."""
    if not (before.n and after.n):
        return "not run"
    step = after.mean - before.mean
    if abs(step) <= spread(before, after):
        return NOISE
    return "same direction" if (step > 0) == (paper > 0) else "**the other direction**"


def ordered(rows: Sequence[Row], results: Sequence[Result], score: str) -> str:
    """Whether the means of rows have the paper's order."""
    known = [row for row in rows if score in row.paper]
    ours = [mean(results, row, score) for row in known]
    if not all(m.n for m in ours):
        return "cannot be said, some rows are missing"
    pairs = list(zip(ours, [row.paper[score] for row in known], strict=True))
    same = sorted(range(len(pairs)), key=lambda i: pairs[i][0].mean) == sorted(
        range(len(pairs)), key=lambda i: pairs[i][1]
    )
    unsure = any(abs(b.mean - a.mean) <= spread(a, b) for a, b in pairwise(ours))
    return ("yes" if same else "**no**") + (", but not every step is larger than the spread" if unsure else "")


def signed(value: float) -> str:
    """A difference."""
    return f"{value:+.1f}".replace("-", "−")


def paper(row: Row, score: str) -> str:
    """A number of the paper."""
    return f"{row.paper[score]:.2f}" if score in row.paper else ""


def similarity(row: Row, results: Sequence[Result]) -> str:
    """Mean cosine of the part maps; a single part has none."""
    alike = mean(results, row, "part_similarity")
    if row.changes.get("num_parts") == 1:
        return ""
    return f"{alike.mean:.2f}" if alike.n else "not run"


def of_rows(rows: Sequence[Row], results: Sequence[Result]) -> str:
    """Scores of the rows of one of the paper's tables."""
    header = [
        "on",
        "GT-known Loc",
        "paper",
        "Top-1 Cls",
        "paper",
        "no box",
        "foreground",
        "part similarity",
        "collapsed",
    ]
    lines = []
    for row in rows:
        ours = {name: str(mean(results, row, name)) for name in ("gt_known", "top1_cls", "empty", "foreground")}
        printed = [ours["gt_known"], paper(row, "gt_known"), ours["top1_cls"], paper(row, "top1_cls")]
        more = [ours["empty"], ours["foreground"], similarity(row, results), collapses(results, row)]
        lines.append([row.label, *printed, *more])
    return table(header, lines)


def of_steps(steps: Sequence[tuple[Row, Row]], results: Sequence[Result]) -> str:
    """What a row adds to another, by score; a score that the paper does not print for both is left out."""
    lines = []
    for score, name in NAMES.items():
        for before, after in steps:
            if score not in before.paper or score not in after.paper:
                continue
            a, b = mean(results, before, score), mean(results, after, score)
            printed = after.paper[score] - before.paper[score]
            ours = f"{signed(b.mean - a.mean)} (spread {spread(a, b):.1f})" if a.n and b.n else "not run"
            step = f"{before.label} → {after.label}"
            lines.append([name, step, signed(printed), ours, verdict(a, b, printed)])
    return table(["score", "step", "paper", "here", "verdict"], lines)


def of_table(title: str, rows: Sequence[Row], steps: Sequence[tuple[int, int]], results: Sequence[Result]) -> str:
    """A section on one of the paper's tables."""
    orders = "\n".join(f"- Order of {name} as in the paper: {ordered(rows, results, s)}." for s, name in NAMES.items())
    pairs = [(rows[i], rows[j]) for i, j in steps]
    return f"### {title}\n\n{of_rows(rows, results)}\n\n{of_steps(pairs, results)}\n\n{orders}\n"


def best(axis: Axis, results: Sequence[Result], score: str) -> str:
    """Which value of an axis wins, and which others cannot be told from it."""
    means = {value: mean(results, row, score) for value, row in zip(axis.values, axis.rows(), strict=True)}
    means = {value: found for value, found in means.items() if found.n}
    if not means:
        return "not run"
    top = max(means, key=lambda value: means[value].mean)
    near = [v for v, m in means.items() if v != top and means[top].mean - m.mean <= spread(means[top], m)]
    said = f"{NAMES[score]} is best at {top:g}{', as in the paper' * (top == axis.best)} ({means[top]})"
    return f"{said}; its lead over {', '.join(f'{v:g}' for v in near)} is {NOISE}" if near else said


def of_axis(axis: Axis, results: Sequence[Result]) -> str:
    """A section on one axis of figure 7."""
    lines = []
    for row in axis.rows():
        shown = [str(mean(results, row, name)) for name in ("gt_known", "top1_cls", "empty", "foreground")]
        lines.append([row.label, *shown, similarity(row, results)])
    header = [axis.symbol, "GT-known Loc", "Top-1 Cls", "no box", "foreground", "part similarity"]
    said = ". ".join(best(axis, results, score) for score in NAMES)
    return f"### {axis.symbol}\n\nThe paper's choice is {axis.best:g}. {said}.\n\n{table(header, lines)}\n"


def in_short(results: Sequence[Result]) -> str:
    """What the page finds."""
    said = ["## In short\n"]
    for number, rows in ((2, TABLE_2), (3, TABLE_3)):
        for score, name in NAMES.items():
            first, last = (mean(results, row, score) for row in (rows[0], rows[-1]))
            step = (
                f"{signed(last.mean - first.mean)} (spread {spread(first, last):.1f})"
                if first.n and last.n
                else "not run"
            )
            printed = signed(rows[-1].paper[score] - rows[0].paper[score])
            said.append(
                f"- Table {number}, {name}: from the first row to the last {step}, in the paper {printed}. "
                f"The paper's order of rows: {ordered(rows, results, score)}."
            )
    said += [
        f"- Figure 7, {axis.symbol} (the paper's choice: {axis.best:g}): {best(axis, results, 'gt_known')}."
        for axis in AXES
    ]
    said += [f"- Readings of equations (1) and (7): {line.removeprefix('- ')}" for line in which(READING_ROWS, results)]
    return "\n".join([*said, ""])


def page(results: Sequence[Result]) -> str:
    """The page's text."""
    wanted = {(row.recipe, *row.overrides): row for rows in GROUPS.values() for row in rows}
    runs = [[result.seed for result in results if result.of(row)] for row in wanted.values()]
    missing = sum(seed not in seeds for seeds in runs for seed in SEEDS)
    minutes = sum(result.seconds for result in results) / 60
    seeds = ", ".join(map(str, SEEDS))
    parts = [INTRO.format(seeds=seeds, noise=NOISE, empty=EMPTY, full=FULL)]
    if missing:
        parts.append(
            f"**{missing} of {len(SEEDS) * len(wanted)} runs are missing.** A row that was run with one seed has no ±; "
            "one that was not run says so.\n"
        )
    parts += [
        in_short(results),
        "## Tables 2 and 3\n",
        TABLES_NOTE,
        of_table("Table 2: the object-aware attention", TABLE_2, ((0, 1), (1, 2), (0, 2)), results),
        LIGHTER_NOTE,
        of_rows(LIGHTER, results) + "\n",
        of_table("Table 3: the part-aware attention", TABLE_3, ((0, 1), (0, 2), (1, 3), (2, 3), (0, 3)), results),
        "## Figure 7\n",
        FIGURE_NOTE,
        "![GT-known Loc and Top-1 Cls by λ_spa, λ_div, N and K, mean ± sd](../assets/ablations.svg)\n",
        *(of_axis(axis, results) for axis in AXES),
        of_readings(results),
        RUN_NOTE.format(runs=len(results), minutes=minutes),
    ]
    return "\n".join(parts)


def write(path: Path, *, check: bool, root: Path = ROOT) -> int:
    """Write the page and the plot, or compare them.

    Args:
        path: Results.
        check: Compare.
        root: Of the repository.

    Returns:
        1 if they are out of date.
    """
    results = read(path)
    files = {root / PAGE: page(results), root / PLOT: draw(AXES, results)}
    return write_or_check(files, "scripts/ablations.py write", check=check)
