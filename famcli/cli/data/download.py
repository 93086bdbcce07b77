"""``fam data list`` and ``fam data download``: the public datasets, and how far each is on this machine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from famcli.cli.console import console
from famcli.cli.options import JsonOption, QuietOption

if TYPE_CHECKING:
    from famcli.data.dataset import Dataset
    from famcli.data.public.catalog import DatasetFacts
    from famcli.data.public.download import Item

LIST_COLUMNS = ("name", "dataset", "classes", "images", "download", "state", "terms")
PLAN_COLUMNS = ("file", "holds", "bytes", "to do", "checked by", "from", "to")


def list_datasets(
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """List the datasets that fam knows, and how far each is on this machine.

    Example: fam data list
    """
    from famcli.data.dataset import DATASET_FILE, data_home
    from famcli.data.public.catalog import CATALOG, human
    from famcli.data.public.download import state_of

    home = data_home()
    found: list[dict[str, Any]] = [
        {
            "name": facts.name,
            "title": facts.title,
            "classes": facts.classes,
            "images": facts.counts,
            "bytes": sum(a.size or 0 for a in facts.archives if a.required) or None,
            "login": any(a.url is None for a in facts.archives if a.required),
            "terms": facts.terms,
            "terms_page": facts.terms_page,
            "state": state_of(facts.name, home),
        }
        for facts in CATALOG.values()
    ]
    own = sorted(path.parent.name for path in home.glob(f"*/{DATASET_FILE}") if path.parent.name not in CATALOG)
    nothing = {"bytes": None, "login": False, "terms": "", "terms_page": "", "state": "prepared"}
    found += [{"name": name, "title": "your own", "classes": 0, "images": {}, **nothing} for name in own]
    for row in found:
        dataset = _opened(home / row["name"]) if row["state"] == "prepared" else None
        if row["state"] == "prepared" and dataset is None:
            row["state"] = "damaged"
        elif dataset and row["name"] in own:
            row["classes"] = len(dataset.class_names)
            row["images"] = {split: n.get("images", 0) for split, n in dataset.facts.get("counts", {}).items()}
    if as_json:
        console.result_json({"home": str(home), "datasets": found})
        return
    rows = []
    for row in found:
        splits = ", ".join(f"{split} {n:,}" for split, n in row["images"].items())
        get = (human(row["bytes"]) if row["bytes"] else "") + (" by hand" if row["login"] else "")
        rows.append([row["name"], row["title"], str(row["classes"]), splits, get.strip(), row["state"], row["terms"]])
    console.table(LIST_COLUMNS, rows)
    console.say(f"data home: {home} (the environment variable FAM_DATA moves it)")


def _opened(root: Path) -> Dataset | None:
    """A prepared dataset; one that cannot be opened is warned about, and does not hide the others."""
    from famcli.data.dataset import open_dataset
    from famcli_models.errors import DataError

    try:
        return open_dataset(root)
    except DataError as error:
        console.warn(f"{root.name} is damaged and must be prepared again: {error}")
        return None


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
    from famcli.data.public.download import DOWNLOADS, plan_download

    facts = find_facts(name)
    folder, root = to or data_home() / name / DOWNLOADS, out or data_home() / name
    items = plan_download(facts, folder, only or ())
    if dry_run:
        _print_plan(facts, items, folder, as_json)
        return
    result: dict[str, Any] = {"name": name, "folder": str(folder), "files": [], "prepared": None}
    if not (only or no_prepare) and (root / DATASET_FILE).is_file() and any(item.left for item in items):
        # The archives were deleted to save their room: nobody wants them twice.
        console.say(f"{name} is prepared already in '{root}'; to get its archives again, add --no-prepare")
        result["prepared"] = {"root": str(root)}
    else:
        words = ["fam", "data", "download", name, *(["--to", str(to)] if to else [])]
        words += ["--accept-terms"] * accept_terms + [word for file in only or () for word in ("--only", file)]
        words += ["--no-prepare"] * no_prepare + (["--out", str(out)] if out else [])
        again = shlex.join(words)
        try:
            result["files"] = _get(facts, items, folder, root, accept_terms, prepares=not no_prepare)
        except KeyboardInterrupt:
            console.say(f"what came so far is kept; to go on: {again}")
            raise
        _name_missing(facts, items, folder, again)
        if no_prepare or not all((folder / a.name).is_file() for a in facts.archives if a.required):
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
    from famcli.data.public.download import check_room, fetch
    from famcli_models.errors import DataError

    coming = [item for item in items if item.todo in {"resume", "download"}]
    if coming and facts.must_accept and not accepted:
        msg = (
            f"{facts.title} has terms of use. In our words: {facts.terms} Read the publisher's at {facts.terms_page}, "
            "and add --accept-terms if you accept them"
        )
        raise DataError(msg)
    unpacked = sum(item.archive.unpacked for item in items if item.archive.url) if prepares and coming else 0
    check_room((folder, sum(item.left for item in coming), "download"), (root, unpacked, "extract what came"))
    done = []
    for archive, todo in [(item.archive, item.todo) for item in items if item.archive.url]:
        if todo != "there":
            console.say(f"{archive.name}: {human(archive.size) if archive.size else 'size unknown'} from {archive.url}")
        with console.progress(archive.name, archive.size, in_bytes=True) as step:
            found, new = fetch(archive, folder, step, console.say)
        pinned = "as published" if archive.hash else "not pinned: nobody states its hash, so it is taken as it is"
        console.say(f"{archive.name}: {found}, {pinned}")
        done.append({"file": archive.name, "path": str(folder / archive.name), "hash": found, "new": new})
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
    from famcli.data.public.download import free_bytes

    left, free = sum(item.left for item in items), free_bytes(folder)
    unpacked = sum(item.archive.unpacked for item in items)
    rows = [
        {
            "file": item.archive.name,
            "holds": item.archive.holds,
            "bytes": item.archive.size,
            "todo": item.todo,
            "checked_by": (item.archive.hash or "not pinned").partition(":")[0],
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
        PLAN_COLUMNS, [["?" if v is None else f"{v:,}" if isinstance(v, int) else v for v in r.values()] for r in rows]
    )
    console.say(
        f"{human(left)} to download, about {human(unpacked)} to extract, {human(free)} free at '{folder}'; "
        f"terms: {facts.terms} ({facts.terms_page})"
    )
