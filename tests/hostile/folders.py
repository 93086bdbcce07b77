"""Malformed data sets: good ones of four pictures, in every form that is read, each with something wrong."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from runner import Case

NAMES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")
BOX = (4, 5, 20, 25)  # half-open corners in pictures of 40 x 30
TEXTS = (
    *(
        "",
        "-1",
        "0",
        "1.5",
        "1e999",
        "nan",
        "9" * 5000,
        "true",
        "é",
        "\udcff",
        "x" * 100_000,
        "\x1b[31m",
        "\u202e",
        "\0",
    ),
    *(
        "../../x",
        "/dev/zero",
        "a\\b.jpg",
        "b.jpg",
        ",",
        '"',
        "<x>",
        "&x;",
        "\n",
        "\r",
        "'=1",
        "=1+1",
        "\ufeff",
        "[" * 9000,
    ),
)
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 1e308, float("nan"), float("-inf"), 10**4000, [], {}, [[]], [1, 2, 3, 4], {"id": 1}),
    *(text.replace("\udcff", "\ud800") for text in TEXTS),
)


def coco(folder: Path) -> list[Path]:
    """A COCO file."""
    x0, y0, x1, y1 = BOX
    data = {
        "images": [{"id": i, "file_name": name, "width": 40, "height": 30} for i, name in enumerate(NAMES, 1)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1 + i % 2, "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}
            for i in range(1, 5)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    (folder / "instances_test.json").write_text(json.dumps(data))
    return [folder / "instances_test.json"]


def table(folder: Path) -> list[Path]:
    """A CSV file."""
    lines = [f"{name},{'cat' if i % 2 else 'dog'},{','.join(map(str, BOX))},test" for i, name in enumerate(NAMES)]
    (folder / "data.csv").write_text("\n".join(["image,label,x0,y0,x1,y1,split", *lines, ""]))
    return [folder / "data.csv"]


def voc(folder: Path) -> list[Path]:
    """XML files beside the pictures."""
    corners = "".join(f"<{key}>{v}</{key}>" for key, v in zip(("xmin", "ymin", "xmax", "ymax"), BOX, strict=True))
    for name in NAMES:
        text = (
            f"<annotation><filename>{name}</filename><size><width>40</width><height>30</height></size>"
            f"<object><name>cat</name><bndbox>{corners}</bndbox></object></annotation>"
        )
        (folder / name).with_suffix(".xml").write_text(text)
    return [(folder / name).with_suffix(".xml") for name in NAMES]


def lists(folder: Path) -> list[Path]:
    """wsolevaluation's lists."""
    split = folder / "metadata" / "test"
    split.mkdir(parents=True)
    (split / "image_ids.txt").write_text("".join(f"{name}\n" for name in NAMES))
    (split / "class_labels.txt").write_text("".join(f"{name},{i % 2}\n" for i, name in enumerate(NAMES)))
    (split / "image_sizes.txt").write_text("".join(f"{name},40,30\n" for name in NAMES))
    (split / "localization.txt").write_text("".join(f"{name},4,5,19,24\n" for name in NAMES))
    (folder / "classes.txt").write_text("cat\ndog\n")
    return [*sorted(split.iterdir()), folder / "classes.txt"]


def prepared(folder: Path) -> list[Path]:
    """A dataset that this program has prepared."""
    files = lists(folder)
    about = {"format": "fam-dataset", "format_version": 1, "name": "set", "images": ".", "fullsup": None, "facts": {}}
    counts = {"test": {"images": 4, "boxes": 4}}
    (folder / "dataset.json").write_text(json.dumps({**about, "counts": counts, "class_names": ["cat", "dog"]}))
    return [*files, folder / "dataset.json"]


FORMS: tuple[Callable[[Path], list[Path]], ...] = (coco, table, voc, lists, prepared)


def replaced(path: Path, rng: random.Random) -> None:
    """Something else has the file's name."""
    content = path.read_bytes()
    path.unlink()
    kind = rng.choice(
        ("pipe", "socket", "folder", "/dev/zero", "/dev/full", "nowhere", path.name, "to-pipe", "to-itself")
    )
    if kind in ("pipe", "to-pipe"):
        os.mkfifo(path if kind == "pipe" else path.with_name("elsewhere"))
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # names of sockets are short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
        os.chdir(here)
    elif kind == "folder":
        path.mkdir()
    elif kind == "to-itself":
        path.with_name("elsewhere").write_bytes(content)
    else:
        path.symlink_to(kind)
    if kind.startswith("to-"):
        path.symlink_to("elsewhere")


def damaged(path: Path, rng: random.Random) -> None:
    """Bytes are changed, lost or doubled."""
    content = path.read_bytes()
    place = rng.randrange(len(content))
    path.write_bytes(
        rng.choice(
            (
                b"",
                content[:place],
                content * 2,
                content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :],
                content[:place] + b"\0" + content[place:],
                content[:place] + b"\xff\xfe" + content[place:],
                content.decode().encode("utf-16"),
                b"\xef\xbb\xbf" + content,
                content.replace(b"\n", b"\r\n"),
                content.replace(b"\n", b"\r"),
                b"[" * 100_000 + content,
                content + b"x" * 2_000_000,
            )
        )
    )


