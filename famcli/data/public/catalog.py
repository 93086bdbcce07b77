"""The public datasets of the paper as a table; a size or a hash that no public source states is ``None``."""

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
    archives: tuple[Archive, ...]
    must_accept: bool = False  # the publisher sets terms, so that a download needs --accept-terms
    fullsup: str | None = None  # the dataset that is its train-fullsup split


_CALTECH = "https://www.vision.caltech.edu/datasets/cub_200_2011/"
_RECORDS = "https://data.caltech.edu/records"
_IMAGENET = "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php"
_WSOL_PAGE = "https://github.com/clovaai/wsolevaluation"
# The commit that renamed the boxes of ImageNetV2 after the images' present file names.
_WSOL_FILES = "https://raw.githubusercontent.com/clovaai/wsolevaluation/879728cf8d30c557684754c66be859414caad749"
_V2_PAGE = "https://huggingface.co/datasets/vaishaal/ImageNetV2"
_V2_COMMIT = "d626240be2538720e83103a0e1178d24aca8b12c"
# Sizes and hashes: tfds `url_checksums` (CUB), torchvision `datasets/imagenet.py` and the download page (ILSVRC),
# the Git LFS pointer of the pinned revision (ImageNetV2). Counts: wsolevaluation's metadata.
_HASHES = {
    "CUB_200_2011.tgz": "sha256:0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
    "segmentations.tgz": "sha256:dc77f6cffea0cbe2e41d4201115c8f29a6320ecb04fffd2444f51b8066e4b84f",
    "ILSVRC2012_img_train.tar": "md5:1d675b47d978889d74fa0da5fadfb00e",
    "ILSVRC2012_img_val.tar": "md5:29b22e2961454d5413ddabcf34fc5622",
    "ILSVRC2012_devkit_t12.tar.gz": "md5:fa75699e90414af021442c21a62c3abf",
    "ILSVRC2012_bbox_val_v3.tgz": "md5:f4cd18b5ea29fe6bbea62ec9c20d80f0",
    "imagenetv2-threshold0.7.tar.gz": "sha256:32142bfe998f9cfa4141be691f6a80eeb1e27b24bd532a668eb08c26d98897a2",
}
_URLS = {
    "CUB_200_2011.tgz": f"{_RECORDS}/65de6-vp158/files/CUB_200_2011.tgz?download=1",
    "segmentations.tgz": f"{_RECORDS}/w9d68-gec53/files/segmentations.tgz?download=1",
    "imagenetv2-threshold0.7.tar.gz": f"{_V2_PAGE}/resolve/{_V2_COMMIT}/imagenetv2-threshold0.7.tar.gz",
}


def _archive(
    name: str, holds: str, unpacked: int = 0, size: int | None = None, topic: str = "", page: str = _IMAGENET
) -> Archive:
    """An archive; one without an URL takes a login or a browser."""
    return Archive(name, holds, _URLS.get(name), page, size, _HASHES.get(name), unpacked, topic)


def _benchmark_list(name: str, holds: str, topic: str = "") -> Archive:
    """A small text file of wsolevaluation's repository; its hash is not pinned."""
    return Archive(f"metadata/{name}", holds, f"{_WSOL_FILES}/metadata/{name}", _WSOL_PAGE, topic=topic)


_ROWS = (
    DatasetFacts(
        name="cub",
        title="CUB-200-2011",
        paper="CUB-200-2011",
        classes=200,
        counts={"train-weaksup": 5_994, "test": 5_794},
        terms="For non-commercial research; the photographs belong to their Flickr authors and may not be passed on.",
        terms_page=_CALTECH,
        must_accept=True,
        archives=(
            _archive(
                "CUB_200_2011.tgz", "images, labels, official split, boxes", 1_200_000_000, 1_150_585_339, page=_CALTECH
            ),
            _archive(
                "segmentations.tgz", "a mask for every image", 60_000_000, 39_272_883, "segmentations", page=_CALTECH
            ),
        ),
        fullsup="cubv2",
    ),
    DatasetFacts(
        name="cubv2",
        title="CUBV2",
        paper="CUB-200-2011, train-fullsup",
        classes=200,
        counts={"train-fullsup": 1_000},
        terms="Labels and boxes are CC BY 2.0 (NAVER); every photograph has its own Flickr licence, listed by NAVER.",
        terms_page=_WSOL_PAGE,
        archives=(  # Google Drive asks a person to confirm large files
            _archive(
                "CUBV2.tar",
                "images by class",
                page="https://drive.google.com/open?id=1U6cwKHS65wayT9FFvoLIA8cn1k0Ot2M1",
            ),
            _benchmark_list("CUB/val/localization.txt", "boxes"),
        ),
    ),
    DatasetFacts(
        name="ilsvrc",
        title="ILSVRC 2012 CLS-LOC",
        paper="ILSVRC 2016",
        classes=1_000,
        counts={"train-weaksup": 1_281_167, "test": 50_000},
        terms="For non-commercial research and education, after registration; an employer is bound too.",
        terms_page="https://image-net.org/download.php",
        must_accept=True,
        archives=(
            _archive(
                "ILSVRC2012_img_train.tar", "training images, a tar for every class", 147_000_000_000, 147_897_477_120
            ),
            _archive(
                "ILSVRC2012_img_val.tar", "validation images, which are the test split", 6_700_000_000, 6_744_924_160
            ),
            _archive("ILSVRC2012_devkit_t12.tar.gz", "class names, labels of the validation images", 10_000_000),
            _archive("ILSVRC2012_bbox_val_v3.tgz", "boxes of the validation images", 210_000_000),
            _benchmark_list(
                "ILSVRC/test/localization.txt", "the same boxes from wsolevaluation, without a login", "boxes"
            ),
            _benchmark_list(
                "ILSVRC/test/class_labels.txt",
                "labels of the validation images from wsolevaluation, without a login",
                "labels",
            ),
        ),
        fullsup="imagenetv2",
    ),
    DatasetFacts(
        name="imagenetv2",
        title="ImageNetV2 threshold-0.7",
        paper="ILSVRC 2016, train-fullsup",
        classes=1_000,
        counts={"train-fullsup": 10_000},
        terms="The collection is under the MIT licence and its boxes are CC BY 2.0 (NAVER); photographs are Flickr's.",
        terms_page=_V2_PAGE,
        archives=(
            _archive(
                "imagenetv2-threshold0.7.tar.gz", "images by class index", 1_300_000_000, 1_249_906_176, page=_V2_PAGE
            ),
            _benchmark_list("ILSVRC/val/localization.txt", "boxes"),
        ),
    ),
)
CATALOG = {facts.name: facts for facts in _ROWS}


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
