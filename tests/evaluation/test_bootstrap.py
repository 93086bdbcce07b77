"""Intervals over images."""

from __future__ import annotations

import math

import numpy as np
import pytest

from famcli.evaluation.bootstrap import Bootstrap, wilson
from famcli.results.schema import Number
from famcli_models.errors import ConfigError, ShapeError


def of_mean(bootstrap: Bootstrap, values: np.ndarray) -> Number:
    """The mean of per-image scores with its interval, in percent."""
    return bootstrap.number(values.mean(), bootstrap.means(values[:, None])[:, 0])


def test_what_has_no_width() -> None:
    """The same score of all images, one image alone, and the paired difference of a method and itself."""
    assert of_mean(Bootstrap(37, resamples=50), np.ones(37)) == Number(100, 100, 100)
    assert of_mean(Bootstrap(1, resamples=4), np.array([0.5])) == Number(50, 50, 50)
    right = np.random.default_rng(3).random((500, 4)) < 0.6
    bootstrap = Bootstrap(500)
    assert (bootstrap.means(right) - bootstrap.means(right.copy()) == 0).all()


def test_interval_of_a_share_is_the_binomial_one() -> None:
    """For 30 % of 1,000 images the interval is 30 % ± 1.96 standard errors, up to the resamples' own noise."""
    right = np.arange(1000) < 300
    number = of_mean(Bootstrap(1000, resamples=4000), right)
    margin = 1.96 * math.sqrt(0.3 * 0.7 / 1000) * 100
    assert number.value == pytest.approx(30)
    assert number.low == pytest.approx(30 - margin, abs=0.25)
    assert number.high == pytest.approx(30 + margin, abs=0.25)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 53), (24, 90), (121, 168), (149, 149)])
def test_wilson(k: int, n: int) -> None:
    """Wilson's interval is scipy's, lies in 0 to 100 %, and has a width where all images are right or none is."""
    from scipy.stats import binomtest

    number, expected = wilson(np.arange(n) < k), binomtest(k, n).proportion_ci(0.95, "wilson")
    assert (number.value, number.low, number.high) == pytest.approx(
        (100 * k / n, 100 * expected.low, 100 * expected.high)
    )
    assert number.low is not None
    assert number.high is not None
    assert 0 <= number.low < number.high <= 100


def test_pairing_takes_out_what_is_common() -> None:
    """Two methods that differ on 1 % of the images have a difference far narrower than either's interval."""
    one = np.random.default_rng(0).random(2000) < 0.5
    other = one.copy()
    other[:20] = ~other[:20]
    bootstrap = Bootstrap(2000)
    a, b = (bootstrap.interval(bootstrap.means(x[:, None])[:, 0]) for x in (one, one.astype(float) - other))
    assert b[1] - b[0] < (a[1] - a[0]) / 4


def test_draws_repeat_and_depend_on_the_seed() -> None:
    """The same seed gives the same resamples, within one bootstrap and in another; another seed does not."""
    values = np.random.default_rng(0).random((60, 2))
    bootstrap = Bootstrap(60, resamples=20)
    again, other = Bootstrap(60, resamples=20), Bootstrap(60, resamples=20, seed=1)
    assert (bootstrap.means(values) == bootstrap.means(values)).all()
    assert (bootstrap.means(values) == again.means(values)).all()
    assert (bootstrap.means(values) != other.means(values)).any()


def test_means_are_those_of_drawn_images() -> None:
    """Each resample draws n images with replacement: the means of one-hot columns are counts / n that add up to 1."""
    n = 5
    shares = Bootstrap(n, resamples=30).means(np.eye(n))
    assert shares.sum(axis=1) == pytest.approx(1)
    assert np.allclose(shares * n, np.round(shares * n))
    assert len(np.unique(shares, axis=0)) > 5


def test_blocks_do_not_show() -> None:
    """More images than are worked on at once give the means of all of them."""
    n = 9000
    values = np.random.default_rng(0).random(n)
    bootstrap = Bootstrap(n, resamples=3)
    draw = np.random.default_rng(0)
    expected = [values[draw.integers(0, n, n)].mean() for _ in range(3)]
    assert bootstrap.means(values[:, None])[:, 0] == pytest.approx(expected)


def test_interval_takes_percentiles() -> None:
    """Of the values 0 to 1000 the middle 95 % reach from 25 to 975, and the middle half from 250 to 750."""
    bootstrap = Bootstrap(1)
    assert bootstrap.interval(np.arange(1001)) == pytest.approx((25, 975))
    assert bootstrap.interval(np.arange(1001), 0.5) == pytest.approx((250, 750))


@pytest.mark.parametrize("shape", [(3,), (4, 1), (3, 1, 1)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    """Values need one row for each image."""
    with pytest.raises(ShapeError, match="one row for each image"):
        Bootstrap(3, resamples=2).means(np.zeros(shape))


def test_what_cannot_be() -> None:
    """No image or no resample, and a level outside of (0, 1), are errors and no intervals of NaN."""
    for n, resamples in ((0, 10), (10, 0)):
        with pytest.raises(ConfigError, match="says nothing"):
            Bootstrap(n, resamples)
    for level in (0.0, 1.0, 95.0, math.nan):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            Bootstrap(1, 1).interval([0.0], level)
