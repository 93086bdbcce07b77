"""Write docs/reference/recipes.md from the headers of the packaged recipes.

With ``--check`` nothing is written; the exit code is 1 if the page is out of date.
"""

from __future__ import annotations

import re
import sys
from dataclasses import asdict
from pathlib import Path

from generated import write_or_check

from famcli.training.catalog import FACTS, RecipeNote, recipes

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "recipes.md"
INTRO = """<!-- Written by scripts/recipes_reference.py from the recipes' headers. Change those, not this page. -->

# Recipes

`fam train --recipe NAME` takes one of these, and `fam recipes NAME` prints it: a flat TOML file whose header says more
than this page. *Score* is what this project measured with the recipe, or "not run"; *time*
and *hardware* of a recipe that was not run are estimates, and say so. No number here is the paper's.

The axes of the paper's figure 7 are `vgg16-cub` with one setting changed:

<!-- not run: six trainings of VGG16 on CUB -->
```sh
for value in 0 0.01 0.02 0.04 0.08 0.16; do
  fam train --recipe vgg16-cub --set lambda_spa=$value --out runs/spa-$value
done
```

The same goes for `lambda_div` (0, 0.001, 0.005, 0.01, 0.05, 0.1), `num_templates` (1 to 6) and `num_parts` (1 to 7).
The paper prints no numbers on these axes, so the grids are ours; they hold its best values, 0.04, 0.01, 3 and 5, which
are the recipe's own.
"""
GROUPS = (
    ("FAM's cells of the paper's Table 1", r"(vgg16|resnet50|inceptionv3|mobilenetv1)-(cub|ilsvrc)"),
    ("The cells of other methods", r"[a-z0-9]+-(vgg16|resnet50|inceptionv3|mobilenetv1)-(cub|ilsvrc)"),
    ("All methods on two small sets, with the same budget", r"[a-z0-9-]+-mobilenetv1-(imagenette-wsol|butterflies)"),
    ("The rows of Tables 2 and 3, on a small set with a frozen backbone", r"ablation-mini-.*"),
    ("The rows of Tables 2 and 3", r"ablation-.*"),
    ("Small sets, a frozen or a trained backbone", r".*"),
)


def table(notes: list[RecipeNote]) -> list[str]:
    """A group's lines; what is the same for all is said once."""
    members = [(note.name, asdict(note)) for note in notes]
    shared = [fact for fact in FACTS[1:] if len({said[fact] for _, said in members}) == 1]
    columns = ["title", *(fact for fact in FACTS[1:] if fact not in shared)]
    lines = [f"All: {'; '.join(f'*{fact}* {members[0][1][fact]}' for fact in shared)}.\n"] if shared else []
    lines += ["| recipe | " + " | ".join(columns).replace("title", "what") + " |", "|---" * (1 + len(columns)) + "|"]
    for name, said in members:
        lines.append(f"| `{name}` | " + " | ".join(said[column].replace("|", "\\|") for column in columns) + " |")
    return [*lines, ""]


def page() -> str:
    """The page's text."""
    left = [RecipeNote.from_file(path) for path in recipes().values()]
    lines = [INTRO]
    for title, pattern in GROUPS:
        members = [note for note in left if re.fullmatch(pattern, note.name)]
        left = [note for note in left if note not in members]
        lines += [f"## {title}\n", *table(members)]
    return "\n".join(lines)


def main() -> int:
    """Write or compare."""
    return write_or_check({PAGE: page()}, "scripts/recipes_reference.py", check="--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
