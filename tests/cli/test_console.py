"""What the console lets through to a terminal."""

from __future__ import annotations

import json
import os
import pty

import pytest

from famcli.cli import console as module
from famcli.cli.console import Console
from famcli_models.files import STDOUT, write_pieces

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


def test_no_line_is_endless(capfd: pytest.CaptureFixture[str]) -> None:
    """A line is at most as long as it may be, its beginning and what its characters are escaped to included."""
    Console().error("\x1b" * 10**6)
    Console().say("x" * 10**6)
    lines = capfd.readouterr().err.splitlines()
    assert [len(line) for line in lines] == [module.LONGEST] * 2
    assert all(line.endswith("...") for line in lines)


@pytest.mark.parametrize("way", ["result", "pieces"])
def test_results_do_not_talk_to_a_terminal(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Control characters of results are escaped on a terminal, so that JSON stays JSON, and stay in files and pipes."""
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as terminal, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", terminal)
        text = json.dumps({"name": "a\x9b31m\x7f"}, ensure_ascii=False) + "\t\x1b[31m"
        if way == "result":
            Console().result(text)
        else:
            write_pieces(STDOUT, [text, "\n"])
        got = os.read(ours, 1000).decode()
    os.close(ours)
    assert got == '{"name": "a\\u009b31m\\u007f"}\t\\u001b[31m\r\n'


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


class Clock:
    """Ten seconds later each time it is asked."""

    seconds = 0

    def monotonic(self) -> int:
        self.seconds += 10
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The console's clock, off a terminal."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    return clock


def test_progress_off_a_terminal(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """In a log there is a line every 30 seconds, with the rate of this run and the time left at it."""
    assert clock.seconds == 0
    with Console().progress("images", 70_000, 1000) as step:
        for _ in range(7):
            step(2)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "images: 1,006 of 70,000, 0.2/s, 3 days, 23:49:30 left",
        "images: 1,012 of 70,000, 0.2/s, 3 days, 23:49:00 left",
    ]
    with Console().progress("x.zip", None, in_bytes=True) as step:
        for _ in range(3):
            step(30_000_000)
    assert capsys.readouterr().err == "x.zip: 90.0 MB, 3.0 MB/s\n"


@pytest.mark.parametrize("case", ["short", "quiet", "hidden", "nothing"])
def test_no_progress(case: str, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of less than 30 seconds has no line of progress, nor has one that is quiet or has nothing to do."""
    console = Console()
    console.quiet = case == "quiet"
    with console.progress("images", 0 if case == "nothing" else 9, hidden=case == "hidden") as step:
        for _ in range(2 if case == "short" else 9):
            step()
    assert clock.seconds > 0 or case != "short"
    assert capsys.readouterr().err == ""
