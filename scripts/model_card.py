"""Write the cards of the packaged models, and the pages that the documentation has of them.

    python scripts/model_card.py                        # famcli_models/weights/*/README.md and docs/models/*.md
    python scripts/model_card.py --check                # are they what is stored?
    python scripts/model_card.py FOLDER                 # the card of one model
    python scripts/model_card.py FOLDER --results RUN ...   # new numbers of it, then its card

``config.json`` says what the model is and where it came from, ``results.json`` is a list of result cards of
``fam eval --out``, and ``card.toml`` has the sentences a program cannot know (:mod:`famcli.hub.packaged`).

After new weights, measure them and take the numbers in, in the order of the card:

    fam eval --model famcli_models/weights/NAME --data DATA --split test --out RUN     # for each data set
    python scripts/model_card.py famcli_models/weights/NAME --results RUN ...

Results of other data sets stay as they are; numbers of other weights are refused. Tables by class and names of classes
are left out, and so is where things were.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from generated import write_or_check

from famcli.hub.listing import packaged_model
from famcli.hub.packaged import FACTS_FILE, CardFacts
from famcli.hub.pull import CARD_FILE
from famcli.results.io import JSON_NAME, read_all, read_results, write_all
from famcli.results.schema import METRICS, Results
from famcli.results.tables import SIZE_NOTE, markdown_table, scores, sizes
from famcli_models.checkpoint import CONFIG_FILE, DEFAULT_MODEL, REFERENCE, WEIGHTS_FILE, read_config
from famcli_models.errors import DataError, FamError
from famcli_models.files import sha256_file

ROOT = Path(__file__).parent.parent
WEIGHTS, PAGES = ROOT / "famcli_models" / "weights", ROOT / "docs" / "models"
MAX_BYTES = 100_000  # of results.json; it is part of the wheel
NO_RULES = ("title", "source", "metrics")  # what a protocol says about itself
NOT_RUN = "<!-- not run: the photographs are not fam's to pass on -->\n"  # tests/docs runs what is not marked


def taken(folder: Path, runs: Sequence[Path]) -> list[Results]:
    """The result cards of some runs of ``fam eval``, fit to be committed.

    Raises:
        DataError: One is not of the weights in the folder, or says where something is on this machine.
    """
    found = []
    for run in runs:
        results = read_results(run)
        slim = replace(
            results,
            classes=(),
            data={name: value for name, value in results.data.items() if name != "class_names"},
            source={name: value for name, value in results.source.items() if name != "class_names"}
            | {"name": folder.name},
        )
        for text in texts(asdict(slim)):
            if PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute():
                msg = f"{run} says '{text}', a place on this machine; evaluate what is called by a name"
                raise DataError(msg)
        found.append(slim)
    check(folder, found)
    return found


def texts(value: Any) -> Iterator[str]:
    """Every text within a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item)
    elif isinstance(value, dict):
        yield from texts(list(value.values()))


def check(folder: Path, found: Sequence[Results]) -> None:
    """Numbers belong to the weights beside them.

    Raises:
        DataError: They do not, or the file would be too large for a package.
    """
    digest = sha256_file(folder / WEIGHTS_FILE)
    for results in found:
        data, source = results.data["name"], results.source
        if results.kind != "evaluation" or source["kind"] != "model" or source.get("weights_sha256") != digest:
            msg = f"the numbers on {data} are not of {folder / WEIGHTS_FILE} ({digest}); measure it with fam eval --out"
            raise DataError(msg)
        if source.get("tuned_on_test"):
            msg = f"the numbers on {data} are of a model that was tuned on test images"
            raise DataError(msg)
    names = [_of(results) for results in found]
    if len(set(names)) < len(names):
        msg = f"two results are of the same data: {names}"
        raise DataError(msg)


