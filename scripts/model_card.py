"""Write the card of a packaged checkpoint from what is stored beside it.

    python scripts/model_card.py famcli_models/weights/fam-mobilenetv1-ilsvrc [--check]

``config.json`` says what the model is and where it came from, ``results.json`` holds what ``fam eval --json``
measured, and ``card.toml`` the sentences a program cannot know: data, terms, command, limits.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from famcli_models.files import sha256_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

COLUMNS = {
    "method": "method",
    "tau": "τ",
    "gt_known": "GT-known Loc",
    "top1_loc": "Top-1 Loc",
    "top5_loc": "Top-5 Loc",
    "top1_cls": "Top-1 Cls",
    "top5_cls": "Top-5 Cls",
    "mean_iou": "mean IoU",
    "empty": "no box",
}


def cell(row: dict[str, Any], key: str) -> str:
    """One cell of a table of scores."""
    value = row[key]
    if value is None:
        return ""
    if key == "tau":
        return f"{value:g} ({row['tau_from']})"
    return value if isinstance(value, str) else f"{value:.1f}"


def table(rows: list[dict[str, Any]]) -> str:
    """Scores as a Markdown table."""
    lines = [" | ".join(COLUMNS.values()), " | ".join("---" for _ in COLUMNS)]
    lines += [" | ".join(cell(row, key) for key in COLUMNS) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def card(folder: Path) -> str:
    """The card's text."""
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    words = tomllib.loads((folder / "card.toml").read_text(encoding="utf-8"))
    config, provenance = stored["model"], stored["provenance"]
    weights = folder / "model.safetensors"
    parts = [
        f"# {folder.name}\n\n{words['summary']}",
        f"## Trained on\n\n{words['data']}",
        f"Terms: {words['terms']}",
        "Labels: image labels only; no box or mask was read in training.",
        f"Backbone weights: {provenance['backbone_weights']} (SHA-256 `{provenance['backbone_sha256']}`).",
        f"```sh\n{words['command'].strip()}\n```",
        f"{words['time']} Seed {provenance['seed']}; {provenance['images']} images.",
        "## Measured",
        (
            f"Percent; `fam eval`, single view squashed to {config['size']}x{config['size']}, raw sigmoid map enlarged "
            "to the image, largest component, IoU >= 0.5 with any box. 'oracle' marks a threshold chosen on the very "
            "images of the row."
        ),
    ]
    for result in results:
        parts += [f"### {result['data']}, {result['split']}, {result['images']} images", table(result["rows"])]
        if result.get("note"):
            parts.append(result["note"])
    parts += [
        f"## Limits\n\n{words['limits']}",
        f"## File\n\n`model.safetensors`, {weights.stat().st_size / 1e6:.1f} MB, SHA-256 `{sha256_file(weights)}`",
        f"Golden prediction, for `fam verify {folder.name}`: digest of its maps `{provenance['golden']['digest']}`",
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def main() -> None:
    """Write or check a card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="exit 1 if the card is stale instead of writing it")
    options = parser.parse_args()
    path, text = options.folder / "README.md", card(options.folder)
    if options.check:
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path} is stale; run python scripts/model_card.py {options.folder}")
    else:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
