"""Options that several commands share: one name, one help text, one meaning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from famcli.cli import completion
from famcli.cli.console import console
from famcli.data.memory import Memory, parse_size, set_memory
from famcli_models.errors import ConfigError
from famcli_models.files import is_stdout, is_stream

if TYPE_CHECKING:
    from famcli.data.depth import ValueRange
    from famcli.inference.ranks import Rank


MOST_IMAGES, MOST_WORKERS = 65_536, 1024


def _set_quiet(value: bool) -> bool:
    console.quiet = value
    return value


def _set_json(value: bool) -> bool:
    console.as_json = value
    return value


def folder(value: Path | None) -> Path | None:
    """Refuse what is no folder and cannot become one, before any work is done."""
    if value is not None and is_stream(value):
        raise typer.BadParameter(f"'{value}' is standard output, a device or a pipe: name a folder")
    return value


def _set_memory(value: str) -> str:
    try:
        set_memory(Memory(parse_size(value)))
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error
    return value


_MODEL = "Packaged name, checkpoint folder, or Hub id: ORG/NAME or ORG/NAME@REVISION."
ModelOption = Annotated[str, Option("--model", "-m", help=_MODEL, metavar="MODEL", autocompletion=completion.models)]
_METHOD = "Another method on the model's features, cam for example."
MethodOption = Annotated[
    str | None, Option("--method", metavar="NAME", help=_METHOD, autocompletion=completion.methods)
]
_ENGINE = "onnx (ONNX Runtime, CPU), torch, or auto: onnx on the CPU where the model has a graph."
EngineOption = Annotated[str, Option("--engine", metavar="NAME", help=_ENGINE, autocompletion=completion.engines)]
DeviceOption = Annotated[
    str, Option(help="auto, cpu, cuda, cuda:N or mps.", autocompletion=lambda: list(completion.DEVICES))
]
_BATCH = "Images per forward pass; by default what suits the device, and less where memory is short."
AutoBatchSizeOption = Annotated[int | None, Option(min=1, max=MOST_IMAGES, help=_BATCH)]
_WORKERS = "Threads, or processes where there are cores to spare, that decode images and find boxes; by default found."
AutoWorkersOption = Annotated[int | None, Option(min=1, max=MOST_WORKERS, help=_WORKERS)]
BatchSizeOption = Annotated[int, Option(min=1, max=MOST_IMAGES, help="Images per forward pass.")]
WorkersOption = Annotated[int, Option(min=1, max=MOST_WORKERS, help="Threads that decode images and find boxes.")]
AmpOption = Annotated[bool, Option("--amp", help="Run the backbone in float16, for GPUs; boxes move by a few pixels.")]
_THRESHOLD = "Threshold on the map; the model's own if not given (FAM 0.5, CAM 0.2)."
ThresholdOption = Annotated[float | None, Option(help=_THRESHOLD)]
QuietOption = Annotated[bool, Option("--quiet", "-q", help="Print errors only.", callback=_set_quiet)]
_JSON = "Print a JSON summary on stdout, errors too."
JsonOption = Annotated[bool, Option("--json", help=_JSON, callback=_set_json)]
_RANGE = "What is black and white in images of more than 8 bits: auto, container, or LOW,HIGH."
RangeOption = Annotated[str, Option("--range", metavar="RANGE", help=_RANGE)]
_MEMORY = "Most that images may take at once while they are decoded, in all workers together."
MemoryOption = Annotated[str, Option("--memory", metavar="SIZE", help=_MEMORY, callback=_set_memory)]
_SCALES = "Average over these multiples of the input size, e.g. 1,1.5."
ScalesOption = Annotated[str | None, Option("--scales", metavar="NUMBERS", help=_SCALES)]
_FLIP = "Average over the mirrored image too."
FlipOption = Annotated[bool | None, Option("--flip/--no-flip", help=_FLIP, show_default=False)]
_LOOKS = "2: run again on the part of the image with the first box."
LooksOption = Annotated[int | None, Option("--looks", min=1, max=2, help=_LOOKS)]
_QUALITY = "fast: one view; best: two sizes, mirrored. --scales, --flip and --looks go before it."
QualityOption = Annotated[str, Option("--quality", metavar="NAME", help=_QUALITY, autocompletion=completion.qualities)]
OutFolder = Annotated[Path, Option("--out", "-o", help="Folder to write to.", callback=folder)]
_ORG = "Organisation on the Hub of a name without one; by default that of FAM_HUB_ORG."
OrgOption = Annotated[str | None, Option("--org", help=_ORG, metavar="ORG")]


def check_stdout(out: Path | None, as_json: bool) -> None:
    """Refuse two things on standard output: what is written to ``--out``, and the summary of ``--json``."""
    if out is not None and as_json and is_stdout(out):
        raise typer.BadParameter("--json and the results would both be on standard output: leave out --json")


def views(quality: str, scales: str | None, flip: bool | None, looks: int | None) -> dict[str, Any]:
    """What the options on views say, as fields of settings."""
    try:
        multiples = None if scales is None else tuple(float(part) for part in scales.split(","))
    except ValueError as error:
        msg = f"'{scales}' is not a list of numbers such as 1,1.5"
        raise typer.BadParameter(msg, param_hint="--scales") from error
    return {"quality": quality, "scales": multiples, "flip": flip, "looks": looks}


def value_range(text: str) -> ValueRange:
    """What ``--range`` says."""
    from famcli.data.depth import parse_range

    try:
        return parse_range(text)
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint="--range") from error


def this_rank(shard: str | None) -> Rank:
    """That of a launcher, or what ``--shard`` says."""
    from famcli.inference.ranks import Rank

    rank = Rank.from_environment()
    if shard is None:
        return rank
    if rank.count > 1:
        raise typer.BadParameter(f"{rank.launcher} has made this {rank} already", param_hint="--shard")
    try:
        return Rank.from_text(shard)
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint="--shard") from error
