"""A server of files with every fault that a line or a publisher can have, and datasets in their official layout."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@dataclass
class Served:
    """One file and how it is served; ``faults`` are used up, one a request."""

    content: bytes
    ranges: bool = True
    length: bool = True
    faults: list[tuple[Any, ...]] = field(default_factory=list)


@dataclass
class Server:
    """A running server: files to serve, and the headers of the requests so far."""

    url: str
    files: dict[str, Served]
    requests: list[dict[str, str]]

    def add(self, name: str, content: bytes, **how: Any) -> str:
        """Serve a file; gives its address."""
        self.files[f"/{name}"] = Served(content, **how)
        return f"{self.url}/{name}"

    def ranges(self) -> list[str | None]:
        """What part each request asked for."""
        return [headers.get("Range") for headers in self.requests]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.requests.append(dict(self.headers))
        self.close_connection = True
        served = self.server.files.get(self.path)
        if served is None:
            self._status(404, {})
            return
        kind, *more = served.faults.pop(0) if served.faults else ("none",)
        if kind == "status":
            self._status(more[0], *more[1:] or [{}])
        elif kind != "drop":
            time.sleep(more[0] if kind == "slow" else 0)
            self._send(served, kind, more)

    def _send(self, served: Served, kind: str, more: list[Any]) -> None:
        asked, total = self.headers.get("Range"), len(served.content)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and served.ranges else 0
        if start and start >= total:
            self._status(416, {"Content-Range": f"bytes */{total}"})
            return
        body = served.content[start:]
        headers = {"Content-Length": str(len(body))} if served.length else {}
        headers |= {"Content-Range": f"bytes {start}-{total - 1}/{total}"} if start else {}
        self._answer(206 if start else 200, headers)
        self.wfile.write(body[: more[0]] if kind in {"cut", "stall"} else body)
        self.wfile.flush()
        time.sleep(more[1] if kind == "stall" else 0)

    def _status(self, code: int, headers: dict[str, str]) -> None:
        self._answer(code, {**headers, "Content-Length": "0"})

    def _answer(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is what some tests are about."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A file server on loopback, of this test alone."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    http: Any = _Quiet(("127.0.0.1", 0), _Handler)
    http.files, http.requests = {}, []
    thread = threading.Thread(target=lambda: http.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    yield Server(f"http://127.0.0.1:{http.server_port}", http.files, http.requests)
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that changes facts of one archive of a dataset; ``content`` gives its size and hash."""
    from famcli.data.public.catalog import CATALOG

    def change(name: str, archive: str, content: bytes | None = None, **facts: Any) -> None:
        if content is not None:
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            facts = {"size": len(content), "hash": digest, "unpacked": 1, **facts}
        rows = [replace(row, **facts) if row.name == archive else row for row in CATALOG[name].archives]
        monkeypatch.setitem(CATALOG, name, replace(CATALOG[name], archives=tuple(rows)))

    return change


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data home."""
    monkeypatch.setenv("FAM_DATA", str(tmp_path / "home"))
    return tmp_path / "home"


def _jpeg(path: Path, height: int = 30, width: int = 40, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, "JPEG")
    return path


@pytest.fixture
def jpeg() -> Callable[..., Path]:
    """A function that writes a small JPEG of a height and a width."""
    return _jpeg


BIRDS = (  # image, class, in the training split, x y w h, size (h, w)
    ("001.Black_footed_Albatross/A_0001.jpg", 1, 1, "3.0 4.0 20.0 10.0", (30, 40)),
    ("001.Black_footed_Albatross/A_0002.jpg", 1, 0, "0.0 0.0 40.0 30.0", (30, 40)),
    ("002.Laysan_Albatross/L_0001.jpg", 2, 1, "1.0 1.0 5.0 5.0", (20, 25)),
    ("002.Laysan_Albatross/L_0002.jpg", 2, 0, "6.0 7.0 8.0 9.0", (20, 25)),
)


@pytest.fixture
def cub_tree(tmp_path: Path) -> Path:
    """A folder with four birds under ``CUB_200_2011``, in the layout of the official archive."""
    top = tmp_path / "publisher" / "CUB_200_2011"
    for seed, (name, _, _, _, size) in enumerate(BIRDS):
        _jpeg(top / "images" / name, *size, seed=seed)
    rows = list(enumerate(BIRDS, 1))
    (top / "images.txt").write_text("".join(f"{i} {b[0]}\n" for i, b in rows))
    (top / "image_class_labels.txt").write_text("".join(f"{i} {b[1]}\n" for i, b in rows))
    (top / "train_test_split.txt").write_text("".join(f"{i} {b[2]}\n" for i, b in rows))
    (top / "bounding_boxes.txt").write_text("".join(f"{i} {b[3]}\n" for i, b in rows))
    (top / "classes.txt").write_text("1 001.Black_footed_Albatross\n2 002.Laysan_Albatross\n")
    (top / "parts").mkdir()
    (top / "parts" / "parts.txt").write_text("1 back\n")
    return top.parent


WNIDS = ("n01440764", "n01443537", "n01484850")
WORDS = ("tench, Tinca tinca", "goldfish, Carassius auratus", "great white shark, white shark")
VAL = (  # label, inclusive boxes, size (h, w)
    (2, [(1, 2, 20, 18)], (30, 40)),
    (0, [(0, 0, 10, 10), (12, 3, 39, 29)], (30, 40)),
    (1, [(5, 5, 24, 19)], (20, 25)),
)


def _xml(label: int, boxes: list[tuple[int, int, int, int]]) -> str:
    """An annotation in the official form."""
    objects = "".join(
        f"<object><name>{WNIDS[label]}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax>"
        f"<ymax>{y1}</ymax></bndbox></object>"
        for x0, y0, x1, y1 in boxes
    )
    return f"<annotation><folder>val</folder>{objects}</annotation>"


@pytest.fixture
def ilsvrc_tree(tmp_path: Path) -> Path:
    """An extracted ILSVRC of three classes: ``train/WNID``, flat ``val``, the development kit and the XML files."""
    from scipy.io import savemat

    top = tmp_path / "ilsvrc-files"
    for label, wnid in enumerate(WNIDS):
        for i in range(2):
            _jpeg(top / "train" / wnid / f"{wnid}_{i + 1}.JPEG", seed=10 * label + i)
    (top / "bbox" / "val").mkdir(parents=True)
    for i, (label, boxes, size) in enumerate(VAL, 1):
        stem = f"ILSVRC2012_val_{i:08d}"
        _jpeg(top / "val" / f"{stem}.JPEG", *size, seed=100 + i)
        (top / "bbox" / "val" / f"{stem}.xml").write_text(_xml(label, boxes))
    data = top / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    # ILSVRC2012_ID runs against the order of the WordNet ids here, and the last row is a group of classes.
    rows = [(3 - i, WNIDS[i], WORDS[i], 0) for i in (2, 1, 0)] + [(4, "n00001740", "entity", 3)]
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    savemat(data / "meta.mat", {"synsets": np.array(rows, dtype=kind).reshape(-1, 1)})
    truth = "".join(f"{3 - label}\n" for label, _, _ in VAL)
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)
    return top
