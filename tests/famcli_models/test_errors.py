"""The tree of errors."""

from __future__ import annotations

import pytest

from famcli_models import errors


@pytest.mark.parametrize("name", ["ConfigError", "DataError", "ShapeError", "UnknownNameError", "WeightsError"])
def test_every_error_is_a_fam_error(name: str) -> None:
    """One except clause catches everything the project raises on purpose."""
    assert issubclass(getattr(errors, name), errors.FamError)


@pytest.mark.parametrize("kind", [errors.ConfigError, errors.ShapeError])
def test_wrong_values_are_value_errors(kind: type[Exception]) -> None:
    """Callers who know only Python's own errors catch wrong values too."""
    assert issubclass(kind, ValueError)


def test_unknown_name_offers_the_near_ones() -> None:
    """A misspelt name is answered with the names that look like it, and not with the others."""
    text = str(errors.UnknownNameError("backbone", "resnet5O", ["resnet50", "vgg16"]))
    assert text == "unknown backbone 'resnet5O' (did you mean: resnet50)"


def test_unknown_name_ignores_case() -> None:
    """Capitals do not hide a near name, and the name is shown as it is written."""
    assert "did you mean: VGG16" in str(errors.UnknownNameError("backbone", "vgg16", ["VGG16", "other"]))


def test_unknown_name_lists_known_ones_and_the_hint() -> None:
    """Where nothing is near, the known names are listed, sorted, and the hint closes the message."""
    text = str(errors.UnknownNameError("model", "zzz", ["beta", "alpha"], "or give a path"))
    assert text == "unknown model 'zzz' (known: alpha, beta); or give a path"


def test_unknown_name_without_any_known() -> None:
    """An empty table gives a sentence, not an empty bracket."""
    assert str(errors.UnknownNameError("model", "x", [])) == "unknown model 'x' (known: none)"


def test_unknown_name_lists_at_most_twelve() -> None:
    """A table of a thousand names does not fill the screen."""
    assert str(errors.UnknownNameError("class", "?", [f"c{i:04}" for i in range(1000)])).count("c0") == 12
