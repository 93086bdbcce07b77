"""A whole prediction run: images in, results out with files beside them, resumable. What ``fam predict`` calls."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from famcli.data.listing import STDIN, Listing, Names, list_images
from famcli.data.lists import read_list
from famcli.hub import find_model
from famcli.inference.engine import AUTO, MOST_FITTED, Engine, open_engine
from famcli.inference.journal import Journal, TransientJournal, find_shards, is_begun, open_shards
from famcli.inference.labels import GivenClasses
from famcli.inference.pipeline import spread
from famcli.inference.predictor import Predictor, Settings
from famcli.inference.ranks import Rank, alone, forget_earlier, wait_for_others
from famcli.outputs import (
    FORMATS,
    IMAGE_FILES,
    Output,
    Run,
    check_local,
    check_not_read,
    check_out,
    check_segmentation,
    choose_format,
    find_output,
    write_image_files,
    write_results,
)
from famcli.outputs.coco import CocoIds
from famcli.outputs.prediction import Failure, Item, Record
from famcli.version import __version__
from famcli_models.checkpoint import COLLAPSED, CONFIG_FILE, DEFAULT_MODEL, GRAPH_FILE, WEIGHTS_FILE
from famcli_models.errors import ConfigError, DataError, listed, short
from famcli_models.files import is_stream, sha256_file, write_atomic

Progress = Callable[[int, int], AbstractContextManager[Callable[[], object]]]
PACE = {"batch_size", "workers", "processes"}  # settings that change no result


@dataclass(slots=True)
class Summary:
    """What a run did."""

    runs_on: str = ""  # what ran the model, in a few words
    images: int = 0  # without the failures
    boxes: int = 0
    empty: int = 0  # images in which no pixel passed the threshold
    failures: list[Failure] = field(default_factory=list)
    warnings: list[Failure] = field(default_factory=list)  # images whose files beside the results could not be written
    remarks: list[str] = field(default_factory=list)  # what to know of the names that were given
    odd: dict[str, list[str]] = field(default_factory=dict)  # names of images that were read, by what their file lacks
    finished_before: bool = False  # the results were there: nothing was done, and nothing counted
    # The name of an image, or of an input, as a message has it:
    as_typed: Callable[[str], str] = field(default=str, repr=False, compare=False)

    def count(self, record: Record) -> None:
        """Add one record."""
        if "error" in record:
            self.failures.append(Failure(record["file_name"], record["error"]))
            return
        self.images += 1
        self.boxes += len(record["boxes"])
        self.empty += not record["boxes"]
        if "warning" in record:
            self.warnings.append(Failure(record["file_name"], record["warning"]))
        if "remark" in record:
            self.odd.setdefault(record["remark"], []).append(record["file_name"])

    def odd_files(self) -> list[str]:
        """A sentence for each thing that files lack that were read all the same."""
        typed = ((remark, [self.as_typed(name) for name in names]) for remark, names in self.odd.items())
        return [f"read all the same, {remark}: {listed(names)}" for remark, names in typed]


def predict_files(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    model: str | Path = DEFAULT_MODEL,
    method: str | None = None,
    device: str = AUTO,
    engine: str = AUTO,
    settings: Settings | None = None,
    format: str | None = None,  # noqa: A002
    image_files: Mapping[str, str | Path] | None = None,
    label: str | None = None,
    labels: str | None = None,
    coco_images: str | Path | None = None,
    segmentation: str | None = None,
    all_categories: bool = False,
    resume: bool = False,
    rank: Rank | None = None,
    join: bool = False,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress = lambda total, done: nullcontext(lambda: None),  # noqa: ARG005
    on_record: Callable[[Record], object] = lambda record: None,  # noqa: ARG005
    **changes: Any,
) -> Summary:
    """Predict files and write the results, whole or not at all, in the order of the files' names.

    Finished images are kept in a journal beside ``out`` until all are done. A file that cannot be read is a failure of
    its own, and the others go on; a file beside the results that cannot be written is a warning.

    Several processes share the images if each says which ``rank`` it is: each has a journal. Rank 0 of a launcher waits
    for the others and writes the results, the same bytes as a single process; without a launcher a last call with
    ``join`` does.

    Args:
        inputs: Images, folders (searched recursively), tars, glob patterns, each also as a URL that fsspec knows, or
            ``-`` for a list on standard input.
        out: The file of the results, or the folder if the format is one; by default none is written. It may be ``-``,
            a device or a pipe, and then the run cannot be resumed.
        model: A packaged name, the folder of a checkpoint, or a name on the Hugging Face Hub.
        method: See :func:`famcli_models.load_model`.
        device: See :class:`famcli.Predictor`.
        engine: Likewise.
        settings: How maps become boxes.
        format: A name in ``famcli.outputs.FORMATS``; by default the first that the suffix of ``out`` is of.
        image_files: A folder for each kind of ``famcli.outputs.IMAGE_FILES`` that every image gets.
        label: The class of all images, or a name of one's own for what is on them.
        labels: Likewise for each image: ``folder``, or the path of a file of lines ``image,class``.
        coco_images: A COCO file to take image and category ids from.
        segmentation: Form of the masks in the results, ``rle`` or ``polygons``, if the format has a place for it.
        all_categories: List the categories that do not occur too.
        resume: Go on with an interrupted run of the same arguments, if there is one.
        rank: Which of several processes this one is, by default the only one.
        join: Predict nothing, and write the results from the journals of all shards, made with the same arguments.
        say: Called with a sentence on what is downloaded, what was done before, and whom rank 0 waits for.
        progress: Given the number of images and how many were done before, a context that gives a function to call
            after each image.
        on_record: Called with the record of each image, in order, as soon as it is done, first those done before; under
            a launcher by rank 0 alone, with those of all ranks.
        **changes: Fields of ``settings`` to change, for example ``max_boxes=3``.

    Returns:
        What was done: by this shard, or by all ranks together where the results are written.

    Raises:
        FamError: An argument cannot be used, there are no images, the disk refuses, or another rank has failed.
    """
    out, rank = None if out is None else Path(out), rank or Rank()
    stream = out is not None and is_stream(out)
    _check_processes(None if stream else out, rank, resume, join)
    format = choose_format(format, out)  # noqa: A001
    folders = {kind: Path(folder) for kind, folder in (image_files or {}).items()}
    for path in (*folders.values(), *([out] if out else [])):
        check_local(path)
    rows = [find_output("image file", kind, IMAGE_FILES) for kind in folders]
    if segmentation is not None:
        check_segmentation(segmentation, None if out is None else format)
    settings = _with_needs(replace(settings or Settings(), **changes), rows, segmentation)
    if out is not None and (resume or join) and not is_begun(out, rank if resume else None) and out.exists():
        say(f"'{out}' is there and no unfinished run beside it: nothing is left to do")
        return Summary(finished_before=True)
    with alone(out, rank) if out else nullcontext():
        given = [str(item) for item in ([inputs] if isinstance(inputs, (str, Path)) else inputs)]
        names = read_list(sys.stdin.buffer, "standard input") if STDIN in given else ()
        listing = list_images(given, names, [*folders.values(), *([out] if out else [])])
        if out is not None and (rank.index == 0 or not rank.launcher):
            check_out(out, format, listing)
        for folder in folders.values():
            _make_folder(folder)
        checkpoint = find_model(str(model), say)
        if out is not None:
            given_files = [Path(path) for path in (labels, coco_images) if path]
            check_not_read(
                out, [*given_files, *(checkpoint / name for name in (CONFIG_FILE, WEIGHTS_FILE, GRAPH_FILE))]
            )
        views = settings.views
        running = open_engine(checkpoint, method, device, amp=settings.amp, name=engine, scales=views.scales, say=say)
        if collapsed := running.provenance.get(COLLAPSED):
            say(f"warning: the training of this model has failed: {short(str(collapsed))}")
        predictor = Predictor(running, settings=settings)
        conditional = running.class_conditional
        classes = GivenClasses.from_options(label, labels, listing, running.class_names, conditional=conditional)
        class_names = (classes and classes.classes.own) or running.class_names
        ids = CocoIds.from_file(Path(coco_images), class_names) if coco_images else None
        used = {"model_sha256": sha256_file(checkpoint / WEIGHTS_FILE), "method": running.config.method}
        header = {
            **{name: value for name, value in asdict(settings).items() if name not in (*PACE, "quality")},
            **asdict(views),
            **used,
            "root": str(listing.root),
            "label": label,
            "labels": sha256_file(Path(labels)) if labels and Path(labels).is_file() else labels,
            "coco_images": sha256_file(Path(coco_images)) if coco_images else None,
            "image_files": {kind: str(folder) for kind, folder in folders.items()},
            "images": listing.names.sha256() if join or rank.count > 1 else None,
        }
        info = results_info(running, str(model), predictor.tau, used)
        info |= {"views": views.words()} if views.words() else {}
        num_parts = running.num_parts if settings.parts else 0

        def write(records: Callable[[], Iterator[Record]], names: Names, target: Path) -> None:
            numbers, polygons = ids or CocoIds.numbered(names, class_names), segmentation == "polygons"
            run = Run(Listing(listing.root, names), class_names, numbers, info, num_parts, polygons, all_categories)
            write_results(FORMATS[format], records, run, target)

        job = _Job(listing, predictor, classes, ids, folders, header, write, say, progress, on_record)
        if out is None or stream:
            return job.run_through(out)
        return job.join(out, find_shards(out)) if join else job.run(out, rank, resume)


def results_info(engine: Engine[Any], model: str, tau: float, used: Mapping[str, Any]) -> dict[str, Any]:
    """What results say of how they were made; ``used`` is what else is known of the model, its method for example."""
    return {
        "description": f"Boxes by {engine.map_title} (weakly supervised object localization)",
        "version": f"fam {__version__}",
        "model": model,
        **used,
        "threshold": tau,
    }


@dataclass(frozen=True, slots=True)
class _Job:
    """A run whose arguments are checked, and what is called on its way."""

    listing: Listing  # of all ranks, tars not yet opened
    predictor: Predictor
    classes: GivenClasses | None
    ids: CocoIds | None  # of a file, if one is given
    folders: Mapping[str, Path]  # of the files beside the results
    header: Mapping[str, Any]  # of its journals
    write: Callable[[Callable[[], Iterator[Record]], Names, Path], None]  # the results, of these images, to a place
    say: Callable[[str], None]
    progress: Progress
    on_record: Callable[[Record], object]

    def run_through(self, out: Path | None) -> Summary:
        """Predict all images, and keep nothing but what the results to a stream need."""
        share = self.listing.with_members()
        summary, predicted = self._summary(share), self._predict(share, 0)
        with closing(TransientJournal()) as journal:
            with self.progress(len(share.names), 0) as step:
                for record in predicted if out is None else journal.keep(predicted):
                    summary.count(record)
                    self.on_record(record)
                    step()
            if out is not None:
                self.write(journal.records, share.names, out)
        return summary

    def run(self, out: Path, rank: Rank, resume: bool) -> Summary:
        """Predict the share of a rank; the only rank, and rank 0 of a launcher when all are done, write the results."""
        part = rank.share(len(self.listing.names), 1 if self.listing.has_tars else self.predictor.batch_size)
        share = self.listing.share(part).with_members()
        summary = self._summary(share)
        on_record = self.on_record if rank.count == 1 or not rank.launcher else _nothing
        journal = Journal(out, self.header, rank)
        with journal.open(share.names, resume):
            if rank.joins and rank.count > 1 and not resume:
                forget_earlier(out, rank, journal.path.stat().st_mtime)
            if resume:
                self.say(f"{journal.done} of {len(share.names)} images were done before")
                for record in journal.records():
                    summary.count(record)
                    on_record(record)
            if not journal.finished:
                with self.progress(len(share.names), journal.done) as step:
                    for record in journal.keep(self._predict(share, journal.done)):
                        summary.count(record)
                        on_record(record)
                        step()
                journal.finish()
            if rank.count == 1:
                self.write(journal.records, share.names, out)
                journal.remove()
            elif rank.joins:
                wait_for_others(out, rank, self.say)
                return self.join(out, rank)
        return summary

    def join(self, out: Path, rank: Rank) -> Summary:
        """Write the results from the journals of all ranks, which lie one behind the other as the images do."""
        journals, summary = open_shards(out, self.header, rank), self._summary(self.listing)

        def records() -> Iterator[Record]:
            for journal in journals:
                yield from journal.records()

        def names() -> Iterator[str]:
            for record in records():
                summary.count(record)
                self.on_record(record)
                yield record["file_name"]

        images = Names(names())
        if not self.listing.has_tars and images != self.listing.names:
            raise DataError(f"the journals beside '{out}' do not hold each image once: make them again")
        self.write(records, images, out)
        for journal in journals:
            journal.remove()
        return summary

    def _summary(self, share: Listing) -> Summary:
        """Of no image yet, with what the listing lost."""
        lost = [Failure(name, why) for name, why in share.lost.items()]
        given = [*(self.classes.remarks if self.classes else ()), *([self.ids.remark] if self.ids else ())]
        remarks = [*share.remarks, *given]
        return Summary(self.predictor.engine.runs_on, failures=lost, remarks=remarks, as_typed=share.as_typed)

    def _predict(self, share: Listing, start: int) -> Iterator[Record]:
        own_names = self.classes.classes.own if self.classes else ()
        if self.predictor.engine.fitted_to_images:  # to images of all ranks, so that each has the same maps
            whole = self.listing.with_members()
            places = spread(range(len(whole.names)), MOST_FITTED)
            self.say(f"a first pass over {len(places)} of {len(whole.names)} images")
            self.predictor.fit([self._item(whole, place) for place in places], own=bool(own_names))
        items = (self._item(share, place) for place in range(start, len(share.names)))
        return self.predictor.records(items, partial(write_image_files, self.folders), own_names)

    def _item(self, share: Listing, place: int) -> Item:
        """The image at a place; one without an id or a label is refused."""
        name, label = share.names[place], None
        refused = share.refused.get(name)
        if self.ids is not None and name not in self.ids.images:
            refused = "not among the images of the --coco-images file"
        if self.classes is not None and refused is None:
            label = self.classes.find(name)
            refused = "no label was given for it" if label is None else None
        return Item(name, share.source(place), label, refused)


def write_failures(summary: Summary, out: Path) -> Path:
    """Write all failures and warnings of a run to a file of JSON lines beside its results."""
    path = failures_path(out)
    lines = [json.dumps(failure.to_dict(), ensure_ascii=False) for failure in summary.failures]
    lines += [json.dumps({"file_name": failure.name, "warning": failure.reason}) for failure in summary.warnings]
    content = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
    write_atomic(path, partial(Path.write_bytes, data=content))
    return path


def failures_path(out: Path) -> Path:
    """Where the failures of a run are listed, if there are too many to print."""
    return out.with_name(out.name + ".failed.jsonl")


def _nothing(_: Record) -> None:
    pass


def _check_processes(out: Path | None, rank: Rank, resume: bool, join: bool) -> None:
    if out is None and (resume or join or rank.count > 1):
        what = "be in several processes" if rank.count > 1 else "be resumed or joined"
        raise ConfigError(f"only a run with --out FILE, beside which finished images are kept, can {what}")
    if join and (resume or rank.count > 1):
        raise ConfigError("--join predicts nothing and is one process: leave out --resume, --shard and the launcher")


def _with_needs(settings: Settings, rows: Sequence[Output], segmentation: str | None) -> Settings:
    """The settings, with what the files of the images and the results need."""
    masks = settings.masks or segmentation is not None or any(row.mask for row in rows)
    return replace(settings, masks=masks, photos=settings.photos or any(row.photo for row in rows))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder '{folder}': {error.strerror or error}") from error
