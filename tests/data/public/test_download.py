"""Downloads over a line that fails in every way."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from famcli.data.public.catalog import Archive
from famcli.data.public.download import Fetched, Patience, Watcher, fetch, part_of
from famcli_models.errors import DataError

B = 1 << 15  # of a broken connection whole blocks are kept
CONTENT = bytes(range(256)) * 2000  # half a megabyte
SHA256, MD5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


def row(url: str | None, **facts: Any) -> Archive:
    fields = {"size": len(CONTENT), "sha256": SHA256, **facts}
    return Archive("data.bin", "numbers", url, "https://example.org/page", **fields)


class Run:
    """Downloads without waiting, and what was said and stepped on the way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.slept: list[float] = []
        self.steps = 0

    def __call__(self, archive: Archive, **patience: Any) -> Fetched:
        def step(n: int) -> None:
            self.steps += n

        fields = {"sleep": self.slept.append, "timeout": 5.0, **patience}
        return fetch(archive, self.folder, Watcher(step, self.said.append), Patience(**fields))

    @property
    def files(self) -> list[str]:
        return sorted(p.name for p in self.folder.iterdir() if not p.name.startswith("."))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A downloader to a new folder."""
    return Run(tmp_path / "downloads")


def test_a_whole_file(server: Any, run: Run) -> None:
    """A good line gives the file, its hash, every byte counted once, and nothing else in the folder."""
    fetched = run(row(server.add("data.bin", CONTENT)))
    assert fetched.path.read_bytes() == CONTENT
    assert (fetched.seen, fetched.fresh) == (f"sha256 {SHA256}", True)
    assert run.files == ["data.bin"]
    assert run.steps == len(CONTENT)
    assert run.said == run.slept == []
    assert server.requests[0]["Accept-Encoding"] == "identity"


def test_a_second_download_asks_nothing(server: Any, run: Run) -> None:
    """A verified file is not asked for again, nor hashed again."""
    archive = row(server.add("data.bin", CONTENT))
    first = run(archive)
    again = run(archive)
    assert (again.fresh, again.seen) == (False, first.seen)
    assert len(server.requests) == 1


def test_md5_alone(server: Any, run: Run) -> None:
    """A row with an MD5 alone is checked by it."""
    url = server.add("data.bin", CONTENT)
    assert run(row(url, sha256=None, md5=MD5)).seen == f"md5 {MD5}"


def test_not_pinned(server: Any, run: Run) -> None:
    """A row without hash and size is taken, and its hash is told."""
    assert run(row(server.add("data.bin", CONTENT), sha256=None, size=None)).seen == f"sha256 {SHA256}"


@pytest.mark.parametrize("length", [True, False], ids=["length", "no length"])
def test_cut_in_the_middle(server: Any, run: Run, length: bool) -> None:
    """A connection that breaks is continued from the byte where it broke, for as long as each try brings some."""
    cuts = [("cut", 3 * B), ("cut", 2 * B), ("cut", B)]
    run(row(server.add("data.bin", CONTENT, faults=cuts, length=length)))
    assert (run.folder / "data.bin").read_bytes() == CONTENT
    assert server.ranges() == [None, f"bytes={3 * B}-", f"bytes={5 * B}-", f"bytes={6 * B}-"]
    assert {headers.get("If-Range") for headers in server.requests[1:]} == {'"1"'}
    assert run.slept == [1, 2, 4]
    assert run.steps == len(CONTENT)
    assert "going on from 98,304 bytes" in run.said[0]


def test_progress_counts_the_tries_anew(server: Any, run: Run) -> None:
    """Tries that bring enough do not add up to giving up."""
    cuts = [("cut", B)] * 10
    run(row(server.add("data.bin", CONTENT, faults=cuts)), tries=2, enough=10_000)
    assert (run.folder / "data.bin").read_bytes() == CONTENT
    assert run.slept == [1] * 10


def test_another_process_goes_on(server: Any, run: Run) -> None:
    """What a dead process left is continued by the next one."""
    archive = row(server.add("data.bin", CONTENT, faults=[("cut", 2 * B)]))
    with pytest.raises(DataError, match="65,536 bytes that came are kept; the same command continues"):
        run(archive, tries=1)
    assert run.files == ["data.bin.part", "data.bin.part.json"]
    run(archive)
    assert server.ranges() == [None, f"bytes={2 * B}-"]
    assert run.files == ["data.bin"]


def test_interrupted(server: Any, run: Run) -> None:
    """Ctrl-C leaves a part that the next call continues."""

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    archive = row(server.add("data.bin", CONTENT, faults=[("cut", B)]))
    with pytest.raises(KeyboardInterrupt):
        run(archive, sleep=interrupt)
    assert part_of(run.folder / "data.bin").stat().st_size == B
    run(archive)
    assert server.ranges() == [None, f"bytes={B}-"]


def test_no_ranges(server: Any, run: Run) -> None:
    """A server that cannot continue a file starts it again, and the part is thrown away first."""
    run(row(server.add("data.bin", CONTENT, ranges=False, faults=[("cut", 2 * B)])))
    assert (run.folder / "data.bin").read_bytes() == CONTENT
    assert "starts from the beginning" in run.said[-1]
    assert run.steps == len(CONTENT)


def test_changed_between_two_tries(server: Any, run: Run) -> None:
    """A file that changed at the server is never stitched to the part of the old one."""
    new = CONTENT[::-1]
    url = server.add("data.bin", CONTENT, faults=[("cut", 2 * B)])
    archive = row(url, sha256=None)
    with pytest.raises(DataError):
        run(archive, tries=1)
    server.add("data.bin", new, etag='"2"')
    assert run(archive).path.read_bytes() == new


def test_changed_and_shorter(server: Any, run: Run) -> None:
    """A file that became shorter than the part is downloaded from the beginning."""
    url = server.add("data.bin", CONTENT, faults=[("cut", 2 * B)], etag=None)
    with pytest.raises(DataError):
        run(row(url), tries=1)
    short = CONTENT[:1000]
    server.add("data.bin", short)
    assert run(row(url, size=1000, sha256=hashlib.sha256(short).hexdigest())).path.read_bytes() == short


def test_no_version_and_no_hash(server: Any, run: Run) -> None:
    """A part that nothing can vouch for is not continued."""
    url = server.add("data.bin", CONTENT, faults=[("cut", 2 * B)], etag='W/"weak"')
    run(row(url, sha256=None))
    assert server.ranges() == [None, None]


def test_last_modified(server: Any, run: Run) -> None:
    """Without a strong ETag the date of the file vouches for the part."""
    date = "Mon, 01 Jan 2024 00:00:00 GMT"
    url = server.add("data.bin", CONTENT, faults=[("cut", 2 * B)], etag=None, modified=date)
    run(row(url, sha256=None))
    assert server.requests[1]["If-Range"] == date


def test_a_part_that_is_complete(server: Any, run: Run) -> None:
    """A part with all bytes, whose process died before renaming it, is used as it is."""
    run.folder.mkdir()
    part_of(run.folder / "data.bin").write_bytes(CONTENT)
    run(row(server.add("data.bin", CONTENT)))
    assert run.files == ["data.bin"]


def test_another_range_than_asked(server: Any, run: Run) -> None:
    """A server that sends other bytes than were asked for is not believed."""
    run(row(server.add("data.bin", CONTENT, faults=[("cut", 2 * B), ("wrong range",)])))
    assert (run.folder / "data.bin").read_bytes() == CONTENT
    assert "another part of the file" in run.said[1]


@pytest.mark.parametrize(
    "served", [CONTENT[:-1] + b"!", CONTENT[:1000], CONTENT + b"more"], ids=["hash", "short", "long"]
)
def test_wrong_file_once(server: Any, run: Run, served: bytes) -> None:
    """A wrong file is kept aside and downloaded once more from the beginning."""
    url = server.add("data.bin", served)

    def say(text: str) -> None:
        run.said.append(text)
        server.add("data.bin", CONTENT)

    fetched = fetch(row(url), run.folder, Watcher(say=say))
    assert fetched.path.read_bytes() == CONTENT
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
    """A file of the right name with other content is kept aside and replaced."""
    run.folder.mkdir()
    (run.folder / "data.bin").write_bytes(b"something else")
    assert run(row(server.add("data.bin", CONTENT))).fresh
    assert (run.folder / "data.bin.bad").read_bytes() == b"something else"


def test_changed_after_it_was_verified(server: Any, run: Run) -> None:
    """A verified file that was touched since is hashed again."""
    archive = row(server.add("data.bin", CONTENT))
    path = run(archive).path
    path.write_bytes(b"!" * len(CONTENT))
    os.utime(path, ns=(1, 1))
    assert run(archive).fresh
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("code", "words"), [(404, "no such file"), (403, "refuses"), (401, "login"), (410, "removed"), (451, "refuses")]
)
def test_final_answers(server: Any, run: Run, code: int, words: str) -> None:
    """An answer that another try would not change ends it at once, with the page to look at."""
    url = server.add("data.bin", CONTENT, faults=[("status", code)])
    with pytest.raises(DataError, match=words) as caught:
        run(row(url))
    assert "https://example.org/page" in str(caught.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", [500, 502, 503, 429])
def test_passing_answers(server: Any, run: Run, code: int) -> None:
    """A server that is ill for a while is asked again, later each time."""
    run(row(server.add("data.bin", CONTENT, faults=[("status", code)] * 3)))
    assert run.slept == [1, 2, 4]
    assert f"the server answers {code}" in run.said[0]


def test_retry_after(server: Any, run: Run) -> None:
    """A server that says when to come back is heard, up to the longest wait."""
    faults = [("status", 503, {"Retry-After": "7"}), ("status", 503, {"Retry-After": "9999"})]
    run(row(server.add("data.bin", CONTENT, faults=faults)))
    assert run.slept == [7, 60]


def test_ill_forever(server: Any, run: Run) -> None:
    """A server that stays ill is given up after a bounded number of tries."""
    url = server.add("data.bin", CONTENT, faults=[("status", 500)] * 99)
    with pytest.raises(DataError, match="answers 500, 6 times in a row"):
        run(row(url))
    assert len(server.requests) == 6
    assert run.slept == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("fault", [("slow", 0.5), ("drop",)], ids=["no answer", "hang up"])
def test_no_answer(server: Any, run: Run, fault: tuple[Any, ...]) -> None:
    """A server that does not answer in time, or hangs up, is asked again."""
    run(row(server.add("data.bin", CONTENT, faults=[fault])), timeout=0.2)
    assert len(run.slept) == 1
    assert (run.folder / "data.bin").read_bytes() == CONTENT


def test_a_line_that_falls_silent(server: Any, run: Run) -> None:
    """A connection that sends no more bytes is given up after the timeout, and continued by another one."""
    served = server.add("data.bin", CONTENT)
    server.files["/data.bin"].faults.append(("stall", B, 0.6))
    run(row(served), timeout=0.2)
    assert server.ranges() == [None, f"bytes={B}-"]


def test_nobody_there(run: Run) -> None:
    """An address where nobody listens is an error in words."""
    with pytest.raises(DataError, match="no connection to the server, 2 times in a row"):
        run(row("http://127.0.0.1:9/data.bin"), tries=2)


def test_disk_full(server: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up ends it without a traceback, and what came is kept."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("famcli.data.public.download._receive", full)
    with pytest.raises(DataError, match="the disk is full; what came so far is kept"):
        run(row(server.add("data.bin", CONTENT)))


def test_two_at_once(server: Any, run: Run) -> None:
    """A second download of the same file is refused while the first runs, whatever became of an earlier one."""
    archive = row(server.add("data.bin", CONTENT))
    run.folder.mkdir()
    with FileLock(run.folder / ".data.bin.lock"), pytest.raises(DataError, match="another process is downloading"):
        run(archive)
    run(archive)


def test_a_folder_that_cannot_be_written(server: Any, tmp_path: Path) -> None:
    """A download folder that is a file is an error in words."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write to"):
        fetch(row(server.add("data.bin", CONTENT)), tmp_path / "file")


def test_by_hand(tmp_path: Path) -> None:
    """A file without an address is named with its page."""
    with pytest.raises(DataError, match=r"get it at https://example.org/page and put it into"):
        fetch(row(None), tmp_path)


def test_a_file_in_a_folder(server: Any, run: Run) -> None:
    """A file in a subfolder, as wsolevaluation's lists are, gets its folder."""
    archive = Archive("a/b/list.txt", "names", server.add("list.txt", b"x"), "https://example.org/page")
    assert run(archive).path == run.folder / "a" / "b" / "list.txt"
