"""What fam stands on: every part is looked at by itself, and a fix goes with what is wrong."""

from __future__ import annotations

import builtins
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants

from famcli.checkpoints import doctor
from famcli.checkpoints.doctor import Finding, examine
from famcli_models.checkpoint import DEFAULT_MODEL


@pytest.fixture
def server() -> Iterator[SimpleNamespace]:
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
    """Findings by what was looked at."""
    return {finding.name: finding for finding in findings}


def test_everything_is_looked_at() -> None:
    """There is a finding for each part, nothing is broken here, and all that is not ok has a fix."""
    findings = list(examine(offline=True))
    assert [*dict.fromkeys(f.group for f in findings)] == ["versions", "opencv", "devices", "folders", "hub", "model"]
    assert {"python", "famcli", "torch", "torchvision", "numpy", "pillow"} <= {f.name for f in findings}
    assert [f for f in findings if f.state == "broken"] == []
    assert all(f.fix for f in findings if f.state != "ok")
    (model,) = [f for f in findings if f.group == "model"]
    assert (model.name, model.value) == (DEFAULT_MODEL, "good: config and weights, SHA-256, golden prediction")


def test_a_broken_part_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that cannot be looked at is a finding with the reason, and the others are looked at."""

    def fail() -> Iterator[Finding]:
        msg = "no such thing"
        raise OSError(msg)

    monkeypatch.setattr(doctor, "devices", fail)
    findings = by_name(examine(offline=True))
    assert findings["devices"].value == "OSError: no such thing"
    assert findings["devices"].state == "broken"
    assert findings[DEFAULT_MODEL].state == "ok"


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is missing or too old is broken, with the command that installs it; extras are not asked for."""

    def version(name: str) -> str:
        if name == "timm":
            raise PackageNotFoundError(name)
        return {"famcli": "1.0", "torch": "2.1.0"}.get(name, "99.0")

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(
        doctor, "requires", lambda _: ["torch>=2.4", "timm>=1.0.9", "numpy>=1.26", "onnx>=1; extra == 'export'"]
    )
    findings = by_name(doctor.versions())
    assert (findings["torch"].state, findings["torch"].value) == ("broken", "2.1.0; famcli needs >=2.4")
    assert "pip install 'torch>=2.4'" in findings["torch"].fix
    assert findings["timm"].value == "not installed; famcli needs >=1.0.9"
    assert findings["numpy"].state == "ok"
    assert "onnx" not in findings


def test_two_builds_of_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two builds over each other are a note while the import works."""
    monkeypatch.setattr(doctor, "_is_installed", lambda name: "contrib" not in name)
    findings = by_name(doctor.opencv())
    assert findings["packages"].state == "note"
    assert "opencv-python-headless and opencv-python are" in findings["packages"].value
    assert "pip uninstall -y" in findings["packages"].fix
    assert findings["import cv2"].state == "ok"


def test_opencv_without_libgl(monkeypatch: pytest.MonkeyPatch) -> None:
    """An OpenCV that needs a display is broken, and the fix is the build that does not."""
    real = builtins.__import__

    def fake(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "cv2":
            msg = "libGL.so.1: cannot open shared object file"
            raise ImportError(msg)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", fake)
    finding = by_name(doctor.opencv())["import cv2"]
    assert (finding.state, "libGL.so.1" in finding.value) == ("broken", True)
    assert finding.fix.endswith("pip install opencv-python-headless")


def test_hub_answers(server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Hub that answers is reached, whatever it answers below 500, and is told no login of this machine."""
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
    told = json.dumps([vars_of(f) for f in findings.values()])
    assert "hf_secret" not in told
    assert "hunter2" not in told


def vars_of(finding: Finding) -> list[str]:
    """All text of a finding."""
    return [finding.group, finding.name, finding.value, finding.fix]


def test_hub_in_trouble(server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hub that fails, or does not answer in time, is a note with what to do."""
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    server.status = 503
    assert by_name(doctor.hub(offline=False))[server.url].value == "answers with HTTP 503"
    closed = "http://127.0.0.1:9"  # the port of the discard service, which nobody runs
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    finding = by_name(doctor.hub(offline=False))[closed]
    assert (finding.state, finding.value) == ("note", "cannot be reached (ConnectionError)")
    assert "HF_ENDPOINT" in finding.fix


@pytest.mark.parametrize("by_flag", [True, False])
def test_offline(server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, by_flag: bool) -> None:
    """With --offline or HF_HUB_OFFLINE nothing is sent."""
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", not by_flag)
    finding = by_name(doctor.hub(offline=by_flag))[server.url]
    assert (finding.state, finding.value.split(":")[0]) == ("ok", "not asked")
    assert server.requests == []


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches are shown with what they hold and the room there is; a link is not counted twice."""
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "blob").write_bytes(bytes(5000))
    (tmp_path / "hub" / "link").symlink_to("blob")
    findings = by_name(doctor.folders())
    assert "2 files, 5.0 kB" in findings["Hub cache (HF_HOME)"].value
    assert "not there yet" in findings["prepared data (FAM_DATA)"].value
    assert findings["temporary files"].value.endswith("free")
    monkeypatch.setattr(doctor, "LOW_DISK", 1 << 60)
    assert {f.state for f in doctor.folders()} == {"note"}
    monkeypatch.setattr(doctor, "MOST_FILES", 1)
    assert doctor.held_in(tmp_path / "hub").startswith("more than 2 files")


def test_a_folder_that_may_not_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that may not be written to is a note with the variable that moves it."""
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    findings = by_name(doctor.folders())
    assert findings["Hub cache (HF_HOME)"].fix == "choose another with HF_HOME"
    assert findings["temporary files"].fix == "choose another with TMPDIR"


def test_packaged_model_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the packaged model is broken."""
    monkeypatch.setattr("famcli_models.checkpoint.packaged", dict)
    (finding,) = doctor.packaged_models()
    assert (finding.name, finding.state) == (DEFAULT_MODEL, "broken")
    assert "pip install --force-reinstall" in finding.fix


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
    monkeypatch.setattr(doctor.shutil, "which", lambda _: driver)
    finding = doctor._no_cuda(built_for)
    assert finding.state == state
    assert words in finding.value
    assert bool(finding.fix) is (state == "note")


@pytest.mark.parametrize(("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2e12, "2.0 TB")])
def test_sizes(count: float, text: str) -> None:
    """Bytes in the unit people use."""
    assert doctor.size(count) == text


def test_urls_without_a_login() -> None:
    """The URL shown has no name and password."""
    shown = doctor._without_user
    assert shown("https://me:secret@mirror.example:8443/hf") == "https://mirror.example:8443/hf"
    assert shown("https://huggingface.co") == "https://huggingface.co"
