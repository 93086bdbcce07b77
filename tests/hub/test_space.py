"""The page as a Hugging Face Space: its folder, which runs without PyTorch, and how it is sent."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import SpaceCard

from famcli.version import PYTORCH
from famcli_models import packaged

SPACE = "birds/where"
MODEL = "fam-mobilenetv1-butterflies"
Fam = Callable[..., Any]
# What app.py does, at a free port, where PyTorch is not installed; and one question to the page.
RUN = f"""
import os, sys, urllib.request
sys.path.insert(0, os.getcwd())  # as for a script, also with Python's safe path
sys.modules.update(dict.fromkeys({PYTORCH!r}))
from famcli.web import server
def serve(models, host):
    with server.serving(models, host=host) as url, urllib.request.urlopen(url) as answer:
        print(server.__file__, models, host, answer.status)
server.serve = serve
import runpy
runpy.run_path("app.py", run_name="__main__")
from famcli.version import __version__
print(__version__)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which commands run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Space with a packaged model; tests leave it as it is."""
    from famcli.web.space import write_space

    folder = tmp_path_factory.mktemp("space") / "where"
    write_space(folder, SPACE, [MODEL])
    return folder


def models_of(folder: Path) -> list[str]:
    """The models that ``app.py`` shows."""
    (found,) = [node for node in ast.parse((folder / "app.py").read_text()).body if isinstance(node, ast.Assign)]
    return list(ast.literal_eval(found.value))


def test_dry_run(fam: Fam, here: Path) -> None:
    """It lists what it wrote, each file once: the page, the source, and the weights of the chosen model alone."""
    done = fam("app", "--space", SPACE, "--dry-run", "--model", MODEL)
    assert done.exit_code == 0, done.stderr
    files = {str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()}
    assert sorted(files) == sorted(done.stdout.splitlines())
    assert {"where/app.py", "where/famcli/web/page.py", f"where/famcli-{version('famcli')}.dist-info/METADATA"} <= files
    assert {file for file in files if "/weights/" in file} == {
        f"where/famcli_models/weights/{MODEL}/{name}"
        for name in ("README.md", "config.json", "graph.onnx", "model.safetensors")
    }
    assert [path.name for path in here.iterdir()] == ["where"]
    assert models_of(here / "where") == [MODEL]


def test_card(written: Path) -> None:
    """The header says what the Hub has to start; the text names the models and their terms."""
    card = SpaceCard.load(written / "README.md")
    assert card.data.to_dict() | {"tags": None} == {
        "title": "where",
        "sdk": "gradio",
        "sdk_version": version("gradio"),
        "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
        "app_file": "app.py",
        "license": "other",
        "tags": None,
        "short_description": "Find the object in photographs, by class labels alone",
    }
    assert len(card.data.short_description) <= 60
    assert f"- {MODEL}: mobilenetv1, 10 classes, trained on butterflies. Terms: for research" in card.text


def test_requirements(written: Path) -> None:
    """They are fam's own with Gradio's; PyTorch is not among them where each model has a graph."""
    lines = (written / "requirements.txt").read_text().splitlines()
    names = {line.partition(">=")[0] for line in lines}
    assert {"gradio", "onnxruntime", "scikit-image"} <= names
    assert not names & set(PYTORCH)
    assert not [line for line in lines if ">=" not in line]


@pytest.mark.slow
def test_it_serves_without_pytorch(written: Path, tmp_path: Path) -> None:
    """The folder's own source serves the page, knows its version, and on a person's machine to nobody else."""
    folder = tmp_path / "where"
    shutil.copytree(written, folder)
    line = [sys.executable, "-c", RUN]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    source = folder / "famcli" / "web" / "server.py"
    assert done.stdout.split("\n") == [f"{source} ['{MODEL}'] 127.0.0.1 200", version("famcli"), ""]


def test_own_model(fam: Fam, here: Path, checkpoint: Path) -> None:
    """A checkpoint folder is copied in under its name; without a graph the Space installs PyTorch for the CPU."""
    done = fam("app", "--space", SPACE, "--dry-run", "--model", checkpoint, "--model", MODEL, "--out", here / "mine")
    assert done.exit_code == 0, done.stderr
    assert models_of(here / "mine") == ["tiny", MODEL]
    copy = here / "mine" / "famcli_models" / "weights" / "tiny"
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == {
        path.name: path.read_bytes() for path in checkpoint.iterdir()
    }
    lines = (here / "mine" / "requirements.txt").read_text().splitlines()
    assert lines[0] == "--extra-index-url https://download.pytorch.org/whl/cpu"
    assert set(PYTORCH) < {line.partition(">=")[0] for line in lines}
    assert "Terms: not stated; ask whoever made it." in (here / "mine" / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--space", "where", "--dry-run"], 1, "'where' is no repository; give it as ORG/NAME"),
        (["--space", SPACE, "--dry-run", "--out", "."], 1, "'.' is there already: send it with 'fam push . --space"),
        (["--space", SPACE, "--dry-run", "--model", "damaged"], 1, "damaged/model.safetensors has"),
        (["--space", SPACE, "--dry-run", "--model", "fam-nothing"], 1, "unknown model 'fam-nothing'"),
        (["--space", SPACE, "--dry-run", "--model", MODEL, "--model", f"copy/{MODEL}"], 1, f"are called '{MODEL}'"),
        (["--dry-run"], 2, "--dry-run and --out are for --space"),
    ],
)
def test_what_is_refused(
    fam: Fam, hub: Any, here: Path, checkpoint: Path, arguments: list[str], code: int, said: str
) -> None:
    """One sentence, before the network is asked, and nothing is written."""
    shutil.copytree(packaged()[MODEL], here / "copy" / MODEL)
    shutil.copytree(checkpoint, here / "damaged")
    (here / "damaged" / "model.safetensors").write_bytes(b"short")
    before = sorted(here.rglob("*"))
    done = fam("app", *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in " ".join(done.stderr.split())
    assert sorted(here.rglob("*")) == before
    assert hub.requests == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "give either --repo, for a model, or --space"),
        (["--space", SPACE, "--repo", SPACE], 2, "give either --repo, for a model, or --space"),
        (["--space", SPACE, "--license", "mit"], 2, "edit README.md of the Space"),
        (["--space", "where"], 1, "give it as ORG/NAME"),
        (["--space", SPACE], 1, "it has no requirements.txt and no README.md; write one with 'fam app --space"),
    ],
)
def test_what_is_not_pushed(fam: Fam, hub: Any, here: Path, arguments: list[str], code: int, said: str) -> None:
    """A folder that is no Space's, and options that do not go together, before the network is asked."""
    (here / "where").mkdir()
    (here / "where" / "app.py").touch()
    done = fam("push", "where", *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in " ".join(done.stderr.replace("│", "").split())
    assert hub.requests == []


@pytest.mark.slow
@pytest.mark.usefixtures("no_canary")
def test_send(fam_process: Fam, hub: Any, tmp_path: Path, canary: str) -> None:
    """One command makes the Space; an edited folder is sent again, and what was deleted in it goes there too."""
    done = fam_process("app", "--space", SPACE, "--model", MODEL, token=canary)
    assert done.code == 0, done.stderr
    repo, folder = hub.repos[f"spaces/{SPACE}"], tmp_path / "where"
    assert done.stdout == f"{hub.url}/spaces/{SPACE}/commit/{repo.refs['main']}\n"

    def local() -> dict[str, bytes]:
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    assert repo.files() == {".gitattributes": repo.files()[".gitattributes"], **local()}
    (folder / "README.md").write_text((folder / "README.md").read_text() + "\nOurs.\n")
    (folder / "famcli" / "demo.py").unlink()
    sent = local()
    (folder / ".secret").write_text("mine")
    (folder / "famcli" / "__pycache__").mkdir()
    (folder / "famcli" / "__pycache__" / "demo.pyc").touch()
    assert fam_process("push", folder, "--space", SPACE, "--dry-run").stdout.splitlines() == sorted(sent)
    done = fam_process("push", folder, "--space", SPACE, token=canary)
    assert (done.code, done.stderr) == (0, f"uploading {len(sent)} files to {SPACE}\n")
    assert repo.files() == {".gitattributes": repo.files()[".gitattributes"], **sent}
    assert len(repo.commits) == 3
    done = fam_process("push", folder, "--space", SPACE, "--create-pr", token=canary)
    assert done.stdout == f"{hub.url}/spaces/{SPACE}/discussions/1\n"


@pytest.mark.slow
def test_a_model_of_the_hub(fam_process: Fam, hub: Any, tmp_path: Path, files: dict[str, bytes]) -> None:
    """It is copied in, checked, so that the Space needs no network to start; its page on the Hub is linked."""
    hub.add("lab/fam-tiny", files)
    done = fam_process("app", "--space", SPACE, "--dry-run", "--model", "lab/fam-tiny@main")
    assert done.code == 0, done.stderr
    assert models_of(tmp_path / "where") == ["fam-tiny"]
    card = SpaceCard.load(tmp_path / "where" / "README.md")
    assert card.data.models == ["lab/fam-tiny"]
    assert "Terms: mit." in card.text
    copied = tmp_path / "where" / "famcli_models" / "weights" / "fam-tiny"
    assert {path.name for path in copied.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert not [request for request in hub.requests if request.method not in {"GET", "HEAD"}]


@pytest.mark.slow
@pytest.mark.usefixtures("no_canary")
def test_a_hub_that_refuses(fam_process: Fam, hub: Any, tmp_path: Path, canary: str) -> None:
    """Without a token, or where the Hub refuses it, one sentence says so; the folder stays and can be sent."""
    done = fam_process("app", "--space", SPACE, "--model", MODEL)
    assert (done.code, done.stdout, hub.requests) == (1, "", [])
    assert "'hf auth login'" in done.stderr
    hub.fail("/repos/create", status=403)
    done = fam_process("push", "where", "--space", SPACE, token=canary)
    assert (done.code, done.stdout) == (1, "")
    assert "does not allow this" in done.stderr
    assert fam_process("push", "where", "--space", SPACE, "--private", token=canary).code == 0
    assert hub.repos[f"spaces/{SPACE}"].private
