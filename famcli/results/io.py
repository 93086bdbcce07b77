"""Write and read the files of an evaluation: ``results.json``, ``results.md`` and ``images.jsonl``.

``images.jsonl`` is written and read line by line, so that memory does not grow with the number of images. A file and a
line are bounded, so that none can fill the memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import TypeAdapter

from famcli.results.images import ImageResult
from famcli.results.schema import FORMAT, FORMAT_VERSION, Results, check, dumps
from famcli.results.tables import markdown
from famcli_models import files
from famcli_models.errors import DataError

JSON_NAME, MARKDOWN_NAME, IMAGES_NAME = "results.json", "results.md", "images.jsonl"
MAX_BYTES = 64 * 2**20  # a table of 100,000 classes fits
MAX_LINE = 8 * 2**20  # bytes of an image

_RESULTS, _IMAGE = TypeAdapter(Results), TypeAdapter(ImageResult)


def to_json(results: Results) -> dict[str, Any]:
    """A result as JSON values, in the form of ``results.json``; what the schema refuses is an error."""
    fields: dict[str, Any] = json.loads(dumps(results))
    _checked(fields, "this result cannot be written")  # what is written can be read
    return {"format": FORMAT, "format_version": FORMAT_VERSION, **fields}


def write_results(folder: Path, results: Results) -> None:
    """Write ``results.json`` and ``results.md`` to a folder, made if absent; each is whole or not there."""
    page, document = markdown(results), to_json(results)
    write_pieces(folder / MARKDOWN_NAME, [page])
    write_pieces(folder / JSON_NAME, [dumps(document, indent=1), "\n"])


def write_evaluation(folder: Path, results: Results, images: Iterable[ImageResult]) -> None:
    """Write all files of an evaluation; ``results.json``, the last, never stands beside images of another one."""
    files.real_path(folder / JSON_NAME).unlink(missing_ok=True)
    write_images(folder / IMAGES_NAME, images)
    write_results(folder, results)


def write_all(path: Path, results: Sequence[Results]) -> None:
    """Write several results into one ``results.json``, as a list."""
    write_pieces(path, [dumps([to_json(one) for one in results], indent=1), "\n"])


def write_images(path: Path, images: Iterable[ImageResult]) -> None:
    """Write per-image results as they come; the file is whole or not there."""

    def lines() -> Iterator[str]:
        for image in images:
            try:
                yield dumps(image, allow_nan=False) + "\n"
            except ValueError as error:
                raise DataError(f"image '{image.name}' holds a number that is not finite; cannot write it") from error

    write_pieces(path, lines())


def write_pieces(path: Path, pieces: Iterable[str]) -> None:
    """Write a text as its pieces come; the file is whole or not there."""
    try:
        files.write_pieces(path, pieces)
    except OSError as error:
        raise DataError(f"cannot write '{path}': {error.strerror or error}; choose another --out") from error


def read_results(path: Path) -> Results:
    """Read a result.

    Args:
        path: ``results.json``, or the folder that holds it.

    Raises:
        DataError: The file is absent, too large, damaged, of another version, or has a value that is not what the
            schema says.
    """
    file = path / JSON_NAME if path.is_dir() else path
    return _result(read_document(file), file)


def read_all(path: Path) -> tuple[Results, ...]:
    """Read a file of one result, or of a list of several, as packaged models have; raises as :func:`read_results`."""
    document = read_document(path)
    return tuple(_result(one, path) for one in (document if isinstance(document, list) else [document]))


def read_images(path: Path) -> Iterator[ImageResult]:
    """Read per-image results one at a time.

    Raises:
        DataError: The file is absent, or a line is damaged or not what ``fam eval`` writes.
    """
    with _opened(path) as stream:
        for number, line in enumerate(iter(lambda: stream.readline(MAX_LINE + 1), b""), 1):
            where = f"line {number} of '{path}'"
            if len(line) > MAX_LINE:
                raise DataError(f"{where} is longer than {MAX_LINE >> 20} MiB; write it again with fam eval")
            cut = "" if line.endswith(b"\n") else ", and its end is missing"
            document = _parsed(line, f"{where} is no JSON{cut}; write it again with fam eval")
            yield check(_IMAGE, document, f"{where} is no result of an image")


def read_document(file: Path, command: str = "fam eval") -> Any:
    """The JSON values of a file that a command wrote; one that is absent, too large or damaged is a ``DataError``."""
    with _opened(file) as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise DataError(f"'{file}' is larger than {MAX_BYTES >> 20} MiB; is it a file that {command} --out wrote?")
    return _parsed(content, f"'{file}' is damaged: it is no JSON; write it again with {command} --out {file.parent}")


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    try:
        with files.open_regular(file) as stream:
            yield stream
    except FileNotFoundError as error:
        raise DataError(f"'{file}' does not exist; write it with fam eval --out {file.parent}") from error
    except OSError as error:
        raise DataError(f"cannot read '{file}': {error.strerror or error}") from error


def _parsed(content: bytes, otherwise: str) -> Any:
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(otherwise) from error


def _result(document: Any, file: Path) -> Results:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise DataError(f"'{file}' is no result of fam: its 'format' is not '{FORMAT}'; fam eval --out writes one")
    version = document.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise DataError(f"'{file}' has format version {str(version)[:20]}; this version of fam reads {FORMAT_VERSION}")
    return _checked(document, f"'{file}' is damaged")


def _checked(document: Any, of: str) -> Results:
    """The schema, and what values have to do with each other."""
    found = check(_RESULTS, document, of)
    titles = [row.title for row in found.rows]
    wrong = "" if len(set(titles)) == len(titles) else "rows have to have different titles"
    for row in found.rows:
        if row.curve is not None and len(row.curve) != len(found.taus):
            wrong = f"the curve of row '{row.title}' has {len(row.curve)} values, and there are {len(found.taus)} taus"
    for difference in found.differences:
        if not {difference.of, difference.minus} <= set(titles):
            wrong = f"a difference is between '{difference.of}' and '{difference.minus}', which are not both rows"
    if wrong:
        raise DataError(f"{of}: {wrong}")
    return found
