"""What the header of a model card on the Hub says: a license and numbers, of which a stranger chose every letter."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from famcli.hub.measured import TITLES, Measured
from famcli.hub.text import one_line

MAX_HEADER = 64 * 2**10  # letters that are read; a header of fam push with a dozen evaluations has a tenth of them
MAX_EVALUATIONS = 50
MAX_IMAGES = 10**9
SLACK = 1e-6  # what adding up many floats may exceed 100 by
_HEADER = re.compile(r"\s{0,100}---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


def read_header(path: Path) -> tuple[str, tuple[Measured, ...]]:
    """License and numbers that a card names; a card that cannot be read names none.

    Args:
        path: ``README.md``.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            found = _HEADER.match(file.read(MAX_HEADER))
        data = _yaml(found[1]) if found else None
    except Exception:  # noqa: BLE001  (a stranger's YAML may be wrong in any way, and is not needed)
        return "", ()
    if not isinstance(data, dict):
        return "", ()
    license_ = data.get("license")
    return one_line(license_) if isinstance(license_, str) else "", tuple(_evaluations(data.get("model-index")))


def _yaml(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Refuses aliases, with which a few lines stand for more than any memory holds."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                msg = "a card's header needs no aliases"
                raise ValueError(msg)
            return super().compose_node(parent, index)

    return yaml.load(text, Loader=Loader)  # noqa: S506  (it is a SafeLoader)


def _evaluations(index: object) -> Iterator[Measured]:
    """One for each dataset and split, in the order of the card."""
    groups: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]] = {}
    for result in (result for model in _list(index) for result in _list(_mapping(model).get("results"))):
        dataset = _mapping(_mapping(result).get("dataset"))
        name, split = dataset.get("name"), dataset.get("split")
        if not isinstance(name, str):
            continue
        where = one_line(name), one_line(split) if isinstance(split, str) else ""
        facts, values = groups.setdefault(where, ({}, {}))
        for metric in map(_mapping, _list(_mapping(result).get("metrics"))):
            facts |= _mapping(metric.get("args"))
            if isinstance(metric.get("type"), str) and metric["type"] in TITLES:
                values[metric["type"]] = metric.get("value")
    for (name, split), (facts, values) in list(groups.items())[:MAX_EVALUATIONS]:
        try:
            scores = {metric: _percent(value) for metric, value in values.items()}
            images, tau = _count(facts.get("images", 0)), _fraction(facts.get("tau"))
        except ValueError:  # a number that cannot be: then the others beside it say nothing either
            continue
        protocol, tau_from = (one_line(facts.get(key) or "") for key in ("protocol", "tau_from"))
        if scores:
            yield Measured(
                data=name,
                split=split,
                images=images,
                protocol=protocol,
                tau=tau,
                tau_from=tau_from,
                values=scores,
            )


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _percent(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 100 + SLACK:
        return float(value)
    msg = "no percentage"
    raise ValueError(msg)


def _fraction(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    msg = "no threshold within 0 and 1"
    raise ValueError(msg)


def _count(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_IMAGES:
        return value
    msg = "no number of images"
    raise ValueError(msg)
