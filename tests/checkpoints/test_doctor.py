"""Checks of the installation: every part is checked by itself, and a fix goes with what is wrong."""

from __future__ import annotations

import builtins
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from famcli.checkpoints import doctor
from famcli.checkpoints.doctor import Finding, examine
from famcli_models.checkpoint import DEFAULT_MODEL, packaged


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A Hub on this machine that keeps the headers it was sent and answers with a status that a test may choose."""
    seen = SimpleNamespace(status=200, requests=[], url="")

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            seen.requests.append({k.lower(): v for k, v in self.headers.items()})
            self.send_response(seen.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        seen.url = f"http://127.0.0.1:{listening.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", seen.url)
        yield seen
        listening.shutdown()


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An online setting without a token, whatever this machine has."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def by_name(findings: Iterator[Finding]) -> dict[str, Finding]:
    """Findings by what was checked."""
    return {finding.name: finding for finding in findings}


def test_everything_is_checked() -> None:
    """There is a finding for each part, nothing is broken here, and all that is not ok has a fix."""
    findings = list(examine(offline=True))
    assert [*dict.fromkeys(f.group for f in findings)] == [
        *("versions", "opencv", "devices", "engines", "folders", "hub", "model")
    ]
    assert {"python", "famcli", "torch", "torchvision", "numpy", "pillow"} <= {f.name for f in findings}
    assert [f for f in findings if f.state == "broken"] == []
    assert all(f.fix for f in findings if f.state != "ok")
    models = [f for f in findings if f.group == "model"]
    assert [model.name for model in models] == list(packaged())
    for model in models:
        assert model.value.startswith("good: config and weights, SHA-256, reference outputs, PyTorch on the CPU, ")
        assert model.value.endswith("reference outputs, ONNX Runtime on the CPU")


def test_a_broken_part_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part whose check fails is a finding with the reason, and the others are checked; no model is broken too."""

    def fail() -> Iterator[Finding]:
        msg = "no such thing"
        raise OSError(msg)

    monkeypatch.setattr(doctor, "devices", fail)
    monkeypatch.setattr("famcli_models.checkpoint.packaged", dict)
    findings = by_name(examine(offline=True))
    assert (findings["devices"].value, findings["devices"].state) == ("OSError: no such thing", "broken")
    assert (findings[DEFAULT_MODEL].state, findings[DEFAULT_MODEL].group) == ("broken", "model")
    assert "pip install --force-reinstall" in findings[DEFAULT_MODEL].fix


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is missing or too old is broken, with the command that installs it; extras are not asked for."""

    def version(name: str) -> str:
        if name == "timm":
            raise PackageNotFoundError(name)
        return {"famcli": "1.0", "torch": "2.1.0"}.get(name, "99.0")

    needs = ["torch>=2.4", "timm>=1.0.9", "numpy>=1.26", "onnx>=1; extra == 'export'"]
    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(doctor, "requires", lambda _: needs)
    findings = by_name(doctor.versions())
    assert (findings["torch"].state, findings["torch"].value) == ("broken", "2.1.0; famcli needs >=2.4")
    assert "pip install 'torch>=2.4'" in findings["torch"].fix
    assert findings["timm"].value == "not installed; famcli needs >=1.0.9"
    assert findings["numpy"].state == "ok"
    assert "onnx" not in findings


def test_two_builds_of_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two builds over each other are a note while the import works."""
    monkeypatch.setattr(doctor, "packages_distributions", lambda: {"cv2": ["opencv-python", "opencv-python-headless"]})
    findings = by_name(doctor.opencv())
    assert findings["packages"].state == "note"
    assert "opencv-python-headless and opencv-python are" in findings["packages"].value
    assert "pip uninstall -y" in findings["packages"].fix
    assert findings["import cv2"].state == "ok"


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        ("libGL.so.1: cannot open shared object file", "pip install opencv-python-headless"),
        ("cv2.abi3.so: file too short", "pip install --force-reinstall opencv-python-headless"),
    ],
)
def test_opencv_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, message: str, fix: str) -> None:
    """An OpenCV that needs a display or is damaged is broken, and the fix is the build that needs none, or it anew."""
    real = builtins.__import__

    def fake(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "cv2":
            raise ImportError(message)
        return real(name, *arguments, **options)

    monkeypatch.setattr(doctor, "packages_distributions", lambda: {"cv2": ["opencv-python-headless"]})
    monkeypatch.setattr(builtins, "__import__", fake)
    finding = by_name(doctor.opencv())["import cv2"]
    assert (finding.state, finding.value) == ("broken", message)
    assert finding.fix.endswith(fix)


@pytest.mark.parametrize(
    ("built_for", "driver", "state", "words"),
    [
        (None, None, "ok", "CPU alone"),
        ("12.4", None, "ok", "no GPU"),
        ("12.4", "/usr/bin/nvidia-smi", "note", "sees no GPU"),
    ],
)
def test_no_cuda(
    monkeypatch: pytest.MonkeyPatch, built_for: str | None, driver: str | None, state: str, words: str
) -> None:
    """Why there is no CUDA: the build, the machine, or a driver that does not fit, which alone can be put right."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.setattr(doctor.shutil, "which", lambda _: driver)
    finding = by_name(doctor.devices())["cuda"]
    assert (finding.state, bool(finding.fix)) == (state, state == "note")
    assert words in finding.value


def test_hub_answers(server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Hub that answers is reached, whatever it answers below 500, and no login of this machine is sent or shown."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_secret")
    monkeypatch.setattr(constants, "ENDPOINT", server.url.replace("//", "//me:hunter2@"))
    for status in (200, 307, 401, 404):
        server.status = status
        findings = by_name(doctor.hub(offline=False))
        assert findings[server.url].state == "ok", status
        assert findings["token"].value == "set"
    assert len(server.requests) == 4
    assert all("authorization" not in headers for headers in server.requests)
    assert "hf_secret" not in str(findings)
    assert "hunter2" not in str(findings)


def test_hub_in_trouble(server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hub that fails or does not answer is a note with what to do; offline it is not asked."""
    server.status = 503
    assert by_name(doctor.hub(offline=False))[server.url].value == "answers with HTTP 503"
    server.requests.clear()
    assert by_name(doctor.hub(offline=True))[server.url].value == "not asked: --offline"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    finding = by_name(doctor.hub(offline=False))[server.url]
    assert (finding.state, finding.value.split(";")[0]) == ("ok", "not asked: HF_HUB_OFFLINE is set")
    assert server.requests == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    closed = "http://127.0.0.1:9"  # the port of the discard service, which nobody runs
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    finding = by_name(doctor.hub(offline=False))[closed]
    assert (finding.state, finding.value) == ("note", "cannot be reached (ConnectionError)")
    assert "HF_ENDPOINT" in finding.fix


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches are shown with what they hold, links once, and the space left; trouble is a note with what to do."""
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "blob").write_bytes(bytes(5000))
    (tmp_path / "hub" / "link").symlink_to("blob")
    findings = by_name(doctor.folders())
    assert "2 files, 5 kB" in findings["Hub cache (HF_HOME)"].value
    assert "not there yet" in findings["prepared data (FAM_DATA)"].value
    assert findings["temporary files"].value.endswith("free")
    monkeypatch.setattr(doctor, "MOST_FILES", 1)
    assert doctor.held_in(tmp_path / "hub").startswith("more than 2 files")
    monkeypatch.setattr(doctor, "LOW_DISK", 1 << 60)
    assert {(f.state, f.fix[:9]) for f in doctor.folders()} == {("note", "make room")}
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    fixes = [f.fix for f in doctor.folders()]
    assert fixes == [f"choose another with {name}" for name in ("FAM_DATA", "HF_HOME", "TMPDIR")]
