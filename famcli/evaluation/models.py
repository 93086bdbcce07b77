"""What is measured: a network by name, the CAM beside it, and where both came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from famcli.evaluation.inference import Networks
from famcli.hub import find_model
from famcli_models.checkpoint import WEIGHTS_FILE
from famcli_models.errors import ConfigError
from famcli_models.files import sha256_file
from famcli_models.fusion import fold_norms
from famcli_models.loading import load_model
from famcli_models.methods import BASELINE, METHODS
from famcli_models.methods.method import Method

NO_CAM = (
    "no CAM beside it: {reason}. Train one with 'fam train --method cam' on the same data and give its run as --cam RUN"
)


@dataclass(frozen=True, slots=True)
class Contender:
    """Networks with their origin.

    Attributes:
        name: What the user called the model.
        folder: Its checkpoint.
        networks: The model, and the CAM it is compared with.
        cam_name: What the user called the CAM, if it is another model.
        cam_folder: Its checkpoint.
        remark: Why there is no CAM, if there is none.
    """

    name: str
    folder: Path
    networks: Networks = field(repr=False)
    cam_name: str | None = None
    cam_folder: Path | None = None
    remark: str | None = None

    @classmethod
    def find(
        cls,
        name: str,
        method: str | None = None,
        cam: str | None = None,
        same_classes: bool = True,
        say: Callable[[str], None] | None = None,
    ) -> Contender:
        """Load a model, and the CAM beside it: of its own features if its classifier is the backbone's, or another.

        Args:
            name: Packaged name, checkpoint folder, or Hub id.
            method: ``fam`` or ``cam``; ``None`` is the checkpoint's own.
            cam: Likewise of a CAM to compare with.
            same_classes: The two are asked for the same classes.
            say: Told in a sentence what is downloaded.

        Raises:
            ConfigError: The checkpoint has no such method, or the two do not go together.
            FamError: See :func:`famcli.hub.find_model`.
        """
        folder = find_model(name, say)
        model = _load(folder, method)
        if model.class_conditional:
            if cam is not None:
                msg = "--cam is the rival of a FAM; what is measured here is a CAM itself, so leave it out"
                raise ConfigError(msg)
            return cls(name, folder, Networks(None, model))
        if cam is not None:
            rival_folder = find_model(cam, say)
            rival = _rival(cam, rival_folder, model, same_classes)
            return cls(name, folder, Networks(model, rival), cam, rival_folder)
        try:
            return cls(name, folder, Networks(model, METHODS[BASELINE].from_model(model)))
        except ConfigError:
            reason = "backbone and classifier of this model are not both as they were pretrained"
            return cls(name, folder, Networks(model, None), remark=NO_CAM.format(reason=reason))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of what is measured."""
        return self.networks.first.class_names

    def facts(self) -> dict[str, Any]:
        """Where it came from, for the result card; JSON values."""
        model = self.networks.first
        origin = model.provenance
        method = "FAM" if not model.class_conditional else "CAM"
        return {
            "kind": "model",
            "name": self.name,
            "method": method,
            "backbone": model.config.backbone,
            "backbone_weights": origin.get("backbone_weights"),
            "weights_sha256": sha256_file(self.folder / WEIGHTS_FILE),
            "revision": self.folder.name if self.folder.parent.name == "snapshots" else None,
            "input_size": model.config.size,
            "classifier": model.config.classifier,
            "data": origin.get("data"),
            "recipe": origin.get("recipe"),
            "seed": origin.get("seed"),
            "tuned_on_test": bool(origin.get("tuned_on_test", False)),
            "cam": self.cam_name,
            **self._rival_facts(),
        }

    def _rival_facts(self) -> dict[str, Any]:
        """Of a CAM that is another model."""
        if self.cam_folder is None or self.networks.cam is None:
            return {}
        return {
            "cam_weights_sha256": sha256_file(self.cam_folder / WEIGHTS_FILE),
            "cam_tuned_on_test": bool(self.networks.cam.provenance.get("tuned_on_test", False)),
        }


def _load(folder: Path, method: str | None = None) -> Method:
    """A model as ``fam predict`` runs it, so that its boxes are those of ``fam predict``: with folded norms."""
    model = load_model(folder, method)
    model.backbone = fold_norms(model.backbone)
    return model


def _rival(name: str, folder: Path, model: Method, same_classes: bool) -> Method:
    rival = _load(folder)
    if not rival.class_conditional:
        msg = f"--cam '{name}' is a FAM checkpoint; give one that 'fam train --method cam' made"
        raise ConfigError(msg)
    if same_classes and rival.class_names != model.class_names:
        msg = f"--cam '{name}' knows other classes than the model, so they cannot be compared on one data set's labels"
        raise ConfigError(msg)
    return rival
