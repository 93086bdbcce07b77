"""Write the recipes of the paper's Tables 2 and 3 and of its figure 7, each a copy of vgg16-cub with one thing changed.

The rows of Tables 2 and 3 are written a second time as ``ablation-mini-...``, for a small set and a frozen backbone.
With ``--check`` nothing is written; the exit code is 1 if a recipe is missing or out of date.

The files are flat: nothing is looked up when a run starts. The paper prints no numbers on the axes of figure 7,
only the best value of each, so the grids are ours and hold that value.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from ablation_results import Result, mean, read
from ablation_rows import FROZEN, Row

RECIPES = Path(__file__).parent.parent / "famcli" / "recipes"
BASE = "vgg16-cub"
WEIGHTS = "backbone_weights=mobilenet_v1.safetensors"
PAGE = "docs/concepts/ablations.md"


@dataclass(frozen=True, slots=True)
class Variant:
    """One recipe.

    Attributes:
        name: Of the recipe.
        title: What it is, in one line.
        changes: Fields of ``[model]`` that differ from the base.
        note: More about it.
        twin: The recipe with the same settings, if there is one: one run serves both.
        base: The recipe it is a copy of.
    """

    name: str
    title: str
    changes: dict[str, bool | int | float]
    note: str = ""
    twin: str = ""
    base: str = BASE


@dataclass(frozen=True, slots=True)
class Sweep:
    """One axis of figure 7.

    Attributes:
        name: In the recipes' names.
        field: Of ``[model]``.
        symbol: The paper's.
        values: The grid.
        best: The paper's choice, which is the base's.
    """

    name: str
    field: str
    symbol: str
    values: tuple[int | float, ...]
    best: int | float


EQUAL = "Without the importance prediction all K parts weigh 1/K."
ABLATIONS = (
    Variant(
        "ablation-table2-none",
        "Table 2, row 1: no sparsity loss, no foreground memory.",
        {"sparsity": False, "memory": False, "diversity": False, "importance": False},
        f"Three 1x1 convolutions make M. {EQUAL}",
    ),
    Variant(
        "ablation-table2-sparsity",
        "Table 2, row 2: sparsity loss, no foreground memory.",
        {"memory": False, "diversity": False, "importance": False},
        f"Three 1x1 convolutions make M. {EQUAL}",
    ),
    Variant(
        "ablation-table2-sparsity-memory",
        "Table 2, row 3: sparsity loss and foreground memory.",
        {"diversity": False, "importance": False},
        EQUAL,
        "ablation-table3-none",
    ),
    Variant(
        "ablation-table3-none",
        "Table 3, row 1: no diversity loss, no importance prediction.",
        {"diversity": False, "importance": False},
        EQUAL,
        "ablation-table2-sparsity-memory",
    ),
    Variant(
        "ablation-table3-diversity",
        "Diversity loss, no importance prediction: in the text on Table 3, not in the table.",
        {"importance": False},
        EQUAL,
    ),
    Variant(
        "ablation-table3-importance",
        "Table 3, row 2: importance prediction, no diversity loss.",
        {"diversity": False},
    ),
    Variant(
        "ablation-table3-diversity-importance",
        "Table 3, row 3: diversity loss and importance prediction.",
        {},
        twin=BASE,
    ),
)
SWEEPS = (
    Sweep("spa", "lambda_spa", "λ_spa", (0.0, 0.01, 0.02, 0.04, 0.08, 0.16), 0.04),
    Sweep("div", "lambda_div", "λ_div", (0.0, 0.001, 0.005, 0.01, 0.05, 0.1), 0.01),
    Sweep("templates", "num_templates", "N", (1, 2, 3, 4, 5, 6), 3),
    Sweep("parts", "num_parts", "K", (1, 2, 3, 4, 5, 6, 7), 5),
)


def variants() -> list[Variant]:
    """Every recipe this script writes."""
    found = [*ABLATIONS, *(small(variant) for variant in ABLATIONS)]
    for sweep in SWEEPS:
        grid = ", ".join(f"{value:g}" for value in sweep.values)
        for value in sweep.values:
            note = f"The grid is ours ({grid}): the paper prints no numbers on this axis and takes {sweep.best:g}."
            title = f"Figure 7, {sweep.symbol} = {value:g}."
            changes = {sweep.field: value} if value != sweep.best else {}
            twin = BASE if value == sweep.best else ""
            found.append(Variant(f"sweep-{sweep.name}-{value:g}", title, changes, note, twin))
    return found


def small(variant: Variant) -> Variant:
    """The same row for cub-mini on the features of a frozen MobileNetV1."""
    twin = FROZEN if variant.twin == BASE else variant.twin.replace("ablation-", "ablation-mini-")
    name = variant.name.replace("ablation-", "ablation-mini-")
    return replace(variant, name=name, twin=twin, base=FROZEN)


def score(variant: Variant, results: list[Result]) -> str:
    """What was measured with a recipe, as its header says it; a twin's run serves it."""
    scores = {"gt_known": "GT-known Loc", "top1_loc": "Top-1 Loc", "top1_cls": "Top-1 Cls"}
    runs = runs_of(variant, results)
    if not runs:
        return "not run"
    found = {word: mean(runs, Row("", runs[0].recipe), key) for key, word in scores.items()}
    said = ", ".join(f"{value} {word}" for word, value in found.items())
    return f"{said} on the test images, τ = 0.5: mean ± sd of {len(runs)} seeds; see {PAGE}"