def differences(results: Results) -> str:
    """The paired differences to CAM as a sentence, if there are some."""
    found = [d for d in results.differences if d.minus.startswith("CAM") and d.metric in METRICS]
    sentences = []
    for minus in dict.fromkeys(d.minus for d in found):
        numbers = [d for d in found if d.minus == minus]
        points = ", ".join(
            f"{METRICS[d.metric]} {d.number.value:+.1f}"
            + (f" [{d.number.low:+.1f}, {d.number.high:+.1f}]" if d.number.low is not None else "")
            for d in numbers
        )
        sentences.append(f"{numbers[0].of} minus {minus}, paired, in points: {points}.")
    return " ".join(sentences)


def rules(found: Sequence[Results]) -> list[str]:
    """What was measured how: each protocol's rules once, and the commands."""
    parts = []
    for protocol in {results.protocol["name"]: results.protocol for results in found}.values():
        lines = [
            f"- {name.replace('_', ' ')}: {rule}" for name, rule in protocol["rules"].items() if name not in NO_RULES
        ]
        parts += [f"The rules of protocol `{protocol['name']}`:", "\n".join(lines)]
    commands = [
        f"fam eval --model {results.source['name']} --data {results.data['name']} --split {results.data['split']}"
        + ("" if results.protocol["name"] == "fam" else f" --protocol {results.protocol['name']}")
        + ("" if results.same_classes else " --other-classes")
        for results in found
    ]
    return [*parts, f"{NOT_RUN}```sh\n" + "\n".join(commands) + "\n```", measured_with(found)]


def measured_with(found: Sequence[Results]) -> str:
    """When and with what each result was made, in a sentence."""
    made: dict[str, list[str]] = {}
    for results in found:
        versions = ", ".join(
            f"{name} {results.versions[name]}" for name in ("famcli", "torch") if name in results.versions
        )
        made.setdefault(f"{results.created[:10]} with {versions}", []).append(results.data["name"])
    if len(made) == 1:
        return f"Measured {next(iter(made))}."
    parts = [f"{how} ({', '.join(names)})" for how, names in made.items()]
    return f"Measured {'; '.join(parts)}."


def _more(provenance: Mapping[str, Any]) -> str:
    """Images with pseudo-labels and the teacher, if there were any."""
    pseudo, teacher = provenance.get("pseudo_labelled"), provenance.get("teacher_sha256")
    return (f", and {pseudo} with pseudo-labels" if pseudo else "") + (
        f"; teacher of the map: weights with SHA-256 `{teacher}`" if teacher else ""
    )


