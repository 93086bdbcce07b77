"""What ``results.json`` holds: types that are checked by pydantic when a file is read or written.

The page "Results" of the documentation says what each key means. What was not measured is ``None``. The types are plain
dataclasses: making one checks nothing, :func:`check` does.
"""

from __future__ import annotations

import base64
import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, GetPydanticSchema, TypeAdapter, ValidationError
from pydantic_core import core_schema
from typing_extensions import NotRequired, TypedDict

from famcli.data.sample import MAX_CLASSES
from famcli_models.errors import DataError

FORMAT, FORMAT_VERSION = "fam-results", 1
SMOKE = "smoke check"

# Names and titles of the metrics, in the order of tables; all in percent.
METRICS: Mapping[str, str] = {
    "gt_known": "GT-known",
    "top1_loc": "Top-1 Loc",
    "top5_loc": "Top-5 Loc",
    "top1_cls": "Top-1 Cls",
    "top5_cls": "Top-5 Cls",
    "mean_iou": "mean IoU",
    "max_box_acc": "MaxBoxAcc",
    "max_box_acc_v2": "MaxBoxAccV2",
    "pxap": "PxAP",
    "piou": "pIoU",
}
COCO = ("AP", "AP50", "AP75")
# Bins of images by the share of the image that its largest true box covers, in percent: from one number up to the next.
SIZES = (0, 10, 25, 50, 75, 100)

_SLACK = 1e-6  # what adding up many floats may exceed a bound by
_WHOLE = 2**53  # up to here every reader of JSON keeps whole numbers exactly
_MAX_DEPTH = 50  # of lists and objects in a value that is free

Text = Annotated[str, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, le=1 + _SLACK)]
Percent = Annotated[float, Field(strict=True, ge=-_SLACK, le=100 + _SLACK)]
Points = Annotated[float, Field(strict=True, ge=-100 - _SLACK, le=100 + _SLACK)]
Count = Annotated[int, Field(strict=True, ge=0, le=_WHOLE)]
Label = Annotated[int, Field(strict=True, ge=0, le=MAX_CLASSES)]
T = TypeVar("T")


