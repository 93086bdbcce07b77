"""Write the card of a packaged checkpoint from what is stored beside it.

    python scripts/model_card.py famcli_models/weights/NAME                     # the card anew
    python scripts/model_card.py famcli_models/weights/NAME --check             # is it?
    python scripts/model_card.py famcli_models/weights/NAME --results RUN ...   # new numbers, then the card

``config.json`` says what the model is and where it came from, ``results.json`` is a list of result cards of
``fam eval --out``, and ``card.toml`` has the sentences a program cannot know: data, terms, command, limits, notes.

After new weights, measure them and take the numbers in, in the order of the card:

    fam eval --model famcli_models/weights/NAME --data DATA --split test --out RUN     # for each data set
    python scripts/model_card.py famcli_models/weights/NAME --results RUN ...

Numbers of other weights are refused. Tables by class and names of classes are left out, and so is where things were.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from famcli.hub.pull import CARD_FILE
from famcli.results.io import JSON_NAME, read_all, read_results, write_all
from famcli.results.schema import METRICS, Results
from famcli.results.tables import markdown_table, scores
from famcli_models.checkpoint import CONFIG_FILE, REFERENCE, WEIGHTS_FILE, read_config
from famcli_models.errors import DataError, FamError
from famcli_models.files import sha256_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_BYTES = 100_000  # of results.json; it is part of the wheel
NO_RULES = ("title", "source", "metrics")  # what a protocol says about itself


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
    names = [(results.data["name"], results.data["split"], results.protocol["name"]) for results in found]
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
    versions = ", ".join(
        f"{name} {found[0].versions[name]}" for name in ("famcli", "torch") if name in found[0].versions
    )
    return [*parts, "```sh\n" + "\n".join(commands) + "\n```", f"Measured {found[0].created[:10]} with {versions}."]


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
    stored = read_config(folder)
    found = read_all(folder / JSON_NAME)
    check(folder, found)
    words = tomllib.loads((folder / "card.toml").read_text(encoding="utf-8"))
    provenance = stored["provenance"]
    missing = {"backbone_weights", "backbone_sha256", "seed", "images", REFERENCE} - set(provenance)
    if missing:
        names = ", ".join(sorted(missing))
        msg = f"{folder / CONFIG_FILE} does not say its {names}; 'fam verify --record' adds {REFERENCE}"
        raise DataError(msg)
    weights = folder / WEIGHTS_FILE
    parts = [
        f"# {folder.name}\n\n{words['summary']}",
        f"## Trained on\n\n{words['data']}",
        f"Terms: {words['terms']}",
        "Labels: image labels only; no box or mask was read in training.",
        f"Backbone weights: {provenance['backbone_weights']} (SHA-256 `{provenance['backbone_sha256']}`).",
        f"```sh\n{words['command'].strip()}\n```",
        f"{words['time']} Seed {provenance['seed']}; {provenance['images']} images{_more(provenance)}.",
        *([f"## Calibrated on\n\n{words['calibration']}"] if "calibration" in words else []),
        "## Measured",
        (
            "Percent; in brackets 95 % bootstrap intervals over images, which do not cover another training seed. "
            "'oracle' marks a threshold chosen on the very images of the row, which flatters it."
        ),
    ]
    notes = words.get("notes", {})
    for results in found:
        data = results.data
        parts.append(f"### {data['name']}, {data['split']}, {data['images']} images")
        parts += [markdown_table(scores(results), 1), differences(results), notes.get(data["name"], "")]
    parts += ["### How", *rules(found)] if found else ["Nothing yet."]
    parts += [
        f"## Limits\n\n{words['limits']}",
        f"## File\n\n`model.safetensors`, {weights.stat().st_size / 1e6:.1f} MB, SHA-256 `{sha256_file(weights)}`",
        f"Reference outputs, for `fam verify {folder.name}`: digest of the maps `{provenance[REFERENCE]['digest']}`",
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write or check a card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--results", type=Path, nargs="+", metavar="RUN", help="folders of fam eval --out to take in")
    either.add_argument("--check", action="store_true", help="exit 1 if the card is stale instead of writing it")
    options = parser.parse_args(arguments)
    folder = Path(options.folder)
    try:
        if options.results:
            write_all(folder / JSON_NAME, taken(folder, options.results))
            if (folder / JSON_NAME).stat().st_size > MAX_BYTES:
                sys.exit(f"{folder / JSON_NAME} is larger than {MAX_BYTES} bytes")
        path, text = folder / CARD_FILE, card(folder)
    except FamError as error:
        sys.exit(str(error))
    if options.check:
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path} is stale; run python scripts/model_card.py {folder}")
    else:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
