"""The journal that makes a run resumable."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from famcli.inference.journal import Journal, TransientJournal
from famcli.inference.ranks import Rank
from famcli_models.errors import DataError

HEADER = {"tau": None, "scales": (1.0, 1.5), "model": "abc"}
NAMES = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The results that the journal is for."""
    return tmp_path / "new" / "o.json"


def record(name: str) -> dict[str, Any]:
    return {"file_name": name, "width": 1, "height": 1, "classes": [], "boxes": []}


def kept(out: Path, count: int, names: list[str] = NAMES) -> Journal:
    """A journal of the first ``count`` images."""
    journal = Journal(out, HEADER, Rank())
    with journal.open(names, resume=False):
        assert list(journal.keep(map(record, names[:count]))) == [record(name) for name in names[:count]]
    return journal


def resumed(out: Path, names: list[str] = NAMES, **changes: Any) -> Journal:
    journal = Journal(out, {**HEADER, **changes}, Rank())
    with journal.open(names, resume=True):
        return journal


def test_records_come_back(out: Path) -> None:
    """What was kept is read back in order, any number of times; without resume a new run begins anew."""
    journal = kept(out, 3)
    assert journal.path == out.with_name("o.json.partial")
    assert [r["file_name"] for r in journal.records()] == NAMES[:3]
    assert list(journal.records()) == list(journal.records())
    assert list(kept(out, 1).records()) == [record("a.jpg")]


def test_each_record_reaches_the_disk_at_once(out: Path) -> None:
    """A killed run loses nothing that was finished."""
    journal = Journal(out, HEADER, Rank())
    with journal.open(NAMES, resume=False):
        next(journal.keep(map(record, NAMES)))
        assert len(journal.path.read_text().splitlines()) == 2


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_resume_goes_on(out: Path, count: int) -> None:
    """A resumed journal counts what is done and appends behind it: the file equals one never interrupted."""
    kept(out, count)
    again = Journal(out, HEADER, Rank())
    with again.open(NAMES, resume=True):
        assert again.done == count
        list(again.keep(map(record, NAMES[count:])))
    assert again.path.read_bytes() == kept(out.with_name("whole"), 4).path.read_bytes()


def test_a_cut_line_is_dropped(out: Path) -> None:
    """Wherever the last line was cut short, it is dropped and done again."""
    path = kept(out, 3).path
    data = path.read_bytes()
    start = data[:-1].rindex(b"\n") + 1
    for cut in range(start, len(data)):
        path.write_bytes(data[:cut])
        assert resumed(out).done == 2
        assert path.read_bytes() == data[:start]


def test_another_run_is_refused(out: Path) -> None:
    """Other options are named, other images are not mixed in; new images at the end are fine."""
    kept(out, 2)
    with pytest.raises(DataError, match=r"other options \(tau\)"):
        resumed(out, tau=0.3)
    for names in (["a.jpg", "aa.jpg", "b.jpg"], ["b.jpg"], ["a.jpg"]):
        with pytest.raises(DataError, match="images have changed"):
            resumed(out, names)
    resumed(out, [*NAMES, "e.jpg"])


def test_nothing_to_resume(out: Path) -> None:
    """Without a journal, or with one that was cut short before the first record, a run begins."""
    assert resumed(out).done == 0
    for content in (b"", json.dumps(HEADER).encode()):
        path = kept(out, 0).path
        path.write_bytes(content)
        assert (resumed(out).done, path.read_bytes()) == (0, b"")


@pytest.mark.parametrize("limit", [10, 1 << 20], ids=["in a file", "in memory"])
def test_a_journal_beside_which_nothing_lies(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that are only kept for a while are read in order, any number of times and in turn."""
    monkeypatch.setattr("famcli.inference.journal.IN_MEMORY", limit)
    with closing(TransientJournal()) as journal:
        assert list(journal.keep(map(record, NAMES))) == [record(name) for name in NAMES]
        assert list(zip(journal.records(), journal.records(), strict=True)) == [(record(n), record(n)) for n in NAMES]


@pytest.mark.parametrize("content", [b"\n", b"not json\n", b"[1]\n", b"\xff\xfe\n", b'"x"\n{}\n'])
def test_a_file_that_is_no_journal_is_refused(out: Path, content: bytes) -> None:
    """A file that something else wrote is refused with a sentence, and left as it is."""
    path = kept(out, 0).path
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"no file of an interrupted run.*start again without --resume"):
        resumed(out)
    assert path.read_bytes() == content


def test_a_journal_of_the_version_before_is_refused(out: Path) -> None:
    """A file of a version that wrote no number into it is refused in one sentence."""
    kept(out, 0).path.write_text(json.dumps(HEADER) + "\n" + json.dumps(record("a.jpg")) + "\n")
    with pytest.raises(DataError, match="was written by another version of fam; start again without --resume$"):
        resumed(out)


@pytest.mark.parametrize("line", [b"{}\n", b"[]\n", b"{\n"])
def test_a_damaged_record_is_refused(out: Path, line: bytes) -> None:
    """A whole line that is no record is refused with a sentence."""
    with kept(out, 1).path.open("ab") as file:
        file.write(line)
    with pytest.raises(DataError, match="start again without --resume"):
        resumed(out)


@pytest.mark.parametrize("name", ['a\u2028b\n"c"\té漢.jpg', b"caf\xe9.jpg".decode("utf-8", "surrogateescape")])
def test_names_with_odd_characters(out: Path, name: str) -> None:
    """Line separators, quotes and other scripts in names survive, and bytes that are no UTF-8 do not end the run."""
    assert len(list(kept(out, 1, [name]).records())) == 1
    assert resumed(out, [name]).done == 1
