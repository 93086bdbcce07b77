"""The model card that ``fam push`` writes: what a stranger needs to know, from what is stored and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from famcli.data.public.catalog import CATALOG as DATASETS
from famcli.hub.measured import TITLES
from famcli.hub.text import LONG, names, one_line
from famcli.results.schema import Results, Row

LIBRARY = "fam"
MAX_TERMS = 20_000  # letters
TAGS = ("fam", "wsol", "weakly-supervised-object-localization", "class-activation-map")
_HUB_SOURCE = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+) \(Hugging Face Hub\)")
_DATASET = re.compile(r"[\w.-]{1,96}", re.ASCII)

USE = """\
Research on localization with image labels alone, and finding the main object in photographs of the classes above.
Look at results on your own images before you rely on them. Not for decisions about people, and not for safety."""
LIMITS = """\
- One object: the map does not tell classes or instances apart, so objects that touch become one box.
- Thin, transparent and very small objects are often missed, or boxed too large.
- An image of no class above still gets a class and a box.
- Scores rank boxes; they are not calibrated probabilities.
- Numbers hold for the data, the split and the protocol named beside them, and for no other."""
CITATION = """\
```bibtex
@inproceedings{meng2021fam,
  title     = {Foreground Activation Maps for Weakly Supervised Object Localization},
  author    = {Meng, Meng and Zhang, Tianzhu and Tian, Qi and Zhang, Yongdong and Wu, Feng},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision (ICCV)},
  year      = {2021}
}
```

This model was made with fam, an independent implementation; its numbers are not those of the paper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a card is about.

    Attributes:
        repo: ``ORG/NAME``.
        config: The fields of ``FAMConfig``.
        class_names: In the order of the logits.
        provenance: Of the checkpoint.
        sha256: Of its weights.
        size: Bytes of its weights.
        measured: Evaluations of exactly these weights.
        license: An identifier of the Hub, such as ``cc-by-nc-4.0``; ``None`` if nobody said.
        terms: The uploader's words on the terms of the data.
    """

    repo: str
    config: Mapping[str, Any]
    class_names: Sequence[str]
    provenance: Mapping[str, Any]
    sha256: str
    size: int
    measured: Sequence[Results] = ()
    license: str | None = None
    terms: str | None = None

    @property
    def data(self) -> list[str]:
        """Names of the datasets it was trained on."""
        return [_line(name) for name in names(self.provenance.get("data"))]

    @property
    def all_data(self) -> list[str]:
        """The same, with those whose classes were guessed and those its teacher learnt from; each once."""
        found = (name for key in ("data", "unlabelled", "teacher_data") for name in names(self.provenance.get(key)))
        return list(dict.fromkeys(map(_line, found)))


def model_card(subject: Subject) -> str:
    """The text of ``README.md``: a YAML header for the Hub, and sections for people."""
    from huggingface_hub import ModelCard, ModelCardData

    hub = _HUB_SOURCE.fullmatch(one_line(subject.provenance.get("backbone_weights", "")))
    header = ModelCardData(
        library_name=LIBRARY,
        pipeline_tag="object-detection",
        license=subject.license or "other",
        datasets=[name for name in subject.all_data if _DATASET.fullmatch(name)] or None,
        base_model=hub["repo"] if hub else None,
        tags=[*TAGS, _line(subject.config["backbone"])],
        model_name=subject.repo.split("/")[1],
        eval_results=[result for measured in subject.measured for result in _eval_results(measured)] or None,
    )
    sections = [
        f"# {subject.repo.split('/')[1]}\n\n{_what(subject)}",
        f"## How it was trained\n\n{_how(subject)}",
        f"## Measured\n\n{_numbers(subject)}",
        f"## Intended use\n\n{USE}",
        f"## Limits\n\n{LIMITS}",
        f"## Terms\n\n{_terms(subject)}",
        f"## Files\n\n{_files(subject)}",
        f"## Citation\n\n{CITATION}",
    ]
    return str(ModelCard(f"---\n{header.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"))


def _eval_results(measured: Results) -> list[Any]:
    from huggingface_hub import EvalResult

    first, data, protocol = measured.rows[0], measured.data, measured.protocol["name"]
    facts = {"protocol": protocol, "images": data["images"], "tau": first.tau, "tau_from": first.tau_from}
    facts |= {"partial": True} if _partial(measured) else {}
    return [
        EvalResult(
            task_type="object-detection",
            task_name="weakly supervised object localization",
            dataset_type=data["name"],
            dataset_name=data["name"],
            dataset_split=data["split"],
            metric_type=name,
            metric_name=f"{TITLES[name]} of {first.title}, percent, protocol {protocol}",
            metric_value=round(first.metrics[name].value, 2),
            metric_args={**facts, "low": _rounded(first.metrics[name].low), "high": _rounded(first.metrics[name].high)},
        )
        for name in TITLES
        if name in first.metrics
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _what(subject: Subject) -> str:
    config = subject.config
    if config.get("method", "fam") == "cam":
        kind, parts = "A class activation maps (CAM) model", ""
    else:
        kind, parts = "A Foreground Activation Maps (FAM) model", f"{config['num_parts']} part maps and "
    classes = len(subject.class_names)
    first = ", ".join(_line(one_line(name)) for name in subject.class_names[:10])
    shown = first + (f" and {classes - 10:,} more" if classes > 10 else "")
    return f"""\
{kind} on {_line(config["backbone"])}. One forward pass gives a map of the foreground,
{parts}one of {classes:,} classes; boxes are read from the map.
Input: RGB, squashed to {config["size"]} x {config["size"]}. Classes: {shown}.

