"""One training run from recipe to models: build or restore, train, measure, keep."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.tensorboard import SummaryWriter

from famcli.checkpoints.doctor import package_versions
from famcli.checkpoints.reference import record
from famcli.data.sample import Sample, check_labels, read_sample
from famcli.evaluation.onebox import count_right
from famcli.training.accelerator import leave
from famcli.training.data import BY_LOSS, Material
from famcli.training.environment import environment
from famcli.training.interrupt import Interrupt
from famcli.training.loop import fit
from famcli.training.monitor import Epoch
from famcli.training.recipe import Recipe, load_recipe, migrate
from famcli.training.resume import State, read_state, write_state
from famcli.training.runfolder import RunFolder
from famcli.training.step import Training
from famcli.training.supervision import make_lessons, needs_pretrained
from famcli_models.checkpoint import CONFIG_FILE
from famcli_models.errors import ConfigError, DataError
from famcli_models.methods import METHODS
from famcli_models.methods.method import BACKBONE_TRAINING, Method

JUDGE_THREADS = 8  # they decode, which needs no Python
BY_WORDS = {
    False: "GT-known Loc on {split} ({n} images with boxes)",
    True: "the lowest training loss, with the last step's weights, among epochs whose M has not collapsed (no boxes)",
}


@dataclass(slots=True)
class Run:
    """A run, new or resumed.

    Attributes:
        folder: Where it keeps what it makes.
        recipe: What was asked for, with the number of classes of the data.
        material: What it learns from.
        accelerator: Processes and device; only the main process writes.
        say: Told a line for each epoch, and warnings.
    """

    folder: RunFolder
    recipe: Recipe
    material: Material
    accelerator: Accelerator
    say: Callable[[str], None]
    provenance: dict[str, Any] = field(init=False, default_factory=dict)
    best: float = field(init=False, default=-math.inf)
    best_epoch: int = field(init=False, default=0)
    _board: SummaryWriter | None = field(init=False, default=None)
    _begun: bool = field(init=False, default=False)
    _readable: list[Sample] = field(init=False, default_factory=list)
    _saved: float = field(init=False, default_factory=time.monotonic)

    def train(self, workers: int, resume: bool, on_images: Callable[[int], None]) -> Training:
        """Train to the end, or until a signal; both leave a folder that can be used and resumed.

        Args:
            workers: Processes that decode.
            resume: Go on from the folder's last state.
            on_images: Called with a number of images after each step, and first with those of earlier sessions.

        Raises:
            DataError: An image to judge by has a label that is no class of the model.
            FamError: See :func:`famcli.training.loop.fit`.
            KeyboardInterrupt: After a signal.
        """
        check_labels(self.material.judged, self.recipe.model.num_classes)  # now, and not after an hour
        self._readable = self._open_judged()
        state = self._restore() if resume else None
        model = self._model(state)
        source = self._pretrained(model, state) if needs_pretrained(self.recipe) else model
        lessons = make_lessons(source, self.recipe, self.material, self.accelerator, self.provenance, workers, self.say)
        training: Training | None = None
        self._begun = resume
        if self.main and resume:
            self.folder.add_environment(environment(self.accelerator))

        def after_step(now: Training) -> None:
            nonlocal training
            training = now
            self._begin()
            on_images(now.order.size)
            ended = now.step % now.order.epoch_steps == 0
            if ended or time.monotonic() - self._saved >= 60 * self.recipe.train.save_minutes:
                self._save(now)

        if state is not None:
            on_images(int(state.facts["size"]) * int(state.facts["step"]))
        note = "stopping after this step; press Ctrl-C once more to stop at once"
        with Interrupt(lambda: self.say(note)) as stopping:
            try:
                training = fit(
                    model,
                    lessons.samples,
                    self.recipe.train,
                    self.accelerator,
                    workers,
                    lessons.targets,
                    state,
                    after_step,
                    self._after_epoch,
                    stopping,
                )
            except KeyboardInterrupt:
                if training is not None and not stopping.forced:  # a forced one may have stopped half a step
                    self._save(training)
                    where = f"step {training.step} of {training.order.steps}"
                    self.say(f"stopped at {where}; go on with: fam train --resume {self.folder.path}")
                    leave(self.accelerator)
                raise
            else:
                self._record()
                return training
            finally:
                if self._board is not None:
                    self._board.close()

    def _record(self) -> None:
        """Let the finished checkpoints say what they see in some drawings, for ``fam verify`` to ask again."""
        if self.main:
            for folder in (self.folder.path, self.folder.best):
                if (folder / CONFIG_FILE).is_file():
                    record(folder)

    @property
    def main(self) -> bool:
        """This process writes."""
        return bool(self.accelerator.is_main_process)

    def _begin(self) -> None:
        """Write to the folder for the first time, now that a step has shown that the run is possible."""
        if self.main and not self._begun:
            self.folder.begin(self.recipe)
            self.folder.add_environment(environment(self.accelerator))
        self._begun = True

    def _restore(self) -> State:
        state = read_state(self.folder.last)
        facts = state.facts["run"]
        if facts["provenance"]["data_sha256"] != self.material.digest():
            msg = "the images or labels have changed since the run began, so it cannot go on; start a new one"
            raise DataError(msg)
        before, now = migrate(facts["recipe"]), self.recipe.tables()
        defaults = load_recipe(
            None, model={"method": self.recipe.model.method}
        ).tables()  # which a field that is newer than the run had
        changed = [
            f"{t}.{name}"
            for t in now
            for name in now[t]
            if now[t][name] != before.get(t, {}).get(name, defaults[t][name])
        ]
        if changed:
            msg = (
                f"{self.folder.recipe} has been changed since the run began ({', '.join(changed)}); put it back, or "
                f"start a new run with --recipe {self.folder.recipe}"
            )
            raise ConfigError(msg)
        self.provenance = dict(facts["provenance"])
        self.best, self.best_epoch = facts["best"] if facts["best"] is not None else -math.inf, facts["best_epoch"]
        return state

    def _model(self, state: State | None) -> Method:
        config, names = self.recipe.run, self.material.class_names or None
        method = METHODS[self.recipe.model.method]
        if state is not None:
            return method(self.recipe.model, names, self.provenance)
        torch.manual_seed(self.recipe.train.seed)  # the attention modules start at random
        model = method.from_backbone(self.recipe.model, config.backbone_weights, names)
        self.recipe = replace(self.recipe, model=model.config)  # with the weights' normalisation and padding
        model.provenance |= {
            "data": list(self.material.names),
            "images": len(self.material.samples),
            "data_sha256": self.material.digest(),
            "labels": "image labels only",
            "recipe": self.recipe.name,
            "seed": self.recipe.train.seed,
            BACKBONE_TRAINING: self.recipe.train.backbone,
            "selected_by": BY_WORDS[self.material.select == BY_LOSS].format(
                split=self.material.select, n=len(self.material.judged)
            ),
            "versions": package_versions(),
        }
        if self.material.on_test:
            model.provenance["tuned_on_test"] = True
        self.provenance = dict(model.provenance)
        return model

    def _pretrained(self, model: Method, state: State | None) -> Method:
        """The model as it was when the run began."""
        if state is None:
            return model
        source = METHODS[self.recipe.model.method].from_backbone(self.recipe.model, self.recipe.run.backbone_weights)
        if source.provenance.get("backbone_sha256") != self.provenance.get("backbone_sha256"):
            msg = f"'{self.recipe.run.backbone_weights}' are not the backbone weights the run began with"
            raise ConfigError(msg)
        return source

    def _after_epoch(self, training: Training, epoch: Epoch) -> Epoch:
        epoch = replace(epoch, gt_known=self._judge(training.weights))
        value = epoch.gt_known if epoch.gt_known is not None else -self._objective(training.model, epoch)
        collapsed = training.model.collapsed(epoch.measures)
        improved = value > self.best and not (epoch.gt_known is None and collapsed)
        if improved:
            self.best, self.best_epoch = value, epoch.number
        if not self.main:
            return epoch
        self._begin()
        facts = {"epochs": epoch.number, "skipped_images": epoch.skipped}
        training.weights.provenance = self.provenance | facts
        training.weights.save_pretrained(self.folder.path, half=self.recipe.run.half)
        if improved:
            training.weights.save_pretrained(self.folder.best, half=self.recipe.run.half)
        self.folder.write_metrics([*training.history[:-1], epoch])
        self._board = self._board or SummaryWriter(str(self.folder.tensorboard), purge_step=epoch.number)
        for name, number in epoch.row().items():
            if number is not None:
                self._board.add_scalar(name, number, epoch.number)
        self._board.flush()
        self._report(training, epoch)
        return epoch

    def _objective(self, model: Method, epoch: Epoch) -> float:
        """The loss with the weights of the last step: where one rises, the totals of epochs do not compare."""
        weights = {**model.term_weights(), "target": self.recipe.train.lambda_target}
        return sum(weight * epoch.terms.get(name, 0.0) for name, weight in weights.items())

    def _open_judged(self) -> list[Sample]:
        """This process's share of the images to judge by, without those that cannot be read."""
        shard = self.material.judged[self.accelerator.process_index :: self.accelerator.num_processes]

        def reason(sample: Sample) -> str | None:
            try:
                read_sample(sample, self.recipe.model.size)
            except DataError as error:
                return str(error)
            return None

        with ThreadPoolExecutor(JUDGE_THREADS) as pool:
            reasons = list(pool.map(reason, shard))
        bad = [text for text in reasons if text is not None]
        if bad:
            self.say(f"warning: {len(bad)} images of {self.material.select} count as misses: {'; '.join(bad[:10])}")
        return [sample for sample, text in zip(shard, reasons, strict=True) if text is None]

    def _judge(self, model: Method) -> float | None:
        """GT-known Loc on the judged images, which the processes share."""
        if not self.material.judged:
            return None
        hits = count_right(model, self._readable, str(self.accelerator.device))
        counted = torch.tensor([hits], dtype=torch.float32, device=self.accelerator.device)
        return 100 * float(self.accelerator.reduce(counted, reduction="sum").item()) / len(self.material.judged)

    def _report(self, training: Training, epoch: Epoch) -> None:
        terms = "  ".join(f"{name} {value:.4f}" for name, value in epoch.terms.items())
        judged = "" if epoch.gt_known is None else f"  {self.material.select} GT-known {epoch.gt_known:.1f} %"
        measures = {name.replace("_", " "): value for name, value in epoch.measures.items()}
        percent = {name: measures.pop(name) for name in ("foreground", "top1") if name in measures}
        logged = "  ".join(
            [f"{name} {value:.1%}" for name, value in percent.items()]
            + [f"{name} {value:.3f}" for name, value in measures.items()]
        )
        left = epoch.seconds * (self.recipe.train.epochs - epoch.number)
        self.say(
            f"epoch {epoch.number} of {self.recipe.train.epochs}: {terms}  {logged}{judged}"
            f"  {epoch.images / epoch.seconds:.0f} images/s  {left / 60:.0f} min left"
        )
        for warning in epoch.warnings(training.model):
            self.say(f"warning: {warning}")
        before = training.history[-2].skipped if len(training.history) > 1 else 0
        if epoch.skipped > before:
            listed = "; ".join(f"{name}: {reason}" for name, reason in list(training.unreadable.items())[:10])
            self.say(f"warning: {epoch.skipped} images cannot be read and were replaced by their neighbours: {listed}")

    def _save(self, training: Training) -> None:
        self._saved = time.monotonic()
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
        write_state(self.folder.last, State(state.tensors, {**state.facts, "run": facts}))
