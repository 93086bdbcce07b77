"""``fam data download``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from famcli.cli.console import console
from famcli.cli.options import JsonOption, QuietOption

if TYPE_CHECKING:
    from famcli.data.public.catalog import DatasetFacts
    from famcli.data.public.plan import Item

COLUMNS = ("file", "holds", "bytes", "to do", "checked by", "from", "to")


def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A dataset of 'fam data list'.")],
    to: Annotated[
        Path | None, typer.Option(help="Download folder; NAME/downloads in the data home if not given.")
    ] = None,
    accept_terms: Annotated[
        bool, typer.Option("--accept-terms", help="You have read the publisher's terms and accept them.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and do nothing.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="A file to get instead of all needed ones; repeatable.", metavar="FILE")
    ] = None,
    no_prepare: Annotated[bool, typer.Option("--no-prepare", help="Do not extract and prepare afterwards.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of the prepared dataset; NAME in the data home if not given."),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Download a dataset, verify it, and prepare it.

    A broken download is continued by the same command. Files that need a login are named with their page.

    Example: fam data download cub --accept-terms
    """
    from famcli.data.dataset import DATASET_FILE, data_home
    from famcli.data.public.catalog import find_facts
    from famcli.data.public.plan import DOWNLOADS, plan_download

    facts = find_facts(name)
    folder = to or data_home() / name / DOWNLOADS
    root = out or data_home() / name
    items = plan_download(facts, folder, only or ())
    if dry_run:
        _print_plan(facts, items, folder, as_json)
        return
    if not (only or no_prepare) and (root / DATASET_FILE).is_file() and any(item.left for item in items):
        # The archives were deleted to save their room: nobody wants them twice.
        console.say(f"{name} is prepared already in '{root}'; to get its archives again, add --no-prepare")
        if as_json:
            console.result_json({"name": name, "folder": str(folder), "files": [], "prepared": {"root": str(root)}})
        else:
            console.result(str(root))
        return
    again = _command(name, to, accept_terms, only or [], no_prepare, out)
    try:
        files = _get(facts, items, folder, root, accept_terms, prepares=not no_prepare)
    except KeyboardInterrupt:
        console.say(f"what came so far is kept; to go on: {again}")
        raise
    _name_missing(facts, items, folder, again)
    ready = all((folder / archive.name).is_file() for archive in facts.archives if archive.required)
    result: dict[str, Any] = {"name": name, "folder": str(folder), "files": files, "prepared": None}
    if no_prepare or not ready:
        console.say(f"next: fam data prepare {name}" + (f" --from {shlex.quote(str(to))}" if to else ""))
    else:
        from famcli.cli.data.prepare import prepare_known

        result["prepared"] = prepare_known(facts, folder, root, without_train=False, again=again)
    if as_json:
        console.result_json(result)
    else:
        console.result(str(root if result["prepared"] else folder))


def _get(
    facts: DatasetFacts, items: list[Item], folder: Path, root: Path, accepted: bool, prepares: bool
) -> list[dict[str, Any]]:
    from famcli.data.public.catalog import human
    from famcli.data.public.disk import Need, check_room
    from famcli.data.public.download import Watcher, fetch
    from famcli_models.errors import DataError

    coming = [item for item in items if item.todo in {"resume", "download"}]
    if coming and facts.must_accept and not accepted:
        msg = (
            f"{facts.title} has terms of use. In our words: {facts.terms} Read the publisher's at {facts.terms_page}, "
            "and add --accept-terms if you accept them"
        )
        raise DataError(msg)
    unpacked = sum(item.archive.unpacked for item in items if item.archive.url) if prepares and coming else 0
    check_room([Need(folder, sum(item.left for item in coming), "download"), Need(root, unpacked, "extract what came")])
    done = []
    for item in items:
        if item.archive.url is None:
            continue
        size = human(item.archive.size) if item.archive.size else "size unknown"
        if item.todo != "there":
            console.say(f"{item.archive.name}: {size} from {item.archive.url}")
        with console.progress(item.archive.name, item.archive.size, in_bytes=True) as step:
            fetched = fetch(item.archive, folder, Watcher(step, console.say))
        verdict = (
            "as published" if item.archive.pinned else "not pinned: nobody states its hash, so it is taken as it is"
        )
        console.say(f"{item.archive.name}: {fetched.seen}, {verdict}")
        done.append({"file": item.archive.name, "path": str(fetched.path), "hash": fetched.seen, "new": fetched.fresh})
    return done


def _name_missing(facts: DatasetFacts, items: list[Item], folder: Path, again: str) -> None:
    from famcli_models.errors import DataError

    by_hand = [item.archive for item in items if item.todo == "by hand"]
    if by_hand:
        names = ", ".join(f"{a.name} ({a.holds})" for a in by_hand)
        pages = " and ".join(dict.fromkeys(a.page for a in by_hand))
        why = "after a login" if facts.must_accept else "with a browser"
        msg = (
            f"{facts.title} cannot be downloaded by a program. Get {names} {why} at {pages}, put them into '{folder}', "
            f"and run '{again}' again, or run 'fam data prepare {facts.name} --from DIR' on another folder"
        )
        raise DataError(msg)


def _print_plan(facts: DatasetFacts, items: list[Item], folder: Path, as_json: bool) -> None:
    from famcli.data.public.catalog import human
    from famcli.data.public.disk import free_bytes

    left, free = sum(item.left for item in items), free_bytes(folder)
    unpacked = sum(item.archive.unpacked for item in items)
    rows = [
        {
            "file": item.archive.name,
            "holds": item.archive.holds,
            "bytes": item.archive.size,
            "todo": item.todo,
            "checked_by": "sha256" if item.archive.sha256 else "md5" if item.archive.md5 else "not pinned",
            "from": item.archive.url or item.archive.page,
            "to": str(item.path),
        }
        for item in items
    ]
    if as_json:
        plan = {"name": facts.name, "files": rows, "bytes_left": left, "bytes_unpacked": unpacked, "bytes_free": free}
        accept = {"terms": facts.terms, "terms_page": facts.terms_page, "must_accept": facts.must_accept}
        console.result_json({**plan, **accept})
        return
    console.table(
        COLUMNS, [["?" if v is None else f"{v:,}" if isinstance(v, int) else v for v in r.values()] for r in rows]
    )
    console.say(
        f"{human(left)} to download, about {human(unpacked)} to extract, {human(free)} free at '{folder}'; "
        f"terms: {facts.terms} ({facts.terms_page})"
    )


def _command(
    name: str, to: Path | None, accept_terms: bool, only: list[str], no_prepare: bool, out: Path | None
) -> str:
    """The same command again, to be typed."""
    words = ["fam", "data", "download", name]
    words += ["--to", str(to)] if to else []
    words += ["--accept-terms"] if accept_terms else []
    words += [word for file in only for word in ("--only", file)]
    words += ["--no-prepare"] if no_prepare else []
    words += ["--out", str(out)] if out else []
    return shlex.join(words)