def _free(value: Any, *, depth: int = 0) -> Any:
    """Any JSON value of finite numbers; lists become tuples."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"nested at most {_MAX_DEPTH} deep")
    if isinstance(value, (list, tuple)):
        return tuple(_free(part, depth=depth + 1) for part in value)
    if isinstance(value, dict):
        return {key: _free(part, depth=depth + 1) for key, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a finite number")
    return value


def one_of(*names: str) -> AfterValidator:
    """One of some texts."""

    def known(value: str) -> str:
        if value not in names:
            raise ValueError(f"one of {', '.join(map(repr, names))}")
        return value

    return AfterValidator(known)


def _facts(known: type) -> GetPydanticSchema:
    """A mapping that may hold anything, in the order of the file, and whose known keys are those of a TypedDict."""

    def ordered(value: dict[str, Any], checked: core_schema.ValidatorFunctionWrapHandler) -> dict[str, Any]:
        found = checked(value)
        return {name: found[name] for name in value}

    free = dict[str, Annotated[Any, AfterValidator(_free)]]
    return GetPydanticSchema(
        lambda _, handler: core_schema.chain_schema(
            [handler(free), core_schema.no_info_wrap_validator_function(ordered, handler(known))]
        )
    )


class _Facts(TypedDict):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]


class _Data(_Facts):
    name: Text
    split: Text
    images: Annotated[int, Field(strict=True, ge=1, le=_WHOLE)]
    images_of_split: NotRequired[Count | None]
    boxes: NotRequired[Count | None]
    masks: NotRequired[Count | None]
    partial: NotRequired[Flag | None]
    sha256: NotRequired[Text | None]
    class_names: NotRequired[tuple[Text, ...]]


class _Source(_Facts):
    # What a checkpoint says about where it comes from is free: a long evaluation must not fail on it.
    kind: Annotated[Text, one_of("model", "maps", "predictions")]
    name: Text
    tuned_on_test: NotRequired[Flag | None]


class _Protocol(_Facts):
    name: Text


class _Bootstrap(_Facts):
    resamples: NotRequired[Annotated[int, Field(strict=True, ge=1, le=_WHOLE)]]
    seed: NotRequired[Count]
    level: NotRequired[Share]


DataFacts = Annotated[Mapping[str, Any], _facts(_Data)]
SourceFacts = Annotated[Mapping[str, Any], _facts(_Source)]
ProtocolFacts = Annotated[Mapping[str, Any], _facts(_Protocol)]
BootstrapFacts = Annotated[Mapping[str, Any], _facts(_Bootstrap)]
FreeFacts = Annotated[Mapping[str, Any], AfterValidator(_free)]


@dataclass(frozen=True, slots=True)
class Number:
    """A measured value in percent, or a difference in points, with the ends of its interval."""

    value: Points
    low: Points | None = None
    high: Points | None = None


def _metric(number: Number) -> Number:
    if min(number.value, *(end for end in (number.low, number.high) if end is not None), 0) < -_SLACK:
        raise ValueError("at least 0")
    return number


@dataclass(frozen=True, slots=True)
class SizeScore:
    """Scores on the images of one bin of :data:`SIZES`."""

    images: Count
    gt_known: Annotated[Number, AfterValidator(_metric)] | None  # with Wilson's interval; None without an image
    area_ratio: Annotated[Real, Field(ge=0)] | None  # median of predicted to true area; None without a box


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Scores of one way of making boxes."""

    method: Text  # name of the model's method, or centre, whole, maps or predictions
    title: Text  # what tables call it
    metrics: Mapping[Text, Annotated[Number, AfterValidator(_metric)]]  # by a name of METRICS
    tau: Real | None = None  # threshold on the map; None where there is none, or one for each δ
    tau_from: Text = ""  # how it was chosen: fixed, train-fullsup, or oracle: on the very images scored
    empty: Percent | None = None  # share of images without a box
    at_delta: Mapping[Text, Mapping[Text, Real]] | None = None  # of MaxBoxAcc: by δ its accuracy value and its tau
    iou_histogram: Annotated[tuple[Count, ...], Field(min_length=10, max_length=10)] | None = None  # from 0 to 1
    coco: Mapping[Text, Percent] | None = None  # average precisions by a name of COCO
    curve: tuple[Percent, ...] | None = None  # GT-known, or accuracy at δ = 0.5, at each of the result's taus
    kinds: Mapping[Text, Count] | None = None  # images by error type, see famcli.results.images
    sizes: Annotated[tuple[SizeScore, ...], Field(min_length=5, max_length=5)] | None = None  # by bin of SIZES


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference on the same images: ``of`` minus ``minus``, titles of rows, in points."""

    of: Text
    minus: Text
    metric: Text
    number: Number


@dataclass(frozen=True, slots=True)
class ClassRow:
    """Scores of the first row's method on one class; ``None`` where it does not apply."""

    label: Label
    name: Text
    images: Count
    gt_known: Percent
    top1_loc: Percent | None
    top1_cls: Percent | None
    mean_iou: Percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """One evaluation; a sequence within ``data``, ``source``, ``protocol`` or ``bootstrap`` is read as a tuple."""

    kind: Annotated[Text, one_of("evaluation", SMOKE)]
    created: Text  # UTC, ISO 8601
    data: DataFacts  # what was scored
    source: SourceFacts  # what made the boxes; of a model also where it came from
    protocol: ProtocolFacts  # by which rules, in words too
    same_classes: Flag  # the labels are classes of the model
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]  # the first was evaluated, the others are beside it
    taus: tuple[Real, ...] = ()  # of the curves
    differences: tuple[Difference, ...] = ()  # of the first row to the others
    classes: tuple[ClassRow, ...] = ()  # of the first row, by label
    bootstrap: BootstrapFacts = field(default_factory=dict)
    versions: Mapping[Text, Text] = field(default_factory=dict)  # of this program and what it computes with


def check(schema: TypeAdapter[T], value: Any, of: str) -> T:
    """A value as the schema has it; else an error says in a sentence ``of`` what, which value, and where."""
    try:
        return schema.validate_python(value)
    except ValidationError as error:
        raise DataError(f"{of}: {_sentence(error)}") from error


# What a value has to be, by pydantic's name of the error.
_EXPECTED: Mapping[str, str] = {
    "string_type": "a text",
    "string_unicode": "a name in letters",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "greater_than_equal": "at least {ge:g}",
    "less_than_equal": "at most {le:g}",
    "tuple_type": "a list",
    "too_short": "a list of at least {min_length} values",
    "too_long": "a list of at most {max_length} values",
    "dict_type": "an object",
    "mapping_type": "an object",
    "dataclass_type": "an object",
    "value_error": "{error}",
}


def _sentence(error: ValidationError) -> str:
    """The first of pydantic's errors: what is wrong, where, and what is allowed."""
    first = error.errors(include_url=False)[0]
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}"[:60] for part in first["loc"])
    where = "".join(parts).removeprefix(".") or "it"
    if first["type"] == "missing":
        return f"{where} is missing"
    expected = _EXPECTED.get(first["type"], first["msg"]).format(**first.get("ctx", {}))
    return f"{where} has to be {expected}, not {reprlib.repr(first['input'])}"


def dumps(value: Any, *, indent: int | None = None, allow_nan: bool = True) -> str:
    """Results, per-image results and numbers of numpy as JSON."""
    return json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=allow_nan, default=_plain)


def _plain(value: Any) -> Any:
    """What JSON has no form for, as what it has."""
    if is_dataclass(value):
        return {part.name: getattr(value, part.name) for part in fields(value)}
    if isinstance(value, np.ndarray):
        return {"size": value.shape, "data": base64.b64encode(value.tobytes()).decode("ascii")}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no form in JSON")
