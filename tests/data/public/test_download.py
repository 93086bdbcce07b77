"""Downloads over a line that fails in every way."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from famcli.data.public import download
from famcli.data.public.catalog import Archive
from famcli.data.public.download import fetch, part_of
from famcli_models.errors import DataError
from famcli_models.locks import only_writer

B = 1 << 15  # of a broken connection whole blocks are kept
CONTENT = bytes(range(256)) * 2000  # half a megabyte
SHA256, MD5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


def row(url: str | None, **facts: Any) -> Archive:
    fields = {"size": len(CONTENT), "hash": f"sha256:{SHA256}", **facts}
    return Archive("data.bin", "numbers", url, "https://example.org/page", **fields)


class Run:
    """Downloads to a folder, and what was said and stepped on the way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.slept: list[float] = []
        self.steps = 0

    def __call__(self, archive: Archive) -> tuple[str, bool]:
        def step(n: int) -> None:
            self.steps += n

        return fetch(archive, self.folder, step, self.said.append)

    @property
    def content(self) -> bytes:
        return (self.folder / "data.bin").read_bytes()

    @property
    def files(self) -> list[str]:
        return sorted(p.name for p in self.folder.iterdir() if not p.name.startswith("."))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A downloader to a new folder that does not really wait between tries."""
    run = Run(tmp_path / "downloads")
    monkeypatch.setattr(download, "time", SimpleNamespace(sleep=run.slept.append))
    monkeypatch.setattr(download, "TIMEOUT", 5.0)
    return run


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({}, f"sha256 {SHA256}"),
        ({"hash": f"md5:{MD5}"}, f"md5 {MD5}"),
        ({"hash": None, "size": None}, f"sha256 {SHA256}"),
    ],
    ids=["sha256", "md5", "not pinned"],
)
def test_a_whole_file(server: Any, run: Run, facts: dict[str, Any], found: str) -> None:
    """A good line gives the file, its hash and nothing else, each byte counted once; then nothing more is asked for."""
    archive = row(server.add("data.bin", CONTENT), **facts)
    assert run(archive) == (found, True)
    assert (run.content, run.files, run.steps) == (CONTENT, ["data.bin"], len(CONTENT))
    assert run.said == run.slept == []
    assert server.requests[0]["Accept-Encoding"] == "identity"
    assert run(archive) == (found, False)
    assert len(server.requests) == 1


@pytest.mark.parametrize("length", [True, False], ids=["length", "no length"])
def test_cut_in_the_middle(server: Any, run: Run, length: bool) -> None:
    """A connection that breaks is continued from the byte where it broke, for as long as each try brings some."""
    cuts = [("cut", 3 * B), ("cut", 2 * B), ("cut", B)]
    run(row(server.add("data.bin", CONTENT, faults=cuts, length=length)))
    assert run.content == CONTENT
    assert server.ranges() == [None, f"bytes={3 * B}-", f"bytes={5 * B}-", f"bytes={6 * B}-"]
    assert run.slept == [1, 2, 4]
    assert run.steps == len(CONTENT)
    assert "going on from 98,304 bytes" in run.said[0]


def test_progress_counts_the_tries_anew(server: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries that bring enough do not add up to giving up."""
    monkeypatch.setattr(download, "TRIES", 2)
    monkeypatch.setattr(download, "ENOUGH", 10_000)
    run(row(server.add("data.bin", CONTENT, faults=[("cut", B)] * 10)))
    assert run.content == CONTENT
    assert run.slept == [1] * 10


@pytest.mark.parametrize(
    ("tries", "ended", "words"),
    [(1, DataError, "65,536 bytes that came are kept; the same command continues"), (6, KeyboardInterrupt, None)],
)
def test_another_process_goes_on(
    server: Any, run: Run, monkeypatch: pytest.MonkeyPatch, tries: int, ended: type[BaseException], words: str | None
) -> None:
    """What a process left that gave up, or was interrupted, is continued by the next one."""

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    archive = row(server.add("data.bin", CONTENT, faults=[("cut", 2 * B)]))
    with monkeypatch.context() as patch:
        patch.setattr(download, "TRIES", tries)
        patch.setattr(download, "time", SimpleNamespace(sleep=interrupt))
        with pytest.raises(ended, match=words):
            run(archive)
    assert run.files == ["data.bin.part"]
    run(archive)
    assert server.ranges() == [None, f"bytes={2 * B}-"]
    assert run.files == ["data.bin"]


def test_no_ranges(server: Any, run: Run) -> None:
    """A server that cannot continue a file starts it again, and the part is thrown away first."""
    run(row(server.add("data.bin", CONTENT, ranges=False, faults=[("cut", 2 * B)])))
    assert run.content == CONTENT
    assert "starts from the beginning" in run.said[-1]
    assert run.steps == len(CONTENT)


@pytest.mark.parametrize("new", [CONTENT[::-1], CONTENT[:1000]], ids=["changed", "shorter"])
def test_changed_between_two_tries(server: Any, run: Run, new: bytes) -> None:
    """A file that changed at the server is not stitched to a part of the old one: the hash tells, and it comes anew."""
    part_of(run.folder / "data.bin").parent.mkdir()
    part_of(run.folder / "data.bin").write_bytes(CONTENT[: 2 * B])
    facts = {"size": len(new), "hash": f"sha256:{hashlib.sha256(new).hexdigest()}"}
    run(row(server.add("data.bin", new), **facts))
    assert run.content == new
    assert "not the publisher's file" in run.said[0]
    assert server.ranges() == [f"bytes={2 * B}-", None]


