"""Write the recipes of the other methods: cells of the paper's Table 1, and two small sets on which all train alike.

    python scripts/method_recipes.py            # famcli/training/recipes/METHOD-BACKBONE-DATA.toml
    python scripts/method_recipes.py --check    # exit 1 if one is out of date

Hardware, time and score of a recipe that was run are filled in there by hand, and stay.
"""

from __future__ import annotations

import json
import math
import sys
import textwrap
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from typing import Any

from generated import write_or_check

from famcli.results.paper import TABLE1
from famcli.training.catalog import RECIPES_DIR, RecipeNote
from famcli_models.methods import METHODS

BACKBONES = {"vgg16": "VGG16", "resnet50": "ResNet50", "inceptionv3": "InceptionV3", "mobilenetv1": "MobileNetV1"}
DATA = {"cub": "CUB-200-2011", "ilsvrc": "ILSVRC"}
IMAGES = {"cub": 5994, "ilsvrc": 1_281_167}  # to train on
GPU_SPEED = {"vgg16": 678, "resnet50": 1664, "inceptionv3": 2144, "mobilenetv1": 3190}  # images/s, guide "Scale out"
CPU_SPEED = 24.8  # of MobileNetV1 on two cores, likewise

Table = Mapping[str, Any]
ON_GPU = {"precision": "bf16", "channels_last": True}


def sgd(lr: float, trunk: float, batch_size: int, weight_decay: float, epochs: int, *decay: int) -> Table:
    """SGD with Nesterov momentum: rate of what is new, share of it for the trunk, ..., epochs after which it falls."""
    return {
        "backbone": "trained",
        "backbone_lr": trunk,
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": "sgd",
        "lr": lr,
        "weight_decay": weight_decay,
        "warmup": 0.0,
        "schedule": "step",
        **({"decay_epochs": list(decay)} if decay else {}),
        **ON_GPU,
    }


# The cells. In each of their tables the first pattern counts that fits METHOD-BACKBONE-DATA.

TRAIN: Mapping[str, Table] = {
    "cam-vgg16-cub": sgd(1.268e-4, 0.1, 32, 5e-4, 50, 15, 30, 45),
    "cam-vgg16-ilsvrc": sgd(1.655e-4, 0.1, 32, 5e-4, 10, 3, 6, 9),
    "acol-*-cub": sgd(1e-3, 0.1, 20, 5e-4, 60),
    "acol-*-ilsvrc": sgd(1e-3, 0.1, 20, 5e-4, 6),
    "adl-resnet50-cub": sgd(0.1, 0.1, 128, 5e-4, 525, 150, 300, 450, 500),
    "adl-resnet50-ilsvrc": sgd(0.1, 0.1, 128, 5e-4, 10, 3, 6, 9),
    **dict.fromkeys(
        ("adl-*-cub", "cam-mobilenetv1-cub", "has-*-cub"), sgd(0.01, 0.1, 128, 5e-4, 525, 150, 300, 450, 500)
    ),
    **dict.fromkeys(("adl-*-ilsvrc", "cam-mobilenetv1-ilsvrc", "has-*-ilsvrc"), sgd(0.01, 0.1, 128, 5e-4, 10, 3, 6, 9)),
    "danet-*-cub": sgd(0.01, 0.1, 30, 5e-4, 100, 80),
    "danet-*-ilsvrc": sgd(0.01, 0.1, 30, 5e-4, 10, 3, 6, 9),
    "eil-*-cub": sgd(0.01, 0.1, 64, 1e-4, 80, 60),
    "eil-*-ilsvrc": sgd(0.01, 0.1, 64, 1e-4, 10, 4, 7),
    "gcnet-*-cub": {"backbone": "trained", "backbone_lr": 0.1, "epochs": 60, "batch_size": 32, "lr": 1e-3, **ON_GPU},
    "gcnet-*-ilsvrc": {"backbone": "trained", "backbone_lr": 0.1, "epochs": 20, "batch_size": 32, "lr": 1e-3, **ON_GPU},
    "i2c-*-cub": sgd(0.01, 0.1, 80, 5e-4, 50, 15, 30, 45),
    "i2c-*-ilsvrc": sgd(0.01, 0.1, 80, 5e-4, 5, 2, 3, 4),
    "psol-*": sgd(2e-3, 0.5, 256, 1e-4, 6),
    "rcam-*-cub": sgd(3e-3, 0.1, 40, 5e-4, 200, 60, 120, 180),
    "rcam-*-ilsvrc": sgd(3e-3, 0.1, 40, 5e-4, 10, 3, 6, 9),
    "spg-*-cub": sgd(1e-3, 1.0, 20, 5e-4, 50, 15, 30, 45),
    "spg-*-ilsvrc": sgd(1e-3, 1.0, 20, 5e-4, 5),
}

