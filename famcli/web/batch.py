"""The photographs that one visitor of the page works on, what models say of them, and the files to take away."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

from PIL import Image

from famcli.data.images import read_picture
from famcli.data.listing import Listing, Names
from famcli.hub import find_model
from famcli.inference.engine import open_engine
from famcli.inference.job import results_info
from famcli.inference.predictor import Predictor, Settings
from famcli.outputs import FORMATS, Run, write_image_files, write_results
from famcli.outputs.coco import CocoIds
from famcli.outputs.image_files import SIDE, read_photo, shrunk
from famcli.outputs.prediction import Failure, Item, Prediction, Record
from famcli_models.checkpoint import read_config
from famcli_models.errors import DataError, UnknownNameError
from famcli_models.graph import GraphFacts

SHOWN_CLASSES = 3
SMALL_SIDE = 240  # of photographs in the gallery and beside their parts, in pixels
MOST_NAME_BYTES = 240  # bytes of a name
OVERLAYS = "overlays"
DOWNLOADS = {
    "coco": "COCO",
    "yolo": "YOLO",
    "voc": "Pascal VOC",
    "csv": "CSV",
    OVERLAYS: "Pictures",
}  # what is offered, of the rows of FORMATS, and the photographs with what was found drawn on them


@dataclass(frozen=True, slots=True)
class Choice:
    """A model of the page with one of its methods, and what the page calls it."""

    title: str
    predictor: Predictor


class Choices:
    """The models of a page with their methods, each opened when it is first asked for.

    Args:
        models: Packaged names, folders of checkpoints, or names on the Hugging Face Hub.

    Raises:
        FamError: One of them cannot be found.
    """

    def __init__(self, models: Sequence[str]) -> None:
        self._where: dict[str, tuple[Path, str | None]] = {}
        self._open: dict[str, Choice] = {}
        for name in models:
            folder = find_model(name)
            stored = read_config(folder)
            facts = GraphFacts.from_provenance(stored["provenance"])
            # Without a graph only PyTorch, which takes seconds to load, knows what else there is.
            methods = (
                {method: f"{name} · {of.title}" for method, of in facts.methods.items()} if facts else {None: name}
            )
            self._where |= {title: (folder, method) for method, title in methods.items()}

    @property
    def titles(self) -> list[str]:
        """What the page calls each of them."""
        return list(self._where)

    def __getitem__(self, title: str) -> Choice:
        if title not in self._where:
            raise UnknownNameError("model", title, self._where)
        if title not in self._open:
            folder, method = self._where[title]
            engine = open_engine(folder, method, "cpu")
            settings = Settings(topk=SHOWN_CLASSES, photos=True, parts=engine.num_parts > 0)
            self._open[title] = Choice(title, Predictor(engine, settings=settings))
        return self._open[title]


@dataclass(slots=True)
class Batch:
    """Photographs in a folder of their own, which goes when the batch does.

    Attributes:
        folder: What is written goes there.
        names: In the order in which they came.
        found: What each choice, by its title, says of each photograph, by its name; not of all of them yet.
    """

    folder: Path
    names: list[str] = field(default_factory=list)
    found: dict[str, dict[str, Prediction | Failure]] = field(default_factory=dict)

    @classmethod
    def in_new_folder(cls) -> Batch:
        """A batch without photographs."""
        return cls(Path(tempfile.mkdtemp(prefix="batch-")))

    @property
    def photographs(self) -> Path:
        """Folder of the photographs, by name."""
        return self.folder / "photographs"

    def remove(self) -> None:
        """Delete the photographs, which are copies."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, source: Path, name: str) -> str:
        """Take in a copy of a photograph; it gets another name where ``name`` is taken or not safe to write."""
        wanted = _safe_name(name)
        if any(str(folder) in self.names for folder in PurePosixPath(wanted).parents):
            wanted = wanted.replace("/", "_")  # a photograph has the name of the folder
        name, number = wanted, 1
        while (self.photographs / name).exists():
            number += 1
            name = _numbered(wanted, number)
        path = self.photographs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
        self.names.append(name)
        return name

    def predict(self, choice: Choice) -> Iterator[tuple[int, int]]:
        """Run a choice on the photographs that it was not run on yet; how many of how many are done."""
        found = self.found.setdefault(choice.title, {})
        missing = [name for name in self.names if name not in found]
        items = (Item(name, self.photographs / name) for name in missing)
        for done, result in enumerate(choice.predictor.stream(items), 1):
            if isinstance(result, Prediction):
                small = shrunk(Image.fromarray(read_photo(result)), SMALL_SIDE)
                found[result.name] = replace(result, source=small)
            else:
                found[result.name] = result
            yield done, len(missing)

    def small(self, choice: Choice, name: str, tau: float, max_boxes: int) -> Prediction | Failure | None:
        """What a choice says of a photograph at a threshold, with the photograph in small; ``None`` if not yet run."""
        found = self.found.get(choice.title, {}).get(name)
        if isinstance(found, Prediction):
            return choice.predictor.rethreshold(found, tau, max_boxes)
        return found

    def large(self, choice: Choice, name: str, tau: float, max_boxes: int) -> Prediction | Failure | None:
        """Likewise, with the photograph as large as it is drawn."""
        found = self.small(choice, name, tau, max_boxes)
        return replace(found, source=_photo(self.photographs / name)) if isinstance(found, Prediction) else found

    def write(self, choice: Choice, tau: float, max_boxes: int, kind: str) -> Path:
        """Write what a choice found in all photographs, as one file: a zip where it is a folder of files.

        Args:
            choice: One that was run on them.
            tau: Threshold on the maps.
            max_boxes: Boxes of a photograph.
            kind: A key of :data:`DOWNLOADS`.

        Raises:
            DataError: Nothing could be read, or the disk refuses.
        """
        if not any(isinstance(found, Prediction) for found in self.found.get(choice.title, {}).values()):
            raise DataError("there is nothing to download: this model has read no photograph")
        out, names = self.folder / "download", Names(sorted(self.names))
        shutil.rmtree(out, ignore_errors=True)  # of an earlier download
        out.mkdir()
        if kind == OVERLAYS:
            for name in names:
                found = self.large(choice, name, tau, max_boxes)
                if isinstance(found, Prediction):
                    write_image_files({OVERLAYS: out / OVERLAYS}, _plain(found))
            return _zipped(out / OVERLAYS)

        def records() -> Iterator[Record]:
            for name in names:
                found = self.small(choice, name, tau, max_boxes)
                if found is not None:
                    yield found.to_dict() if isinstance(found, Failure) else _plain(found).to_dict()

        row, engine = FORMATS[kind], choice.predictor.engine
        info = results_info(engine, choice.title, tau, {"method": engine.config.method})
        ids = CocoIds.numbered(names, engine.class_names)
        out /= kind if row.folder else f"boxes{row.suffixes[0]}"
        write_results(row, records, Run(Listing(self.photographs, names), engine.class_names, ids, info), out)
        return _zipped(out) if row.folder else out