def edited(path: Path, rng: random.Random) -> None:
    """A value is another one, of another kind, or gone."""
    text = path.read_text()
    if path.suffix == ".json":
        data = json.loads(text)
        places: list[tuple[Any, Any]] = []
        waiting: list[Any] = [data]
        while waiting:
            inside = waiting.pop()
            for key in inside if isinstance(inside, dict) else range(len(inside)):
                places.append((inside, key))
                if isinstance(inside[key], dict | list):
                    waiting.append(inside[key])
        inside, key = rng.choice(places)
        if rng.random() < 0.2:
            del inside[key]
        elif isinstance(inside, list) and rng.random() < 0.2:
            inside.append(inside[key])
        else:
            inside[key] = rng.choice(VALUES)
        path.write_text(json.dumps(data))
        return
    found = rng.choice(list(re.finditer(r"[^,<>\n/]+", text)))
    changed = text[: found.start()] + rng.choice(TEXTS) + text[found.end() :]
    path.write_text(changed, encoding="utf-8", errors="surrogateescape", newline="")


# What contradicts itself or the pictures: a change of the COCO file, and what the one line about it names.
CONTRADICTIONS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "category twice": (lambda d: d["categories"].append({"id": 1, "name": "cow"}), "categories[2]"),
    "image id twice": (lambda d: d["images"][2].update(id=1), "images[2]"),
    "file under two ids": (lambda d: d["images"][2].update(file_name="./a.jpg"), "images[2]"),
    "fractional image id": (lambda d: d["images"][1].update(id=1.5), "images[1]"),
    "no id": (lambda d: d["images"][3].pop("id"), "images[3]"),
    "no name": (lambda d: d["images"][3].update(file_name=7), "images[3]"),
    "half a character": (lambda d: d["images"][3].update(file_name="\ud800.jpg"), "images[3]"),
    "fractional category": (lambda d: d["annotations"][1].update(category_id=1.5), "annotations[1]"),
    "unknown category": (lambda d: d["annotations"][1].update(category_id=9), "annotations[1]"),
    "unknown image": (lambda d: d["annotations"][1].update(image_id="1.5"), "annotations[1]"),
    "crowd as text": (lambda d: d["annotations"][2].update(iscrowd="0"), "annotations[2]"),
    "negative box": (lambda d: d["annotations"][3].update(bbox=[24, 25, -20, -20]), "annotations[3]"),
    "empty box": (lambda d: d["annotations"][3].update(bbox=[4, 5, 0, 20]), "annotations[3]"),
    "three numbers": (lambda d: d["annotations"][0].update(bbox=[4, 5, 20]), "annotations[0]"),
    "box as text": (lambda d: d["annotations"][0].update(bbox="1234"), "annotations[0]"),
    "box outside": (lambda d: d["annotations"][0].update(bbox=[30, 5, 20, 20]), "a.jpg"),
    "size of another picture": (lambda d: d["images"][0].update(width=80, height=60), "a.jpg"),
    "turned size": (lambda d: d["images"][0].update(width=30, height=40), "a.jpg"),
}
COMMANDS = (
    ("data", "prepare", "x", "--from", "set", "--out", "out"),
    ("data", "convert", "set", "--to", "wsol", "--out", "out"),
    ("data", "convert", "set", "--to", "coco", "--out", "out"),
    ("eval", "--data", "set", "--predictions", "boxes.json"),
    ("data", "check", "set", "--fast"),
    ("data", "check", "set"),
    ("data", "info", "set", "--json"),
)
READING = 4  # of the commands refuse what cannot be true; the others are for looking at it


def old(folder: Path) -> None:
    """Let the files be older than what a command writes."""
    for path in folder.rglob("*.json"):
        os.utime(path, (1, 1), follow_symlinks=False)


def cases(rng: random.Random, count: int, new_folder: Callable[[], Path]) -> Iterator[Case]:
    """So many data sets, each with a command that reads it; the contradictions come first, once each, in any order."""
    contradictions = rng.sample(sorted(CONTRADICTIONS), min(len(CONTRADICTIONS), count // 4))
    for number in range(count):
        folder = new_folder()
        good = folder / "set"
        good.mkdir()
        for name in NAMES:
            Image.new("RGB", (40, 30)).save(good / name)
        env = {"FAM_DATA": str(folder / "home")}
        form = coco if number < len(contradictions) else rng.choice(FORMS)
        path = rng.choice(form(good))
        boxes = [{"image_id": 1, "category_id": 1, "bbox": [4, 5, 16, 20], "score": 0.5}]
        (folder / "boxes.json").write_text(json.dumps(boxes))
        if number < len(contradictions):
            name = contradictions[number]
            change, named = CONTRADICTIONS[name]
            data = json.loads(path.read_text())
            change(data)
            path.write_text(json.dumps(data))
            old(folder)
            command = rng.choice(COMMANDS[:READING])
            yield Case(name, str(folder), list(command), codes=(1,), named=(named,), env=env)
            continue
        change_file = rng.choice((replaced, damaged, edited, edited))
        change_file(path, rng)
        if rng.random() < 0.1:  # the pictures are gone too
            shutil.rmtree(good / "metadata", ignore_errors=True)
            (good / NAMES[0]).unlink()
        old(folder)
        name = f"{form.__name__}, {path.name} {change_file.__name__}"
        yield Case(name, str(folder), list(rng.choice(COMMANDS)), codes=(0, 1), env=env)
