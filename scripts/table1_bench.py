"""Train and measure cells of the small Table 1, one after the other, in one process."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from table1_results import Result

from famcli.data.dataset import open_dataset
from famcli.evaluation.parts import Measured
from famcli.evaluation.perimage import FIXED_BOXES, EvaluationSettings
from famcli.evaluation.run import EvaluationRun
from famcli.evaluation.thresholds import count_maps, mask_metrics
from famcli.training.folder import RunFolder
from famcli.training.loop import fit
from famcli.training.recipe import load_recipe
from famcli.training.run import Run, open_run
from famcli_models.methods.method import Method


def run_cell(recipe_name: str, data: str, folder: Path, weights: Path, seed: int, recipes: Path | None) -> Result:
    """Train a recipe with a seed as ``fam train`` does, and measure the model of the last step on the test split.

    Args:
        recipe_name: A packaged recipe, or a file of that name in ``recipes``.
        data: Name of the data set.
        folder: Where it is.
        weights: File of the backbone's weights.
        seed: Of everything random.
        recipes: Folder of recipes that are not packaged.
    """
    source = str(recipes / f"{recipe_name}.toml") if recipes else recipe_name
    settings = [f"seed={seed}", "select=loss", f"data=['{folder}']", f"backbone_weights={weights}"]
    recipe, images, accelerator = open_run(load_recipe(source, settings), "cpu")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(RunFolder(Path(scratch) / "run"), recipe, images, accelerator, lambda _: None)
        training = run.training(resume=False, workers=1)
        prepared = time.monotonic()
        for _ in fit(training, workers=0):
            pass
    ended = time.monotonic()
    model = training.weights
    scores, bits = measure(model, folder)
    return Result(
        recipe=recipe_name,
        data=data,
        seed=seed,
        train_images=len(training.samples),
        epochs=recipe.train.epochs,
        scores={name: round(value, 4) for name, value in scores.items()},
        **bits,
        train_top1=round(100 * training.history[-1].measures["top1"], 2),
        parameters=sum(p.numel() for p in model.parameters()),
        prepare_seconds=round(prepared - began, 1),
        step_seconds=round((ended - prepared) / training.step, 3),
        threads=torch.get_num_threads(),
    )


def measure(model: Method, folder: Path) -> tuple[dict[str, float], dict[str, str]]:
    """Scores of the test split in percent, and of each image whether it is right, as strings of 0 and 1."""
    settings = EvaluationSettings(device="cpu", engine="torch", workers=1, processes=1)
    run = EvaluationRun.prepare(open_dataset(folder), model, settings)
    run = replace(run, models=run.models[:1])  # a baseline has a row of its own
    measured = run.measure()
    if measured.found is None:
        raise AssertionError
    found, (maps,), (boxes,) = measured.found, measured.found.maps.values(), measured.found.scores.values()
    own, oracle = boxes.nearest(model.config.tau), boxes.best()
    scores = {name: 100 * float(values.mean()) for name, values in boxes.scores(own).items()}
    scores |= {f"oracle_{name}": 100 * float(values.mean()) for name, values in boxes.scores(oracle).items()}
    fixed = {name: of.right()[:, 0] for name, of in found.with_fixed_boxes().scores.items() if name in FIXED_BOXES}
    scores |= {name: 100 * float(right.mean()) for name, right in fixed.items()}
    scores["oracle_tau"] = float(boxes.taus[oracle])
    for counts in measured.counts.values():
        scores |= {name: number.value for name, number in mask_metrics(counts.masks).items()}
    over = replace(settings, protocol="wsoleval-v2")
    counts = count_maps(found.samples, maps, [None] * len(maps), 2, over)
    run = replace(run, settings=over)
    scores["max_box_acc_v2"] = (
        run.results(Measured(found, {model.title: counts})).results.rows[0].metrics["max_box_acc_v2"].value
    )
    of_images = {"right": boxes.right()[:, own], "right_oracle": boxes.right()[:, oracle], "known": boxes.ranks == 0}
    return scores, {name: "".join(map(str, values.astype(int))) for name, values in of_images.items()}
