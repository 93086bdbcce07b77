"""A run folder: what was asked for, what happened, and the model that came of it."""

from __future__ import annotations

import csv
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from famcli.data.readers import Sample
from famcli.recipe import Recipe
from famcli.targets import make_targets
from famcli.train import Epoch, fit
from famcli_models.checkpoint import write_atomic
from famcli_models.fam import FAM

RECIPE_FILE = "recipe.toml"
METRICS_FILE = "metrics.csv"
FLAT = 0.02  # a map whose standard deviation stays below this separates nothing


@dataclass(slots=True)
class Run:
    """One training run and its folder.

    Attributes:
        folder: Holds the checkpoint, ``recipe.toml`` (resolved) and ``metrics.csv``.
        recipe: The resolved recipe.
        backbone_weights: ``imagenet``, ``none`` or a file.
        class_names: One a class.
        data: What was trained on, for the provenance.
        half: Store float16.
    """

    folder: Path
    recipe: Recipe
    backbone_weights: str
    class_names: Sequence[str] | None
    data: Sequence[str]
    half: bool = False
    history: list[Epoch] = field(default_factory=list)

    def train(
        self,
        samples: Sequence[Sample],
        device: str,
        workers: int,
        say: Callable[[str], None],
        on_image: Callable[[int], None],
    ) -> FAM:
        """Train, saving the model and a line of metrics after each epoch.

        Args:
            samples: Images with labels.
            device: See :func:`famcli.predict.pick_device`.
            workers: Processes that decode.
            say: Told a line for each epoch, and warnings.
            on_image: Called with a number of images.
        """
        torch.manual_seed(self.recipe.train.seed)  # the attention modules start at random
        model = FAM.from_backbone(self.recipe.model, self.backbone_weights, self.class_names)
        self.recipe = replace(self.recipe, model=model.config)  # with the weights' normalisation and padding
        model.provenance |= {
            "data": [Path(folder).name for folder in self.data],
            "images": len(samples),
            "labels": "image labels only",
            "recipe": self.recipe.name,
            "seed": self.recipe.train.seed,
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("famcli", "torch", "timm")},
            },
        }
        text = self.recipe.to_toml()
        write_atomic(self.folder / RECIPE_FILE, lambda path: path.write_text(text, encoding="utf-8"))
        targets = None
        if self.recipe.train.lambda_target:
            say("making targets for M from the image labels")
            targets = make_targets(model, samples, device, workers)

        def after(epoch: Epoch) -> None:
            self.history.append(epoch)
            model.save_pretrained(self.folder, half=self.half)
            write_atomic(self.folder / METRICS_FILE, self._write_metrics)
            terms = "  ".join(f"{name} {value:.4f}" for name, value in epoch.terms.items())
            say(
                f"epoch {epoch.number}: {terms}  foreground {epoch.foreground:.3f}  spread {epoch.spread:.3f}"
                f"  top-1 {100 * epoch.top1:.1f} %  {len(samples) / epoch.seconds:.0f} images/s"
            )
            if epoch.spread < FLAT:
                say(f"warning: M is flat (spread {epoch.spread:.4f}): it has collapsed; see the method page")

        fit(model, samples, self.recipe.train, device, workers, targets, after, on_image)
        return model

    def _write_metrics(self, path: Path) -> None:
        rows: list[dict[str, Any]] = [
            {
                "epoch": e.number,
                **e.terms,
                "foreground": e.foreground,
                "spread": e.spread,
                "top1": e.top1,
                "seconds": e.seconds,
            }
            for e in self.history
        ]
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