def _plain(prediction: Prediction) -> Prediction:
    """What ``fam predict`` gives without options: one class, and no parts."""
    return replace(prediction, classes=prediction.classes[:1], parts=None)


def _safe_name(name: str) -> str:
    """A relative name without what leads elsewhere or cannot be printed."""
    printable = "".join(c if c.isprintable() else "_" for c in name.replace("\\", "/"))
    parts = [_short(part) for part in PurePosixPath(printable).parts if part not in ("/", "..")]
    return "/".join(parts) or "photograph"


def _short(part: str) -> str:
    """A name of a file or folder that file systems take, with room for a number; its suffix stays."""
    if len(part.encode()) <= MOST_NAME_BYTES:
        return part
    stem, dot, suffix = part.rpartition(".")
    return f"{(stem or part)[: MOST_NAME_BYTES // 4 - 16]}{dot}{suffix[:8]}"


def _numbered(name: str, number: int) -> str:
    """A name with a number before its suffix."""
    path = PurePosixPath(name)
    return str(path.with_name(f"{path.stem} ({number}){path.suffix}"))


@lru_cache(maxsize=8)
def _photo(path: Path) -> Image.Image:
    """A photograph to draw on; the last ones are kept, for the threshold moves in small steps."""
    return shrunk(read_picture(path, at_least=SIDE).image)


def _zipped(folder: Path) -> Path:
    """A zip of a folder beside it, with what links lead to in place of the links."""
    out = folder.with_suffix(".zip")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(folder))
    shutil.rmtree(folder)
    return out