DANET_INCEPTION = {"maps_per_class": 4, "parent_channels": 384, "root_channels": 256, "alpha": 0.01}
MODEL: Mapping[str, Table] = {
    "has-*": {"grid": [0, 16, 32, 44, 56], "hide": 0.5},
    "acol-*": {"erase": 0.6},
    "eil-*": {"gamma": 0.7, "erased_weight": 1.0},
    "gcnet-*": {"lambda_area": 2.5},
    "spg-*": {"high": [0.7, 0.5, 0.7], "low": [0.05, 0.05, 0.1]},
    "i2c-*": {"seeds": 3, "lambda_sc": 0.008, "lambda_gc": 0.001},
    "rcam-*": {"theta": 0.1, "percentile": 90.0},
    "adl-vgg16-*": {"gamma": 0.8, "drop_rate": 0.75},
    "adl-resnet50-*": {"gamma": 0.9, "drop_rate": 0.75},
    "adl-inceptionv3-*": {"gamma": 0.8, "drop_rate": 0.75},
    "adl-mobilenetv1-*": {"gamma": 0.95, "drop_rate": 0.75},
    "danet-vgg16-cub": {"hierarchy": "cub", "maps_per_class": 8, "alpha": 0.01},
    "danet-inceptionv3-cub": {"hierarchy": "cub", **DANET_INCEPTION},
    "danet-inceptionv3-ilsvrc": {"hierarchy": "none", **DANET_INCEPTION},
    "*": {},
}

