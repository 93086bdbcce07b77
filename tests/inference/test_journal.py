"""Records, and the spool that makes a run resumable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from famcli.inference.journal import Spool
from famcli.outputs.prediction import ClassScore, Failure, Prediction, to_record
from famcli_models.errors import DataError
from famcli_models.localization import Region

HEADER = {"tau": None, "scales": (1.0, 1.5), "model": "abc"}
NAMES = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def record(name: str) -> dict[str, Any]:
    return {"file_name": name, "width": 1, "height": 1, "classes": [], "boxes": []}


def spooled(path: Path, count: int) -> Spool:
    """A spool with the first ``count`` images, closed."""
    with Spool(path, HEADER) as spool:
        for name in NAMES[:count]:
            spool.append(record(name))
    return spool


def test_record_of_a_prediction() -> None:
    """A record has the size, the classes and for each box one score a class: mean M times probability."""
    region = Region((1.0, 2.0, 4.0, 6.0), 10, 0.8)
    classes = (ClassScore(3, "cup", 0.5), ClassScore(1, "dog", 0.25))
    prediction = Prediction("a.jpg", (10, 20), classes, (region,), np.zeros((1, 1)))
    assert to_record(prediction) == {
        "file_name": "a.jpg",
        "width": 20,
        "height": 10,
        "classes": [{"index": 3, "name": "cup", "probability": 0.5}, {"index": 1, "name": "dog", "probability": 0.25}],
        "boxes": [{"xyxy": [1.0, 2.0, 4.0, 6.0], "area": 10, "foreground": 0.8, "scores": [0.4, 0.2]}],
    }


def test_record_of_a_known_class() -> None:
    """With the class given, its probability is not in the score."""
    region = Region((0.0, 0.0, 1.0, 1.0), 1, 0.8)
    prediction = Prediction("a", (1, 1), (ClassScore(0, "cup", 0.1),), (region,), np.zeros((1, 1)), known=True)
    assert to_record(prediction)["boxes"][0]["scores"] == [0.8]


def test_record_of_a_failure() -> None:
    """A failure is its name and reason."""
    assert to_record(Failure("a.jpg", "the file is empty")) == {"file_name": "a.jpg", "error": "the file is empty"}


def test_records_come_back(tmp_path: Path) -> None:
    """What was appended is read back in order, any number of times."""
    spool = spooled(tmp_path / "s", 3)
    assert [r["file_name"] for r in spool.records()] == NAMES[:3]
    assert list(spool.records()) == list(spool.records())


def test_each_record_reaches_the_disk_at_once(tmp_path: Path) -> None:
    """A killed run loses nothing that was finished."""
    with Spool(tmp_path / "s", HEADER) as spool:
        spool.append(record("a.jpg"))
        assert len((tmp_path / "s").read_text().splitlines()) == 2


def test_a_new_run_begins_anew(tmp_path: Path) -> None:
    """Without resume an old spool is overwritten."""
    spooled(tmp_path / "s", 3)
    assert list(spooled(tmp_path / "s", 1).records()) == [record("a.jpg")]


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_resume_goes_on(tmp_path: Path, count: int) -> None:
    """A resumed spool counts what is done and appends behind it: the file equals one never interrupted."""
    spooled(tmp_path / "s", count)
    again = Spool(tmp_path / "s", HEADER)
    again.resume(NAMES)
    assert again.done == count
    with again:
        for name in NAMES[count:]:
            again.append(record(name))
    spooled(tmp_path / "whole", 4)
    assert (tmp_path / "s").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_cut_line_is_dropped(tmp_path: Path) -> None:
    """Wherever the last line was cut short, it is dropped and done again."""
    spooled(tmp_path / "s", 3)
    data = (tmp_path / "s").read_bytes()
    start = data[:-1].rindex(b"\n") + 1
    for cut in range(start, len(data)):
        (tmp_path / "s").write_bytes(data[:cut])
        again = Spool(tmp_path / "s", HEADER)
        again.resume(NAMES)
        assert again.done == 2
        assert (tmp_path / "s").read_bytes() == data[:start]


def test_other_options_are_refused(tmp_path: Path) -> None:
    """A run with other options is not mixed in; the options that differ are named."""
    spooled(tmp_path / "s", 2)
    with pytest.raises(DataError, match=r"other options \(tau\)"):
        Spool(tmp_path / "s", {**HEADER, "tau": 0.3}).resume(NAMES)


def test_other_images_are_refused(tmp_path: Path) -> None:
    """A list of images that no longer begins with those done is refused; new ones at the end are fine."""
    spooled(tmp_path / "s", 2)
    for names in (["a.jpg", "aa.jpg", "b.jpg"], ["b.jpg"], ["a.jpg"]):
        with pytest.raises(DataError, match="images have changed"):
            Spool(tmp_path / "s", HEADER).resume(names)
    Spool(tmp_path / "s", HEADER).resume([*NAMES, "e.jpg"])


def test_nothing_to_resume(tmp_path: Path) -> None:
    """Without a spool there is nothing to go on with."""
    with pytest.raises(DataError, match="nothing to resume"):
        Spool(tmp_path / "s", HEADER).resume(NAMES)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"not json\n", b"[1]\n", b"\xff\xfe\n", json.dumps(HEADER).encode(), b'"x"\n{}\n']
)
def test_a_file_that_is_no_spool_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file that something else wrote is refused with a sentence, and left as it is."""
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(DataError, match="start again without --resume"):
        Spool(tmp_path / "s", HEADER).resume(NAMES)
    assert (tmp_path / "s").read_bytes() == content


@pytest.mark.parametrize("line", [b"{}\n", b"[]\n", b"{\n"])
def test_a_damaged_record_is_refused(tmp_path: Path, line: bytes) -> None:
    """A whole line that is no record is refused with a sentence."""
    spooled(tmp_path / "s", 1)
    with (tmp_path / "s").open("ab") as file:
        file.write(line)
    with pytest.raises(DataError, match="start again without --resume"):
        Spool(tmp_path / "s", HEADER).resume(NAMES)


def test_names_with_odd_characters(tmp_path: Path) -> None:
    """Line separators, quotes and other scripts in names survive."""
    odd = 'a\u2028b\n"c"\té漢.jpg'
    with Spool(tmp_path / "s", HEADER) as spool:
        spool.append(record(odd))
    again = Spool(tmp_path / "s", HEADER)
    again.resume([odd])
    assert [r["file_name"] for r in again.records()] == [odd]


def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    """A file name that is not UTF-8, which Linux allows, does not end the run."""
    odd = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    with Spool(tmp_path / "s", HEADER) as spool:
        spool.append(record(odd))
    assert len(list(spool.records())) == 1


def test_appending_needs_an_open_spool(tmp_path: Path) -> None:
    """A closed spool is a programming error, not a lost record."""
    with pytest.raises(RuntimeError, match="not open"):
        Spool(tmp_path / "s", HEADER).append(record("a"))


def test_remove(tmp_path: Path) -> None:
    """The file goes, once or twice."""
    spool = spooled(tmp_path / "s", 1)
    spool.remove()
    spool.remove()
    assert not (tmp_path / "s").exists()
