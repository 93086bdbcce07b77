"""The score of a box: how far it is to be trusted, from its map and the class probabilities.

A logistic function of two numbers, the mean of the map in the region and the log-probability of the best class, whose
weights are in the model's config. Training fits it to the overlap of the boxes with those of targets that are made from
image labels alone, so that no true box is needed; without weights the score is the mean of the map itself. It says
nothing of which class it is: that is the probability's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def certainty(probabilities: np.ndarray, temperature: float) -> float:
    """Log-probability of the best of ``(L,)`` classes before they were calibrated, which tells boxes apart better."""
    scores = temperature * np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))
    return float(scores.max() - np.log(np.exp(scores - scores.max()).sum()) - scores.max())


def box_score(weights: Sequence[float], foreground: float, of_class: float) -> float:
    """Score in [0, 1] of a region, given the bias, the weights of foreground and of certainty, or none of them."""
    if not weights:
        return foreground
    bias, first, second = weights
    return (1 + math.tanh((bias + first * foreground + second * of_class) / 2)) / 2  # the sigmoid, without overflow
