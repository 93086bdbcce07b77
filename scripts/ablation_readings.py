"""The section of docs/concepts/ablations.md on the readings of equations (1) and (7)."""

from __future__ import annotations

from collections.abc import Sequence

from ablation_results import NOISE, Result, collapses, mean, spread
from ablation_rows import LIGHT, LITERAL, LONGER, PILOT, READINGS, SEEDS, SMALL, TUNED, Row
from markdown_table import table

WORKING = 0.5  # share of the best reading's GT-known Loc below which a reading does not work
FROZEN_EMPTY = 83  # percent, from the method page
ROWS = (*READINGS, LITERAL)

NOTE = f"""## Equations (1) and (7): which reading works?

Here the backbone and the classifier are trained too, from their ILSVRC weights, on 1,000 photographs with ILSVRC's
labels, one a class (`imagenet-samples`), and scored on 608 ILSVRC validation images (`ilsvrc-val-mini`). The recipe is
`{TUNED}` with {{changes}}, so that many runs can be afforded on a CPU. Its λ_spa
of 2.5 was found with *softmax, foreground*; the last row has the paper's 0.04. The runs are short: they end below the
59.0 % GT-known Loc of a centre box, and the full recipe above it ([Runs we made](../guides/runs.md)). They compare the
readings, no more. With `ratio-relu` M is sigmoid(0) = τ wherever no β is positive, which is not foreground.

Birds would not do. A new classifier for 200 kinds learns next to nothing in as few steps, and then nothing pays for a
foreground: {{pilot}}.
"""


def of_readings(results: Sequence[Result]) -> str:
    """The whole section."""
    changes = ", ".join(f"{name} {value}" for name, value in SMALL.items())
    said = [*which(ROWS, results), *literal(results)]
    note = NOTE.format(changes=changes, pilot=pilot(results))
    return "\n".join([note, scores(ROWS, results), "", *said, ""])


def scores(rows: Sequence[Row], results: Sequence[Result]) -> str:
    """The table."""
    header = ["similarity, pooling", "GT-known Loc", "Top-1 Cls", "no box", "foreground", "mean of M", "collapsed"]
    lines = []
    for row in rows:
        shown = [str(mean(results, row, name)) for name in ("gt_known", "top1_cls", "empty", "foreground")]
        level = mean(results, row, "mean_m")
        said = f"{level.mean:.2f} ± {level.sd:.2f}" if level.n else "not run"
        lines.append([row.label, *shown, said, collapses(results, row)])
    return table(header, lines)


def which(rows: Sequence[Row], results: Sequence[Result]) -> list[str]:
    """Which reading works, in sentences."""
    ran = [row for row in rows if mean(results, row, "gt_known").n]
    good = [row for row in ran if works(row, results)]
    said = []
    for words, some in (
        ("These work", good),
        (
            f"These do not (GT-known Loc below {100 * WORKING:g} % of the best, or collapsed)",
            [r for r in ran if r not in good],
        ),
    ):
        if some:
            said.append(f"- {words}: {'; '.join(f'*{row.label}*' for row in some)}.")
    poolings = {str(row.changes["pooling"]) for row in good}
    said += [
        f"- So the pooling of equation (7) decides: every similarity works with `{pooling}` and only so."
        for pooling in poolings
        if all((row.changes["pooling"] == pooling) == (row in good) for row in ran)
    ]
    ranked = sorted(good, key=lambda row: -mean(results, row, "gt_known").mean)
    if ranked:
        top = mean(results, ranked[0], "gt_known")
        others = {row.label: mean(results, row, "gt_known") for row in ranked[1:]}
        near = [label for label, other in others.items() if top.mean - other.mean <= spread(top, other)]
        lead = f"; its lead over {'; '.join(f'*{label}*' for label in near)} is {NOISE}" if near else ""
        said.append(f"- GT-known Loc is highest with *{ranked[0].label}*, {top}{lead}.")
    return said


def works(row: Row, results: Sequence[Result]) -> bool:
    """M collapsed with no seed, and its boxes are not far behind those of the best reading."""
    best = max(value.mean for value in (mean(results, other, "gt_known") for other in ROWS) if value.n)
    sound = not any(result.collapsed for result in results if result.of(row))
    return sound and mean(results, row, "gt_known").mean >= WORKING * best


def literal(results: Sequence[Result]) -> list[str]:
    """What became of the printed equations, beside what they did on frozen features."""
    if not mean(results, LITERAL, "gt_known").n:
        return []
    verdict = "helps" if works(LITERAL, results) else "does not make them work"
    return [
        "- On frozen features, in another training, the printed equations with λ_spa = 0.04 left M empty in "
        f"{FROZEN_EMPTY} % of the same images ([The method](method.md#equation-7-what-the-parts-pool)). "
        f"Training the backbone {verdict}: " + summary(LITERAL, results),
        *(
            f"- *{row.label}*, one run with seed {SEEDS[0]}: {summary(row, results)}"
            for row in (LONGER, LIGHT)
            if mean(results, row, "gt_known").n
        ),
    ]


def summary(row: Row, results: Sequence[Result]) -> str:
    """A row in a sentence."""
    found = {name: mean(results, row, name) for name in ("empty", "foreground", "gt_known", "top1_cls")}
    return (
        f"no box in {found['empty']} % of the images, {found['foreground']} % of the cells foreground, GT-known Loc "
        f"{found['gt_known']}, Top-1 Cls {found['top1_cls']}."
    )


def pilot(results: Sequence[Result]) -> str:
    """What the same comparison began with on cub-mini."""
    said = {name: mean(results, PILOT, name) for name in ("top1_cls", "empty")}
    if not said["empty"].n:
        return "not run"
    return (
        f"after {PILOT.changes['epochs']} epochs of `{PILOT.recipe}` at {PILOT.changes['size']} pixels (seed 0) "
        f"Top-1 Cls was {said['top1_cls']} % and M gave no box in {said['empty']} % of the test images"
    )
