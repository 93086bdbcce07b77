"""One training run from recipe to models: open the data, build or restore the model, train, validate, save."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch.utils.tensorboard import SummaryWriter

from famcli.checkpoints import export
from famcli.checkpoints.doctor import package_versions
from famcli.checkpoints.reference import record
from famcli.data.sample import Sample, check_labels, read_sample
from famcli.evaluation.perimage import count_right
from famcli.inference.pipeline import Failed, run_images, spread
from famcli.training.calibration import class_scores, fit_box_score, fit_temperature
from famcli.training.data import HELD_OUT, TrainingData, absolute_paths, open_data
from famcli.training.environment import Interrupt, agree, connected, environment, leave, make_accelerator
from famcli.training.folder import RunFolder
from famcli.training.initial import initial_model
from famcli.training.loading import fitting_views
from famcli.training.loop import EpochEnd, Training, explained, fit
from famcli.training.monitor import Epoch, Progress, counted, no_progress, write_metrics
from famcli.training.pictures import MapSheet, draw_curves, shown_epochs, write_picture
from famcli.training.recipe import Recipe, load_recipe, migrate
from famcli.training.resume import State, TrainResult, finished_run, read_state, write_state
from famcli.training.supervision import first_stage, make_supervision, needs_pretrained
from famcli_models.checkpoint import COLLAPSED, CONFIG_FILE, GRAPH_FILE
from famcli_models.errors import ConfigError, DataError, FamError
from famcli_models.loading import load_model
from famcli_models.locks import only_writer
from famcli_models.methods import METHODS
from famcli_models.methods.method import BACKBONE_TRAINING, Method

DECODERS = 8  # threads
REDRAW_SECONDS = 10.0  # curves take a third of a second, which is long beside a short epoch
MAX_CALIBRATION = 2000  # training images that temperature and box score are fitted to, at most


def _silent(*_: object) -> None:
    pass


def train(
    recipe: Recipe | str | Path | None,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    exist_ok: bool = False,
    workers: int = 2,
    device: str = "auto",
    say: Callable[[str], None] = _silent,
    progress: Progress = no_progress,
) -> TrainResult:
    """Train a model from images and their labels, as ``fam train`` does.

    Args:
        recipe: See :func:`famcli.training.recipe.load_recipe`, which loads a name or a path; ``None`` with ``resume``,
            for a run goes on with its own.
        out: Run folder; by default a new one in ``runs/``, named for backbone and data.
        resume: Go on with the run in ``out`` from its last save, exactly.
        exist_ok: Start anew in a run folder that exists.
        workers: Processes that decode images.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; several processes take one GPU each.
        say: Told a line for each epoch, and warnings.
        progress: Shows how far each long step is: checking the validation set, pseudo-labels, targets, features, and
            the training itself. Called with its name, its number of images and how many were done before, it gives a
            context with a function that is called with each number of images done.

    Raises:
        FamError: The recipe, the data, the weights or the folder are not what they should be, the loss is not finite,
            or memory ran out; the message says what to change.
        KeyboardInterrupt: After Ctrl-C or SIGTERM; the run has been saved and can be resumed.
    """
    if resume and (recipe is not None or out is None):
        msg = "a run is resumed from its folder alone, with its own recipe: train(None, folder, resume=True)"
        raise ConfigError(msg)
    if resume and out and (finished := finished_run(Path(out), say)) is not None:
        return finished
    stop = "stopping after this step; press Ctrl-C once more to stop at once"
    with connected(), Interrupt(lambda: say(stop)) as stopping, ExitStack() as held:
        processes = make_accelerator(device)
        processes.wait_for_everyone()  # a process that ends with an error from here on ends the others
        if resume and out:
            folder = RunFolder(Path(out))
            chosen = folder.read_recipe()
        else:
            chosen = recipe if isinstance(recipe, Recipe) else load_recipe(None if recipe is None else str(recipe))
            folder = RunFolder(Path(out)) if out else RunFolder.fresh(chosen)
        processes.wait_for_everyone()  # all have chosen the same folder before there is one
        if processes.is_main_process:
            held.enter_context(only_writer(folder.path / CONFIG_FILE))
        if not resume:
            folder.check(exist_ok)
        chosen, data, accelerator = open_run(chosen, device)
        if not accelerator.is_main_process:
            say, progress = _silent, no_progress
        say(f"{len(data.samples)} images from {', '.join(data.names)} into {folder.path}; recipe: {chosen.name}")
        for remark in data.remarks:
            say(remark)
        run = Run(folder, chosen, data, accelerator, say, progress)
        training = run.training(resume, workers)
        run.go(training, stopping, resume, workers)
        try:
            result = run.result(training)
        except KeyboardInterrupt:
            say(f"all epochs are done and saved; end the run with: fam train --resume {folder.path}")
            raise
        leave(accelerator)
        return result


def open_run(recipe: Recipe, device: str) -> tuple[Recipe, TrainingData, Accelerator]:
    """The recipe with what the data decide, the data, and what the run goes on."""
    recipe = replace(recipe, run=absolute_paths(recipe.run))
    data = open_data(recipe.run, recipe.train.seed)
    recipe = recipe.with_classes(data.num_classes, bool(data.class_names)).fitted(len(data.samples))
    check_labels(data.validation, recipe.model.num_classes)  # now, and not after an hour
    in_stages = METHODS[recipe.model.method].learns_in_stages
    accelerator = make_accelerator(device, recipe.train.precision, in_stages=in_stages)
    agree("images, labels or settings", (data.digest(), recipe.model, recipe.train))
    return recipe, data, accelerator


class Run:
    """What a run builds, measures and writes; of several processes only the main one writes and says anything."""

    def __init__(
        self,
        folder: RunFolder,
        recipe: Recipe,
        data: TrainingData,
        accelerator: Accelerator,
        say: Callable[[str], None],
        progress: Progress = no_progress,
    ) -> None:
        self.folder, self.recipe, self.data, self.accelerator = folder, recipe, data, accelerator
        self.say, self.progress = say, progress
        self.main = bool(accelerator.is_main_process)
        self.provenance: dict[str, Any] = {}
        self.best, self.best_epoch = -math.inf, 0
        self.validation = self._readable_validation()
        self.closed_at_the_end = ExitStack()
        self._board: SummaryWriter | None = None
        self.maps: dict[int, np.ndarray] = {}  # by epoch, see MapSheet
        self._sheet: MapSheet | None = None
        self._drawn = -math.inf  # when the curves were
        self.saved = time.monotonic()  # or begun

    def training(self, resume: bool, workers: int) -> Training:
        """The model with its images and targets, new or as it was saved."""
        names = self.data.class_names or None
        state = self._read_state() if resume else None
        if state is None:
            torch.manual_seed(self.recipe.train.seed)  # the attention modules start at random
            model = source = initial_model(self.recipe, names, self.say)
            train = self.recipe.train
            if train.cached_views < 0:
                alone = train.backbone == "frozen" and self.accelerator.num_processes == 1
                cached = alone and not model.needs_images
                side, images = train.side(model.config.size), len(self.data.samples)
                views = fitting_views(model, side, images, torch.device("cpu")) if cached else 0
                train = replace(train, cached_views=views)
            self.recipe = replace(self.recipe, model=model.config, train=train)  # as the weights want it
            before = {BACKBONE_TRAINING: "trained"} if model.provenance.get(BACKBONE_TRAINING) == "trained" else {}
            self.provenance = dict(model.provenance) | self._origin() | before
            model.provenance = dict(self.provenance)
        else:
            model = source = METHODS[self.recipe.model.method](self.recipe.model, names, self.provenance)
            if needs_pretrained(self.recipe):  # the model as it was when the run began
                source = initial_model(self.recipe, names, self.say)
                if source.provenance.get("backbone_sha256") != self.provenance.get("backbone_sha256"):
                    weights = self.recipe.run.backbone_weights
                    raise ConfigError(f"'{weights}' are not the backbone weights the run began with")
        self.say(self.recipe.to_toml())
        samples, targets = make_supervision(
            source, self.recipe, self.data, self.accelerator, self.provenance, workers, self.say, self.progress
        )
        if state is None:
            boxes = first_stage(source, samples, str(self.accelerator.device), workers, self.progress)
        else:
            boxes = state.tensors["boxes"].numpy() if "boxes" in state.tensors else None
        agree("weights to start from, or versions", (self.provenance, state and state.facts["step"]))
        return Training(model, samples, self.recipe.train, self.accelerator, targets, state, boxes)

    def go(self, training: Training, stopping: Interrupt, resume: bool, workers: int) -> None:
        """Train to the end; or stop after a step, save, and raise a ``KeyboardInterrupt``."""
        order, save_seconds = training.order, 60 * self.recipe.train.save_minutes
        with (
            self.closed_at_the_end,
            warnings.catch_warnings(),
            explained(training, workers),
            closing(fit(training, workers, progress=self.progress)) as events,
            ExitStack() as bar,
        ):
            # Torch's remark on 1x1 filters in channels-last memory: nothing is wrong and nothing can be done.
            warnings.filterwarnings("ignore", message="Grad strides do not match")
            for event in events:
                if not stopping.patient:  # the first step has shown that the run is possible
                    stopping.patient = True
                    self.begin(resume)
                    done = order.size * (training.step - 1)
                    advance = bar.enter_context(self.progress("images", order.size * order.steps, done))
                if isinstance(event, EpochEnd):
                    self.end_epoch(training, event.epoch)
                if isinstance(event, EpochEnd) or time.monotonic() - self.saved >= save_seconds:
                    self.save(training)
                advance(event.images)
                if self.sum_of(stopping.wanted):  # of any process: all of them stop after the same step
                    self.save(training)
                    where = f"step {training.step} of {order.steps}"
                    self.say(f"stopped at {where}; go on with: fam train --resume {self.folder.path}")
                    leave(self.accelerator)
                    raise KeyboardInterrupt
        stopping.patient = False  # there is no step to finish any more

    def begin(self, resume: bool) -> None:
        """Write to the folder for the first time in this session."""
        if self.main and not resume:
            self.folder.begin(self.recipe)
        if self.main:
            self.folder.add_environment(environment(self.accelerator))

    def end_epoch(self, training: Training, epoch: Epoch) -> None:
        """Validate, keep the best, write checkpoint and metrics, and say how it went."""
        training.history[-1] = epoch = self._validated(epoch, training.weights)
        value, usable = epoch.gt_known, True
        if value is None:
            weights = {**training.model.term_weights(), "target": self.recipe.train.lambda_target}
            loss = epoch.objective(weights) if epoch.val_loss is None else epoch.val_loss
            value, usable = -loss, not training.model.collapsed(epoch.measures)
        improved = usable and value > self.best
        if improved:
            self.best, self.best_epoch = value, epoch.number
        if not self.main:
            return
        model = training.weights
        model.provenance = self.provenance | {"epochs": epoch.number, "skipped_images": epoch.skipped}
        for folder in (self.folder.path, self.folder.best) if improved else (self.folder.path,):
            model.save_pretrained(folder, half=self.recipe.run.half)
        write_metrics(self.folder.metrics, training.history)
        if self._board is None:  # what an interrupted session wrote of this and later epochs is dropped
            board = SummaryWriter(str(self.folder.tensorboard), purge_step=epoch.number)
            self._board = self.closed_at_the_end.enter_context(board)
        for name, number in epoch.row().items():
            if number is not None:
                self._board.add_scalar(name, number, epoch.number)
        self._draw(training, self._board)
        self._board.flush()
        self.say(epoch.sentence(self.recipe.train.epochs, self.data.select))
        for warning in epoch.warnings(training.model):
            self.say(f"warning: {warning}")
        if epoch.skipped > (training.history[-2].skipped if len(training.history) > 1 else 0):
            listed = "; ".join(f"{name}: {reason}" for name, reason in list(training.unreadable.items())[:10])
            self.say(f"warning: {epoch.skipped} images cannot be read and were replaced by their neighbours: {listed}")

    def _draw(self, training: Training, board: SummaryWriter) -> None:
        """Draw the curves again, and in some epochs the maps of the samples."""
        epoch, epochs = training.history[-1].number, self.recipe.train.epochs
        if epoch == epochs or time.monotonic() - self._drawn > REDRAW_SECONDS:
            curves = draw_curves(training.history)
            write_picture(self.folder.curves, curves)
            board.add_image("curves", curves, epoch, dataformats="HWC")
            self._drawn = time.monotonic()
        if epoch in shown_epochs(epochs):
            if self._sheet is None:
                samples = self.data.validation or self.data.samples
                self._sheet = MapSheet(samples, self.recipe.model.size, self.recipe.train.seed, self.maps)
            self._sheet.add(epoch, training.weights, str(self.accelerator.device))
            write_picture(self.folder.samples, self._sheet.draw(sorted(self.maps)))
            board.add_image("samples", self._sheet.draw([epoch]), epoch, dataformats="HWC")

    def save(self, training: Training) -> None:
        """Save what resuming needs."""
        self.saved = time.monotonic()
        if not self.main:
            return
        state = training.state()
        if not all(bool(tensor.isfinite().all()) for tensor in state.tensors.values()):
            return  # the step was too long for float32: the loss of the next one will say so
        facts = {
            "recipe": self.recipe.tables(),
            "provenance": self.provenance,
            "best": self.best if math.isfinite(self.best) else None,
            "best_epoch": self.best_epoch,
        }
        maps = {f"maps.{epoch}": torch.from_numpy(of_images) for epoch, of_images in self.maps.items()}
        write_state(self.folder.last, State({**state.tensors, **maps}, {**state.facts, "run": facts}))

    def result(self, training: Training) -> TrainResult:
        """Calibrate the finished checkpoints, record their reference outputs and their graphs, and sum up.

        Where the map or the parts of the last epoch say nothing, its checkpoint is marked.
        """
        collapsed = "; ".join(training.model.warnings(training.history[-1].measures)) or None
        if self.main:
            for checkpoint in (self.folder.path, self.folder.best):
                if (checkpoint / CONFIG_FILE).is_file():
                    model = load_model(checkpoint)
                    self._calibrate(model, training)
                    if collapsed and checkpoint == self.folder.path:
                        model.provenance[COLLAPSED] = collapsed
                    model.save_pretrained(checkpoint, half=self.recipe.run.half)
                    record(checkpoint)
                    self._add_graph(checkpoint)
        best, selected_by = self.folder.best if self.best_epoch else None, self.provenance["selected_by"]
        if best:
            self.say(f"best epoch {self.best_epoch}, by {selected_by}: {best}")
        history = tuple(training.history)
        selected = (self.best_epoch or None, selected_by, history)
        return TrainResult(self.folder.path, best, *selected, collapsed=collapsed, main=self.main)

    def _add_graph(self, checkpoint: Path) -> None:
        """Write the graph that ONNX Runtime runs; a network that cannot be exported is PyTorch's alone."""
        exported = self.folder.path if checkpoint != self.folder.path else None
        like = exported if exported and (exported / GRAPH_FILE).is_file() else None
        try:
            export.write_graph(checkpoint, like=like)
        except FamError as error:
            self.say(f"warning: {error}; PyTorch will run this model")

    def _calibrate(self, model: Method, training: Training) -> None:
        """Fit the temperature to the validation set or, without one, to training images; the box score to targets."""
        device = str(self.accelerator.device)
        known = self.validation or spread(self.data.samples, MAX_CALIBRATION)
        logits, labels = class_scores(model, known, device)
        model.config = replace(model.config, temperature=fit_temperature(logits, labels))
        model.provenance["calibrated_on"] = f"{len(labels)} {'validation' if self.validation else 'training'} images"
        if training.targets is not None and not self.recipe.run.teacher:  # whose M would agree with its own copy
            pairs = spread(list(zip(training.samples, training.targets, strict=True)), MAX_CALIBRATION)
            model.config = replace(model.config, box_score=fit_box_score(model, pairs, device))

    def sum_of(self, value: float) -> float:
        """The sum of a number over the processes."""
        summed = torch.tensor([value], dtype=torch.float32, device=self.accelerator.device)
        return float(self.accelerator.reduce(summed, reduction="sum").item())

    def _readable_validation(self) -> list[Sample]:
        """This process's share of the validation set, without the images that cannot be read."""
        shard = self.data.validation[self.accelerator.process_index :: self.accelerator.num_processes]

        def load(sample: Sample) -> None:
            read_sample(sample, self.recipe.model.size)

        checked = run_images(shard, load, lambda batch: batch, lambda sample, *_: sample, workers=DECODERS)
        with self.progress("validation set", len(shard)) as step:
            results = list(counted(checked, step))
        bad = [str(result.error) for result in results if isinstance(result, Failed)]
        if bad:
            self.say(f"warning: {len(bad)} images of {self.data.select} count as misses: {'; '.join(bad[:10])}")
        good = [result for result in results if not isinstance(result, Failed)]
        if self.data.validation and not self.sum_of(len(good)):
            none = f"none of the {len(self.data.validation)} images of {self.data.select} can be read"
            raise DataError(f"{none}, so no epoch can be chosen by them; mend or remove them, or --set select=loss")
        return good

    def _validated(self, epoch: Epoch, model: Method) -> Epoch:
        """An epoch with GT-known Loc on the validation set, where an image that cannot be read is a miss.

        Without boxes it is the loss of the class, and the share of images whose class is right. The processes share
        the work.
        """
        device, count = str(self.accelerator.device), len(self.data.validation)
        if not count:
            return epoch
        if self.data.select != HELD_OUT:
            return replace(epoch, gt_known=100 * self.sum_of(count_right(model, self.validation, device)) / count)
        logits, labels = class_scores(model, self.validation, device)
        loss = self.sum_of(float(F.cross_entropy(logits, labels, reduction="sum")))
        right = self.sum_of(float((logits.argmax(dim=1) == labels).sum()))
        return replace(epoch, val_loss=loss / max(1, self.sum_of(len(labels))), val_top1=right / count)

    def _origin(self) -> dict[str, Any]:
        """What a checkpoint says of where it came from, beside the backbone's weights."""
        return {
            "data": list(self.data.names),
            "images": len(self.data.samples),
            "data_sha256": self.data.digest(),
            "labels": "image labels only",
            "recipe": self.recipe.name,
            "seed": self.recipe.train.seed,
            "settings_sha256": self.recipe.digest(self.data.digest_of_all()),
            BACKBONE_TRAINING: self.recipe.train.backbone,
            "selected_by": self.data.selected_by,
            "versions": package_versions(),
            **({"tuned_on_test": True} if self.data.on_test else {}),
        }

    def _read_state(self) -> State:
        """The state to go on from, if data and recipe are still those that the run began with."""
        state = read_state(self.folder.last)
        facts = state.facts["run"]
        if facts["provenance"].get("data_sha256") != self.data.digest():
            msg = "the images or labels have changed since the run began, so it cannot go on; start a new one"
            raise DataError(msg)
        before, now = migrate(facts["recipe"]), self.recipe.tables()
        # A field that is newer than the run had its default.
        defaults = load_recipe(None, model={"method": self.recipe.model.method}).tables()
        changed = [
            f"{table}.{name}"
            for table, values in now.items()
            for name, value in values.items()
            if value != before.get(table, {}).get(name, defaults[table][name])
        ]
        if changed:
            raise ConfigError(
                f"{self.folder.recipe} has been changed since the run began ({', '.join(changed)}); put it back, or "
                f"start a new run with --recipe {self.folder.recipe}"
            )
        self.provenance = dict(facts["provenance"])
        self.maps = {int(epoch): of_images.numpy() for epoch, of_images in state.below("maps").items()}
        self.best, self.best_epoch = facts["best"] if facts["best"] is not None else -math.inf, facts["best_epoch"]
        return state
