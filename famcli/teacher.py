"""Extension: targets for M in which a trained model takes part, for a second round of training.

The target of an image becomes the mean of three maps: the target made from its label alone (:mod:`famcli.targets`), the
M of a trained model, the teacher, and that M cut along colour edges. The first knows the class, the second has learnt
from all the images what objects are like, the third follows outlines. No box takes part. M does not depend on classes,
so a teacher may know others than its pupil; where the pupil's classifier is new, there is no first map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch

from famcli.data.sample import Sample
from famcli.data.transforms import Normalize
from famcli.device import pick_device
from famcli.targets import BATCH, GRABCUT_SIDE, cut_along_edges, whole_view
from famcli_models.fam import FAM


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
        targets: For each sample a map ``(98, 98)``, see :func:`famcli.targets.make_targets`; or none.
        device: See :func:`famcli.device.pick_device`.
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
    """The mean of M ``(h, w)``, of M cut along the edges of its view, and of a target ``(98, 98)`` if there is one."""
    large = cv2.resize(M, (GRABCUT_SIDE, GRABCUT_SIDE), interpolation=cv2.INTER_LINEAR)
    maps = [large, cut_along_edges(view, large), *([target] if target is not None else [])]
    return np.asarray(np.mean(maps, axis=0), np.float16)
