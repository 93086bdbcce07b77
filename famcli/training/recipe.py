"""A recipe: one flat TOML file with ``[run]``, ``[model]`` and ``[train]`` tables, and overrides typed by hand."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from famcli.training.catalog import recipes
from famcli.training.config import TrainConfig
from famcli_models.checkpoint import method_of, packaged, read_config
from famcli_models.config import MethodConfig, check_fields, require
from famcli_models.errors import ConfigError, UnknownNameError, short
from famcli_models.loading import method_class

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

IMAGENET, NONE = "imagenet", "none"  # what a model may start from, beside files and models
FITTING_STEPS, FITTING_EPOCHS = 150, (5, 20)
PATHS = {"data", "backbone_weights", "class_names", "unlabelled", "teacher"}  # fields of [run] that may be paths
# Fields of [run] that need lambda_target.
OF_TARGETS = {"teacher", "teacher_scales", "teacher_flip", "teacher_looks", "targets", "hard_targets"}
MOVED = {"part_std", "sparsity_warmup"}  # from [train] to [model] since version 0.1


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What a run starts from and what it keeps.

    Attributes:
        data: Names of prepared datasets, or folders and files that ``fam data`` knows; several are joined.
        split: The split to train on.
        images_per_class: Train on so many images of each class, the same ones whatever the seed; 0 takes all.
        select: What the best epoch is chosen by: GT-known Loc on a split with boxes, by its name; ``loss``, the
            lowest training loss among the epochs whose map has not collapsed; or ``auto``, train-fullsup if the data
            have boxes there, else the loss of the class on images held out, else ``loss``.
        backbone_weights: What the model starts from: ``imagenet``, ``none``, a safetensors file of the backbone, or a
            trained model by name or folder.
        hold_out: Share of the images of each class that is kept out of training to validate by, if the data have no
            images for that.
        class_names: File with a class name on each line, instead of the names of the data.
        unlabelled: Extension: further datasets whose images join the training under pseudo-labels, the classes that
            the pretrained classifier gives them; labels of their own are not read.
        unlabelled_confidence: Least probability of that class; images below it are left out.
        teacher: Extension: models by name, checkpoints or folders of runs, of these or other classes; with
            ``lambda_target`` the mean of their M takes part in the targets, see :mod:`famcli.training.supervision`.
        teacher_scales: The map of a teacher is averaged over these multiples of its input size.
        teacher_flip: And over the mirrored images.
        teacher_looks: 2 runs a teacher again on the part of the image with its first box, as ``--looks 2`` does.
        targets: Extension: how targets are made from labels and teachers, ``edges`` or ``evidence``, see
            :mod:`famcli.training.supervision`.
        hard_targets: Extension: targets are 1 where they would be above 1/2, and 0 elsewhere.
        half: Store checkpoints in float16.
        i_know_this_is_test: Let the test split be trained on or selected by; the run is marked for good.

    Raises:
        ConfigError: A value is not allowed; the message names the field and what is.
    """

    data: tuple[str, ...] = ()
    split: str = "train-weaksup"
    images_per_class: int = 0
    select: str = "auto"
    backbone_weights: str = IMAGENET
    hold_out: float = 0.0
    class_names: str = ""
    unlabelled: tuple[str, ...] = ()
    unlabelled_confidence: float = 0.6
    teacher: tuple[str, ...] = ()
    teacher_scales: tuple[float, ...] = (1.0,)
    teacher_flip: bool = False
    teacher_looks: int = 1
    targets: str = "edges"
    hard_targets: bool = False
    half: bool = False
    i_know_this_is_test: bool = False

    def __post_init__(self) -> None:
        """Check every field's type."""
        for field in ("data", "unlabelled", "teacher"):  # TOML gives a list, --set perhaps a bare word
            given: Any = getattr(self, field)
            names = given if not isinstance(given, str) else [given] if given else []
            good = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
            require(good, field, given, "a list of names")
            object.__setattr__(self, field, tuple(names))
        scales: Any = self.teacher_scales
        numbers = isinstance(scales, (list, tuple)) and all(
            isinstance(s, (int, float)) and 0.25 <= s <= 4 for s in scales
        )
        require(numbers and bool(scales), "teacher_scales", scales, "a list of numbers in [0.25, 4]")
        object.__setattr__(self, "teacher_scales", tuple(map(float, scales)))
        for name in (*self.data, *self.unlabelled, *self.teacher, self.backbone_weights, self.class_names):
            if any("\ud800" <= c <= "\udfff" for c in str(name)):
                raise ConfigError(f"{name!r} is a path that is not Unicode, which a recipe cannot hold; rename it")
        ranges = {"unlabelled_confidence": (0, 1), "hold_out": (0, 0.5), "images_per_class": (0, 10**9)}
        check_fields(self, {"targets": ("edges", "evidence")}, {**ranges, "teacher_looks": (1, 2)})


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides a training run.

    Attributes:
        name: Where it came from.
        run: What it starts from.
        model: The model.
        train: How it is trained.
        stated: Fields of the model that somebody chose, rather than their defaults.
        kept: Those of them that stay where the model starts from a trained one: all that shape the network, if the
            recipe's file names that model too, and what was typed.
    """

    name: str
    run: RunConfig
    model: MethodConfig
    train: TrainConfig
    stated: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()

    def to_toml(self) -> str:
        """The resolved recipe; read back, it gives an equal one."""
        lines = []
        for table, values in self.tables().items():
            # JSON's numbers, strings, booleans and flat lists are TOML's too; only 0x7F needs an escape more.
            texts = {key: json.dumps(v, ensure_ascii=False).replace("\x7f", "\\u007f") for key, v in values.items()}
            lines += [f"[{table}]", *(f"{key} = {text}" for key, text in texts.items()), ""]
        return "\n".join(lines)

    def tables(self) -> dict[str, dict[str, Any]]:
        """The fields by table, JSON-able."""
        run, train = (
            {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(table).items()}
            for table in (self.run, self.train)
        )
        return {"run": run, "model": self.model.to_dict(), "train": train}

    def digest(self, images: str) -> str:
        """SHA-256 of all settings but the seed, and of what is trained on; it does not depend on where files are."""
        tables = self.tables()
        for name in PATHS:
            paths = tables["run"][name]
            tables["run"][name] = [Path(path).name for path in ([paths] if isinstance(paths, str) else paths)]
        for name in ("seed", "save_minutes"):
            del tables["train"][name]
        return hashlib.sha256(json.dumps([tables, images], sort_keys=True).encode()).hexdigest()

    def fitted(self, images: int) -> Recipe:
        """The recipe for a number of images, where it leaves the number of epochs to it.

        About :data:`FITTING_STEPS` steps, within :data:`FITTING_EPOCHS`; the measurements are in the documentation.
        """
        if self.train.epochs:
            return self
        least, most = FITTING_EPOCHS
        steps_an_epoch = max(1, images // self.train.batch_size)
        return replace(self, train=replace(self.train, epochs=min(most, max(least, FITTING_STEPS // steps_an_epoch))))

    def with_classes(self, number: int, named: bool) -> Recipe:
        """The recipe for data with a number of classes, unless it states its own.

        Raises:
            ConfigError: The data name their classes, and the recipe states another number.
        """
        if "num_classes" not in self.stated:
            return replace(self, model=replace(self.model, num_classes=number))
        if named and self.model.num_classes != number:
            msg = f"the data name {number} classes, but num_classes is {self.model.num_classes}; leave it out"
            raise ConfigError(msg)
        return self


def load_recipe(
    name_or_path: str | None,
    overrides: Sequence[str] = (),
    run: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        name_or_path: The name of a packaged recipe, the path of a TOML file, or ``None`` for the defaults.
        overrides: ``key=value`` pairs; the key is a field of ``RunConfig``, ``TrainConfig`` or the method's config,
            with its table before it (``train.backbone``) where two have a field of that name; the value is TOML or
            a bare word.
        run: Fields of ``RunConfig`` that come after the recipe and before the overrides.
        model: Likewise of the method's config.

    Raises:
        UnknownNameError: No such recipe or field.
        ConfigError: The file is not TOML or a value is not allowed.
    """
    name = "defaults"
    tables: dict[str, dict[str, Any]] = {"run": {}, "model": {}, "train": {}}
    if name_or_path is not None:
        path = recipes().get(name_or_path, Path(name_or_path))
        if not path.is_file():
            raise UnknownNameError("recipe", name_or_path, recipes(), "or give the path of a TOML file")
        name, tables = path.stem, migrate({**tables, **_parse(path)})
    pairs = [pair.partition("=") for pair in overrides]
    typed = [_value(text) for key, _, text in pairs if key in ("method", "model.method")]
    written = method_of(tables["model"])
    method = method_class({"method": written, **(model or {}), **({"method": typed[-1]} if typed else {})})
    if written != method.name():
        # A recipe of another method: its own settings mean nothing here, nor does the threshold if it names the method.
        shared = _fields(MethodConfig) - ({"method", "tau"} if "method" in tables["model"] else set())
        tables["model"] = {key: value for key, value in tables["model"].items() if key in shared}
    known = {"run": _fields(RunConfig), "model": _fields(method.config_class), "train": _fields(TrainConfig)}
    if not method.learns_map or written != method.name():  # targets are for the learnt map of the recipe's method
        tables["train"].pop("lambda_target", None)
        tables["run"] = {field: value for field, value in tables["run"].items() if field not in OF_TARGETS}
    typed_fields = {"run": dict(run or {}), "model": dict(model or {}), "train": dict[str, Any]()}
    for key, equals, text in pairs:
        table, field = _locate(key, known) if equals else _locate("", known, key)
        typed_fields[table][field] = _value(text)
    if "backbone_weights" not in typed_fields["run"] and not _starts_from(tables["run"], typed_fields["model"]):
        tables["run"]["backbone_weights"] = IMAGENET
    tables = {table: values | typed_fields[table] for table, values in tables.items()}
    for table, values in tables.items():
        allowed = known[table] | (method.config_class.NOT_READ if table == "model" else set())
        if unknown := sorted(set(values) - allowed):
            kind = f"field of [{table}]"
            raise UnknownNameError(kind, unknown[0], known[table])
    config = method.config_class.from_dict({**tables["model"], "method": method.name()})
    run_config, train = RunConfig(**tables["run"]), TrainConfig(**tables["train"])
    stated = frozenset(tables["model"])
    shape = stated - method.config_class.OF_TRAINING if "backbone_weights" not in typed_fields["run"] else frozenset()
    return Recipe(name, run_config, config, train, stated, shape | set(typed_fields["model"]))


