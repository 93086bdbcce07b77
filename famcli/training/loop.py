"""Training on image labels alone: the loop.

Boxes are never read here. Every random choice comes from the seed, the step and the image's number, so that a run
on the same machine and versions repeats exactly, and one that was killed goes on exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing

import numpy as np
import torch
from accelerate import Accelerator

from famcli.data.sample import Sample, check_labels
from famcli.training.accelerator import make_accelerator
from famcli.training.config import TrainConfig
from famcli.training.loading import Batch, CachedFeatures, Views, fresh_batches, map_size
from famcli.training.monitor import Epoch
from famcli.training.resume import State
from famcli.training.sampler import Order
from famcli.training.step import Training
from famcli_models.errors import ConfigError, DataError, FamError
from famcli_models.losses import balanced_class_weight
from famcli_models.methods.method import Method

OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")  # what torch's devices say

LOADER_DIED = "DataLoader worker"


def fit(
    model: Method,
    samples: Sequence[Sample],
    config: TrainConfig,
    accelerator: Accelerator | None = None,
    workers: int = 2,
    targets: Sequence[np.ndarray] | None = None,
    start: State | None = None,
    on_step: Callable[[Training], None] = lambda _: None,
    on_epoch: Callable[[Training, Epoch], Epoch] = lambda _, epoch: epoch,
    stopping: Callable[[], bool] = lambda: False,
) -> Training:
    """Train a model in place.

    Args:
        model: A model on a backbone, see :meth:`FAM.from_backbone`.
        samples: Images with labels; their boxes, if any, are not looked at.
        config: How to train.
        accelerator: Processes and device; by default :func:`famcli.training.accelerator.make_accelerator` makes it.
        workers: Processes that decode.
        targets: For each sample a map ``(h, w)`` in [0, 1] of the whole image that M is drawn to with
            weight ``config.lambda_target``, see :mod:`famcli.training.targets`.
        start: Go on from here.
        on_step: Called after each step.
        on_epoch: Called after each epoch; gives the epoch back, perhaps with more known of it.
        stopping: Asked in each step; a true answer ends the training with ``KeyboardInterrupt`` after the step.

    Returns:
        The training, with its history; ``weights`` is the model to use.

    Raises:
        ConfigError: The processes cannot share the work.
        DataError: Hardly any image can be read, a loading process died, or a label is outside the model's classes.
        FamError: The loss is not finite, or memory ran out.
        WeightsError: ``start`` is the state of another run.
        KeyboardInterrupt: Asked for by ``stopping``.
    """
    accelerator = accelerator or make_accelerator("auto", config.precision)
    check_labels(samples, model.config.num_classes)
    device = accelerator.device
    if config.cached_views and accelerator.num_processes > 1:
        msg = "cached_views keeps all features in one process: set cached_views=0 to train with several"
        raise ConfigError(msg)
    torch.manual_seed(config.seed)
    model = model.to(device).train()
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if start is None:
        model.begin_training()
    counts = torch.bincount(torch.tensor([sample.label for sample in samples]), minlength=model.config.num_classes)
    order = Order(
        images=len(samples),
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=config.seed,
        accumulate=config.accumulate,
        processes=accelerator.num_processes,
        process=accelerator.process_index,
    )
    try:
        training = Training(
            model,
            config,
            order,
            [sample.name for sample in samples],
            accelerator,
            class_weight=balanced_class_weight(counts).to(device) if config.class_balanced else None,
            use_targets=bool(targets is not None and config.lambda_target),
            from_features=config.cached_views > 0,
        )
        if start is not None:
            training.restore(start)
        views = Views(samples, model.config.size, map_size(model, device), config.seed, targets)
        # Closed whatever happens: loading processes that outlive the loop are complained about at exit.
        with closing(_batches(training, views, workers)) as batches:
            model.train()
            while training.step < order.steps:
                stop = training.take_step(batches, stopping)
                if training.step % order.epoch_steps == 0:
                    training.history[-1] = on_epoch(training, training.end_epoch())
                    model.train()  # measuring may have left it in evaluation mode
                on_step(training)
                if stop:
                    raise KeyboardInterrupt
    except RuntimeError as error:
        if LOADER_DIED in str(error):  # torch says so from a signal's handler: wherever the main thread is
            msg = (
                "a process that decodes images died, most often for lack of memory (in a container: of shared memory); "
                f"lower --workers (now {workers}; 0 decodes in the main process)"
            )
            raise DataError(msg) from error
        if not any(words in str(error).lower() for words in OUT_OF_MEMORY):
            raise
        share = order.size // order.shares
        msg = (
            f"out of memory on {device} with {share} images a forward pass ({error}); lower it with "
            f"--set accumulate={2 * config.accumulate} (as many images a step), or lower batch_size or size"
        )
        raise FamError(msg) from error
    model.eval()
    return training


def _batches(training: Training, views: Views, workers: int) -> Generator[Batch, None, None]:
    """The batches from the next step on."""
    config, order = training.config, training.order
    if not config.cached_views:
        return fresh_batches(views, order, training.step, workers, pin=training.accelerator.device.type == "cuda")
    device = training.accelerator.device
    cached = CachedFeatures(training.model, views, config.batch_size, device, workers, config.cached_views)
    training.unreadable |= {training.names[image]: reason for image, reason in cached.unreadable.items()}
    return cached.batches(order, training.step)
