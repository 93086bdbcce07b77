"""Write the model card that ``fam push`` uploads, from what is stored and nothing else, and read the numbers of one.

Text that comes from a file becomes one line that can neither begin a section, nor break a table, nor command a
terminal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.repocard_data import model_index_to_eval_results
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import TypeAdapter, ValidationError

from famcli.data.public.catalog import CATALOG as DATASETS
from famcli.results import tables
from famcli.results.schema import METRICS, Count, Percent, Results, Share
from famcli_models.checkpoint import REFERENCE
from famcli_models.config import MethodConfig
from famcli_models.errors import short, shown

SHORT = 80  # letters of a name
LONG = 1000  # letters of a fact
MAX_HEADER = 64 * 2**10  # letters that are read; a header of fam push with a dozen evaluations has a tenth of them
MAX_EVALUATIONS = 50
MAX_DEPTH = 20  # of lists and mappings in a header; fam push writes six
TAGS = ("fam", "wsol", "weakly-supervised-object-localization", "class-activation-map")
# Away from the tables of fam eval a title has to say by itself that it is about boxes.
TITLES: Mapping[str, str] = {**METRICS, "gt_known": "GT-known Loc"}
_HUB_SOURCE = re.compile(r"([\w.-]+/[\w.-]+) \(Hugging Face Hub\)")
_DATASET = re.compile(r"[\w.-]{1,96}", re.ASCII)
_HEADER = re.compile(r"\s{0,100}---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One evaluation in short: what a list shows of ``results.json``, or of the header of a model card."""

    data: str
    split: str
    images: Count = 0
    protocol: str = ""
    tau: Share | None = None
    tau_from: str = ""  # how it was chosen; oracle is on the very images scored
    values: Mapping[str, Percent]  # by a name of TITLES

    @classmethod
    def from_results(cls, results: Results) -> Measured:
        """The first row of a result."""
        first = results.rows[0]
        return cls(
            data=results.data["name"],
            split=results.data["split"],
            images=results.data["images"],
            protocol=results.protocol["name"],
            tau=first.tau,
            tau_from=first.tau_from,
            values={name: number.value for name, number in first.metrics.items() if name in TITLES},
        )

    def sentence(self) -> str:
        """``GT-known Loc 69.6, Top-1 Loc 54.1 (ilsvrc-val-mini/test, 608 images)``."""
        shown = [name for name in TITLES if name in self.values and name != "mean_iou"][:2]
        numbers = ", ".join(f"{TITLES[name]} {self.values[name]:.1f}" for name in shown)
        return f"{numbers} ({self.data}/{self.split}, {self.images:,} images)"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: what a list shows."""
        facts = asdict(self)
        return facts | {name: round(value, 2) for name, value in facts.pop("values").items()}


_MEASURED = TypeAdapter(Measured)


def model_card(
    repo: str,
    config: MethodConfig,
    stored: Mapping[str, Any],
    weights: tuple[str, int],
    measured: Sequence[Results] = (),
    license: str | None = None,  # noqa: A002  (the Hub's word)
    terms: str | None = None,
) -> str:
    """The text of ``README.md``: a YAML header for the Hub, and the sections of ``card.md`` for people.

    ``stored`` is ``config.json``, ``weights`` the SHA-256 and bytes of the weights, ``measured`` evaluations of exactly
    these weights, ``license`` an identifier of the Hub, ``terms`` the uploader's words on the terms of the data.
    """
    from famcli_models.methods import METHODS  # imports PyTorch, which a list of models does not need

    name, known = repo.split("/")[1], stored["provenance"]
    data = list(dict.fromkeys(one for key in ("data", "unlabelled", "teacher_data") for one in names(known.get(key))))
    hub = _HUB_SOURCE.fullmatch(line(known.get("backbone_weights")))
    header = ModelCardData(
        library_name="fam",
        pipeline_tag="object-detection",
        license=license or "other",
        datasets=[one for one in data if _DATASET.fullmatch(one)] or None,
        base_model=hub[1] if hub else None,
        tags=[*TAGS, config.backbone],
        model_name=name,
        eval_results=[number for results in measured for number in _eval_results(results)] or None,
    )
    pages = Environment(
        loader=PackageLoader("famcli.hub", ""),
        autoescape=False,  # noqa: S701  (it is Markdown: what is no Markup is made a line)
        finalize=lambda value: value if isinstance(value, Markup) else line(value),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    pages.filters |= {"line": line, "names": names, "thousands": "{:,}".format}
    page = pages.get_template("card.md").render(
        header=header.to_yaml(),
        repo=repo,
        name=name,
        config=config,
        method=METHODS[config.method],
        class_names=stored["class_names"],
        known=known,
        data=data,
        datasets=DATASETS,
        measured=measured,
        tables=tables,
        sha256=weights[0],
        size=f"{weights[1] / 1e6:.1f} MB",
        reference=known.get(REFERENCE),
        license=license,
        terms=terms,
    )
    return printable(page)


def line(value: object, limit: int = LONG) -> str:
    """Anybody's value as one line of Markdown that cannot break out of a table, a list or a sentence."""
    text = value if isinstance(value, str) else shown(value)
    return short(" ".join(text.split()), limit).replace("|", "\\|").replace("<", "&lt;")