def _starts_from(run: Mapping[str, Any], typed: Mapping[str, Any]) -> bool:
    """Whether a backbone that was typed is that of a packaged model which a recipe starts from, if it does."""
    folder = packaged().get(str(run.get("backbone_weights")))
    return folder is None or typed.get("backbone") in (None, read_config(folder)["model"]["backbone"])


def migrate(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The tables of a recipe as this version has them, of one that version 0.1 wrote too.

    It had one teacher, and in [train] what is in [model] now, if the method has such fields.
    """
    made = {table: dict(values) for table, values in tables.items()}
    if isinstance(teacher := made["run"].get("teacher"), str):
        made["run"]["teacher"] = [teacher] if teacher else []
    for name in MOVED & made["train"].keys():
        value = made["train"].pop(name)
        if name in _fields(method_class(made["model"]).config_class):
            made["model"].setdefault(name, value)
    return made


def _fields(kind: Any) -> set[str]:
    return {f.name for f in fields(kind)}


def _locate(key: str, known: Mapping[str, set[str]], typed: str = "") -> tuple[str, str]:
    """Table and field of an override's key; ``typed`` is what the error quotes."""
    table, dot, field = key.partition(".")
    if dot and field in known.get(table, ()):
        return table, field
    found = [table for table, names in known.items() if key in names]
    if len(found) > 1:
        ways = " or ".join(f"{table}.{key}=VALUE" for table in found)
        raise ConfigError(f"'{key}' is a field of {' and '.join(f'[{table}]' for table in found)}: write {ways}")
    if not found:
        raise UnknownNameError("setting", typed or key, set().union(*known.values()), "settings are written key=value")
    return found[0], key


def _parse(path: Path) -> dict[str, Any]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # also of bytes, numbers and lists that are none, or without end
        raise ConfigError(f"{path} is not TOML: {short(str(error))}") from error
    if loose := [key for key, value in tables.items() if not isinstance(value, dict)]:
        raise ConfigError(f"{path}: '{loose[0]}' stands outside of a table; put it below [run], [model] or [train]")
    if stray := sorted(set(tables) - {"run", "model", "train"}):
        kind = "table in the recipe"
        raise UnknownNameError(kind, stray[0], ("run", "model", "train"))
    return tables


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