def card(folder: Path) -> str:
    """The card's text.

    Raises:
        DataError: The numbers are not of these weights.
    """
    stored, words, found = read_config(folder), CardFacts.from_folder(folder), read_all(folder / JSON_NAME)
    check(folder, found)
    provenance = stored["provenance"]
    missing = {"backbone_weights", "backbone_sha256", "seed", "images", REFERENCE} - set(provenance)
    if missing:
        names = ", ".join(sorted(missing))
        msg = f"{folder / CONFIG_FILE} does not say its {names}; 'fam verify --record' adds {REFERENCE}"
        raise DataError(msg)
    weights = folder / WEIGHTS_FILE
    parts = [
        f"# {folder.name}\n\n{words.summary}",
        f"## Trained on\n\n{words.data}",
        f"Terms: {words.terms}",
        "Labels: image labels only; no box or mask was read in training.",
        f"Backbone weights: {provenance['backbone_weights']} (SHA-256 `{provenance['backbone_sha256']}`).",
        f"{NOT_RUN}```sh\n{words.command.strip()}\n```",
        f"{words.time} Seed {provenance['seed']}; {provenance['images']} images{_more(provenance)}.",
        words.calibration and f"## Calibrated on\n\n{words.calibration}",
        *held_out(words, sha256_file(weights)),
        "## Measured here",
        (
            "Percent; in brackets 95 % bootstrap intervals over images, which do not cover another training seed. "
            "'oracle' marks a threshold chosen on the very images of the row, which flatters it."
        ),
        SIZE_NOTE if any(sizes(results).rows for results in found) else "",
    ]
    for results in found:
        data, by_size = results.data, sizes(results)
        parts.append(f"### {data['name']}, {data['split']}, {data['images']} images")
        parts += [markdown_table(scores(results), 1), differences(results), words.notes.get(data["name"], "")]
        parts.append(markdown_table(by_size, 1) if by_size.rows else "")
    parts += ["### How", *rules(found)] if found else ["Nothing yet."]
    parts += [
        f"## Limits\n\n{words.limits}",
        f"## File\n\n`model.safetensors`, {weights.stat().st_size / 1e6:.1f} MB, SHA-256 `{sha256_file(weights)}`",
        f"Reference outputs, for `fam verify {folder.name}`: digest of the maps `{provenance[REFERENCE]['digest']}`",
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def held_out(words: CardFacts, weights_sha256: str) -> list[str]:
    """What others measured on photographs that were kept apart, if they did.

    Raises:
        DataError: They measured other weights.
    """
    found = words.held_out
    if found is None:
        return []
    if found.weights_sha256 != weights_sha256:
        msg = f"[held_out] of {FACTS_FILE} is of weights with SHA-256 {found.weights_sha256}, not {weights_sha256}"
        raise DataError(f"{msg}; remove it until these weights were measured")
    heading = "## Measured by others on photographs that were kept apart"
    return [heading, found.note, markdown_table(found.table(), 1)]


def pages(folders: Sequence[Path]) -> dict[Path, str]:
    """The documentation's pages of some packaged models: one with all of them in a table, and their cards."""
    rows = ["| `--model` | for | backbone | input | classes | size | measured |", "|---|---|---|--:|--:|--:|---|"]
    for folder in folders:
        model = packaged_model(folder)
        numbers = "; ".join(measured.sentence() for measured in model.measured[:1])
        size = f"{(folder / WEIGHTS_FILE).stat().st_size / 1e6:.1f} MB"
        default = " (the default)" if folder.name == DEFAULT_MODEL else ""
        facts = f"{model.purpose} | {model.backbone} | {model.input_size} px | {model.classes:,} | {size} | {numbers}"
        rows.append(f"| [`{model.name}`]({model.name}.md){default} | {facts} |")
    head = "# The packaged models\n\nThese are installed with fam and need no network. `fam models` lists them too."
    return {PAGES / "index.md": "\n\n".join((head, "\n".join(rows))) + "\n"} | {
        PAGES / f"{folder.name}.md": f'--8<-- "{(folder / CARD_FILE).relative_to(ROOT).as_posix()}"\n'
        for folder in folders
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check cards and pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folder", type=Path, nargs="?", help="one model; all packaged models and their pages if not given"
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--results", type=Path, nargs="+", metavar="RUN", help="folders of fam eval --out to take in")
    either.add_argument("--check", action="store_true", help="exit 1 if a file is stale instead of writing it")
    options = parser.parse_args(arguments)
    if options.results and not options.folder:
        parser.error("--results are of one model: name its folder first")
    packaged = sorted(path.parent for path in WEIGHTS.glob(f"*/{FACTS_FILE}"))
    try:
        if options.results:
            take_in(options.folder, options.results)
        folders = [options.folder] if options.folder else packaged
        files = {folder / CARD_FILE: card(folder) for folder in folders}
    except FamError as error:
        sys.exit(str(error))
    if not options.folder:
        files |= pages(packaged)
    return write_or_check(files, "scripts/model_card.py", check=options.check)


def take_in(folder: Path, runs: Sequence[Path]) -> None:
    """Put the result cards of some runs into a model's ``results.json``, in the place of those of the same data."""
    file, new = folder / JSON_NAME, taken(folder, runs)
    known = list(read_all(file)) if file.is_file() else []
    digest = sha256_file(folder / WEIGHTS_FILE)
    kept = {_of(results): results for results in known if results.source.get("weights_sha256") == digest}
    write_all(file, list((kept | {_of(results): results for results in new}).values()))
    if file.stat().st_size > MAX_BYTES:
        sys.exit(f"{file} is larger than {MAX_BYTES} bytes")


def _of(results: Results) -> tuple[str, str, str]:
    """What a result is of: data, split and protocol."""
    return results.data["name"], results.data["split"], results.protocol["name"]


if __name__ == "__main__":
    sys.exit(main())
