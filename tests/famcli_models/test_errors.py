"""The tree of errors."""

from __future__ import annotations

from typing import Any

import pytest

from famcli_models import errors
from famcli_models.errors import shown


def test_the_tree() -> None:
    """One except clause catches all that is raised on purpose; wrong values are Python's own ValueErrors too."""
    for kind in (errors.ConfigError, errors.DataError, errors.ShapeError, errors.UnknownNameError, errors.WeightsError):
        assert issubclass(kind, errors.FamError)
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.ShapeError, ValueError)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("backbone", "resnet5O", ["resnet50", "vgg16"]), "unknown backbone 'resnet5O' (did you mean: resnet50)"),
        (("backbone", "vgg16", ["VGG16", "other"]), "unknown backbone 'vgg16' (did you mean: VGG16)"),
        (("model", "zzz", ["beta", "alpha"], "or so"), "unknown model 'zzz' (known: alpha, beta); or so"),
        (("model", "x", []), "unknown model 'x' (known: none)"),
    ],
)
def test_unknown_names(arguments: tuple[Any, ...], text: str) -> None:
    """The near names are offered whatever their case; where nothing is near, the known ones, and the hint closes."""
    assert str(errors.UnknownNameError(*arguments)) == text


def test_unknown_name_lists_at_most_twelve() -> None:
    """A table of a thousand names does not fill the screen."""
    assert str(errors.UnknownNameError("class", "?", [f"c{i:04}" for i in range(1000)])).count("c0") == 12


@pytest.mark.parametrize("value", [1 << 100_000, [1 << 100_000]], ids=["number", "list"])
def test_numbers_without_end(value: object) -> None:
    """What Python itself does not write is named by its type."""
    assert shown(value) == f"of type {type(value).__name__}, too long to be shown"
