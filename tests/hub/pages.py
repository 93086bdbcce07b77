"""The pages of the Hub on loopback, and its storage of large files; see loopback.py."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

from fam_tests_loopback import LARGE, Pages, Repo, git_hash


class Storage(Pages):
    """Where large files are: no token may come here."""

    storage = True

    def route(self, path: str) -> None:
        """Give or take a large file, or a part of one."""
        oid, _, part = path.removeprefix("/large/").partition("/")
        if self.command == "PUT" and part:
            self.hub.parts.setdefault(oid, {})[int(part)] = self.body
            self.answer(200, headers={"ETag": f'"{part}"'})
        elif self.command == "PUT":
            self.hub.stored[oid] = self.body
            self.answer(200)
        elif oid in self.hub.stored:
            self.answer(200, self.hub.stored[oid], {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"})
        else:
            self.answer(404)


class HubPages(Pages):
    """The Hub's own pages."""

    @property
    def token(self) -> str:
        """The token of the request."""
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def may_write(self) -> bool:
        """Whether the token is one of a writer; if not, the request is answered."""
        if self.token in self.hub.writers:
            return True
        self.refuse(403 if self.token else 401, "", "no permission")
        return False

    def route(self, path: str) -> None:
        """Find the page."""
        for pattern, page in PAGES.items():
            if match := re.fullmatch(pattern, f"{self.command} {path}"):
                page(self, **match.groupdict())
                return
        self.answer(404)

    def repo(self, name: str) -> Repo | None:
        """A repository that the token may see; if there is none, the request is answered."""
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and self.token not in self.hub.writers):
            self.refuse(404 if self.token else 401, "RepoNotFound")
            return None
        return repo

    def files(self, name: str, revision: str | None) -> tuple[Repo, str, dict[str, bytes]] | None:
        """A repository's files at a revision; if there are none, the request is answered."""
        if (repo := self.repo(name)) is None:
            return None
        sha = repo.find(revision or "main")
        if sha is None:
            self.refuse(404, "RevisionNotFound")
            return None
        return repo, sha, repo.commits[sha]

    def info(self, name: str, revision: str | None = None) -> None:
        """``model_info``."""
        if (found := self.files(name, revision)) is None:
            return
        repo, sha, files = found
        siblings = []
        for path, data in files.items():
            entry: dict[str, Any] = {"rfilename": path}
            if "blobs" in self.query:
                entry |= {"size": len(data), "blobId": git_hash(data)}
                if LARGE.fullmatch(path):
                    entry["lfs"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 134}
            siblings.append(entry)
        self.json({"id": name, "modelId": name, "sha": sha, "private": repo.private, "siblings": siblings, "tags": []})

    def tree(self, name: str, revision: str) -> None:
        """``list_repo_tree``."""
        if (found := self.files(name, revision)) is None:
            return
        entries = []
        for path, data in found[2].items():
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": git_hash(data)}
            if LARGE.fullmatch(path):
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            entries.append(entry)
        self.json(entries)

    def resolve(self, name: str, revision: str, path: str) -> None:
        """A file: small ones here, large ones by a redirect to the storage."""
        if (found := self.files(name, revision)) is None:
            return
        repo, sha, files = found
        if repo.gated and self.token not in self.hub.writers:
            self.refuse(403 if self.token else 401, "GatedRepo")
            return
        if path not in files:
            self.refuse(404, "EntryNotFound")
            return
        data, headers = files[path], {"X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if not LARGE.fullmatch(path):
            self.answer(200, data, {**headers, "ETag": f'"{git_hash(data)}"'})
            return
        oid = hashlib.sha256(data).hexdigest()
        self.hub.stored[oid] = data
        headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(data))}
        self.answer(302, headers={**headers, "Location": f"{self.hub.storage_url}/large/{oid}?signature=x"})

    def create(self) -> None:
        """``create_repo``."""
        if not self.may_write():
            return
        wanted = json.loads(self.body)
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.hub.repos:
            self.json({"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"}, 409)
            return
        self.hub.add(
            name, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=wanted.get("visibility") == "private"
        )
        self.json({"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def branch(self, name: str, branch: str) -> None:
        """``create_branch``."""
        if (repo := self.repo(name)) is None or not self.may_write():
            return
        if branch in repo.refs:
            self.json({"error": "exists"}, 409)
            return
        repo.refs[branch] = repo.refs["main"]
        self.json({})

    def validate(self) -> None:
        """A card's header."""
        header = json.loads(self.body)["content"].split("---\n")[1]
        good = "license:" in header and "library_name:" in header
        self.json({"errors": [] if good else [{"message": "no license"}], "warnings": []}, 200 if good else 400)

    def preupload(self, name: str, revision: str) -> None:
        """Which files are large."""
        if self.repo(name) is None or not self.may_write():
            return
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if LARGE.fullmatch(file["path"]) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(self.body)["files"]
        ]
        self.json({"files": modes})

    def batch(self, name: str) -> None:
        """Git LFS: where large files go."""
        if self.repo(name) is None or not self.may_write():
            return
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            place, header = f"{self.hub.storage_url}/large/{wanted['oid']}", {}
            upload = {"href": place, "header": header}
            if self.hub.chunk:
                count = -(-wanted["size"] // self.hub.chunk)
                header |= {"chunk_size": str(self.hub.chunk), **{str(i): f"{place}/{i}" for i in range(1, count + 1)}}
                upload["href"] = f"{self.hub.url}/complete"
            verify = {"href": f"{self.hub.url}/{name}/verify", "header": {}}
            known = wanted["oid"] in self.hub.stored
            objects.append({**wanted, **({} if known else {"actions": {"upload": upload, "verify": verify}})})
        self.json({"transfer": "basic", "objects": objects})

    def complete(self) -> None:
        """All parts of a large file are there."""
        wanted = json.loads(self.body)
        parts = self.hub.parts[wanted["oid"]]
        self.hub.stored[wanted["oid"]] = b"".join(parts[part["partNumber"]] for part in wanted["parts"])
        self.json({})

    def verify(self, name: str) -> None:
        """A large file has arrived as it was sent."""
        wanted = json.loads(self.body)
        data = self.hub.stored.get(wanted["oid"], b"")
        good = hashlib.sha256(data).hexdigest() == wanted["oid"] and len(data) == wanted["size"]
        self.json({}, 200 if good else 400)

    def commit(self, name: str, revision: str) -> None:
        """``create_commit``."""
        if (repo := self.repo(name)) is None or not self.may_write():
            return
        changes: dict[str, bytes] = {}
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                changes[value["path"]] = self.hub.stored[value["oid"]]
        with self.hub.lock:
            request = sum(ref.startswith("refs/pr/") for ref in repo.refs) + 1
            pr = "create_pr" in self.query
            if not pr and revision not in repo.refs:
                self.refuse(404, "RevisionNotFound")
                return
            sha = repo.commit(changes, f"refs/pr/{request}" if pr else revision, revision)
        answer = {"success": True, "commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha}
        self.json({**answer, **({"pullRequestUrl": f"{self.hub.url}/{name}/discussions/{request}"} if pr else {})})


_REPO = r"(?P<name>[\w.-]+/[\w.-]+)"
PAGES = {
    r"POST /api/repos/create": HubPages.create,
    r"POST /api/validate-yaml": HubPages.validate,
    rf"GET /api/models/{_REPO}": HubPages.info,
    rf"GET /api/models/{_REPO}/revision/(?P<revision>.+)": HubPages.info,
    rf"GET /api/models/{_REPO}/tree/(?P<revision>.+)": HubPages.tree,
    rf"POST /api/models/{_REPO}/branch/(?P<branch>.+)": HubPages.branch,
    rf"POST /api/models/{_REPO}/preupload/(?P<revision>.+)": HubPages.preupload,
    rf"POST /api/models/{_REPO}/commit/(?P<revision>.+)": HubPages.commit,
    rf"POST /{_REPO}\.git/info/lfs/objects/batch": HubPages.batch,
    rf"POST /{_REPO}/verify": HubPages.verify,
    r"POST /complete": HubPages.complete,
    rf"(GET|HEAD) /{_REPO}/resolve/(?P<revision>refs/[\w]+/[\w]+|[^/]+)/(?P<path>.+)": HubPages.resolve,
}
