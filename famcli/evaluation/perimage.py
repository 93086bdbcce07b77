"""What one way of making boxes did on each image, from which every score is counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from famcli.results.images import RIGHT_IOU
from famcli_models.boxes import FloatArray

NOWHERE = -1.0  # the IoU of an image without a box


@dataclass(frozen=True, slots=True)
class Outcomes:
    """One way of making boxes, on n images, at T thresholds.

    Attributes:
        method: ``FAM``, ``CAM``, ``centre``, ``whole``, ``predictions``.
        taus: ``(T,)`` thresholds on the map, ascending; one that is NaN where there is no map.
        ious: ``(n, T)`` best IoU of the box with any of the image's boxes; :data:`NOWHERE` without a box.
        boxes: ``(n, T, 4)`` the boxes, half-open xyxy in the protocol's frame; NaN without a box.
        foreground: ``(n, T)`` mean of the map in the box's region, for detection scores; 0 without a box.
        ranks: ``(n,)`` place of the right class, 0 for the best; ``None`` where classes do not apply.
        strict: A box is right when its IoU is *greater* than 0.5, and not from 0.5 on.
        top5: More than one class was named, so that the best five mean something.
    """

    method: str
    taus: FloatArray
    ious: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.floating]
    foreground: npt.NDArray[np.float32]
    ranks: npt.NDArray[np.int64] | None = None
    strict: bool = False
    top5: bool = True

    def right(self, delta: float = RIGHT_IOU) -> npt.NDArray[np.bool_]:
        """``(n, T)``: whether the box is right at each threshold."""
        return self.ious > delta if self.strict else self.ious >= delta

    def best(self) -> int:
        """Index of the threshold with the most right boxes, the lowest of equal ones: an oracle's choice."""
        return int(self.right().sum(axis=0).argmax())

    def nearest(self, tau: float) -> int:
        """Index of the threshold nearest to ``tau``."""
        return int(np.abs(self.taus - tau).argmin())

    def scores(self, at: int) -> dict[str, FloatArray]:
        """Per-image scores at one threshold, each ``(n,)`` in [0, 1]; their means are the metrics.

        The names are those of :data:`famcli.results.schema.METRICS`.

        Args:
            at: Index into ``taus``.
        """
        right = self.right()[:, at]
        found: dict[str, FloatArray] = {"gt_known": right.astype(np.float64)}
        if self.ranks is not None:
            for k in (1, 5) if self.top5 else (1,):
                known = self.ranks < k
                found[f"top{k}_loc"] = (right & known).astype(np.float64)
                found[f"top{k}_cls"] = known.astype(np.float64)
        found["mean_iou"] = self.ious[:, at].clip(0)
        return found