BY_ADL = """The paper's row is from the paper of ADL. Batch, steps, and a tenth of the rate for pretrained layers
are those of ADL's code on CUB (105 epochs as it counts, 525 of all images), and so is the rate, for VGG16; none is
published for MobileNetV1. Ours: the weight decay, and the epochs on ILSVRC, wsolevaluation's for CAM."""
SAID: Mapping[str, str] = {
    "cam-vgg16-*": """Rate, batch, decay and epochs were found by wsolevaluation's authors, who searched by
    boxes; two public scripts repeat them. Ours: no convolution between X and the average, where theirs has one.""",
    "cam-mobilenetv1-*": BY_ADL,
    "has-*": BY_ADL + " Squares and their share are the authors' of HaS.",
    "acol-*": """Published (code of the authors): rate, batch, decay, epochs, a tenth of the rate for pretrained
    layers, δ. Ours: maps of 14×14 cells, where theirs has 28×28.""",
    "adl-*": """Published (code of the authors), on CUB: batch, steps (105 epochs as it counts, 525 of all
    images), drop rate, a tenth of the rate for pretrained layers, and for VGG16 and ResNet50-SE the rate and γ. γ
    of the others is the paper's as an issue of that code quotes it, their rate VGG16's. Ours: the weight decay, the
    epochs on ILSVRC (wsolevaluation's for CAM), the places on MobileNetV1.""",
    "danet-*": """Published for CUB (code of the authors): rate, batch, decay, epochs, a tenth of the rate for
    pretrained layers, K and α. Ours: all of ILSVRC, for which there is neither code nor hierarchy; the paper's row
    repeats that of ADL.""",
    "eil-*": """Published (code of the authors): rate, batch, decay, steps, a tenth of the rate for pretrained layers,
    γ. Ours: 10 epochs on ILSVRC, where steps alone are said, and no new convolution before the average. The paper's
    row is of MEIL, several such modules, whose places and losses are not published; this is the single one.""",
    "gcnet-*": """Published (code of the authors): Adam's rate for the detector, ten times that for its last
    layer, batch, weights of the losses. Ours: both networks in one run, epochs, a cosine instead of a rate that
    falls ever faster.""",
    "i2c-*": """Published for ILSVRC (code of the authors): rate, batch, decay, epochs, a tenth of the rate for
    pretrained layers, weights of the terms. It starts from a CAM with the same head: add --init RUN. Ours: the
    epochs on CUB, wsolevaluation's for CAM, and maps of 12×12 cells, where theirs has 28×28.""",
    "psol-*": """Published for ILSVRC (code of the authors): rate, batch, decay, 6 epochs at one rate, a head at
    twice the trunk's. Their code has nothing for CUB: the same here. Boxes to learn from are DDT's on the training
    images, made first.""",
    "rcam-*": """Published for VGG16 on CUB (code of the authors): rate, batch, decay, steps, a tenth of the
    rate for pretrained layers, both thresholds. Ours: the same for other backbones, the epochs on ILSVRC
    (wsolevaluation's for CAM), no convolution between X and the pooling.""",
    "spg-*": """Published for ILSVRC (code of the authors): one rate for all layers, batch, decay, 5 epochs,
    thresholds. Ours: the epochs on CUB, wsolevaluation's for all methods, and maps of 12×12 cells, where theirs has
    28×28.""",
}
CELL: Mapping[str, str] = {
    "adl-resnet50-*": "a cell of the paper's Table 1, there with ResNet50-SE (timm's seresnet50)",
    "rcam-resnet50-*": "a cell of the paper's Table 1, there perhaps with ResNet50-SE (timm's seresnet50)",
    "*": "a cell of the paper's Table 1",
}

# The small sets: one budget for all methods, and what a method has beside it.

SMALL: Mapping[str, tuple[int, Table]] = {  # images to train on, and which
    "imagenette-wsol": (400, {"images_per_class": 40}),
    "butterflies": (463, {}),
}
BUDGET = {"backbone": "trained", "backbone_lr": 0.1, "epochs": 2, "batch_size": 16, "lr": 1e-3, "channels_last": True}
SHARED = """All methods have these images, optimiser, epochs and input size, and the settings of their own papers,
but for heads of convolutions, which have half the channels."""
HEAD = {"head_channels": 512}  # of the methods that add one: half of what is published, for so few images
SETTINGS: Mapping[str, Table] = {
    **dict.fromkeys(("cam-head", "acol", "spg", "danet"), HEAD),
    "i2c": {**HEAD, "lambda_sc": 0.001, "lambda_gc": 0.000125},  # for the size of this backbone's features
    "fam": {"part_std": 2.0},
    "fam-ext": {"value_bias": True, "lambda_spa": 0.3, "lambda_div": 0.1, "fine_channels": 160, "part_std": 2.0},
}
VARIANTS = {
    "fam": "FAM, the paper's losses alone",
    "fam-ext": "FAM with our extensions",
    "cam-head": "CAM with a head of convolutions",
}
BESIDE = {
    "fam-ext": "M is twice as fine as in the paper, and drawn to that of fam-mobilenetv1-ilsvrc.",
    "cam-head": "The head is that of ACoL, SPG, DANet and I²C, which are to be compared with it.",
}


def recipes() -> Iterator[tuple[str, str]]:
    """Name and text of each recipe."""
    names = {method.title: name for name, method in METHODS.items()}
    for (data, backbone), rows in TABLE1.items():
        for row in rows:
            if row.method != "FAM":  # whose recipes have headers of their own
                yield of_cell(names[row.method], row.method, backbone, data)
    trained = {name: title for title, name in names.items() if name != "ddt"}
    for data in SMALL:
        for name, title in (trained | VARIANTS).items():
            yield of_small_set(name, title, data)