```console
$ pip install famcli
$ fam predict photos/ --model {subject.repo} --out boxes.json
```

```python
from famcli import Predictor, load_model

predictor = Predictor(load_model("{subject.repo}"))
for region in predictor("photo.jpg").regions:
    print(region.xyxy, region.foreground)
```"""


def _how(subject: Subject) -> str:
    known = subject.provenance
    images = f", {known['images']:,} images" if isinstance(known.get("images"), int) else ""
    lines = [f"Data: {', '.join(subject.data)}{images}." if subject.data else "Data: not recorded in the checkpoint."]
    lines += _taught(known)
    for key, title in (
        ("labels", "Supervision"),
        ("backbone_weights", "Backbone weights"),
        ("recipe", "Recipe"),
        ("seed", "Seed"),
        ("epochs", "Epochs"),
        ("selected_by", "Selection"),
    ):
        if key in known:
            lines.append(f"{title}: {_line(known[key])}.")
    if isinstance(known.get("versions"), Mapping):
        versions = ", ".join(
            f"{_line(name)} {_line(version)}" for name, version in list(known["versions"].items())[:20]
        )
        lines.append(f"Versions: {versions}.")
    return "\n".join(f"- {line}" for line in lines)


def _taught(known: Mapping[str, Any]) -> list[str]:
    """What took part in the training beside labelled images."""
    lines = []
    if "unlabelled" in known:
        sets = ", ".join(_line(name) for name in names(known["unlabelled"]))
        count, least = (_line(known.get(key, "?")) for key in ("pseudo_labelled", "unlabelled_confidence"))
        lines.append(f"Under guessed classes: {count} images of {sets}, of a probability of at least {least}.")
    if "teacher_sha256" in known:
        sets = ", ".join(_line(name) for name in names(known.get("teacher_data"))) or "unknown data"
        lines.append(f"Teacher of the map: weights {_line(known['teacher_sha256'])}, trained on {sets}.")
    return lines


def _numbers(subject: Subject) -> str:
    if not subject.measured:
        return "Nothing. No evaluation of these weights by `fam eval` was given when they were uploaded."
    intro = "Percent, with 95 % bootstrap intervals over images where there are any. In each table the first row is of "
    parts = [intro + "exactly these weights; the rows below it are what it is compared with."]
    for measured in subject.measured:
        data = measured.data
        parts.append(
            f"### {_line(data['name'])}, {_line(data['split'])}, {data['images']:,} images{_partial(measured)}"
        )
        if not measured.same_classes:
            parts.append(
                "The labels of these images are not classes of the model: boxes were scored, classes were not."
            )
        parts.append(score_table(measured))
        parts.append(_protocol(measured))
    return "\n\n".join(parts)


def _partial(measured: Results) -> str:
    """What to add where only a part of the split was scored."""
    if not measured.data.get("partial"):
        return ""
    of = measured.data.get("images_of_split")
    return f" of {of:,} (partial)" if isinstance(of, int) else " (partial)"


def score_table(measured: Results) -> str:
    """The rows of a result card as a Markdown table, with one decimal and the intervals."""
    rows = measured.rows
    shown = [name for name in TITLES if any(name in row.metrics for row in rows)]
    corner = "partial" if _partial(measured) else "method"
    lines = [[corner, "τ", *(TITLES[name] for name in shown), "no box"], ["---"] * (len(shown) + 3)]
    for i, row in enumerate(rows):
        title = row.title
        if i and measured.source.get("cam") and title.startswith("CAM"):
            title = title.replace("CAM", "CAM, another model", 1)
        how = "oracle: chosen on these images" if row.tau_from == "oracle" else _line(row.tau_from)
        tau = "" if row.tau is None else f"{row.tau:g} ({how})"
        empty = "" if row.empty is None else f"{row.empty:.1f}"
        lines.append([_line(title), tau, *(_cell(row, name) for name in shown), empty])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(row: Row, name: str) -> str:
    if name not in row.metrics:
        return ""
    number = row.metrics[name]
    within = number.low is not None and number.high is not None
    return f"{number.value:.1f}" + (f" [{number.low:.1f}, {number.high:.1f}]" if within else "")


def _protocol(measured: Results) -> str:
    """The result card: how the numbers came about, a line a fact."""
    protocol, data, bootstrap, versions = measured.protocol, measured.data, measured.bootstrap, measured.versions
    found: list[tuple[str, object]] = [("protocol", f"`{_line(protocol['name'])}`")]
    found += [(str(key).replace("_", " "), text) for key, text in _mapping(protocol.get("rules")).items()]
    found += [(key, protocol.get(key)) for key in ("crops", "interval") if key not in _mapping(protocol.get("rules"))]
    if any(row.tau_from == "oracle" for row in measured.rows):
        found.append(("oracle", "the threshold was chosen on the very images of the row, which flatters it"))
    if data.get("partial"):
        found.append(("partial", f"{data['images']:,} of {data.get('images_of_split')} images of the split"))
    found += [("boxes", data.get("boxes")), ("SHA-256 of names, labels and boxes", data.get("sha256"))]
    if bootstrap:
        found.append(("intervals", f"{bootstrap.get('resamples')} bootstrap resamples, level {bootstrap.get('level')}"))
    found += [("made", measured.created), *sorted(versions.items())]
    return "\n".join(f"- {_line(key)}: {_line(value)}" for key, value in found if value is not None)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _terms(subject: Subject) -> str:
    parts = [f"License of the weights: {_line(subject.license)}." if subject.license else ""]
    for name in subject.all_data:
        if name in DATASETS:
            facts = DATASETS[name]
            parts.append(f"{facts.title}: {facts.terms} See <{facts.terms_page}>.")
        elif not subject.terms:
            parts.append(f"{name}: its terms were not stated by whoever uploaded this; ask before you use the weights.")
    parts.append(_line(subject.terms or "", MAX_TERMS))
    parts.append("No training image is in this repository.")
    return "\n\n".join(part for part in parts if part)


def _files(subject: Subject) -> str:
    golden = subject.provenance.get("golden")
    digest = _line(golden.get("digest")) if isinstance(golden, Mapping) else None
    return f"`model.safetensors`, {subject.size / 1e6:.1f} MB, SHA-256 `{subject.sha256}`" + (
        f"\n\n`fam verify {subject.repo}` runs it on drawn pictures; digest of the maps: `{digest}`" if digest else ""
    )


def _line(text: object, most: int = LONG) -> str:
    """Text as one line that cannot break out of a table, a list or a sentence."""
    return one_line(text, most).replace("|", "\\|").replace("<", "&lt;")
