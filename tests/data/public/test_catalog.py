"""The commands of `fam data` as a whole, and the facts that they stand on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from famcli.cli.data.app import app
from famcli.data.public.catalog import CATALOG, find_facts, human
from famcli.data.public.download import check_space
from famcli_models.errors import DataError, UnknownNameError

COMMANDS = [command.name for command in app.registered_commands]


def test_commands() -> None:
    """The words that the documentation uses are there."""
    assert COMMANDS == ["list", "download", "prepare", "check", "info", "convert"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(fam: Callable[..., Result], command: str) -> None:
    """Help says what a command does, with an example, and is exit 0."""
    result = fam("data", command, "--help")
    assert result.exit_code == 0
    assert f"fam data {command}" in result.stdout
    assert "Example: fam data" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    "arguments", [(), ("download",), ("prepare",), ("download", "cub", "--to"), ("nonsense",)], ids=" ".join
)
def test_wrong_usage(fam: Callable[..., Result], arguments: tuple[str, ...]) -> None:
    """Wrong usage is exit code 2."""
    assert fam("data", *arguments).exit_code == 2


def test_unknown_dataset(fam: Callable[..., Result]) -> None:
    """A name close to a known one is an error that suggests it."""
    result = fam("data", "download", "cub200")
    assert result.exit_code == 1
    assert "unknown dataset 'cub200'" in result.stderr
    with pytest.raises(UnknownNameError, match="did you mean: cubv2, cub"):
        find_facts("cubv3")


@pytest.mark.parametrize("name", CATALOG)
def test_rows(name: str) -> None:
    """Every row is complete: its own name, hashes of the right length, pages, a sibling that exists."""
    facts = CATALOG[name]
    assert facts.name == name
    assert facts.terms.endswith(".")
    assert facts.fullsup is None or "train-fullsup" in CATALOG[facts.fullsup].counts
    assert any(archive.required for archive in facts.archives)
    for archive in facts.archives:
        assert archive.page.startswith("https://")
        assert archive.url is None or archive.url.startswith("https://")
        assert archive.hash is None or re.fullmatch("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", archive.hash)
        assert not archive.name.startswith(("/", "."))


def test_pinned() -> None:
    """Every archive of images has a published hash, but for CUBV2, of which nobody has published one."""
    loose = [a.name for facts in CATALOG.values() for a in facts.archives if not a.hash and "metadata" not in a.name]
    assert loose == ["CUBV2.tar"]


def test_room_is_counted_by_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes to one disk is added up; what needs nothing is passed over."""
    folder = tmp_path / "not" / "there"
    monkeypatch.setattr("famcli.data.public.download.free_bytes", lambda _: 10**9)
    check_space((folder, 0, "do nothing"), (folder, 8 * 10**8, "download"))
    with pytest.raises(DataError, match=r"has 1 GB free, but 1.67 GB are needed \(800 MB to download and 800 MB to"):
        check_space((folder, 8 * 10**8, "download"), (folder, 8 * 10**8, "extract it"))


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (999, "999 B"), (1_150_585_339, "1.15 GB"), (147_897_477_120, "148 GB"), (2e12, "2 TB")],
)
def test_sizes_for_people(size: float, words: str) -> None:
    """Sizes are printed with three digits."""
    assert human(size) == words


def test_download_needs_a_login(fam: Callable[..., Result], home: Path) -> None:
    """`fam data download ilsvrc` names every file, what it holds and the page, and is exit 1."""
    result = fam("data", "download", "ilsvrc")
    assert result.exit_code == 1
    for row in CATALOG["ilsvrc"].archives:
        assert (row.name in result.stderr) == row.required
    assert "after a login at https://image-net.org/" in result.stderr
    assert "fam data prepare ilsvrc --from DIR" in result.stderr
