"""The public datasets of the paper as a literal table: what they hold, where they come from, on what terms.

A size or a hash that no public source states is ``None``, and the tools then say "not pinned" and print what they got.
"""

from __future__ import annotations

from dataclasses import dataclass

from famcli_models.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class Archive:
    """One file of a publisher."""

    name: str  # of the file in the download folder
    holds: str  # in a few words
    url: str | None  # None where that takes a login or a browser
    page: str  # that leads to it, for people
    size: int | None = None  # in bytes, if the publisher's file is known to have a fixed size
    hash: str | None = None  # "sha256:" or "md5:" and the digest in hexadecimal; older data have an MD5 alone
    unpacked: int = 0  # bytes after extraction, roughly, for the check of free disk
    topic: str = ""  # what --only calls an optional file; empty for one that is needed to prepare the dataset

    @property
    def required(self) -> bool:
        """Whether it is needed to prepare the dataset."""
        return not self.topic


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """One dataset."""

    name: str  # that commands call it
    title: str  # its own name
    paper: str  # what the FAM paper calls it
    classes: int
    counts: dict[str, int]  # images of each split, by the paper's names of the splits
    terms: str  # of use, in one sentence of ours, which does not replace theirs
    terms_page: str
    must_accept: bool  # the publisher sets terms, so that a download needs --accept-terms
    archives: tuple[Archive, ...]
    fullsup: str | None = None  # the dataset that is its train-fullsup split


_CALTECH = "https://www.vision.caltech.edu/datasets/cub_200_2011/"
_IMAGENET = "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php"
_WSOL_PAGE = "https://github.com/clovaai/wsolevaluation"
# The commit that renamed the boxes of ImageNetV2 after the images' present file names.
_WSOL_FILES = "https://raw.githubusercontent.com/clovaai/wsolevaluation/879728cf8d30c557684754c66be859414caad749"
_IMAGENET_V2 = "https://huggingface.co/datasets/vaishaal/ImageNetV2"


def _benchmark_list(name: str, holds: str, topic: str = "") -> Archive:
    """A small text file of wsolevaluation's repository; its hash is not pinned."""
    return Archive(name, holds, f"{_WSOL_FILES}/{name}", _WSOL_PAGE, topic=topic)


def _imagenet(name: str, holds: str, md5: str, unpacked: int, size: int | None = None) -> Archive:
    """An archive behind ImageNet's login."""
    return Archive(name, holds, None, _IMAGENET, size, f"md5:{md5}", unpacked)


