"""Extension: targets for M in which a trained model takes part, for a second round of training.

The target of an image becomes (2 M + T) / 3, with the M of a trained model, the teacher, and the target T made from the
image's label alone (:mod:`famcli.training.targets`). T knows the class; M has learnt from all the images what objects
are like, and the errors that single targets make average out in it. No box takes part. M does not depend on
classes, so a teacher may know others than its student; where the student's classifier is new, T is M cut along
colour edges.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from famcli.data.sample import Sample
from famcli.inference.engine import all_finished, run_images
from famcli.inference.torch_engine import TorchEngine
from famcli.training.targets import BATCH, GRABCUT_SIDE, cut_along_edges, whole_view
from famcli_models.methods.method import Method


def taught(
    teacher: Method,
    samples: Sequence[Sample],
    targets: Sequence[np.ndarray] | None,
    device: str = "auto",
    workers: int = 2,
) -> list[np.ndarray]:
    """Targets of M for whole images, with a teacher's opinion.

    Args:
        teacher: A trained model whose map depends on no class.
        samples: Images.
        targets: For each sample a map ``(98, 98)``, see :func:`famcli.training.targets.make_targets`; or none.
        device: See :func:`famcli.inference.torch_engine.pick_device`.
        workers: Threads for decoding and GrabCut.

    Returns:
        For each sample a map ``(98, 98)`` float16 in [0, 1].
    """
    engine = TorchEngine(teacher, device, fold=False)

    def load(number: int) -> np.ndarray:
        return whole_view(samples[number], teacher.config.size)

    def infer(batch: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
        return engine.infer([np.stack([view for _, view in batch])]).maps

    def finish(number: int, view: np.ndarray, M: np.ndarray) -> np.ndarray:
        return _joined(view, M, None if targets is None else targets[number])

    numbers = range(len(samples))
    return all_finished(run_images(numbers, load, infer, finish, batch_size=BATCH, workers=max(1, workers)))


def _joined(view: np.ndarray, M: np.ndarray, target: np.ndarray | None) -> np.ndarray:
    """The target ``(98, 98)`` joined of M ``(h, w)`` and of another target, or of M cut along its view's edges."""
    large = cv2.resize(M, (GRABCUT_SIDE, GRABCUT_SIDE), interpolation=cv2.INTER_LINEAR)
    T = cut_along_edges(view, large) if target is None else target
    return np.asarray((2 * large + T) / 3, np.float16)
