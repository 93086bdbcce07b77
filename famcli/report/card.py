"""The head of the report: what was measured, on what, by which rules, and what the number must not be taken for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from famcli.report.markup import text
from famcli.results.schema import Results

SMOKE = "smoke check"
SHOWN_DIGITS = 12  # of a hash at the top; the card has all of it
TITLES = {
    "name": "name",
    "split": "split",
    "images": "images",
    "images_of_split": "images of the split",
    "boxes": "boxes",
    "masks": "images with masks",
    "partial": "partial",
    "sha256": "SHA-256",
    "kind": "kind",
    "method": "method",
    "backbone": "backbone",
    "backbone_weights": "backbone weights",
    "weights_sha256": "SHA-256 of the weights",
    "revision": "revision",
    "input_size": "input size",
    "classifier": "classifier",
    "data": "trained on",
    "recipe": "recipe",
    "seed": "seed",
    "tuned_on_test": "tuned on the test split",
    "interval": "interval of τ",
    "crops": "crops",
    "resamples": "resamples",
    "level": "level",
}
LEFT_OUT = frozenset({"class_names", "rules"})


def title(results: Results) -> str:
    """What the report is about, in a line of plain text."""
    return f"{results.source.get('name', '?')} on {results.data.get('name', '?')}/{results.data.get('split', '?')}"


def summary(results: Results) -> str:
    """What a number must never be without, in a line of plain text: n, protocol, threshold, weights, day."""
    row, weights = results.rows[0], results.source.get("weights_sha256")
    facts = [
        f"{results.data.get('images', '?')} images",
        f"protocol {results.protocol.get('name', '?')}",
        "" if row.tau is None else f"τ = {row.tau:g} ({row.tau_from})",
        f"weights {str(weights)[:SHOWN_DIGITS]}" if weights else "",
        results.created[:10],
    ]
    return " · ".join(fact for fact in facts if fact)


def card(results: Results) -> str:
    """Warnings and the facts beside the numbers."""
    groups = [
        ("Data", results.data),
        ("Source", results.source),
        ("Protocol", results.protocol),
        ("Thresholds", _thresholds(results)),
        ("Bootstrap", results.bootstrap),
        ("Versions", {"created": results.created, **results.versions}),
    ]
    boxes = "".join(_group(name, values) for name, values in groups if values)
    rules = results.protocol.get("rules")
    if isinstance(rules, Mapping):
        boxes += _group("Rules", rules, wide=True)
    elif rules:
        lines = [rules] if isinstance(rules, str) else rules
        boxes += _group("Rules", {str(i): line for i, line in enumerate(lines, 1)}, wide=True)
    return f'<div class="card">\n{boxes}</div>\n'


def warnings(results: Results) -> str:
    """What must be read before any number, shouted."""
    found = []
    if results.kind == SMOKE:
        found.append(("Smoke check", "These numbers say that the program works, and nothing else."))
    if results.data.get("partial"):
        of = results.data.get("images_of_split", "?")
        found.append(("Partial", f"Only {results.data.get('images', '?')} of {of} images were scored."))
    if results.source.get("tuned_on_test"):
        found.append(("Tuned on these images", "The model was chosen on the split that it is scored on."))
    return "".join(
        f'<p class="warning"><strong>{text(head.upper())}</strong> {text(words)}</p>\n' for head, words in found
    )


def _thresholds(results: Results) -> dict[str, str]:
    return {row.title: f"τ = {row.tau:g}, {row.tau_from}" for row in results.rows if row.tau is not None}


def _group(name: str, values: Mapping[str, Any], *, wide: bool = False) -> str:
    facts = [
        f"<dt>{text(TITLES.get(key, key.replace('_', ' ')))}</dt><dd>{_value(value)}</dd>\n"
        for key, value in values.items()
        if key not in LEFT_OUT and value is not None and value != ""
    ]
    opening = '<section class="all">' if wide else "<section>"
    return f"{opening}<h3>{text(name)}</h3>\n<dl>\n{''.join(facts)}</dl></section>\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int | float):
        return text(f"{value:,}" if isinstance(value, int) and value >= 10_000 else value)
    if isinstance(value, Mapping):
        return text(", ".join(f"{key}: {part}" for key, part in value.items()))
    return text(", ".join(map(str, value)))