def names(value: object, most: int = 20) -> list[str]:
    """The names in a field that should be a name or a list of names; what is none of these is left out."""
    given = value if isinstance(value, list) else [value]
    return [short(name, SHORT) for name in given[:most] if isinstance(name, str) and name.strip()]


def printable(text: str) -> str:
    """Anybody's text without what would command a terminal."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def _eval_results(results: Results) -> list[EvalResult]:
    first, data, protocol = results.rows[0], results.data, results.protocol["name"]
    facts = {"protocol": protocol, "images": data["images"], "tau": first.tau, "tau_from": first.tau_from}
    facts |= {"partial": True} if data.get("partial") else {}
    return [
        EvalResult(
            task_type="object-detection",
            task_name="weakly supervised object localization",
            dataset_type=data["name"],
            dataset_name=data["name"],
            dataset_split=data["split"],
            metric_type=name,
            metric_name=f"{TITLES[name]} of {first.title}, percent, protocol {protocol}",
            metric_value=round(number.value, 2),
            metric_args={
                **facts,
                "low": None if number.low is None else round(number.low, 2),
                "high": None if number.high is None else round(number.high, 2),
            },
        )
        for name, number in ((name, first.metrics[name]) for name in TITLES if name in first.metrics)
    ]


def read_header(path: Path) -> tuple[str, tuple[Measured, ...]]:
    """License and numbers that the header of a ``README.md`` names; one that cannot be read names none.

    Anybody may have written the file: a number that cannot be is left out with those beside it.
    """
    license_, measured = "", list[Measured]()
    with suppress(Exception):  # anybody's YAML may be wrong in any way, and is not needed
        with path.open(encoding="utf-8", errors="replace") as file:
            found = _HEADER.match(file.read(MAX_HEADER))
        data = _yaml(found[1]) if found else {}
        license_ = short(data["license"], SHORT) if isinstance(data.get("license"), str) else ""
        groups: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]] = {}
        for number in model_index_to_eval_results(data["model-index"])[1]:
            facts, values = groups.setdefault((number.dataset_name, number.dataset_split or ""), ({}, {}))
            facts.update(number.metric_args or {})
            if number.metric_type in TITLES:
                values[number.metric_type] = number.metric_value
        for (name, split), (facts, values) in list(groups.items())[:MAX_EVALUATIONS]:
            known: dict[str, Any] = {"data": name, "split": split, "values": values}
            known |= {key: facts[key] for key in ("images", "protocol", "tau", "tau_from") if key in facts}
            texts = {key: short(value, SHORT) for key, value in known.items() if isinstance(value, str)}
            with suppress(ValidationError):
                measured += [_MEASURED.validate_python({**known, **texts})] if values else []
    return license_, tuple(measured)


def _yaml(text: str) -> Any:
    """Plain YAML; aliases can unpack to any size, and reading takes the square of the depth, so both are refused."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > MAX_DEPTH:
            raise ValueError("aliases, or nested too deep")
    return yaml.safe_load(text)
