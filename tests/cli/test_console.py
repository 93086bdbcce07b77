"""What the console lets through to a terminal."""

from __future__ import annotations

import json

import pytest

from famcli.cli.console import Console

HOSTILE = "a\x1b]0;owned\x07\r\x9b31m\u202e\u2028\udcffé"
ESCAPED = r"a\x1b]0;owned\x07\r\x9b31m\u202e\u2028\udcffé"


def test_errors_are_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    """Escapes and line breaks of untrusted text are made visible in errors and warnings; JSON has its own escapes."""
    console = Console()
    console.error(f"bad\n{HOSTILE}")
    console.warn(f"bad\n{HOSTILE}")
    assert capfd.readouterr().err == f"fam: error: bad\\n{ESCAPED}\nfam: bad\\n{ESCAPED}\n"
    console.as_json = True
    console.error("bad\n\x1b[31m")
    assert json.loads(capfd.readouterr().out) == {"error": "bad\n\x1b[31m"}


def test_remarks_keep_line_feeds(capfd: pytest.CaptureFixture[str]) -> None:
    """A remark may have several lines, as a recipe has; a cell of a table is one line, whatever is in it."""
    Console().say(f"one\n{HOSTILE}\n\ntwo")
    assert capfd.readouterr().err == f"one\n{ESCAPED}\n\ntwo\n"
    Console().table(("a", "b"), [("x\ny", HOSTILE)])
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[2] == rf"| x\ny | {ESCAPED} |"


@pytest.mark.parametrize("hidden", [True, False])
def test_a_bar_does_not_break_into_results_on_the_same_terminal(
    hidden: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal there is a bar, unless it is hidden because results are printed there."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with Console().progress("images", 3, hidden=hidden) as step:
        step()
    assert ("images" in capsys.readouterr().err) is not hidden