def facts(variant: Variant, header: str, results: list[Result]) -> list[str]:
    """Hardware and time, as the header says them: the base's, or those of the runs."""
    runs = runs_of(variant, results)
    if not runs:
        return [line for line in header.splitlines() if line.startswith(("# hardware", "# time"))]
    seconds = sum(run.seconds for run in runs) / len(runs)
    return [
        "# hardware  1 CPU core, no GPU",
        f"# time      {seconds:.0f} s and what the features take (mean of {len(runs)} runs, shared machine)",
    ]


def runs_of(variant: Variant, results: list[Result]) -> list[Result]:
    """The runs of a recipe for cub-mini; those of its twin serve it."""
    names = (variant.name, variant.twin) if variant.base == FROZEN else ()
    found = ([run for run in results if run.of(Row("", name)) and not run.failed] for name in names)
    return next((runs for runs in found if runs), [])


def recipe(variant: Variant, base: str, results: list[Result]) -> str:
    """The text of a recipe.

    Args:
        variant: What it changes.
        base: Text of the recipe it is a variant of.
        results: Runs that scores are taken from.

    Raises:
        ValueError: The base does not state a field that the variant changes.
    """
    header, body = base.split("\n\n", 1)
    for field, value in variant.changes.items():
        body, found = re.subn(rf"(?m)^{field} = .*$", f"{field} = {json.dumps(value)}", body)
        if found != 1:
            msg = f"{variant.base} states {field} {found} times"
            raise ValueError(msg)
    what = ", ".join(f"{field} = {json.dumps(value)}" for field, value in variant.changes.items()) or "nothing"
    notes = [f"The same settings as {variant.twin}: one run serves both."] if variant.twin else []
    notes += [variant.note] if variant.note else []
    whole = variant.base == BASE
    title = "VGG16 on CUB-200-2011" if whole else "Frozen MobileNetV1 on 463 photographs of CUB-200-2011"
    lines = [
        f"# {title}. {variant.title}",
        "#",
        f"# command   fam train --recipe {variant.name}{'' if whole else f' --set {WEIGHTS}'}",
        *facts(variant, header, results),
        f"# score     {score(variant, results)}",
        "#",
        *([f"# {sentence}" for sentence in wrapped(" ".join(notes))] if notes else []),
        *(f"# {sentence}" for sentence in wrapped(f"Changed from {variant.base}: {what}; see there for all else.")),
        "# Written by scripts/sweep_recipes.py; change that, not this file.",
    ]
    return "\n".join(lines) + "\n\n" + body


def wrapped(text: str, width: int = 116) -> list[str]:
    """Words in lines of a width."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines


def main() -> int:
    """Write or compare."""
    bases = {name: (RECIPES / f"{name}.toml").read_text(encoding="utf-8") for name in (BASE, FROZEN)}
    results = read()
    wanted = {RECIPES / f"{v.name}.toml": recipe(v, bases[v.base], results) for v in variants()}
    stray = sorted({path for kind in ("ablation", "sweep") for path in RECIPES.glob(f"{kind}-*.toml")} - set(wanted))
    if "--check" not in sys.argv[1:]:
        for path, text in wanted.items():
            path.write_text(text, encoding="utf-8")
        for path in stray:
            path.unlink()
        print(f"wrote {len(wanted)} recipes to {RECIPES}")
        return 0
    wrong = stray + [p for p, text in wanted.items() if not p.is_file() or p.read_text(encoding="utf-8") != text]
    for path in wrong:
        print(f"{path} is out of date: run python scripts/sweep_recipes.py", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
