"""Names that a shell completes: of models, methods, data and the like. None of them needs PyTorch to be loaded.

Where none fits what was typed so far, the shell completes names of files.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import famcli_models
from famcli_models.checkpoint import packaged
from famcli_models.errors import ConfigError

BACKBONES = ("vgg16", "resnet50", "inceptionv3", "mobilenetv1", "efficientnet_lite0")  # as the model's table has them
DEVICES = ("auto", "cpu", "cuda", "mps")


def models() -> list[str]:
    """Packaged models."""
    return list(packaged())


def catalog_models() -> list[str]:
    """Models that the catalogue knows."""
    from famcli.hub.names import CATALOG

    return list(CATALOG)


def all_models() -> list[str]:
    """Both."""
    return models() + catalog_models()


def weights() -> list[str]:
    """What a training may start from."""
    return [*models(), "imagenet", "none"]


def methods() -> list[str]:
    """Methods by the names of their files; the table of the methods would load PyTorch."""
    files = (Path(famcli_models.__file__).parent / "methods").glob("*.py")
    return sorted({path.stem for path in files} - {"__init__", "method"})


def recipes() -> list[str]:
    """Packaged recipes."""
    from famcli.training.catalog import recipes

    return list(recipes())


def catalog_datasets() -> list[str]:
    """Public datasets."""
    from famcli.data.public.catalog import CATALOG

    return list(CATALOG)


def datasets() -> list[str]:
    """Prepared datasets."""
    from famcli.data.dataset import DATASET_FILE, data_home

    with suppress(ConfigError, OSError):
        return sorted(file.parent.name for file in data_home().glob(f"*/{DATASET_FILE}"))
    return []


def data_formats() -> list[str]:
    """Forms of data of one's own."""
    from famcli.data.readers import AUTO, READERS

    return [AUTO, *READERS]


def protocols() -> list[str]:
    """Rules of an evaluation."""
    from famcli.evaluation.protocols import PROTOCOLS

    return list(PROTOCOLS)


def engines() -> list[str]:
    """What runs a model."""
    from famcli.inference.engine import AUTO, ENGINES

    return [AUTO, *ENGINES]


def qualities() -> list[str]:
    """How many views are averaged."""
    from famcli.inference.views import QUALITIES

    return list(QUALITIES)
