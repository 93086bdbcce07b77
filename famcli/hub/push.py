"""Upload a checked checkpoint to the Hugging Face Hub, with a card that explains it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

from famcli.hub.card import Measured, model_card
from famcli.hub.names import parse_repo
from famcli.hub.pull import CARD_FILE, FILES, RAISED, Say, explained, progress_bars
from famcli.results.io import JSON_NAME, read_all
from famcli.results.schema import Results
from famcli_models.checkpoint import COLLAPSED, CONFIG_FILE, GRAPH_FILE, WEIGHTS_FILE, read_config, resolve
from famcli_models.errors import ConfigError, DataError, WeightsError, short
from famcli_models.files import sha256_file

SPACE_FILES = ("app.py", "requirements.txt", CARD_FILE)  # what a Space is not without
UPLOAD_RAISED: tuple[type[Exception], ...] = (*RAISED, RuntimeError)  # the last by what sends large files
TUNED = "{} was tuned on test images (tuned_on_test), so it is not pushed; train with another --set select=..."


@contextmanager
def prepared(
    source: str,
    repo: str,
    verify: Callable[[Path], Sequence[str]],
    results: Sequence[Path] = (),
    license: str | None = None,  # noqa: A002  (the Hub's word)
    terms: str | None = None,
) -> Iterator[Path]:
    """A folder with a checked copy of a checkpoint and its card, for as long as it is needed; no network is asked.

    ``verify`` completes the copy where something is missing, and says what is wrong with it. ``results`` are
    files of ``fam eval --out`` with numbers for the card, by default ``results.json`` of the folder.
    """
    from famcli_models.loading import check_checkpoint  # imports PyTorch, which sending a Space does not need
    from famcli_models.methods import METHODS

    parse_repo(repo)
    folder = resolve(source)
    check_checkpoint(folder)
    with tempfile.TemporaryDirectory(prefix="fam-push-") as temporary:
        # A copy: the run may go on while its checkpoint is uploaded.
        copy = Path(temporary)
        for name in (CONFIG_FILE, WEIGHTS_FILE, GRAPH_FILE):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, copy / name)
        config = check_checkpoint(copy)
        origin = read_config(copy)["provenance"]
        if origin.get("tuned_on_test"):
            raise WeightsError(TUNED.format(f"'{source}'"))
        if origin.get(COLLAPSED):
            failed = f"'{source}' is not pushed, because its training has failed"
            raise WeightsError(f"{failed}: {short(str(origin[COLLAPSED]))}; push '{source}/best' if that is there")
        digest = sha256_file(copy / WEIGHTS_FILE)
        given = results or ([folder / JSON_NAME] if (folder / JSON_NAME).is_file() else [])
        measured = [(path, one) for path in given for one in read_all(path)]
        for path, one in measured:
            _check_numbers(path, one, digest, METHODS[config.method].title)
        problems = verify(copy)
        if problems:
            raise WeightsError(f"'{source}' fails its verification: {problems[0]}; 'fam verify {source}' says more")
        stored = read_config(copy)  # with what the verification has completed
        weights = digest, (copy / WEIGHTS_FILE).stat().st_size
        card = model_card(repo, config, stored, weights, [one for _, one in measured], license, terms)
        (copy / CARD_FILE).write_text(card, encoding="utf-8")
        yield copy


def space_files(folder: Path, repo: str) -> list[str]:
    """What is sent of the folder of a Space: all but hidden files and what Python has compiled.

    Raises:
        ConfigError: It is no such folder, or ``repo`` is not ``ORG/NAME``.
    """
    parse_repo(repo)
    missing = [name for name in SPACE_FILES if not (folder / name).is_file()]
    if missing:
        write = f"write one with 'fam app --space {repo} --dry-run'"
        raise ConfigError(f"'{folder}' is no folder of a Space, it has no {' and no '.join(missing)}; {write}")
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    hidden = [path for path in files if any(part[0] == "." or part == "__pycache__" for part in path.parts)]
    return sorted(path.as_posix() for path in {*files}.difference(hidden))


def upload(
    folder: Path,
    repo: str,
    *,
    space: bool = False,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    say: Say | None = None,
) -> str:
    """Send what :func:`prepared` gives, or a Space, in one commit; the address of the commit or of the pull request.

    With ``private`` an existing repository must be private already. The branch ``revision`` is made if it is not there.
    Files of a Space that are not in the folder any more go.
    """
    files = space_files(folder, repo) if space else [name for name in FILES if (folder / name).is_file()]
    if get_token() is None:
        msg = "you are not logged in to the Hub; use 'hf auth login' or set HF_TOKEN, with a token that may write"
        raise WeightsError(msg)
    api, kind = HfApi(library_name="fam"), "space" if space else "model"
    try:
        api.create_repo(
            repo, repo_type=kind, space_sdk="gradio" if space else None, private=private or None, exist_ok=True
        )
        if private and not api.repo_info(repo, repo_type=kind).private:
            raise WeightsError(f"'{repo}' exists and is public; make it private on its page, or leave out --private")
        if revision and not create_pr and not revision.startswith("refs/"):
            api.create_branch(repo, branch=revision, repo_type=kind, exist_ok=True)
        there = api.list_repo_files(repo, revision=None if create_pr else revision, repo_type=kind) if space else []
        gone = [name for name in there if name not in files and name != ".gitattributes"]
        if say is not None:
            say(f"uploading {f'{len(files)} files' if space else ', '.join(files)} to {repo}")
        with progress_bars(say):
            done = api.create_commit(
                repo,
                [*(CommitOperationAdd(name, folder / name) for name in files), *map(CommitOperationDelete, gone)],
                commit_message=f"Upload a {'Space' if space else 'FAM checkpoint'} with fam push",
                repo_type=kind,
                revision=revision,
                create_pr=create_pr,
            )
    except UPLOAD_RAISED as error:
        raise explained(error, repo, revision) from error
    return str(done.pr_url if create_pr else done.commit_url)


def _check_numbers(path: Path, results: Results, digest: str, method: str) -> None:
    """Numbers for a card are measurements of exactly these weights by their own method, and not of a tuned model."""
    data, source = results.data["name"], results.source
    if not Measured.from_results(results).values:
        raise DataError(f"the result on '{data}' has no scores: its first row is without metrics")
    if source.get("tuned_on_test"):
        raise WeightsError(TUNED.format(f"the model of {path}"))
    if results.kind != "evaluation":
        raise DataError(f"{path} is a {results.kind}, whose numbers mean nothing; leave it out")
    if source["kind"] != "model" or source.get("weights_sha256") != digest:
        of = str(source.get("weights_sha256") or source["kind"])
        raise DataError(
            f"{path} has numbers of {of}, not of these weights (SHA-256 {digest}); only numbers measured with the "
            "pushed weights are pushed: make them with 'fam eval --model ... --out ...', or move the file away"
        )
    of = str(source.get("method") or method)
    if of != method:
        raise DataError(f"numbers of {of} on {data} are not of this {method} model; evaluate it as what it is")
