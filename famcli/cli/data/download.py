"""``fam data list`` and ``fam data download``: the public datasets, and how far each is on this machine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from famcli.cli import completion
from famcli.cli.console import console
from famcli.cli.data.prepare import RootOption, prepare_known, typed
from famcli.cli.options import JsonOption, QuietOption

if TYPE_CHECKING:
    from famcli.data.public.catalog import Archive, DatasetFacts
    from famcli.data.public.download import Item

_TO = "Download folder; NAME/downloads in the data home if not given."
_TERMS = "You have read the publisher's terms and accept them."
_ONLY = "A file to get instead of all needed ones; repeatable."
LIST_COLUMNS = ("name", "dataset", "classes", "images", "download", "state", "terms")
PLAN_COLUMNS = ("file", "holds", "bytes", "to do", "checked by", "from", "to")


def list_datasets(
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """List the datasets that fam knows, and how far each is on this machine.

    Example: fam data list
    """
    from famcli.data.dataset import DATASET_FILE, data_home, open_dataset
    from famcli.data.public.catalog import CATALOG, human
    from famcli.data.public.download import state_of
    from famcli_models.errors import DataError

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
        if row["state"] == "prepared":
            try:
                dataset = open_dataset(home / row["name"])
            except DataError as error:  # it does not hide the others
                console.warn(f"{row['name']} is damaged and must be prepared again: {error}")
                row["state"] = "damaged"
                continue
            if row["name"] in own:
                counts = dataset.facts.get("counts", {})
                row["classes"] = len(dataset.class_names)
                row["images"] = {split: n.get("images", 0) for split, n in counts.items()}
    if as_json:
        console.result_json({"home": str(home), "datasets": found})
        return
    rows = []
    for row in found:
        splits = ", ".join(f"{split} {n:,}" for split, n in row["images"].items())
        get = f"{human(row['bytes']) if row['bytes'] else ''}{' by hand' if row['login'] else ''}".strip()
        rows.append([row["name"], row["title"], str(row["classes"]), splits, get, row["state"], row["terms"]])
    console.table(LIST_COLUMNS, rows)
    console.say(f"data home: {home} (the environment variable FAM_DATA moves it)")


def download(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A dataset of 'fam data list'.", autocompletion=completion.catalog_datasets
        ),
    ],
    to: Annotated[Path | None, typer.Option(help=_TO)] = None,
    accept_terms: Annotated[bool, typer.Option("--accept-terms", help=_TERMS)] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and do nothing.")] = False,
    only: Annotated[list[str] | None, typer.Option(help=_ONLY, metavar="FILE")] = None,
    no_prepare: Annotated[bool, typer.Option("--no-prepare", help="Do not extract and prepare afterwards.")] = False,
    out: RootOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Download a dataset, verify it, and prepare it.

    A broken download is continued by the same command. Files that need a login are named with their page.

    Example: fam data download cub --accept-terms
    """
    from famcli.data.dataset import DATASET_FILE, data_home
    from famcli.data.public.catalog import find_facts
    from famcli.data.public.download import DOWNLOADS, check_space, plan_download, refuse_by_hand, refuse_unaccepted

    facts = find_facts(name)
    folder, root = to or data_home() / name / DOWNLOADS, out or data_home() / name
    items = plan_download(facts, folder, only or ())
    if dry_run:
        _print_plan(facts, items, folder, as_json)
        return
    options = {"--to": to, "--accept-terms": accept_terms, "--only": only, "--no-prepare": no_prepare, "--out": out}
    again = typed("download", name, options)
    result: dict[str, Any] = {"name": name, "folder": str(folder), "files": [], "prepared": None}
    if not (only or no_prepare) and (root / DATASET_FILE).is_file() and any(item.left for item in items):
        # The archives were deleted to save space: nobody wants them twice.
        console.say(f"{name} is prepared already in '{root}'; to get its archives again, add --no-prepare")
        result["prepared"] = {"root": str(root)}
    else:
        refuse_unaccepted(facts, items, accepted=accept_terms)
        unpacked = 0 if no_prepare else sum(item.archive.unpacked for item in items if item.archive.url and item.left)
        check_space((folder, sum(item.left for item in items), "download"), (root, unpacked, "extract what came"))
        try:
            result["files"] = [_get(item.archive, item.todo, folder) for item in items if item.archive.url]
        except KeyboardInterrupt:
            console.say(f"what came so far is kept; to go on: {again}")
            raise
        refuse_by_hand(facts, items, folder, again)
        if no_prepare or not all((folder / a.name).is_file() for a in facts.archives if a.required):
            console.say(f"next: fam data prepare {name}" + (f" --from {shlex.quote(str(to))}" if to else ""))
        else:
            result["prepared"] = prepare_known(facts, folder, root, without_train=False, again=again)
    if as_json:
        console.result_json(result)
    else:
        console.result(str(root if result["prepared"] else folder))


def _get(archive: Archive, todo: str, folder: Path) -> dict[str, Any]:
    from famcli.data.public.catalog import human
    from famcli.data.public.download import fetch

    if todo != "there":
        console.say(f"{archive.name}: {human(archive.size) if archive.size else 'size unknown'} from {archive.url}")
    with console.progress(archive.name, archive.size, in_bytes=True) as step:
        found, new = fetch(archive, folder, step, console.say)
    pinned = "as published" if archive.hash else "not pinned: nobody states its hash, so it is taken as it is"
    console.say(f"{archive.name}: {found}, {pinned}")
    return {"file": archive.name, "path": str(folder / archive.name), "hash": found, "new": new}


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
    cells = [["?" if v is None else f"{v:,}" if isinstance(v, int) else v for v in row.values()] for row in rows]
    console.table(PLAN_COLUMNS, cells)
    console.say(
        f"{human(left)} to download, about {human(unpacked)} to extract, {human(free)} free at '{folder}'; "
        f"terms: {facts.terms} ({facts.terms_page})"
    )
