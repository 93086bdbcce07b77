"""``fam data list``."""

from __future__ import annotations

from famcli.cli.console import console
from famcli.cli.options import JsonOption, QuietOption

COLUMNS = ("name", "dataset", "classes", "images", "download", "state", "terms")


def list_datasets(
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """List the datasets that fam knows, and how far each is on this machine.

    Example: fam data list
    """
    from famcli.data.catalog import CATALOG
    from famcli.data.dataset import data_home, open_dataset
    from famcli.data.disk import human
    from famcli.data.plan import prepared_names, state_of

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
            "state": state_of(facts.name, home),
        }
        for facts in CATALOG.values()
    ]
    for name in prepared_names(home):
        own = open_dataset(home / name)
        counts = {split: count["images"] for split, count in own.facts.get("counts", {}).items()}
        found.append(
            {
                "name": name,
                "title": "your own",
                "classes": len(own.class_names),
                "images": counts,
                "bytes": None,
                "login": False,
                "terms": "",
                "terms_page": "",
                "state": "prepared",
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
