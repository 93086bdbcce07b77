"""What was measured of the images of a split; each of several processes measures a part, and keeps it in a file."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from famcli.data.sample import FULLSUP, Sample, sha256_samples
from famcli.evaluation.metrics.box import BoxCounts
from famcli.evaluation.metrics.mask import MaskCounts
from famcli.evaluation.perimage import BoxScores, PerImage
from famcli.evaluation.thresholds import Counts
from famcli.inference.ranks import Rank, RankFiles, forget_earlier, wait_for_others
from famcli.version import __version__
from famcli_models.checkpoint import WEIGHTS_FILE
from famcli_models.errors import DataError
from famcli_models.files import sha256_file

if TYPE_CHECKING:
    from famcli.evaluation.run import Evaluation, EvaluationRun

Columns = dict[str, Any]  # arrays

_KEY = "key"
_SUM = "sum "  # the names of columns that are added start so; of others the rows are put one behind the other
_PACE = ("device", "batch_size", "workers", "processes")  # settings that change no number
_SCORES = ("ious", "boxes", "foreground", "ranks")


@dataclass(frozen=True, slots=True)
class Measured:
    """What takes time: what models say of images, and the thresholds that were tried on maps."""

    found: PerImage | None = None  # of all models on the split, if there are any
    counts: Mapping[str, Counts] = field(default_factory=dict)  # of maps, by the title of what made them
    on_fullsup: Mapping[str, BoxScores] = field(default_factory=dict)  # of models whose τ is chosen there

    def to_columns(self) -> Columns:
        """As arrays, without what is the same for all images."""
        columns: Columns = {}
        if self.found is not None:
            columns["names"] = np.array([sample.name for sample in self.found.samples], np.str_)
            columns["sizes"] = np.array(self.found.sizes, np.int64)
            columns["classes"] = np.array(self.found.classes, np.float64)
            columns["confidence"] = self.found.confidence
            for title, scores in self.found.scores.items():
                columns |= _scores_to_columns(f"scores of {title}", scores)
                columns[f"maps of {title}"] = np.array(self.found.maps[title])
            columns |= {f"boxes of {title}": np.array(boxes) for title, boxes in self.found.given.items()}
        for title, scores in self.on_fullsup.items():
            columns |= _scores_to_columns(f"{FULLSUP} of {title}", scores)
        for title, counts in self.counts.items():
            boxes, masks = counts.boxes, counts.masks
            columns[f"right of {title}"] = np.array(counts.right)
            columns[f"{_SUM}boxes of {title}"] = boxes.right
            columns[f"{_SUM}images of {title}"] = np.array([boxes.images, boxes.empty, boxes.as_is, masks.images])
            columns[f"{_SUM}pixels of {title}"] = np.array([masks.inside, masks.outside])
        return columns

    def filled(self, columns: Columns, samples: Sequence[Sample]) -> Measured:
        """A measurement of no image, with the columns of one of some of ``samples``."""
        found, counts = self.found, {}
        if found is not None:
            by_name = {sample.name: sample for sample in samples}
            here = [by_name[name] for name in columns["names"].tolist()]
            sizes = [(h, w) for h, w in columns["sizes"].tolist()]
            found = replace(
                found,
                samples=here,
                sizes=sizes,
                truths=[found.rules.truth(one.boxes, hw, found.side) for one, hw in zip(here, sizes, strict=True)],
                scores={t: _filled(scores, f"scores of {t}", columns) for t, scores in found.scores.items()},
                maps={t: list(columns[f"maps of {t}"]) for t in found.maps},
                given={t: list(columns[f"boxes of {t}"]) for t in found.given},
                classes=[tuple((int(label), p) for label, p in best) for best in columns["classes"].tolist()],
                confidence=columns["confidence"],
            )
        for title, none in self.counts.items():
            boxes, masks = BoxCounts(none.boxes.taus), MaskCounts(none.masks.taus)
            boxes.right = columns[f"{_SUM}boxes of {title}"]
            boxes.images, boxes.empty, boxes.as_is, masks.images = columns[f"{_SUM}images of {title}"].tolist()
            masks.inside, masks.outside = columns[f"{_SUM}pixels of {title}"]
            counts[title] = Counts(boxes, masks, list(columns[f"right of {title}"]))
        on_fullsup = {t: _filled(scores, f"{FULLSUP} of {t}", columns) for t, scores in self.on_fullsup.items()}
        return Measured(found, counts, on_fullsup)


def _scores_to_columns(place: str, scores: BoxScores) -> Columns:
    return {f"{place}: {name}": of for name in _SCORES if (of := getattr(scores, name)) is not None}


def _filled(scores: BoxScores, place: str, columns: Columns) -> BoxScores:
    filled: Columns = {name: columns.get(f"{place}: {name}") for name in _SCORES}
    return replace(scores, **filled)


def evaluate_shares(
    run: EvaluationRun, out: Path, rank: Rank, *, resume: bool = False, join: bool = False
) -> Evaluation | None:
    """Evaluate in one process, or as one of several that share the images.

    Each measures a part and keeps it beside ``out``. Rank 0 of a launcher waits for the others and has the result,
    which is that of a single process; without a launcher a last call with ``join`` has.

    Args:
        run: The same in all processes.
        out: A path that all of them see.
        rank: Which of the processes this is.
        resume: Take up this rank's part if it was finished before.
        join: Measure nothing, for all shards are there.
    """
    if rank.count == 1:
        return run.results(run.measure())
    if not join:
        _measure_part(run, out, rank, resume)
        if not rank.joins:
            return None
        wait_for_others(out, rank, run.say)
    key = _key(run)
    columns = _joined([_read(RankFiles.beside(out, other).done, key) for other in rank.all()])
    return run.results(run.measure(lambda _: slice(0)).filled(columns, run.samples))


def _measure_part(run: EvaluationRun, out: Path, rank: Rank, resume: bool) -> None:
    files, key = RankFiles.beside(out, rank), _key(run)
    if resume and files.done.exists():
        _read(files.done, key)
        run.say(f"{rank} was done before")
        return
    files.remove()
    try:
        with files.partial.open("wb", buffering=0) as file:  # grows with each step, so that rank 0 knows it is at work
            if rank.joins and not resume:
                forget_earlier(out, rank, files.partial.stat().st_mtime)
            share = partial(rank.share, batch=run.settings.batch_size)
            measured = run.measure(share, lambda images: file.write(b"." * images))
        _write(files.partial, {**measured.to_columns(), _KEY: key})
        files.finish()
    finally:
        files.partial.unlink(missing_ok=True)


def _joined(parts: Sequence[Columns]) -> Columns:
    """The columns of all images, from those of parts in their order."""
    joined = {}
    for name in parts[0]:
        columns = [part[name] for part in parts]
        some = [column for column in columns if len(column)] or columns[:1]  # without images it has lost its shape
        joined[name] = np.sum(columns, axis=0) if name.startswith(_SUM) else np.concatenate(some)
    return joined


def remove_parts(out: Path, rank: Rank) -> None:
    """Remove the parts of all ranks, when the result is written."""
    for other in rank.all():
        RankFiles.beside(out, other).remove()


def _key(run: EvaluationRun) -> str:
    """SHA-256 of all that a part depends on, but for the pixels of images, masks and maps."""
    facts = {
        "fam": __version__,
        "settings": {name: value for name, value in asdict(run.settings).items() if name not in _PACE},
        "samples": sha256_samples(run.samples),
        "masks": sorted(run.masks),
        "maps": str(run.maps),
        "models": [(m.title, m.folder and sha256_file(m.folder / WEIGHTS_FILE)) for m in run.models],
        "classes": [m.classes and list(m.classes.items()) for m in run.models],
    }
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _write(path: Path, columns: Columns) -> None:
    try:
        with path.open("wb") as file:
            np.savez(file, **columns)
    except OSError as error:
        raise DataError(f"cannot write '{path}': {error.strerror or error}; choose another --out") from error


def _read(path: Path, key: str) -> Columns:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            columns: Columns = {name: arrays[name] for name in arrays.files}
            same = columns.pop(_KEY).item() == key
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read '{path}' ({error}); remove it and run this shard again") from error
    if not same:
        what = f"'{path}' is of other options, data or weights, or of another fam"
        raise DataError(f"{what}; remove it, or run this shard again without --resume")
    return columns
