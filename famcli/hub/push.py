"""To the Hugging Face Hub: a checked checkpoint with a card that explains it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from famcli.hub.card import Subject, model_card
from famcli.hub.measured import Measured
from famcli.hub.names import parse_repo
from famcli.hub.pull import CARD_FILE, FILES, RAISED, Say, explained, progress_bars
from famcli.results.io import JSON_NAME, read_all
from famcli.results.schema import Results
from famcli_models.checkpoint import CONFIG_FILE, WEIGHTS_FILE, read_config, resolve
from famcli_models.errors import DataError, WeightsError
from famcli_models.files import sha256_file
from famcli_models.loading import check_checkpoint

UPLOAD_RAISED: tuple[type[Exception], ...] = (*RAISED, RuntimeError)  # the last by what sends large files
Verify = Callable[[Path], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Upload:
    """What goes to the Hub.

    Attributes:
        repo: ``ORG/NAME``.
        folder: A copy of the checkpoint with its card.
        card: The card's text.
    """

    repo: str
    folder: Path
    card: str

    def sizes(self) -> dict[str, int]:
        """Bytes of each file that is uploaded."""
        return {name: (self.folder / name).stat().st_size for name in FILES}


@contextmanager
def prepared(
    source: str,
    repo: str,
    verify: Verify,
    results: Sequence[Path] = (),
    license: str | None = None,  # noqa: A002  (the Hub's word)
    terms: str | None = None,
) -> Iterator[Upload]:
    """A checked copy of a checkpoint with its card; the network is not asked.

    Args:
        source: A run folder, a checkpoint folder or a packaged name.
        repo: ``ORG/NAME``.
        verify: Completes the copy where something is missing, and says in sentences what is wrong with it.
        results: Files of ``fam eval --out`` with numbers for the card; by default ``results.json`` of the folder.
        license: See :class:`famcli.hub.card.Subject`.
        terms: Likewise.

    Raises:
        ConfigError: ``repo`` is no repository, or the config is not allowed.
        DataError: The numbers are not measurements of these weights.
        WeightsError: The checkpoint is damaged, fails its verification, or was tuned on test images.
    """
    parse_repo(repo)
    folder = resolve(source)
    check_checkpoint(folder)
    with tempfile.TemporaryDirectory(prefix="fam-push-") as temporary:
        # A copy: the run may go on while its checkpoint is uploaded.
        copy = Path(temporary)
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            shutil.copyfile(folder / name, copy / name)
        check_checkpoint(copy)
        stored = read_config(copy)
        _refuse_tuned(stored["provenance"], f"'{source}'")
        digest = sha256_file(copy / WEIGHTS_FILE)
        measured = _measured(folder, results, digest)
        _check_method(measured, str(stored["model"].get("method", "fam")))
        problems = verify(copy)
        if problems:
            msg = f"'{source}' fails its verification: {problems[0]}; 'fam verify {source}' says more"
            raise WeightsError(msg)
        stored = read_config(copy)  # with what the verification has completed
        subject = Subject(
            repo=repo,
            config=stored["model"],
            class_names=stored["class_names"],
            provenance=stored["provenance"],
            sha256=digest,
            size=(copy / WEIGHTS_FILE).stat().st_size,
            measured=measured,
            license=license,
            terms=terms,
        )
        card = model_card(subject)
        (copy / CARD_FILE).write_text(card, encoding="utf-8")
        yield Upload(repo, copy, card)


def upload(
    ready: Upload,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    say: Say | None = None,
) -> str:
    """Send it, in one commit.

    Args:
        ready: What to send.
        private: Make the repository private if it is made now; an existing one must be private already.
        revision: Branch to commit to, made if it is not there; the default branch if not given.
        create_pr: Open a pull request instead.
        say: Told what is done. Without it there are no progress bars either.

    Returns:
        Address of the commit or of the pull request.

    Raises:
        WeightsError: The Hub cannot be reached or refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    if get_token() is None:
        msg = "you are not logged in to the Hub; use 'hf auth login' or set HF_TOKEN, with a token that may write"
        raise WeightsError(msg)
    api = HfApi(library_name="fam")
    try:
        api.create_repo(ready.repo, private=private or None, exist_ok=True)
        if private and not api.model_info(ready.repo).private:
            msg = f"'{ready.repo}' exists and is public; make it private on its page, or leave out --private"
            raise WeightsError(msg)
        if revision and not create_pr and not revision.startswith("refs/"):
            api.create_branch(ready.repo, branch=revision, exist_ok=True)
        if say is not None:
            say(f"uploading {', '.join(FILES)} to {ready.repo}")
        with progress_bars(say):
            done = api.create_commit(
                ready.repo,
                [CommitOperationAdd(name, ready.folder / name) for name in FILES],
                commit_message="Upload a FAM checkpoint with fam push",
                revision=revision,
                create_pr=create_pr,
            )
    except UPLOAD_RAISED as error:
        raise explained(error, ready.repo, revision) from error
    return str(done.pr_url if create_pr else done.commit_url)


def _measured(folder: Path, given: Sequence[Path], digest: str) -> list[Results]:
    """Numbers for the card, if they are measurements of exactly these weights."""
    beside = folder / JSON_NAME
    found: list[Results] = []
    for path in list(given) or ([beside] if beside.is_file() else []):
        for results in read_all(path):
            _check_numbers(path, results, digest)
            found.append(results)
    return found


def _check_numbers(path: Path, measured: Results, digest: str) -> None:
    Measured.of(measured)  # there are some
    _refuse_tuned(measured.source, f"the model of {path}")
    if measured.kind != "evaluation":
        msg = f"{path} is a {measured.kind}, whose numbers mean nothing; leave it out"
        raise DataError(msg)
    if measured.source.get("kind") != "model" or measured.source.get("weights_sha256") != digest:
        of = str(measured.source.get("weights_sha256") or measured.source.get("kind") or "something unknown")
        msg = (
            f"{path} has numbers of {of}, not of these weights (SHA-256 {digest}); only numbers measured with the "
            "pushed weights are pushed: make them with 'fam eval --model ... --out ...', or move the file away"
        )
        raise DataError(msg)


def _check_method(found: Sequence[Results], method: str) -> None:
    for measured in found:
        of = str(measured.source.get("method") or method)
        if of.lower() != method:
            data = measured.data["name"]
            msg = f"numbers of {of} on {data} are not of this {method.upper()} model; evaluate it as what it is"
            raise DataError(msg)


def _refuse_tuned(facts: Mapping[str, Any], what: str) -> None:
    if facts.get("tuned_on_test"):
        msg = (
            f"{what} was tuned on test images (tuned_on_test), so it is not pushed; train with another --set select=..."
        )
        raise WeightsError(msg)
