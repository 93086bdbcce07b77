"""A Hugging Face Hub on loopback: the part of its HTTP API that huggingface_hub speaks, for models and Spaces.

Written from the requests that huggingface_hub 2.4.0 makes. Large files are kept elsewhere, as on the real Hub: a
second server on another port plays the storage, is reached by a redirect, and must never see a token. Xet is not
spoken: it is a protocol of its own between a compiled client and another service, and clients without it use LFS.
"""

from __future__ import annotations

import base64
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
from typing import Any, NamedTuple

LARGE = re.compile(r".*\.safetensors")


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def lfs_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Fault:
    """What goes wrong with a request that matches ``where``, a regular expression on ``METHOD /path``."""

    where: str
    kind: str = "status"  # cut or reset the connection, stall it until Hub.go_on is set, slow, or wrong bytes
    status: int = 503
    times: float = 1
    after: int = 100  # bytes, for cut, reset and stall; of slow, at a time
    headers: dict[str, str] = field(default_factory=dict)  # for status
    body: bytes = b""  # likewise; without it the server repeats what it was sent, as a careless one does


@dataclass
class Repo:
    """A repository: files by commit, commits by name."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, changes: dict[str, bytes | None], ref: str = "main", base: str = "main") -> str:
        changed = {**self.commits.get(self.refs.get(ref, self.refs.get(base, "")), {}), **changes}
        files = {path: data for path, data in changed.items() if data is not None}
        content = "".join(f"{path} {git_hash(data)}\n" for path, data in sorted(files.items()))
        sha = hashlib.sha1(f"{len(self.commits)}\n{content}".encode(), usedforsecurity=False).hexdigest()
        self.commits[sha] = files
        self.refs[ref] = sha
        return sha

    def files(self, ref: str = "main") -> dict[str, bytes]:
        return self.commits[self.refs[ref]]


class Request(NamedTuple):
    """What was asked."""

    method: str
    path: str
    headers: dict[str, str]
    storage: bool

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Hub:
    """The two servers and what they know."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}  # by ORG/NAME, or spaces/ORG/NAME
        self.stored: dict[str, bytes] = {}  # large files
        self.faults: list[Fault] = []  # the first that matches counts
        self.requests: list[Request] = []
        self.writers: set[str] = set()  # tokens that may write, and read what is private
        self.go_on = threading.Event()
        self.stalled = threading.Event()
        self.lock = threading.RLock()
        kinds = [type(kind.__name__, (kind,), {"hub": self}) for kind in (HubPages, Storage)]
        self.servers = [ThreadingHTTPServer(("127.0.0.1", 0), kind) for kind in kinds]
        for server in self.servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url, self.storage_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in self.servers)

    def close(self) -> None:
        self.go_on.set()
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def reset(self) -> None:
        self.go_on.set()
        with self.lock:
            for kept in (self.repos, self.stored, self.faults, self.requests, self.writers):
                kept.clear()
        self.go_on.clear()
        self.stalled.clear()

    def add(self, name: str, files: dict[str, bytes], **facts: Any) -> str:
        """Make or change a repository; returns the commit."""
        with self.lock:
            return self.repos.setdefault(name, Repo(**facts)).commit(files)

    def fail(self, where: str, kind: str = "status", **facts: Any) -> None:
        self.faults.append(Fault(where, kind, **facts))

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


