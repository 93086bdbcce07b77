"""The toolkit from Python: predict, train, evaluate, and what they give. The commands call exactly these names.

Names are resolved on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from famcli.checkpoints.export import export as export
    from famcli.checkpoints.verify import verify_checkpoint as verify_checkpoint
    from famcli.data.dataset import Dataset as Dataset
    from famcli.data.dataset import open_dataset as open_dataset
    from famcli.data.sample import Sample as Sample
    from famcli.evaluation.perimage import EvaluationSettings as EvaluationSettings
    from famcli.evaluation.run import Evaluation as Evaluation
    from famcli.evaluation.run import evaluate as evaluate
    from famcli.hub.load import load_model as load_model
    from famcli.inference.job import Summary as Summary
    from famcli.inference.job import predict_files as predict_files
    from famcli.inference.predictor import Predictor as Predictor
    from famcli.inference.predictor import Settings as Settings
    from famcli.outputs.prediction import ClassScore as ClassScore
    from famcli.outputs.prediction import Failure as Failure
    from famcli.outputs.prediction import Item as Item
    from famcli.outputs.prediction import PartMaps as PartMaps
    from famcli.outputs.prediction import Prediction as Prediction
    from famcli.report.page import write_report as write_report
    from famcli.results.images import ImageResult as ImageResult
    from famcli.results.io import read_images as read_images
    from famcli.results.io import read_results as read_results
    from famcli.results.schema import Results as Results
    from famcli.training.recipe import Recipe as Recipe
    from famcli.training.recipe import load_recipe as load_recipe
    from famcli.training.run import TrainResult as TrainResult
    from famcli.training.run import train as train
    from famcli_models.errors import ConfigError as ConfigError
    from famcli_models.errors import DataError as DataError
    from famcli_models.errors import FamError as FamError
    from famcli_models.errors import ShapeError as ShapeError
    from famcli_models.errors import UnknownNameError as UnknownNameError
    from famcli_models.errors import WeightsError as WeightsError

_HOMES = {
    "ClassScore": "famcli.outputs.prediction",
    "ConfigError": "famcli_models.errors",
    "DataError": "famcli_models.errors",
    "Dataset": "famcli.data.dataset",
    "Evaluation": "famcli.evaluation.run",
    "EvaluationSettings": "famcli.evaluation.perimage",
    "Failure": "famcli.outputs.prediction",
    "FamError": "famcli_models.errors",
    "ImageResult": "famcli.results.images",
    "Item": "famcli.outputs.prediction",
    "PartMaps": "famcli.outputs.prediction",
    "Prediction": "famcli.outputs.prediction",
    "Predictor": "famcli.inference.predictor",
    "Recipe": "famcli.training.recipe",
    "Results": "famcli.results.schema",
    "Sample": "famcli.data.sample",
    "Settings": "famcli.inference.predictor",
    "ShapeError": "famcli_models.errors",
    "Summary": "famcli.inference.job",
    "TrainResult": "famcli.training.run",
    "UnknownNameError": "famcli_models.errors",
    "WeightsError": "famcli_models.errors",
    "evaluate": "famcli.evaluation.run",
    "export": "famcli.checkpoints.export",
    "load_model": "famcli.hub.load",
    "load_recipe": "famcli.training.recipe",
    "open_dataset": "famcli.data.dataset",
    "predict_files": "famcli.inference.job",
    "read_images": "famcli.results.io",
    "read_results": "famcli.results.io",
    "train": "famcli.training.run",
    "verify_checkpoint": "famcli.checkpoints.verify",
    "write_report": "famcli.report.page",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605  (a list of strings; the table is the one list of names)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module '{__name__}' has no attribute '{name}'"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
