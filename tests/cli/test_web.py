"""fam app."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from typer.testing import Result

Fam = Callable[..., Result]


def test_without_gradio(fam: Fam, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence with the command that installs it."""
    monkeypatch.setattr("famcli.cli.web.find_spec", lambda _: None)
    result = fam("app")
    assert result.exit_code == 1
    assert result.stderr == (
        "fam: error: the page is made with Gradio, which is not installed: pip install 'famcli[app]'\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--model", "no-such-model"), 1, "unknown model 'no-such-model'"),
        (("--port", 0), 2, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_served(fam: Fam, arguments: tuple[object, ...], code: int, said: str) -> None:
    result = fam("app", "--no-browser", *arguments)
    assert result.exit_code == code
    assert said in " ".join(result.stderr.split())
