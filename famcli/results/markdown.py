"""A result in Markdown: the numbers in a table, the paper's beside them where they exist, and what they were made by.

What was not measured stays empty. The paper's numbers stand in a table of their own, and each says that it is not
measured here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from famcli.data.sample import TEST, split_name
from famcli.results.paper import IMAGES, PaperRow, find
from famcli.results.schema import METRICS, Number, Results, Row

SMOKE = "smoke check"
COCO = ("AP", "AP50", "AP75")
CHOSEN: Mapping[str, str] = {
    "fixed": "fixed",
    "train-fullsup": "chosen on train-fullsup",
    "oracle": "oracle: the best on these images",
}
RULES: Mapping[str, str] = {
    "test_image": "test image",
    "map_frame": "frame",
    "normalisation": "normalisation of the map",
    "threshold": "threshold",
    "component": "component",
    "box": "box",
    "iou": "IoU",
    "right": "right",
    "truth": "truth",
    "several_boxes": "several true boxes",
    "crops": "crops for classes",
}
PAPER_COLUMNS = ("gt_known", "top1_loc", "top1_cls")

_SPECIAL = re.compile(r"[\\`*_\[\]<>|#&~]")


def markdown(results: Results) -> str:
    """The result as a page of Markdown, ending with a line break."""
    parts = [f"# {_text(results.source.get('name'))} on {_text(results.data['name'])}, {_text(results.data['split'])}"]
    parts += [f"**{warning}**" for warning in _warnings(results)]
    parts.append(_table(*score_rows(results), texts=2))
    parts.append(_reading(results))
    head, lines = delta_rows(results)
    if lines:
        parts.append(_table(head, lines, texts=1))
    if results.differences:
        parts += ["## Paired differences", _table(*difference_rows(results), texts=3)]
    if paper := paper_rows(results):
        parts += ["## Beside the paper", _beside(results, paper)]
    parts += ["## How it was measured", "\n".join(f"- {name}: {value}" for name, value in _facts(results) if value)]
    return "\n\n".join(parts) + "\n"


def paper_rows(results: Results) -> tuple[PaperRow, ...]:
    """Rows of the paper's Table 1 that a result can be laid beside.

    There are some only for a model with a backbone of the paper on the whole test split of the paper's data.
    """
    data = results.data
    name = data["name"]
    whole = split_name(data["split"]) == TEST and not data.get("partial") and data["images"] == IMAGES.get(name)
    if results.kind == SMOKE or not whole:
        return ()
    return find(name, str(results.source.get("backbone")))


def _warnings(results: Results) -> Iterator[str]:
    if results.kind == SMOKE:
        yield "Smoke check: these numbers say that the program works, and nothing about the method."
    if results.data.get("partial"):
        of = results.data.get("images_of_split")
        yield f"Partial: {results.data['images']:,} images{f' of {of:,}' if of else ''} were scored."
    if results.source.get("tuned_on_test"):
        yield "The model was tuned on the split that it is scored on."
    if results.source.get("cam_tuned_on_test"):
        yield "The CAM beside it was tuned on the split that it is scored on."


def score_rows(results: Results) -> tuple[list[str], list[list[str]]]:
    """The table of scores as plain text: its head, and a line for each row with nothing where nothing was measured."""
    names = [name for name in METRICS if any(name in row.metrics for row in results.rows)]
    coco = [name for name in COCO if any(name in (row.coco or {}) for row in results.rows)]
    head = ["method", "τ", *(METRICS[name] for name in names), *coco, "no box"]
    lines = [
        [
            row.title,
            _tau(row),
            *(_number(row.metrics.get(name)) for name in names),
            *(_percent((row.coco or {}).get(name)) for name in coco),
            _percent(row.empty),
        ]
        for row in results.rows
    ]
    return head, lines


def difference_rows(results: Results) -> tuple[list[str], list[list[str]]]:
    """The table of paired differences as plain text: its head and its lines."""
    head = ["of", "minus", "metric", "points"]
    lines = [[d.of, d.minus, METRICS.get(d.metric, d.metric), _number(d.number, "+.2f")] for d in results.differences]
    return head, lines


def delta_rows(results: Results) -> tuple[list[str], list[list[str]]]:
    """MaxBoxAcc and MaxBoxAccV2 by δ, each with its τ, as plain text; other protocols have no lines."""
    lines = [
        [row.title, delta, _percent(found.get("value")), f"{found['tau']:.4g}" if "tau" in found else ""]
        for row in results.rows
        for delta, found in (row.at_delta or {}).items()
    ]
    return ["method", "δ", "right", "τ"], lines


def _reading(results: Results) -> str:
    words = "All numbers are in percent."
    level = results.bootstrap.get("level")
    if level:
        how = ", ".join(
            f"{name} {results.bootstrap[name]}" for name in ("resamples", "seed") if name in results.bootstrap
        )
        words += (
            f" In brackets: {100 * level:g} % bootstrap interval over images{f' ({how})' if how else ''};"
            " it does not cover another training seed."
        )
    return words


def _beside(results: Results, paper: Sequence[PaperRow]) -> str:
    head = ["method", *(METRICS[name] for name in PAPER_COLUMNS)]
    methods = {row.method for row in paper}
    lines = [
        [f"{row.title} (measured)", *(_number(row.metrics.get(name)) for name in PAPER_COLUMNS)]
        for row in results.rows
        if row.method in methods
    ]
    lines += [[row.title, *(_percent(getattr(row, name)) for name in PAPER_COLUMNS)] for row in paper]
    note = (
        "The paper gives no intervals. It took CAM's numbers from other papers, whose crops and thresholds may differ; "
        "what it does not say about its own is decided here as under “How it was measured”."
    )
    return f"{_table(head, lines)}\n\n{note}"


def _facts(results: Results) -> Iterator[tuple[str, str]]:
    data, source, protocol = results.data, results.source, results.protocol
    of = data.get("images_of_split")
    yield "data set", _text(data["name"])
    yield "split", _text(data["split"])
    yield "images", f"{data['images']:,}" + (f" of {of:,}" if of is not None else "")
    for name, title in (("boxes", "boxes"), ("masks", "images with masks")):
        if data.get(name) is not None:
            yield title, f"{data[name]:,}"
    yield "whole split", {True: "no, partial", False: "yes"}.get(data.get("partial", ""), "")
    yield "SHA-256 of names, labels and boxes", _text(data.get("sha256"))
    yield str(source["kind"]), _text(source["name"])
    yield "method", _text(source.get("method"))
    yield "weights' SHA-256", _text(source.get("weights_sha256"))
    yield "weights' revision", _text(source.get("revision"))
    yield "backbone", _text(source.get("backbone"))
    yield "pretrained weights of the backbone", _text(source.get("backbone_weights"))
    yield "classifier", _text(source.get("classifier"))
    yield "trained on", _text(source.get("data"))
    yield "recipe", _text(source.get("recipe"))
    yield "training seed", _text(source.get("seed"))
    yield "model of the CAM row", _text(source.get("cam"))
    yield "input size", _text(source.get("input_size"))
    yield "labels are classes of the model", "yes" if results.same_classes else "no"
    yield "protocol", _text(protocol["name"])
    yield "interval of the thresholds", _text(protocol.get("interval"))
    yield "crops", _text(protocol.get("crops"))
    yield "τ", "; ".join(_text(f"{row.title} {_tau(row, CHOSEN)}") for row in results.rows if row.tau is not None)
    empty = [f"{_text(row.title)} {_percent(row.empty)} %" for row in results.rows if row.empty is not None]
    yield "share of images without a box", "; ".join(empty)
    rules = protocol.get("rules")
    if isinstance(rules, Mapping):
        for name, rule in rules.items():
            yield RULES.get(name, _text(name)), _text(rule)
    else:
        yield "rules", _text(rules)
    yield "bootstrap", _text(results.bootstrap)
    yield "made", _text(results.created)
    yield "versions", _text(results.versions)


def _tau(row: Row, names: Mapping[str, str] | None = None) -> str:
    if row.tau is None:
        return ""
    chosen = (names or {}).get(row.tau_from, row.tau_from)
    return f"{row.tau:.4g}" + (f" ({chosen})" if chosen else "")


def _number(number: Number | None, form: str = ".2f") -> str:
    if number is None:
        return ""
    if number.low is None or number.high is None:
        return f"{number.value:{form}}"
    return f"{number.value:{form}} [{number.low:{form}}, {number.high:{form}}]"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table whose first columns are texts, and the others numbers."""
    rule = [":--"] * texts + ["--:"] * (len(head) - texts)
    literal = [[*map(_text, line[:texts]), *line[texts:]] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *literal])


def _text(value: Any) -> str:
    """A value in a line of Markdown, taken literally."""
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    if isinstance(value, Mapping):
        return ", ".join(f"{_text(key)} {_text(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:g}"
    return _SPECIAL.sub(r"\\\g<0>", " ".join(str(value).split()))