# Sizes and hashes: tfds `url_checksums` (CUB), torchvision `datasets/imagenet.py` and the download page (ILSVRC),
# the Git LFS pointer of the pinned revision (ImageNetV2). Counts: wsolevaluation's metadata.
CATALOG: dict[str, DatasetFacts] = {
    "cub": DatasetFacts(
        name="cub",
        title="CUB-200-2011",
        paper="CUB-200-2011",
        classes=200,
        counts={"train-weaksup": 5_994, "test": 5_794},
        terms="For non-commercial research; the photographs belong to their Flickr authors and may not be passed on.",
        terms_page=_CALTECH,
        must_accept=True,
        archives=(
            Archive(
                name="CUB_200_2011.tgz",
                holds="images, labels, official split, boxes",
                url="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz?download=1",
                page=_CALTECH,
                size=1_150_585_339,
                hash="sha256:0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
                unpacked=1_200_000_000,
            ),
            Archive(
                name="segmentations.tgz",
                holds="a mask for every image",
                url="https://data.caltech.edu/records/w9d68-gec53/files/segmentations.tgz?download=1",
                page=_CALTECH,
                size=39_272_883,
                hash="sha256:dc77f6cffea0cbe2e41d4201115c8f29a6320ecb04fffd2444f51b8066e4b84f",
                unpacked=60_000_000,
                topic="segmentations",
            ),
        ),
        fullsup="cubv2",
    ),
    "cubv2": DatasetFacts(
        name="cubv2",
        title="CUBV2",
        paper="CUB-200-2011, train-fullsup",
        classes=200,
        counts={"train-fullsup": 1_000},
        terms="Labels and boxes are CC BY 2.0 (NAVER); every photograph has its own Flickr licence, listed by NAVER.",
        terms_page=_WSOL_PAGE,
        must_accept=False,
        archives=(
            Archive(
                name="CUBV2.tar",
                holds="images by class",
                url=None,  # Google Drive asks a person to confirm large files
                page="https://drive.google.com/open?id=1U6cwKHS65wayT9FFvoLIA8cn1k0Ot2M1",
            ),
            _benchmark_list("metadata/CUB/val/localization.txt", "boxes"),
        ),
    ),
    "ilsvrc": DatasetFacts(
        name="ilsvrc",
        title="ILSVRC 2012 CLS-LOC",
        paper="ILSVRC 2016",
        classes=1_000,
        counts={"train-weaksup": 1_281_167, "test": 50_000},
        terms="For non-commercial research and education, after registration; an employer is bound too.",
        terms_page="https://image-net.org/download.php",
        must_accept=True,
        archives=(
            _imagenet(
                "ILSVRC2012_img_train.tar",
                "training images, a tar for every class",
                "1d675b47d978889d74fa0da5fadfb00e",
                147_000_000_000,
                147_897_477_120,
            ),
            _imagenet(
                "ILSVRC2012_img_val.tar",
                "validation images, which are the test split",
                "29b22e2961454d5413ddabcf34fc5622",
                6_700_000_000,
                6_744_924_160,
            ),
            _imagenet(
                "ILSVRC2012_devkit_t12.tar.gz",
                "class names, labels of the validation images",
                "fa75699e90414af021442c21a62c3abf",
                10_000_000,
            ),
            _imagenet(
                "ILSVRC2012_bbox_val_v3.tgz",
                "boxes of the validation images",
                "f4cd18b5ea29fe6bbea62ec9c20d80f0",
                210_000_000,
            ),
            _benchmark_list(
                "metadata/ILSVRC/test/localization.txt",
                "the same boxes from wsolevaluation, without a login",
                topic="boxes",
            ),
            _benchmark_list(
                "metadata/ILSVRC/test/class_labels.txt",
                "labels of the validation images from wsolevaluation, without a login",
                topic="labels",
            ),
        ),
        fullsup="imagenetv2",
    ),
    "imagenetv2": DatasetFacts(
        name="imagenetv2",
        title="ImageNetV2 threshold-0.7",
        paper="ILSVRC 2016, train-fullsup",
        classes=1_000,
        counts={"train-fullsup": 10_000},
        terms="The collection is under the MIT licence and its boxes are CC BY 2.0 (NAVER); photographs are Flickr's.",
        terms_page=_IMAGENET_V2,
        must_accept=False,
        archives=(
            Archive(
                name="imagenetv2-threshold0.7.tar.gz",
                holds="images by class index",
                url=f"{_IMAGENET_V2}/resolve/d626240be2538720e83103a0e1178d24aca8b12c/imagenetv2-threshold0.7.tar.gz",
                page=_IMAGENET_V2,
                size=1_249_906_176,
                hash="sha256:32142bfe998f9cfa4141be691f6a80eeb1e27b24bd532a668eb08c26d98897a2",
                unpacked=1_300_000_000,
            ),
            _benchmark_list("metadata/ILSVRC/val/localization.txt", "boxes"),
        ),
    ),
}


def find_facts(name: str) -> DatasetFacts:
    """The row of a dataset, or an error that names those that there are."""
    if name not in CATALOG:
        raise UnknownNameError("dataset", name, CATALOG, "'fam data list' shows them all")
    return CATALOG[name]


def human(size: float) -> str:
    """Bytes for people: ``1.15 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
