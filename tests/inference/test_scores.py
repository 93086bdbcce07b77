"""Scores of boxes."""

from __future__ import annotations

import numpy as np
import pytest

from famcli.inference.scores import box_score, certainty


def test_certainty_undoes_the_temperature() -> None:
    """It is the log-probability of the best class at temperature 1, also where another class's probability is 0."""
    scores = np.array([2.0, 1.0, -1.0])
    plain = np.exp(scores) / np.exp(scores).sum()
    sharp = np.exp(scores / 0.2) / np.exp(scores / 0.2).sum()
    assert certainty(sharp, 0.2) == pytest.approx(np.log(plain[0]))
    assert certainty(np.array([1.0, 0.0], np.float32), 0.5) == pytest.approx(0, abs=1e-6)


def test_logistic_or_the_map_itself() -> None:
    """Without weights the score is the foreground; with them it grows with both numbers and stays in [0, 1]."""
    assert box_score((), 0.7, -1.0) == 0.7
    weights = (-4.0, 6.0, 0.5)
    assert box_score(weights, 2 / 3, 0.0) == 0.5
    assert box_score(weights, 0.9, -1.0) > box_score(weights, 0.8, -1.0)
    assert box_score(weights, 0.9, -1.0) > box_score(weights, 0.9, -2.0)
    assert 0 <= box_score((-1e4, 0.0, 0.0), 1.0, 0.0) < 1e-9
