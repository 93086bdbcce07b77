"""The toolkit from Python: predict, train, evaluate, and what they give. The commands call exactly these names.

Names are resolved on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# From 1.29 on ONNX Runtime reports its use to Microsoft, and keeps a database in the home folder, unless this is set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from famcli.__main__ import main as main
    from famcli.checkpoints.export import Parity as Parity, export as export
    from famcli.checkpoints.verify import verify_checkpoint as verify_checkpoint
    from famcli.data.dataset import Dataset as Dataset, open_dataset as open_dataset
    from famcli.data.sample import Sample as Sample
    from famcli.evaluation.compare import compare as compare
    from famcli.evaluation.perimage import EvaluationSettings as EvaluationSettings
    from famcli.evaluation.run import Evaluation as Evaluation, evaluate as evaluate
    from famcli.hub.names import load_model as load_model
    from famcli.inference.job import Summary as Summary, predict_files as predict_files
    from famcli.inference.predictor import Predictor as Predictor, Settings as Settings
    from famcli.inference.ranks import Rank as Rank
    from famcli.outputs.prediction import (
        ClassScore as ClassScore,
        Failure as Failure,
        Item as Item,
        PartMaps as PartMaps,
        Prediction as Prediction,
    )
    from famcli.report.page import write_report as write_report
    from famcli.results.comparison import Comparison as Comparison, read_comparison as read_comparison
    from famcli.results.images import ImageResult as ImageResult
    from famcli.results.io import read_images as read_images, read_results as read_results
    from famcli.results.schema import Results as Results
    from famcli.training.recipe import Recipe as Recipe, load_recipe as load_recipe
    from famcli.training.resume import TrainResult as TrainResult
    from famcli.training.run import train as train
    from famcli.training.sweep import SweepRun as SweepRun, of_seeds as of_seeds, sweep as sweep
    from famcli_models.errors import (
        ConfigError as ConfigError,
        DataError as DataError,
        FamError as FamError,
        ShapeError as ShapeError,
        UnknownNameError as UnknownNameError,
        WeightsError as WeightsError,
    )

_NAMES = {
    "famcli.__main__": ("main",),
    "famcli.checkpoints.export": ("Parity", "export"),
    "famcli.checkpoints.verify": ("verify_checkpoint",),
    "famcli.data.dataset": ("Dataset", "open_dataset"),
    "famcli.data.sample": ("Sample",),
    "famcli.evaluation.compare": ("compare",),
    "famcli.evaluation.perimage": ("EvaluationSettings",),
    "famcli.evaluation.run": ("Evaluation", "evaluate"),
    "famcli.hub.names": ("load_model",),
    "famcli.inference.job": ("Summary", "predict_files"),
    "famcli.inference.predictor": ("Predictor", "Settings"),
    "famcli.inference.ranks": ("Rank",),
    "famcli.outputs.prediction": ("ClassScore", "Failure", "Item", "PartMaps", "Prediction"),
    "famcli.report.page": ("write_report",),
    "famcli.results.comparison": ("Comparison", "read_comparison"),
    "famcli.results.images": ("ImageResult",),
    "famcli.results.io": ("read_images", "read_results"),
    "famcli.results.schema": ("Results",),
    "famcli.training.recipe": ("Recipe", "load_recipe"),
    "famcli.training.resume": ("TrainResult",),
    "famcli.training.run": ("train",),
    "famcli.training.sweep": ("SweepRun", "of_seeds", "sweep"),
    "famcli_models.errors": ("ConfigError", "DataError", "FamError", "ShapeError", "UnknownNameError", "WeightsError"),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_HOMES)  # noqa: PLE0605  (a list of strings; the table is the one list of names)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
