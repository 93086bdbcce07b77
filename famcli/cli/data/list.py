"""``fam data list``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from famcli.cli.console import console
from famcli.cli.options import JsonOption, QuietOption

if TYPE_CHECKING:
    from famcli.data.dataset import Dataset

DAMAGED = "damaged"
COLUMNS = ("name", "dataset", "classes", "images", "download", "state", "terms")


def list_datasets(
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """List the datasets that fam knows, and how far each is on this machine.

    Example: fam data list
    """
    from famcli.data.dataset import data_home
    from famcli.data.public.catalog import CATALOG, human
    from famcli.data.public.plan import prepared_names

    home = data_home()
    found = [
        {
            "name": facts.name,
            "title": facts.title,
            "classes": facts.classes,
            "images": facts.counts,
            "bytes": sum(a.size or 0 for a in facts.archives if a.required) or None,
            "login": any(a.url is None for a in facts.archives if a.required),
            "terms": facts.terms,
            "terms_page": facts.terms_page,
            "state": _state(facts.name, home),
        }
        for facts in CATALOG.values()
    ]
    for name in prepared_names(home):
        own = _opened(home / name)
        counts = {s: n.get("images", 0) for s, n in own.facts.get("counts", {}).items()} if own else {}
        found.append(
            {
                "name": name,
                "title": "your own",
                "classes": len(own.class_names) if own else 0,
                "images": counts,
                "bytes": None,
                "login": False,
                "terms": "",
                "terms_page": "",
                "state": "prepared" if own else DAMAGED,
            }
        )
    if as_json:
        console.result_json({"home": str(home), "datasets": found})
        return
    rows = []
    for row in found:
        images, size = row["images"], row["bytes"]
        splits = ", ".join(f"{split} {n:,}" for split, n in images.items()) if isinstance(images, dict) else ""
        download = (human(size) if isinstance(size, int) else "") + (" by hand" if row["login"] else "")
        rows.append([*(str(row[k]) for k in ("name", "title", "classes")), splits, download.strip(), str(row["state"])])
        rows[-1].append(str(row["terms"]))
    console.table(COLUMNS, rows)
    console.say(f"data home: {home} (the environment variable FAM_DATA moves it)")


def _state(name: str, home: Path) -> str:
    from famcli.data.public.plan import state_of

    state = state_of(name, home)
    return DAMAGED if state == "prepared" and _opened(home / name) is None else state


def _opened(root: Path) -> Dataset | None:
    """A prepared dataset; one that cannot be opened is told of, and does not hide the others."""
    from famcli.data.dataset import open_dataset
    from famcli_models.errors import DataError

    try:
        return open_dataset(root)
    except DataError as error:
        console.warn(f"{root.name} is damaged and must be prepared again: {error}")
        return None