def of_cell(method: str, title: str, backbone: str, data: str) -> tuple[str, str]:
    """Name and text of a cell's recipe; its time is that of the backbone alone."""
    name = f"{method}-{backbone}-{data}"
    model, train = {"method": method, "backbone": backbone, **first(MODEL, name)}, first(TRAIN, name)
    hours, batch = IMAGES[data] * train["epochs"] / GPU_SPEED[backbone] / 3600, train["batch_size"]
    memory = (8 if backbone in ("mobilenetv1", "inceptionv3") else 16) * (1 if batch <= 64 else 2)
    took = f"{hours:.1f} h" if hours >= 1 else f"{math.ceil(60 * hours)} min"
    facts = {
        "command": f"fam train --recipe {name}",
        "hardware": f"estimate: one GPU with {memory} GB ({batch} images a step)",
        "time": f'estimate: {took} on one GPU with a bf16 peak of 312 TFLOPS; formula in the guide "Scale out"',
        "score": "not run",
    }
    what = f"{title}, {BACKBONES[backbone]} on {DATA[data]}, end to end: {first(CELL, name)}."
    tables = {"run": {"data": [data], "backbone_weights": "imagenet"}, "model": model, "train": train}
    return name, written(name, what, facts, first(SAID, name), tables)


def of_small_set(variant: str, title: str, data: str) -> tuple[str, str]:
    """Name and text of a small recipe; its time is that of the backbone alone."""
    name, (images, few) = f"{variant}-mobilenetv1-{data}", SMALL[data]
    facts = {
        "command": f"fam train --recipe {name} --set backbone_weights=mobilenet_v1.safetensors",
        "hardware": "estimate: 2 CPU cores, no GPU",
        "time": f"estimate: {math.ceil(images * BUDGET['epochs'] / CPU_SPEED / 60)} min",
        "score": "not run",
    }
    method = variant.partition("-")[0]
    tables = {
        "run": {"data": [data], **few},
        "model": {"method": method, "backbone": "mobilenetv1", "dilation": False, **SETTINGS.get(variant, {})},
        "train": BUDGET,
    }
    if variant == "fam-ext":
        tables["run"] |= {"teacher": "fam-mobilenetv1-ilsvrc"}
        tables["train"] = BUDGET | {"lambda_target": 8.0}
    what = f"{title}: MobileNetV1 on {images} photographs of {data}, end to end."
    said = f"{BESIDE.get(variant, '')} {SHARED}"
    return name, written(name, what, facts, said, tables)


def first(table: Mapping[str, Any], name: str) -> Any:
    """The value of the first pattern that fits."""
    return next(value for pattern, value in table.items() if fnmatch(name, pattern))


def written(name: str, what: str, facts: Mapping[str, str], said: str, tables: Mapping[str, Table]) -> str:
    """A recipe's text; hardware, time and score are those of its file if it was run."""
    path = RECIPES_DIR / f"{name}.toml"
    note = RecipeNote.from_file(path) if path.is_file() else None
    if note is not None and note.score != "not run":
        facts = {fact: getattr(note, fact) for fact in facts}
    lines = [what, "", *(f"{fact:<9} {value}" for fact, value in facts.items()), "", *textwrap.wrap(said.strip(), 117)]
    header = "\n".join(f"# {line}".rstrip() for line in lines)
    settings = (
        "\n".join([f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())])
        for table, values in tables.items()
    )
    return "\n\n".join([header, *settings]) + "\n"


def main() -> int:
    """Write or compare."""
    stale = {RECIPES_DIR / f"{name}.toml": new for name, new in recipes()}
    stale = {path: new for path, new in stale.items() if not path.is_file() or path.read_text(encoding="utf-8") != new}
    return write_or_check(stale, "scripts/method_recipes.py", check="--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
