"""A Hugging Face Hub on loopback: the part of its HTTP API that huggingface_hub speaks to read and write models.

Written from the requests that huggingface_hub 2.4.0 makes. Large files are kept elsewhere, as on the real Hub: a
second server on another port plays the storage, is reached by a redirect, and must never see a token. Xet is not
spoken: it is a protocol of its own between a compiled client and another service, and clients without it use LFS.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LARGE = re.compile(r".*\.safetensors")


def git_hash(data: bytes) -> str:
    """Name of a file's content in git."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass
class Fault:
    """What goes wrong.

    Attributes:
        where: Regular expression on ``METHOD /path``.
        kind: ``status``; ``cut`` the connection after ``after`` bytes of the body; ``reset`` it likewise; ``wrong``
            bytes; ``stall`` after ``after`` bytes until ``Hub.go_on`` is set; ``slow``, ``after`` bytes at a time.
        status: Of the answer, for ``status``.
        times: How often.
        headers: Of the answer, for ``status``.
    """

    where: str
    kind: str = "status"
    status: int = 503
    times: float = 1
    after: int = 100
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Repo:
    """A repository: files by commit, commits by name."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, changes: dict[str, bytes], ref: str = "main", base: str = "main") -> str:
        """Add a commit."""
        files = {**self.commits.get(self.refs.get(ref, self.refs.get(base, "")), {}), **changes}
        content = "".join(f"{path} {git_hash(data)}\n" for path, data in sorted(files.items()))
        sha = hashlib.sha1(f"{len(self.commits)}\n{content}".encode(), usedforsecurity=False).hexdigest()
        self.commits[sha] = files
        self.refs[ref] = sha
        return sha

    def find(self, revision: str) -> str | None:
        """Commit of a branch, tag or commit."""
        return self.refs.get(revision, revision if revision in self.commits else None)


@dataclass
class Request:
    """What was asked."""

    method: str
    path: str
    headers: dict[str, str]
    storage: bool

    def __str__(self) -> str:
        """For messages and patterns."""
        return f"{self.method} {self.path}"


class Hub:
    """The two servers and what they know.

    Attributes:
        repos: By ``ORG/NAME``.
        faults: What goes wrong, first match first.
        requests: Everything that was asked.
        writers: Tokens that may write, and read what is private.
        chunk: Ask for large files in parts of this many bytes.
    """

    def __init__(self, pages: type[Pages], storage: type[Pages]) -> None:
        self.repos: dict[str, Repo] = {}
        self.stored: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.writers: set[str] = set()
        self.chunk: int | None = None
        self.go_on = threading.Event()
        self.stalled = threading.Event()
        self.lock = threading.RLock()
        self.servers = [ThreadingHTTPServer(("127.0.0.1", 0), of(self, kind)) for kind in (pages, storage)]
        for server in self.servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url, self.storage_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in self.servers)

    def close(self) -> None:
        """Stop."""
        self.go_on.set()
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def reset(self) -> None:
        """Forget everything."""
        self.go_on.set()
        with self.lock:
            for kept in (self.repos, self.stored, self.parts, self.faults, self.requests, self.writers):
                kept.clear()
            self.chunk = None
        self.go_on.clear()
        self.stalled.clear()

    def add(self, name: str, files: dict[str, bytes], **facts: Any) -> str:
        """Make or change a repository; returns the commit."""
        with self.lock:
            repo = self.repos.setdefault(name, Repo(**facts))
            return repo.commit(files)

    def asked(self, pattern: str) -> list[Request]:
        """Requests that match."""
        with self.lock:
            return [request for request in self.requests if re.search(pattern, str(request))]

    def fault(self, request: Request) -> Fault | None:
        """What goes wrong with a request, if anything."""
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.where, str(request)):
                    fault.times -= 1
                    return fault
        return None


def of(hub: Hub, kind: type[Pages]) -> type[Pages]:
    """A request handler of one hub."""
    return type(kind.__name__, (kind,), {"hub": hub})


class Pages(BaseHTTPRequestHandler):
    """What both servers share: bodies, faults, ranges."""

    hub: Hub
    storage = False
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        self.body = self._read_body()
        self.url = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(self.url.query))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, self.storage)
        with self.hub.lock:
            self.hub.requests.append(request)
        self.trouble = self.hub.fault(request)
        if self.trouble and self.trouble.kind == "status":
            # A careless server: it repeats what it was told.
            echo = {"X-Error-Message": f"refused {headers.get('authorization', '')}", **self.trouble.headers}
            self.answer(self.trouble.status, echo.get("X-Error-Message", "").encode(), echo)
        else:
            self.route(urllib.parse.unquote(self.url.path))

    do_GET = do_HEAD = do_POST = do_PUT = _serve  # noqa: N815  (http.server's names)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def route(self, path: str) -> None:
        """Answer."""
        raise NotImplementedError

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Send a response, with what the fault says."""
        if status == 200 and (match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            begin = int(match[1])
            headers = {**(headers or {}), "Content-Range": f"bytes {begin}-{len(body) - 1}/{len(body)}"}
            status, body = 206, body[begin:]
        fault = self.trouble
        if fault and fault.kind == "wrong":
            body = bytes(byte ^ 1 for byte in body)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault and fault.kind in {"cut", "reset", "stall"}:
            self.wfile.write(body[: fault.after])
            self.wfile.flush()
            if fault.kind == "stall":
                self.hub.stalled.set()
                self.hub.go_on.wait(60)
            if fault.kind == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        if fault and fault.kind == "slow":
            for start in range(0, len(body), fault.after):
                self.wfile.write(body[start : start + fault.after])
                time.sleep(0.02)
            return
        self.wfile.write(body)

    def json(self, value: Any, status: int = 200) -> None:
        """Send JSON."""
        self.answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str, message: str = "") -> None:
        """Send an error as the Hub does."""
        self.answer(status, json.dumps({"error": message or code}).encode(), {"X-Error-Code": code})
