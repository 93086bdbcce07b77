"""What a run would take: its settings and images, and time and memory estimated from one batch. Nothing is written."""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from famcli.training.folder import RunFolder
from famcli.training.loading import fitting_views
from famcli.training.loop import explained, fit
from famcli.training.pictures import IMAGES, MapSheet
from famcli.training.recipe import Recipe
from famcli.training.run import Run, open_run
from famcli.training.supervision import BATCH, GRABCUT_SIDE

STEPS = 4  # that are timed, after one that allocates memory


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would take on this machine.

    Attributes:
        recipe: The resolved settings.
        classes: Name, training images and validation images of each class.
        unlabelled: Further images, which join where they get a pseudo-label.
        steps: Steps of the optimizer.
        seconds: Estimate of each part of the run, by name.
        memory: Estimate of the peak in bytes, by place.
        main: This process has something to say; false in all but one of several.
    """

    recipe: Recipe
    classes: list[tuple[str, int, int]]
    unlabelled: int
    steps: int
    seconds: dict[str, float]
    memory: dict[str, float]
    main: bool


class _Stopwatch:
    """A progress that measures the seconds an image of each long step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, what: str, total: int, _done: int = 0, /) -> Iterator[Callable[[int], object]]:
        began = time.monotonic()
        yield lambda _images: None
        self.seconds[what] = (time.monotonic() - began) / max(1, total)


def dry_run(
    recipe: Recipe, out: Path | None = None, *, exist_ok: bool = False, workers: int = 2, device: str = "auto"
) -> Estimate:
    """Do what a run does before its first step, and some steps, all with the images of one batch.

    Arguments and errors are those of :func:`famcli.training.run.train`.
    """
    folder = RunFolder(out) if out else RunFolder.fresh(recipe)
    folder.check(exist_ok)
    recipe, data, accelerator = open_run(recipe, device)
    watch, epochs = _Stopwatch(), recipe.train.epochs
    count = min(len(data.samples), max(recipe.train.batch_size, BATCH))
    few = replace(
        data,
        samples=data.samples[:: len(data.samples) // count][:count],
        validation=data.validation[:count],
        unlabelled=data.unlabelled[:count],
    )
    steps_enough = replace(recipe, train=replace(recipe.train, epochs=1 + STEPS))
    run = Run(folder, steps_enough, few, accelerator, lambda _: None, watch)
    training = run.training(resume=False, workers=workers)
    train = replace(run.recipe.train, epochs=epochs)
    if recipe.train.cached_views < 0 < train.cached_views:
        # As many as memory holds of all images, and not of these few.
        side = train.side(training.model.config.size)
        views = fitting_views(training.model, side, len(data.samples), accelerator.device)
        if views != train.cached_views:
            recipe = replace(recipe, train=replace(recipe.train, cached_views=views))
            return dry_run(recipe, out, exist_ok=exist_ok, workers=workers, device=device)
    loaded, batch = training.views(), training.order.size // training.order.shares
    began = time.monotonic()
    for number in range(batch):
        loaded[1, number]
    loading = (time.monotonic() - began) / batch
    with explained(training, workers), closing(training.batches(0, watch)) as batches:
        first = next(batches)
        with closing(fit(training, batches=itertools.repeat(first))) as events:
            ends = [time.monotonic() for _ in itertools.islice(events, 1 + STEPS)]
    stepping = statistics.median(after - before for before, after in itertools.pairwise(ends))
    began = time.monotonic()
    MapSheet(few.samples, recipe.model.size, train.seed, {}).add(1, training.weights, str(accelerator.device))
    inferring = (time.monotonic() - began) / min(IMAGES, count)

    def beside(each: float) -> float:
        """Seconds an image of work for which the workers load images meanwhile; without workers it waits for them."""
        return max(each, loading / workers) if workers else each + loading

    images = len(data.samples) + len(data.unlabelled)
    order = replace(training.order, images=images, epochs=epochs)
    validation = len(data.validation) / accelerator.num_processes
    totals = {"validation set": validation, "pseudo-labels": len(data.unlabelled)}
    seconds = {what: each * totals.get(what, images) for what, each in watch.seconds.items()}
    if train.cached_views:
        seconds["features"] = images * train.cached_views * beside(max(0.0, watch.seconds["features"] - loading))
        seconds["training"] = order.steps * stepping
    else:
        seconds["training"] = order.steps * batch * train.accumulate * beside(stepping / (batch * train.accumulate))
    seconds["validation after each epoch"] = epochs * validation * inferring
    kept = sum(2 * tensor.numel() for tensor in (first.inputs, *first.earlier)) / batch  # bytes an image, in float16
    more = (images - count) * train.cached_views * kept
    more += images * 2 * GRABCUT_SIDE**2 * (training.targets is not None)
    memory = {"main process": peak_memory() + more} if peak_memory() else {}
    if accelerator.device.type == "cuda":
        memory[str(accelerator.device)] = float(torch.cuda.max_memory_allocated(accelerator.device))
    labels, held = (Counter(sample.label for sample in samples) for samples in (data.samples, data.validation))
    names = data.class_names or tuple(map(str, range(data.num_classes)))
    return Estimate(
        recipe=replace(run.recipe, train=train),
        classes=[(name, labels[label], held[label]) for label, name in enumerate(names)],
        unlabelled=len(data.unlabelled),
        steps=order.steps,
        seconds={what: spent for what, spent in seconds.items() if spent},
        memory=memory,
        main=bool(accelerator.is_main_process),
    )


def peak_memory() -> int:
    """The most bytes that this process has had in memory; 0 on Windows, which does not say."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
