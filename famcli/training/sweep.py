"""Several runs in turn, each in a folder of its own and evaluated at its end: seeds of a recipe, or many recipes.

A sweep is resumed by calling it again: finished runs and their results are kept, and an interrupted run goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from famcli.data.dataset import Dataset, open_dataset
from famcli.data.sample import TEST, sha256_samples
from famcli.evaluation.run import evaluate
from famcli.inference.ranks import Rank
from famcli.results.io import IMAGES_NAME, JSON_NAME, read_results, write_evaluation
from famcli.training.config import TrainConfig
from famcli.training.data import absolute_paths, open_data
from famcli.training.folder import RUNS, RunFolder
from famcli.training.monitor import Progress, no_progress
from famcli.training.recipe import Recipe, RunConfig
from famcli.training.resume import SWEEP_FILE
from famcli.training.run import train
from famcli_models.checkpoint import WEIGHTS_FILE
from famcli_models.errors import ConfigError, DataError, FamError
from famcli_models.files import sha256_file, write_atomic
from famcli_models.loading import method_class
from famcli_models.locks import only_writer

RESULTS = "results"  # in the folder of a run: its evaluation by the first protocol
FORMAT, FORMAT_VERSION = "fam-sweep", 1


@dataclass(frozen=True, slots=True)
class SweepRun:
    """What a sweep has of one run.

    Attributes:
        name: Its name in the sweep.
        folder: Its run folder.
        results: Folders of its evaluations, one for each protocol; none without boxes to evaluate by.
        failed: Why it failed, if it did; a model that has collapsed is evaluated nevertheless.
    """

    name: str
    folder: Path
    results: tuple[Path, ...] = ()
    failed: str | None = None


def of_seeds(recipe: Recipe, seeds: Iterable[int]) -> dict[str, Recipe]:
    """The same recipe with each of the seeds, as runs ``seed-0``, ``seed-1`` and so on."""
    return {f"seed-{seed}": replace(recipe, train=replace(recipe.train, seed=seed)) for seed in seeds}


def sweep(
    recipes: Mapping[str, Recipe],
    out: str | Path,
    *,
    data: Dataset | str | Path | None = None,
    protocols: Sequence[str] = ("fam",),
    exist_ok: bool = False,
    workers: int = 2,
    device: str = "auto",
    say: Callable[[str], None] = lambda _: None,
    progress: Progress = no_progress,
) -> list[SweepRun]:
    """Train recipes one after the other, and evaluate the model of each last epoch; what is done already is kept.

    Args:
        recipes: By the name of the run, which is its folder below ``out``; ``cam/seed-0`` makes two folders.
        out: Folder of the sweep. Calling again with more recipes adds to it.
        data: What the models are evaluated on, by its test split; by default what they are trained on. Without boxes
            there, nothing is evaluated.
        protocols: By which protocols; results lie in ``results`` of a run, and of further ones in
            ``results-PROTOCOL``.
        exist_ok: Start each run anew, whatever is in its folder.
        workers: See :func:`famcli.train`.
        device: Likewise.
        say: Called with a line for each step of the sweep, and what :func:`famcli.train` says.
        progress: See :func:`famcli.train`.

    Returns:
        The runs in order. One that fails is named and does not stop the others.

    Raises:
        ConfigError: A run of that name has other settings, a folder holds something else, or several processes were
            launched.
        FamError: The images of a run cannot be listed; nothing was begun.
        KeyboardInterrupt: After Ctrl-C; what is done is kept, and the run in progress was saved.
    """
    if Rank.from_environment().count > 1:
        raise ConfigError("a sweep is one process: leave out the launcher, or launch each run by itself")
    out = Path(out)
    asked = {name: replace(recipe, run=absolute_paths(recipe.run)) for name, recipe in recipes.items()}
    for run in {recipe.run for recipe in asked.values()}:
        open_data(run)  # before anything is written
    with only_writer(out / SWEEP_FILE):
        begun = _begin(out, asked, exist_ok)
        found = []
        for number, (name, recipe) in enumerate(asked.items(), 1):
            say(f"run {number} of {len(asked)}: {name}")
            folder, results = RunFolder(out / name), []
            resume = name in begun and folder.last.is_file()
            try:
                for stale in () if resume else folder.path.glob(f"{RESULTS}*/{JSON_NAME}"):
                    stale.unlink()
                result = train(
                    None if resume else recipe,
                    folder.path,
                    resume=resume,
                    exist_ok=not resume and (exist_ok or name in begun),  # a run that ended before its first save
                    workers=workers,
                    device=device,
                    say=say,
                    progress=progress,
                )
                failed = f"the training has failed: {result.collapsed}" if result.collapsed else None
                for dataset in _to_evaluate(recipe, data, say):
                    for protocol in protocols:
                        to = folder.path / (RESULTS if protocol == protocols[0] else f"{RESULTS}-{protocol}")
                        _evaluate(folder.path, dataset, protocol, to, device, say, progress)
                        results.append(to)
            except (FamError, OSError) as error:
                failed = str(error)
            except KeyboardInterrupt:
                say(f"what is done is kept; go on with all runs of '{out}' by fam train --resume {out}")
                raise
            if failed:
                say(f"run {name} failed: {failed}")
            found.append(SweepRun(name, folder.path, tuple(results), failed))
        return found


def default_folder(recipe: Recipe) -> Path:
    """Where the seeds of a recipe go by default: the same folder each time, so that the sweep goes on."""
    return RUNS / f"{RunFolder.stem(recipe)}-seeds"


def read_sweep(out: Path) -> dict[str, Recipe]:
    """The recipes of a sweep by the names of their runs; none if there is no sweep in the folder.

    A ``DataError`` says that its file is damaged.
    """
    path = out / SWEEP_FILE
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if (document["format"], document["format_version"]) != (FORMAT, FORMAT_VERSION):
            raise DataError(f"'{path}' is of another version of fam, which reads version {FORMAT_VERSION}")
        return {name: _from_json(stored) for name, stored in document["runs"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"'{path}' is damaged ({error}); choose another folder for the sweep") from error


def _begin(out: Path, asked: Mapping[str, Recipe], exist_ok: bool) -> set[str]:
    """Note the recipes, if all of them may run here; gives the names of runs to go on with."""
    noted = read_sweep(out)
    begun = {name for name in noted if RunFolder(out / name).recipe.is_file() and not exist_ok}
    for name, recipe in asked.items():
        path = PurePosixPath(name)
        if path.is_absolute() or not path.parts or ".." in path.parts:
            raise ConfigError(f"a run cannot be called '{name}': its name is a folder below '{out}'")
        if name not in begun:
            RunFolder(out / name).check(exist_ok)
        elif changed := _changed(noted[name], recipe):
            raise ConfigError(
                f"'{out / name}' was begun with other settings ({', '.join(changed)}); choose another folder for "
                "these, or start all runs anew with --exist-ok"
            )
    runs = {name: _to_json(recipe) for name, recipe in {**noted, **asked}.items()}
    document = {"format": FORMAT, "format_version": FORMAT_VERSION, "runs": runs}
    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    write_atomic(out / SWEEP_FILE, lambda path: path.write_text(text, encoding="utf-8"))
    return begun


def _changed(before: Recipe, now: Recipe) -> list[str]:
    """Names of the settings that differ."""
    old, new = before.tables(), now.tables()
    return [f"{table}.{key}" for table in new for key in new[table] if new[table][key] != old[table].get(key)]


def _to_json(recipe: Recipe) -> dict[str, Any]:
    return {
        "name": recipe.name,
        **recipe.tables(),
        "stated": sorted(recipe.stated),
        "kept": sorted(recipe.kept),
    }


def _from_json(stored: Mapping[str, Any]) -> Recipe:
    return Recipe(
        name=stored["name"],
        run=RunConfig(**stored["run"]),
        model=method_class(stored["model"]).config_class.from_dict(stored["model"]),
        train=TrainConfig(**stored["train"]),
        stated=frozenset(stored["stated"]),
        kept=frozenset(stored["kept"]),
    )


def _to_evaluate(recipe: Recipe, data: Dataset | str | Path | None, say: Callable[[str], None]) -> list[Dataset]:
    """The dataset whose test split has a box for each image, if there is one: of several the first."""
    names = recipe.run.data if data is None else (data,)
    for dataset in (name if isinstance(name, Dataset) else open_dataset(name) for name in names):
        samples = dataset.samples(TEST, with_boxes=True, boxes_optional=True) if TEST in dataset.splits() else []
        if samples and all(len(sample.boxes) for sample in samples):
            if len(names) > 1:
                say(f"evaluated on the test split of {dataset.name} alone")
            return [dataset]
    say("not evaluated: the data have no test split with a box for each image")
    return []


def _evaluate(
    model: Path,
    dataset: Dataset,
    protocol: str,
    out: Path,
    device: str,
    say: Callable[[str], None],
    progress: Progress,
) -> None:
    """Evaluate a model on a test split, unless its results are there."""
    samples = dataset.samples(TEST, with_boxes=True)
    if _is_evaluated(model, sha256_samples(samples), protocol, out):
        say(f"{out} has the results")
        return
    with progress(f"evaluation by {protocol}", len(samples)) as step:
        found = evaluate(dataset, model, protocol=protocol, device=device, say=say, on_images=step)
    write_evaluation(out, found.results, found.images())
    numbers = found.results.rows[0].metrics
    say(f"{out}: " + ", ".join(f"{name} {number.value:.2f}" for name, number in numbers.items()))


def _is_evaluated(model: Path, images: str, protocol: str, out: Path) -> bool:
    try:
        results = read_results(out)
    except DataError:
        return False
    same = (results.data.get("sha256"), results.protocol["name"]) == (images, protocol)
    weights = results.source.get("weights_sha256") == sha256_file(model / WEIGHTS_FILE)
    return same and weights and (out / IMAGES_NAME).is_file()
