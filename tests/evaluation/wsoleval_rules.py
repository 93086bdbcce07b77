"""The rules of wsolevaluation, transcribed one by one and slowly, as the reference for famcli.evaluation.metrics.box.

Written from the description of its behaviour, threshold by threshold and box by box; nothing is shared with famcli.
"""

from __future__ import annotations

import cv2
import numpy as np

DELTAS = (30, 50, 70)


def normalised(raw):
    """Rule 2: resize to 224 with INTER_CUBIC, then min-max; NaN or constant gives zeros."""
    cam = cv2.resize(np.asarray(raw, dtype=np.float64), (224, 224), interpolation=cv2.INTER_CUBIC)
    if np.isnan(cam).any() or cam.min() == cam.max():
        return np.zeros((224, 224))
    cam = cam - cam.min()
    return cam / cam.max()


def boxes_at(scores, tau, *, every_contour):
    """Rules 3-5: the boxes of one map at one threshold."""
    height, width = scores.shape
    grey = (scores * 255).astype(np.uint8)[:, :, None]
    _, mask = cv2.threshold(grey, int(tau * np.max(grey)), 255, cv2.THRESH_BINARY)
    contours = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
    if len(contours) == 0:
        return [[0, 0, 0, 0]]
    if not every_contour:
        contours = [max(contours, key=cv2.contourArea)]
    boxes = []
    for contour in contours:
        x, y, w, h = cv2.boundingRect(contour)
        boxes.append([x, y, min(x + w, width - 1), min(y + h, height - 1)])
    return boxes


def iou(a, b):
    """Rule 5: inclusive corners, plus one."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    area_a = (a[2] - a[0] + 1) * (a[3] - a[1] + 1)
    area_b = (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
    return width * height / (area_a + area_b - width * height)


def resized_box(box, size_wh, frame_wh):
    """Rule 6: inclusive corners moved to another frame, cut with int()."""
    (w, h), (new_w, new_h) = size_wh, frame_wh
    x0, y0, x1, y1 = (float(v) for v in box)
    return int(x0 * new_w / w), int(y0 * new_h / h), int(x1 * new_w / w), int(y1 * new_h / h)


def accuracies(images, interval, *, every_contour):
    """Rule 7: accuracy in percent at every threshold, by δ.

    Args:
        images: Pairs of a map in [0, 1] and its boxes, inclusive corners in the map's frame.
        interval: From one threshold to the next.
        every_contour: V2 if true, V1 if not.
    """
    taus = list(np.arange(0, 1, interval))
    right = {delta: np.zeros(len(taus)) for delta in DELTAS}
    for scores, truth in images:
        for i, tau in enumerate(taus):
            best = max(iou(box, t) for box in boxes_at(scores, tau, every_contour=every_contour) for t in truth)
            for delta in DELTAS:
                if best >= delta / 100:
                    right[delta][i] += 1
    return {delta: counts * 100.0 / float(len(images)) for delta, counts in right.items()}


def pxap(images, interval):
    """Rule 8: area under precision over recall, from histograms of the scores inside and outside.

    Args:
        images: Pairs of a map in [0, 1] and its mask: 1 object, 0 background, 255 ignored.
        interval: From one threshold to the next.
    """
    edges = np.append(list(np.arange(0, 1, interval)), [1.0, 2.0, 3.0])
    inside, outside = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)
    for scores, truth in images:
        inside += np.histogram(scores[truth == 1], bins=edges)[0]
        outside += np.histogram(scores[truth == 0], bins=edges)[0]
    tp, fp = inside[::-1].cumsum(), outside[::-1].cumsum()
    with np.errstate(invalid="ignore"):
        precision = tp / (tp + fp)
    recall = tp / inside.sum()
    return (precision[1:] * np.diff(recall))[((tp + fp) != 0)[1:]].sum() * 100
