"""The page without a browser: what its handlers give, and the server behind it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from famcli.demo import PHOTOS, photo_folder
from famcli.web.batch import Batch, Choices
from famcli_models.checkpoint import DEFAULT_MODEL
from famcli_models.errors import ConfigError

gr = pytest.importorskip("gradio", reason="gradio is not installed: pip install --group tests")
page = pytest.importorskip("famcli.web.page")
_free_port = pytest.importorskip("famcli.web.server")._free_port
FAM, CAM = f"{DEFAULT_MODEL} · FAM", f"{DEFAULT_MODEL} · CAM"
# Serves the page, opens a photograph's worth of it, and prints each address that anything tried to reach.
SERVED = """
import sys, urllib.request
asked = set()
def hook(event, arguments):
    if event == "socket.connect" and arguments[1]:
        asked.add(str(arguments[1][0]))
    if event == "socket.getaddrinfo":
        asked.add(str(arguments[0]))
sys.addaudithook(hook)
from famcli.web.server import serving
from famcli.web.page import Handlers
from famcli.web.batch import Choices
with serving(["MODEL"]) as url:
    urllib.request.urlopen(url).read()
    urllib.request.urlopen(url + "config").read()
batch, *_ = Handlers(Choices(["MODEL"])).add_examples(None, "MODEL · FAM", progress=lambda *_, **__: None)
print("PREDICTED", len(batch.found["MODEL · FAM"]))
print("ASKED", sorted(asked - {"127.0.0.1", "localhost", "None"}))
print("LOADED", [name for name in ("torch", "torchvision", "timm") if name in sys.modules])
"""


@pytest.fixture(scope="module")
def handlers() -> Any:
    return page.Handlers(Choices([DEFAULT_MODEL]))


@pytest.fixture
def progress() -> Callable[..., None]:
    return lambda *_, **__: None


@pytest.fixture
def batch(handlers: Any, tmp_path: Path, progress: Callable[..., None]) -> Iterator[Batch]:
    """A cat under a name with markup, and a text file."""
    (tmp_path / "text.jpg").write_text("no photograph")
    cat = photo_folder() / "chelsea.png"
    given = [(cat, "<b>cat</b>.png"), (tmp_path / "text.jpg", "text.jpg")]
    batch, place, files = handlers.add(given, None, FAM, page.NONE, progress=progress)
    assert (batch.names, place, files) == (["<b>cat</b>.png", "text.jpg"], 0, None)
    yield batch
    batch.remove()


def test_a_photograph_is_shown(handlers: Any, batch: Batch) -> None:
    """Picture, what it shows in words, the parts, and names without their markup."""
    picture, facts, parts = handlers.show(batch, 0, FAM, 0.5, 1)
    assert picture.alt_text.startswith("<b>cat</b>.png: Egyptian cat, box ")
    assert "&lt;b&gt;cat" in facts
    assert "<b>cat" not in facts
    assert "Egyptian cat" in facts
    assert "each with its weight" in facts
    assert parts.visible
    cat = batch.names[0]
    batch.found[FAM][cat] = replace(batch.found[FAM][cat], M=np.zeros((4, 4), np.float32))
    assert "Nothing is above" in handlers.show(batch, 0, FAM, 0.5, 1)[1]


def test_more_boxes_and_another_threshold(handlers: Any, batch: Batch) -> None:
    """One row a box; the gallery and its button follow."""
    M = np.zeros((8, 8), np.float32)
    M[:2, :2], M[5:, 5:] = 1, 0.7
    batch.found[FAM][batch.names[0]] = replace(batch.found[FAM][batch.names[0]], M=M)
    given = ((0.5, 1), (0.5, 10), (0.8, 10))
    assert [handlers.show(batch, 0, FAM, *one)[1].count("<tr><td>") for one in given] == [1, 2, 1]
    gallery, said, button = handlers.overview(batch, FAM, 0.5, 1)
    assert said.value.startswith("<div role='alert'><p>1 of 2")
    assert "text.jpg: not a JPEG" in said.value
    assert button.interactive
    assert gallery.visible


def test_what_cannot_be_read_and_what_was_not_run(handlers: Any, batch: Batch) -> None:
    """A failure has its reason in place of the picture; what the network has not reached yet changes nothing."""
    picture, said, parts = handlers.show(batch, 1, FAM, 0.5, 1)
    assert picture is None
    assert said.startswith("<p>text.jpg: not a JPEG")
    assert not parts.visible
    assert handlers.show(batch, 0, CAM, 0.2, 1) == (gr.skip(), gr.skip(), gr.skip())
    assert handlers.show(None, 0, FAM, 0.5, 1)[:2] == (None, "")
    assert handlers.show(batch, 0, page.NONE, 0.5, 1)[:2] == (None, "")


def test_another_model_brings_its_threshold(handlers: Any, batch: Batch, progress: Callable[..., None]) -> None:
    """It runs on the photographs that are there; without one its side is hidden."""
    tau, column = handlers.choose(batch, CAM, progress=progress)
    assert (tau, column.visible) == (0.2, True)
    assert set(batch.found[CAM]) == set(batch.names)
    assert not handlers.choose(batch, page.NONE, progress=progress)[1].visible
    assert handlers.choose(None, FAM, progress=progress)[0] == 0.5
    with pytest.raises(gr.Error, match="unknown model"):
        handlers.choose(batch, "another", progress=progress)


def test_limits(handlers: Any, batch: Batch, monkeypatch: pytest.MonkeyPatch, progress: Callable[..., None]) -> None:
    """More photographs than the page takes are refused as a whole, with the command that takes them."""
    monkeypatch.setattr(page, "MOST_PHOTOGRAPHS", 3)
    cat = photo_folder() / "chelsea.png"
    with pytest.raises(gr.Error, match=r"4, and the page takes 3; 'fam predict'"):
        handlers.add([(cat, "a.png"), (cat, "b.png")], batch, FAM, progress=progress)
    assert len(batch.names) == 2
    assert len(handlers.add([(cat, "a.png")], batch, FAM, progress=progress)[0].names) == 3


def test_folders_and_examples(
    handlers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, progress: Callable[..., None]
) -> None:
    """Of a folder other files are left out, and counted; examples come once; starting again deletes them."""
    said: list[str] = []
    monkeypatch.setattr(page.gr, "Info", said.append)
    cat = photo_folder() / "chelsea.png"
    files = [(cat, "x/2.png"), (cat, "x/1.png"), (tmp_path / "a.txt", "x/a.txt"), (cat, "x/.hidden.png")]
    batch, *_ = handlers.add_folder(files, None, FAM, progress=progress)
    assert batch.names == ["x/1.png", "x/2.png"]
    assert said == ["2 files that are no photographs by their names were left out"]
    for _ in range(2):
        batch, *_ = handlers.add_examples(batch, FAM, progress=progress)
    assert sorted(batch.names) == sorted(["x/1.png", "x/2.png", *(photo.file for photo in PHOTOS)])
    assert handlers.clear(batch) == (None, 0, None)
    assert not batch.folder.exists()
    assert not any(shown.visible for shown in handlers.overview(None, FAM, 0.5, 1)[:2])


def test_downloads(handlers: Any, batch: Batch, tmp_path: Path, progress: Callable[..., None]) -> None:
    """A file of the kind that is chosen; where there is nothing to write the reason is shown."""
    assert handlers.write(batch, FAM, 0.5, 1, "coco").endswith("boxes.json")
    text = handlers.add([(tmp_path / "text.jpg", "text.jpg")], None, FAM, progress=progress)[0]
    with pytest.raises(gr.Error, match="nothing to download"):
        handlers.write(text, FAM, 0.5, 1, "coco")
    text.remove()


def test_on_loopback_it_answers_by_this_machines_names_alone(served: str) -> None:
    """So no page of another site reaches it by a name that leads here; the browser gets a policy too."""
    with urllib.request.urlopen(served) as answer:
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "no-referrer"
    foreign = urllib.request.Request(served, headers={"Host": "another.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(foreign)


def test_a_port_that_is_taken_and_an_address_of_another_machine(served: str) -> None:
    """It is refused where it was asked for, and passed over where it was not."""
    port = int(served.rstrip("/").rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"cannot serve the page at 127.0.0.1, port {port}: Address already in use;"):
        _free_port("127.0.0.1", port)
    assert _free_port("127.0.0.1", None) != port
    with pytest.raises(ConfigError, match=r"at 192\.0\.2\.1, port 7860: Cannot assign"):
        _free_port("192.0.2.1", None)


def test_no_other_server_is_asked_and_no_torch_is_loaded() -> None:
    """Neither by Gradio nor by us, from the start to a prediction."""
    code = SERVED.replace("MODEL", DEFAULT_MODEL)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == ["PREDICTED 6", "ASKED []", "LOADED []"]


def test_a_page_of_another_site_sends_nothing_here_and_no_address_is_downloaded(served: str) -> None:
    """Though a browser sends uploads without asking, and Gradio would fetch what it is asked for."""
    for path, headers, code in (
        ("gradio_api/upload", {"Sec-Fetch-Site": "cross-site"}, "403"),
        ("gradio_api/upload", {"Sec-Fetch-Site": "same-origin"}, "400"),  # no files
        ("gradio_api/file=http://192.0.2.1/a.jpg", {}, "403"),
    ):
        data = None if "file=" in path else b"x"
        with pytest.raises(urllib.error.HTTPError, match=code):
            urllib.request.urlopen(urllib.request.Request(served + path, data, headers))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_it_starts_whatever_the_environment_says_and_leaves_nothing_after_sigterm(tmp_path: Path, host: str) -> None:
    """Behind a proxy that is dead, with settings of Gradio; a container is stopped by SIGTERM."""
    proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy"), "http://127.0.0.1:9")
    environment = {**os.environ, **proxies, "TMPDIR": str(tmp_path), "GRADIO_DEBUG": "1", "GRADIO_ROOT_PATH": "/x"}
    line = [sys.executable, "-m", "famcli", "app", "--no-browser", "--model", DEFAULT_MODEL, "--host", host]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url + "config") as answer:
                assert json.load(answer)["run_history"] is False
        finally:
            process.terminate()
            process.communicate(timeout=30)
    assert process.returncode == 130
    assert not any(tmp_path.iterdir())


def test_nothing_new_changes_nothing(handlers: Any, batch: Batch, progress: Callable[..., None]) -> None:
    """Such as a folder without photographs."""
    assert handlers.add([], batch, FAM, progress=progress) == (batch, gr.skip(), None)