class Pages(BaseHTTPRequestHandler):
    """What both servers share: bodies, faults, ranges."""

    hub: Hub
    storage = False
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        self.body = self._read_body()
        url = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(url.query))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, self.storage)
        with self.hub.lock:
            self.hub.requests.append(request)
        self.trouble = self.hub.fault(request)
        if self.trouble and self.trouble.kind == "status":
            echo = f"refused {headers.get('authorization', '')}"
            said = {} if self.trouble.body else {"X-Error-Message": echo}
            self.answer(self.trouble.status, self.trouble.body or echo.encode(), said | self.trouble.headers)
        else:
            self.route(urllib.parse.unquote(url.path))

    do_GET = do_HEAD = do_POST = do_PUT = _serve  # noqa: N815  (http.server's names)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def route(self, path: str) -> None:
        raise NotImplementedError

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Send a response, with what the fault says."""
        if status == 200 and (match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            begin = int(match[1])
            headers = {**(headers or {}), "Content-Range": f"bytes {begin}-{len(body) - 1}/{len(body)}"}
            status, body = 206, body[begin:]
        fault = self.trouble or Fault("", "none")
        if fault.kind == "wrong":
            body = bytes(byte ^ 1 for byte in body)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault.kind == "slow":
            for start in range(0, len(body), fault.after):
                self.wfile.write(body[start : start + fault.after])
                time.sleep(0.02)
        elif fault.kind in {"cut", "reset", "stall"}:
            self.wfile.write(body[: fault.after])
            self.wfile.flush()
            if fault.kind == "stall":
                self.hub.stalled.set()
                self.hub.go_on.wait(60)
            if fault.kind == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
        else:
            self.wfile.write(body)

    def json(self, value: Any, status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str, message: str = "") -> None:
        """Send an error as the Hub does."""
        self.answer(status, json.dumps({"error": message or code}).encode(), {"X-Error-Code": code})


class Storage(Pages):
    """Where large files are: no token may come here."""

    storage = True

    def route(self, path: str) -> None:
        """Give or take a large file."""
        oid = path.removeprefix("/large/")
        if self.command == "PUT":
            self.hub.stored[oid] = self.body
            self.answer(200)
        elif oid in self.hub.stored:
            self.answer(200, self.hub.stored[oid], {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"})
        else:
            self.answer(404)


class HubPages(Pages):
    """The Hub's own pages. A method that returns nothing where it should has answered with a refusal."""

    def route(self, path: str) -> None:
        self.token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.writer = self.token in self.hub.writers
        for pattern, page in PAGES.items():
            if match := re.fullmatch(pattern, f"{self.command} {path}"):
                page(self, **match.groupdict())
                return
        self.answer(404)

    def may_write(self) -> bool:
        if not self.writer:
            self.refuse(403 if self.token else 401, "", "no permission")
        return self.writer

    def repo(self, name: str) -> Repo | None:
        """A repository that the token may see."""
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self.writer):
            self.refuse(404 if self.token else 401, "RepoNotFound")
            return None
        return repo

    def writable(self, name: str) -> Repo | None:
        repo = self.repo(name)
        return repo if repo is not None and self.may_write() else None

    def files(self, name: str, revision: str | None) -> tuple[Repo, str, dict[str, bytes]] | None:
        """A repository's files at a branch, tag or commit."""
        if (repo := self.repo(name)) is None:
            return None
        sha = repo.refs.get(revision or "main", revision)
        if sha not in repo.commits:
            self.refuse(404, "RevisionNotFound")
            return None
        return repo, sha, repo.commits[sha]

    def info(self, name: str, revision: str | None = None) -> None:
        """``model_info``."""
        if (found := self.files(name, revision)) is None:
            return
        repo, sha, files = found
        siblings = [{"rfilename": path} for path in files]
        if "blobs" in self.query:
            siblings = [{"rfilename": path, **facts} for path, facts in self.blobs(files, "blobId", "sha256").items()]
        self.json({"id": name, "modelId": name, "sha": sha, "private": repo.private, "siblings": siblings, "tags": []})

    def tree(self, name: str, revision: str) -> None:
        """``list_repo_tree``."""
        if (found := self.files(name, revision)) is not None:
            blobs = self.blobs(found[2], "oid", "oid")
            self.json([{"type": "file", "path": path, **facts} for path, facts in blobs.items()])

    def blobs(self, files: dict[str, bytes], small: str, large: str) -> dict[str, dict[str, Any]]:
        """Sizes and hashes, by what the two pages call them."""
        return {
            path: {"size": len(data), small: git_hash(data)}
            | ({"lfs": {"size": len(data), large: lfs_hash(data), "pointerSize": 134}} if LARGE.fullmatch(path) else {})
            for path, data in files.items()
        }

    def resolve(self, name: str, revision: str, path: str) -> None:
        """A file: small ones here, large ones by a redirect to the storage."""
        if (found := self.files(name, revision)) is None:
            return
        repo, sha, files = found
        if repo.gated and not self.writer:
            self.refuse(403 if self.token else 401, "GatedRepo")
        elif path not in files:
            self.refuse(404, "EntryNotFound")
        else:
            data, headers = files[path], {"X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
            if not LARGE.fullmatch(path):
                self.answer(200, data, {**headers, "ETag": f'"{git_hash(data)}"'})
                return
            oid = lfs_hash(data)
            self.hub.stored[oid] = data
            headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(data))}
            self.answer(302, headers={**headers, "Location": f"{self.hub.storage_url}/large/{oid}?signature=x"})

    def create(self) -> None:
        """``create_repo``."""
        if not self.may_write():
            return
        wanted = json.loads(self.body)
        name = f"{'spaces/' if wanted.get('sdk') else ''}{wanted['organization']}/{wanted['name']}"
        if name in self.hub.repos:
            self.json({"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"}, 409)
            return
        files = {".gitattributes": b"*.safetensors filter=lfs\n"}
        self.hub.add(name, files, private=wanted.get("visibility") == "private")
        self.json({"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def branch(self, name: str, branch: str) -> None:
        """``create_branch``."""
        if (repo := self.writable(name)) is None:
            return
        if branch in repo.refs:
            self.json({"error": "exists"}, 409)
            return
        repo.refs[branch] = repo.refs["main"]
        self.json({})

    def validate(self) -> None:
        """A card's header."""
        header = json.loads(self.body)["content"].split("---\n")[1]
        good = "license:" in header and ("library_name:" in header or "sdk:" in header)
        self.json({"errors": [] if good else [{"message": "no license"}], "warnings": []}, 200 if good else 400)

    def preupload(self, name: str, revision: str) -> None:
        """Which files are large."""
        if self.writable(name) is not None:
            paths = [file["path"] for file in json.loads(self.body)["files"]]
            modes = {path: "lfs" if LARGE.fullmatch(path) else "regular" for path in paths}
            self.json({"files": [{"path": p, "uploadMode": mode, "shouldIgnore": False} for p, mode in modes.items()]})

    def batch(self, name: str) -> None:
        """Git LFS: where large files go."""
        if self.writable(name) is None:
            return
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            upload = {"href": f"{self.hub.storage_url}/large/{wanted['oid']}", "header": {}}
            verify = {"href": f"{self.hub.url}/{name}/verify", "header": {}}
            known = wanted["oid"] in self.hub.stored
            objects.append({**wanted, **({} if known else {"actions": {"upload": upload, "verify": verify}})})
        self.json({"transfer": "basic", "objects": objects})

    def verify(self, name: str) -> None:
        """A large file has arrived as it was sent."""
        wanted = json.loads(self.body)
        data = self.hub.stored.get(wanted["oid"], b"")
        self.json({}, 200 if lfs_hash(data) == wanted["oid"] and len(data) == wanted["size"] else 400)

    def commit(self, name: str, revision: str) -> None:
        """``create_commit``."""
        if (repo := self.writable(name)) is None:
            return
        changes: dict[str, bytes | None] = {}
        for entry in map(json.loads, self.body.splitlines()):
            value = entry["value"]
            if entry["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                changes[value["path"]] = self.hub.stored[value["oid"]]
            elif entry["key"] == "deletedFile":
                changes[value["path"]] = None
        with self.hub.lock:
            request = sum(ref.startswith("refs/pr/") for ref in repo.refs) + 1
            pr = "create_pr" in self.query
            if not pr and revision not in repo.refs:
                self.refuse(404, "RevisionNotFound")
                return
            sha = repo.commit(changes, f"refs/pr/{request}" if pr else revision, revision)
        answer = {"success": True, "commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha}
        self.json({**answer, **({"pullRequestUrl": f"{self.hub.url}/{name}/discussions/{request}"} if pr else {})})


_REPO = r"(?P<name>(?:spaces/)?[\w.-]+/[\w.-]+)"
_API = f"/api/(?:models/)?{_REPO}"
PAGES = {
    r"POST /api/repos/create": HubPages.create,
    r"POST /api/validate-yaml": HubPages.validate,
    rf"GET {_API}": HubPages.info,
    rf"GET {_API}/revision/(?P<revision>.+)": HubPages.info,
    rf"GET {_API}/tree/(?P<revision>.+)": HubPages.tree,
    rf"POST {_API}/branch/(?P<branch>.+)": HubPages.branch,
    rf"POST {_API}/preupload/(?P<revision>.+)": HubPages.preupload,
    rf"POST {_API}/commit/(?P<revision>.+)": HubPages.commit,
    rf"POST /{_REPO}\.git/info/lfs/objects/batch": HubPages.batch,
    rf"POST /{_REPO}/verify": HubPages.verify,
    rf"(GET|HEAD) /{_REPO}/resolve/(?P<revision>refs/[\w]+/[\w]+|[^/]+)/(?P<path>.+)": HubPages.resolve,
}
