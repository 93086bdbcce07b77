"""Image folders, patterns and lists of names with something wrong in them, from a seed."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image
from runner import Case

# What is put around a name: its file is a file all the same.
ODD_NAMES = (
    "{} [1]{}",
    "[{}]{}",
    " {} {}",
    "-{}{}",
    "~{}{}",
    "={}+1{}",
    "{}\n{}",
    "{}\x1b[31m{}",
    "{}\u202e{}",
    "{}\ufeff{}",
    "{}\udcff\udce9{}",
    "{}\\{}",
    "{}'\"{}",
    "{}%s{{0}}{}",
    "{}\u0301\U0001f600{}",
    "{}" + "x" * 200 + "{}",
    "{}*{}",
    "{}?{}",
    "{}, {}",
    "{}.mask.png{}",
)
HEADS = (
    b"",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    b"a.jpg\nb.jpg\n",
    b"GIF89a",
    b"\0\0\0\x20ftypmp42" + bytes(40),
    b"\0\0\0\x20ftypavif" + bytes(40),
    b"\xff\xd8\xff\xe0\0\x10JFIF",
    b"\x89PNG\r\n\x1a\n" + bytes(20),
    b"<?xml version='1.0'?>" * 100,
    bytes(3000),
)


class Folder:
    """A folder that is filled at random; ``bad`` are parts of the names of what has to be reported, once each."""

    def __init__(self, path: Path, rng: random.Random) -> None:
        self.path, self.rng = path, rng
        self.bad: list[str] = []
        self.good: list[str] = []
        self.names: list[str] = []  # of all files that are to be read, relative to the folder

    def place(self, tag: str, suffix: str = "") -> Path:
        """A new path for a name that contains a tag, maybe odd, maybe deep."""
        suffix = suffix or self.rng.choice((".jpg", ".PNG", ".webp", ".tif"))
        name = self.rng.choice(ODD_NAMES).format(tag, suffix) if self.rng.random() < 0.5 else tag + suffix
        folder = self.path.joinpath(*self.rng.choices(("sub", "a [2]", "é", "d"), k=self.rng.choice((0, 0, 1, 3))))
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def add_good(self) -> None:
        """An image."""
        tag = f"good{len(self.good)}x"
        path = self.place(tag)
        Image.new("RGB", (self.rng.randint(1, 60), self.rng.randint(1, 60)), "red").save(path, "PNG")
        self.good.append(tag)
        self.names.append(os.path.relpath(path, self.path))

    def add_bad(self) -> None:
        """Something with the name of an image that is none."""
        tag = f"bad{len(self.bad)}x"
        path = self.place(tag)
        kind = self.rng.randrange(8)
        if kind == 0:
            os.mkfifo(path)
        elif kind == 1:
            here = os.getcwd()
            os.chdir(path.parent)  # the path of a socket is short
            with socket.socket(socket.AF_UNIX) as server:
                path = path.with_name(f"{tag}.jpg")
                server.bind(path.name)
            os.chdir(here)
        elif kind == 2:
            path.symlink_to(
                self.rng.choice(("/dev/zero", "/dev/tty", path.name, "nowhere", "x" * 255, "/proc/self/mem"))
            )
        else:
            path.write_bytes(self.rng.choice(HEADS))
        self.bad.append(tag)
        self.names.append(os.path.relpath(path, self.path))

    def add_others(self) -> None:
        """What is left out by a rule."""
        for name in self.rng.sample(
            (".hidden.jpg", "notes.txt", "x.jfif", "a.jpg.overlay.jpg", "no-suffix", "y.mp4"), 3
        ):
            (self.path / name).write_bytes(b"x")
        for name, target in {"up": "..", "self": ".", "circle": "circle", "gone": "nowhere", "root": "/"}.items():
            if self.rng.random() < 0.4:
                (self.path / name).symlink_to(target)
        if self.rng.random() < 0.3:
            os.mkfifo(self.path / "pipe")
        (self.path / "folder.jpg").mkdir(exist_ok=True)


def searched(folder: Folder) -> tuple[list[str], bytes | None]:
    """The folder, or a pattern for all that is in it."""
    return [folder.rng.choice((".", "./", str(folder.path), "../work"))], None


def matched(folder: Folder) -> tuple[list[str], bytes | None]:
    """A pattern for each suffix, and one that nothing matches."""
    suffixes = {os.path.splitext(name)[1] for name in folder.names}
    folder.bad.append("nothing-like-it")
    return [*(f"**/*{suffix}" for suffix in sorted(suffixes)), "nothing-like-it*[ab]?"], None


def named(folder: Folder) -> tuple[list[str], bytes | None]:
    """Each file, and some that are not there."""
    return [*(f"./{name}" for name in (*folder.names, *_gone(folder)))], None


def listed(folder: Folder) -> tuple[list[str], bytes | None]:
    """A list on standard input, in one of the forms that programs write."""
    names = [name for name in (*folder.names, *_gone(folder)) if name != "-"]
    folder.rng.shuffle(names)
    lines = any("\n" in name or name.startswith("\ufeff") for name in names)
    bare = any("\udc80" <= c <= "\udcff" for name in names for c in name)
    form = folder.rng.choice(["nul"] if lines else ["nul", "lf", "crlf", "mark", *([] if bare else ["utf-16"])])
    if form == "utf-16":
        return ["-"], "\n".join(names).encode("utf-16")
    end = {"nul": "\0", "crlf": "\r\n"}.get(form, "\n")
    return ["-"], (b"\xef\xbb\xbf" if form == "mark" else b"") + os.fsencode("".join(name + end for name in names))


def _gone(folder: Folder) -> list[str]:
    """Names of files that are not there."""
    gone = []
    for form in folder.rng.sample(("{}[1].jpg", "{}/x.jpg", "{}" + "x" * 300, "~/{}.jpg", "{}.tar", "../{}.png"), 2):
        folder.bad.append(f"bad{len(folder.bad)}x")
        gone.append(form.format(folder.bad[-1]))
    return gone


ROADS: tuple[Callable[[Folder], tuple[list[str], bytes | None]], ...] = (searched, matched, named, listed)
# What is no list of names at all, on standard input.
NO_LISTS = (
    b"",
    b"\n" * 100,
    bytes(200_000),
    b"\xff\xfe",
    b"\xff\xfe\0\xd8" * 9,
    b"x" * 200_000,
    b"\xff\xd8\xff" + bytes(range(256)) * 9,
    b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9,
)
# Lines for the image good.jpg.
LABELS = (
    b"good.jpg," + b"9" * 5000,
    b'"' + b"x" * 200_000 + b'",cup',
    b'"good.jpg,cup',
    b"good.jpg,",
    b"good.jpg",
    b",,,,\n" * 1000,
    b"good.jpg,cup\ngood.jpg,dog",
    b"good.jpg,\x1b[31mcup",
    b"good.jpg,c\xff\xfep",
    b"good.jpg,cup\0good.jpg,cup",
    "good.jpg,cup\n".encode("utf-16"),
    b"\xef\xbb\xbfgood.jpg,cup",
    b"\xff\xfegood",
    bytes(100_000),
    b"\r\n" * 10,
    b"good.jpg," + b"[" * 60_000,
    b"good.jpg,=1+1",
    b"",
)


def inputs(rng: random.Random, new_folder: Callable[[], Path], model: Path) -> Iterator[Case]:
    """Cases without end: folders, patterns, names and lists, and now and then labels and what is no list."""
    options = ["--model", str(model), "--engine", "torch", "--device", "cpu"]
    while True:
        path = new_folder()
        if rng.random() < 0.1:
            (path / "list").write_bytes(rng.choice(NO_LISTS))
            yield Case("no list", str(path), ["predict", "-", *options], codes=(1,), stdin="list")
        elif rng.random() < 0.2:
            Image.new("RGB", (40, 30), "red").save(path / "good.jpg")
            content = rng.choice(LABELS)
            (path / "labels.csv").write_bytes(content)
            labels = ["--labels", rng.choice(("labels.csv", "labels.csv", "~/l.csv", "/dev/zero", ".", "https://x/y"))]
            yield Case(f"labels {content[:40]!r}", str(path), ["predict", ".", *labels, *options], codes=(0, 1))
        else:
            folder = Folder(path, rng)
            for _ in range(rng.randint(1, 4)):
                folder.add_good()
            for _ in range(rng.randint(0, 6)):
                folder.add_bad()
            road = rng.choice(ROADS)
            if road in (searched, matched):
                folder.add_others()
            arguments, stdin = road(folder)
            if stdin is not None:
                (path / "list").write_bytes(stdin)
            form = rng.choice(
                ([], ["--format", "csv"], ["--out", "o.json"], ["--out", "o.jsonl"], ["--overlays", "ov"])
            )
            yield Case(
                f"{road.__name__}, seed of {len(folder.names)} files",
                str(path),
                ["predict", *arguments, *form, *options],
                codes=(int(bool(folder.bad)),),
                named=tuple(folder.bad),
                silent=tuple(folder.good),
                stdin=None if stdin is None else "list",
            )