def test_a_part_without_a_hash(server: Any, run: Run) -> None:
    """A part that nothing can vouch for is not continued."""
    run(row(server.add("data.bin", CONTENT, faults=[("cut", 2 * B)]), hash=None))
    assert server.ranges() == [None, None]
    assert run.steps == len(CONTENT)


def test_a_part_that_is_complete(server: Any, run: Run) -> None:
    """A part with all bytes, whose process died before renaming it, is used as it is."""
    run.folder.mkdir()
    part_of(run.folder / "data.bin").write_bytes(CONTENT)
    run(row(server.add("data.bin", CONTENT)))
    assert run.files == ["data.bin"]


@pytest.mark.parametrize(
    "served", [CONTENT[:-1] + b"!", CONTENT[:1000], CONTENT + b"more"], ids=["hash", "short", "long"]
)
def test_wrong_file_once(server: Any, run: Run, served: bytes) -> None:
    """A wrong file is kept aside and downloaded once more from the beginning."""
    url = server.add("data.bin", served)

    def say(text: str) -> None:
        run.said.append(text)
        server.add("data.bin", CONTENT)

    fetch(row(url), run.folder, say=say)
    assert run.content == CONTENT
    assert run.files == ["data.bin", "data.bin.bad"]
    assert (run.folder / "data.bin.bad").read_bytes()[:1000] == CONTENT[:1000]
    assert "not the publisher's file" in run.said[0]
    assert server.ranges() == [None, None]


def test_wrong_file_twice(server: Any, run: Run) -> None:
    """A file that is wrong twice ends it: both hashes, the kept file and the page are named."""
    run.folder.mkdir()
    (run.folder / "data.bin.bad").write_bytes(b"an earlier one")
    wrong = b"?" * len(CONTENT)
    with pytest.raises(DataError, match="twice") as caught:
        run(row(server.add("data.bin", wrong)))
    for text in (SHA256, hashlib.sha256(wrong).hexdigest(), "data.bin.bad", "https://example.org/page"):
        assert text in str(caught.value)
    assert run.files == ["data.bin.bad"]
    assert (run.folder / "data.bin.bad").read_bytes() == wrong


def test_a_wrong_file_in_place(server: Any, run: Run) -> None:
    """A file of the right name with other content, or one touched since it was verified, is kept aside and replaced."""
    run.folder.mkdir()
    archive = row(server.add("data.bin", CONTENT))
    for content in (b"something else", b"!" * len(CONTENT)):
        (run.folder / "data.bin").write_bytes(content)
        os.utime(run.folder / "data.bin", ns=(1, 1))
        assert run(archive)[1]
        assert (run.folder / "data.bin.bad").read_bytes() == content
        assert run.content == CONTENT


@pytest.mark.parametrize(
    ("code", "words"), [(404, "no such file"), (403, "refuses"), (401, "login"), (410, "removed"), (451, "refuses")]
)
def test_final_answers(server: Any, run: Run, code: int, words: str) -> None:
    """An answer that another try would not change ends it at once, with the page to go to."""
    url = server.add("data.bin", CONTENT, faults=[("status", code)])
    with pytest.raises(DataError, match=words) as caught:
        run(row(url))
    assert "https://example.org/page" in str(caught.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", [500, 502, 503, 429])
def test_passing_answers(server: Any, run: Run, code: int) -> None:
    """A server that is ill for a while is asked again, later each time, or when it says, up to the longest wait."""
    after = [("status", code, {"Retry-After": seconds}) for seconds in ("7", "9999")]
    run(row(server.add("data.bin", CONTENT, faults=[("status", code), *after])))
    assert run.slept == [1, 7, 60]
    assert f"the server answers {code}" in run.said[0]


def test_ill_forever(server: Any, run: Run) -> None:
    """A server that stays ill, or is not there, is given up after a bounded number of tries."""
    with pytest.raises(DataError, match="answers 500, 6 times in a row"):
        run(row(server.add("data.bin", CONTENT, faults=[("status", 500)] * 99)))
    assert len(server.requests) == 6
    assert run.slept == [1, 2, 4, 8, 16]
    with pytest.raises(DataError, match="no connection to the server, 6 times in a row"):
        run(row("http://127.0.0.1:9/data.bin"))


@pytest.mark.parametrize(
    ("fault", "second"),
    [(("slow", 0.5), None), (("drop",), None), (("stall", B, 0.6), f"bytes={B}-")],
    ids=["no answer", "hang up", "silence"],
)
def test_no_answer(
    server: Any, run: Run, monkeypatch: pytest.MonkeyPatch, fault: tuple[Any, ...], second: str | None
) -> None:
    """A server that does not answer in time, hangs up or falls silent is asked again, for what is missing."""
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    run(row(server.add("data.bin", CONTENT, faults=[fault])))
    assert len(run.slept) == 1
    assert run.content == CONTENT
    assert server.ranges() == [None, second]


def test_disk_full(server: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up ends it without a traceback, and what came is kept."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    url = server.add("data.bin", CONTENT)
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DataError, match="the disk is full; what came so far is kept"):
        run(row(url))


def test_two_at_once(server: Any, run: Run) -> None:
    """A second download of the same file is refused while the first runs, whatever became of an earlier one."""
    archive = row(server.add("data.bin", CONTENT))
    with only_writer(run.folder / "data.bin"), pytest.raises(DataError, match="is writing .*choose another --to"):
        run(archive)
    run(archive)


def test_folders(server: Any, run: Run, tmp_path: Path) -> None:
    """A file in a subfolder, as wsolevaluation's lists are, gets its folder; a file in its place is an error."""
    archive = Archive("a/b/list.txt", "names", server.add("list.txt", b"x"), "https://example.org/page")
    run(archive)
    assert (run.folder / "a" / "b" / "list.txt").read_bytes() == b"x"
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        fetch(archive, tmp_path / "file")
