"""Extension: targets for M in which a trained model takes part, for a second round of training.

The target of an image becomes (2 M + T) / 3, with the M of a trained model, the teacher, and the target T made from the
image's label alone (:mod:`famcli.training.targets`). T knows the class; M has learnt from all the images what objects
are like, and the errors that single targets make average out in it. No box takes part. M does not depend on classes, so a teacher
may know others than its pupil; where the pupil's classifier is new, T is M cut along colour edges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch

from famcli.data.sample import Sample
from famcli.data.transforms import Normalize
from famcli.inference.device import pick_device
from famcli.training.targets import BATCH, GRABCUT_SIDE, cut_along_edges, whole_view
from famcli_models.methods.fam import FAM


def taught(
    teacher: FAM,
    samples: Sequence[Sample],
    targets: Sequence[np.ndarray] | None,
    device: str = "auto",
    workers: int = 2,
    on_image: Callable[[], None] = lambda: None,
) -> list[np.ndarray]:
    """Targets of M for whole images, with a teacher's opinion.

    Args:
        teacher: A trained model.
        samples: Images.
        targets: For each sample a map ``(98, 98)``, see :func:`famcli.training.targets.make_targets`; or none.
        device: See :func:`famcli.inference.device.pick_device`.
        workers: Threads for decoding and GrabCut.
        on_image: Called after each image.

    Returns:
        For each sample a map ``(98, 98)`` float16 in [0, 1].
    """
    where = pick_device(device)
    teacher = teacher.to(where).eval()
    size, normalize = teacher.config.size, Normalize(teacher.config.mean, teacher.config.std)
    found: list[np.ndarray] = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(samples), BATCH):
            rows = slice(start, start + BATCH)
            views = list(pool.map(lambda s: whole_view(s, size), samples[rows]))
            with torch.inference_mode():
                M = teacher(normalize(views, where)).M[:, 0].cpu().numpy()
            found += pool.map(_joined, views, M, targets[rows] if targets is not None else [None] * len(views))
            for _ in views:
                on_image()
    return found


def _joined(view: np.ndarray, M: np.ndarray, target: np.ndarray | None) -> np.ndarray:
    """The target ``(98, 98)`` joined of M ``(h, w)`` and of another target, or of M cut along its view's edges."""
    large = cv2.resize(M, (GRABCUT_SIDE, GRABCUT_SIDE), interpolation=cv2.INTER_LINEAR)
    T = cut_along_edges(view, large) if target is None else target
    return np.asarray((2 * large + T) / 3, np.float16)
