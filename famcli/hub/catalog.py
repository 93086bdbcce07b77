"""The models that this project knows by name, as a literal table: facts alone.

``published`` says where weights can be had; it is ``None`` until they are there.
"""

from __future__ import annotations

from dataclasses import dataclass

_CUB = "for non-commercial research, as CUB-200-2011's images"
_ILSVRC = "for non-commercial research and education, as ImageNet's images"


@dataclass(frozen=True, slots=True)
class Published:
    """Where weights are.

    Attributes:
        repo: Repository on the Hub, ``ORG/NAME``.
        revision: A full commit hash, which cannot be moved.
        sha256: Of ``model.safetensors``, in hexadecimal; ``None`` if it is not pinned.
    """

    repo: str
    revision: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """One model.

    Attributes:
        name: What commands call it.
        backbone: A row of ``famcli_models.BACKBONES``.
        data: What it is trained on.
        recipe: The packaged recipe that makes it.
        terms: What it may be used for, in a few words.
        published: Where its weights are; ``None`` if they are nowhere but in the package, or nowhere yet.
    """

    name: str
    backbone: str
    data: str
    recipe: str
    terms: str
    published: Published | None = None

    @property
    def command(self) -> str:
        """The command that makes it."""
        return f"fam train --recipe {self.recipe} --out {self.name}"


_ROWS = (
    ModelFacts(name="fam-vgg16-cub", backbone="vgg16", data="cub", recipe="vgg16-cub", terms=_CUB),
    ModelFacts(name="fam-resnet50-cub", backbone="resnet50", data="cub", recipe="resnet50-cub", terms=_CUB),
    ModelFacts(name="fam-inceptionv3-cub", backbone="inceptionv3", data="cub", recipe="inceptionv3-cub", terms=_CUB),
    ModelFacts(name="fam-mobilenetv1-cub", backbone="mobilenetv1", data="cub", recipe="mobilenetv1-cub", terms=_CUB),
    ModelFacts(name="fam-vgg16-ilsvrc", backbone="vgg16", data="ilsvrc", recipe="vgg16-ilsvrc", terms=_ILSVRC),
    ModelFacts(name="fam-resnet50-ilsvrc", backbone="resnet50", data="ilsvrc", recipe="resnet50-ilsvrc", terms=_ILSVRC),
    ModelFacts(
        name="fam-inceptionv3-ilsvrc",
        backbone="inceptionv3",
        data="ilsvrc",
        recipe="inceptionv3-ilsvrc",
        terms=_ILSVRC,
    ),
    # Packaged: its folder says what it was trained on.
    ModelFacts(
        name="fam-mobilenetv1-ilsvrc",
        backbone="mobilenetv1",
        data="imagenet-samples, ilsvrc-like",
        recipe="mobilenetv1-ilsvrc-frozen",
        terms="for research, as the images it was trained on",
    ),
)
CATALOG: dict[str, ModelFacts] = {row.name: row for row in _ROWS}
