"""Write and read ``results.json``, the numbers of an evaluation with all that belongs to them, and ``results.md``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from famcli.results.markdown import markdown
from famcli.results.schema import FORMAT, FORMAT_VERSION, Results, check, dumps, parse
from famcli_models.errors import DataError
from famcli_models.files import write_atomic

JSON_NAME, MARKDOWN_NAME = "results.json", "results.md"
MAX_BYTES = 64 * 2**20  # a table of 100,000 classes fits

_SCHEMA = TypeAdapter(Results)


def to_json(results: Results) -> dict[str, Any]:
    """A result as JSON values, in the form of ``results.json``.

    Raises:
        DataError: A value is not what the schema says, NaN and Infinity included.
    """
    fields: dict[str, Any] = json.loads(dumps(results))
    _checked(fields, "this result cannot be written")  # what is written can be read
    return {"format": FORMAT, "format_version": FORMAT_VERSION, **fields}


def write_results(folder: Path, results: Results) -> None:
    """Write ``results.json`` and ``results.md``; each is whole or not there.

    Args:
        folder: It is created if it is absent.
        results: What was measured.

    Raises:
        DataError: A value is not what the schema says, NaN and Infinity included, or the files cannot be written.
    """
    page, document = markdown(results), to_json(results)
    _write(folder / MARKDOWN_NAME, page)
    _write(folder / JSON_NAME, dumps(document, indent=1) + "\n")


def write_all(path: Path, results: Sequence[Results]) -> None:
    """Write several results into one file, as a list.

    Args:
        path: ``results.json``.
        results: What was measured, by data set.

    Raises:
        DataError: As of :func:`write_results`.
    """
    _write(path, dumps([to_json(one) for one in results], indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    # A name with bytes that are no text becomes \udcXX, which is what JSON calls it.
    content = text.encode("utf-8", errors="backslashreplace")
    try:
        write_atomic(path, lambda temporary: temporary.write_bytes(content))
    except OSError as error:
        msg = f"cannot write '{path}': {error.strerror or error}; choose another --out"
        raise DataError(msg) from error


def read_results(path: Path) -> Results:
    """Read a result.

    Args:
        path: ``results.json``, or the folder that holds it.

    Raises:
        DataError: The file is absent, too large, damaged, of another version, or has a value that is not what the
            schema says.
    """
    file = path / JSON_NAME if path.is_dir() else path
    return _read(_parsed(file), file)


def read_all(path: Path) -> tuple[Results, ...]:
    """Read a file of one result, or of a list of several, such as a packaged checkpoint has.

    Raises:
        DataError: As of :func:`read_results`.
    """
    document = _parsed(path)
    return tuple(_read(one, path) for one in (document if isinstance(document, list) else [document]))


def _parsed(file: Path) -> Any:
    if not file.is_file():
        msg = f"'{file}' does not exist; write it with fam eval --out {file.parent}"
        raise DataError(msg)
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        msg = f"cannot read '{file}': {error.strerror or error}"
        raise DataError(msg) from error
    if len(content) > MAX_BYTES:
        msg = f"'{file}' is larger than {MAX_BYTES >> 20} MiB, which no result needs; is it one of fam eval --out?"
        raise DataError(msg)
    try:
        return parse(content)
    except ValueError as error:
        msg = f"'{file}' is damaged: it is no JSON; write it again with fam eval --out {file.parent}"
        raise DataError(msg) from error


def _read(document: Any, file: Path) -> Results:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        msg = f"'{file}' is no result of fam: its 'format' is not '{FORMAT}'; fam eval --out writes one"
        raise DataError(msg)
    version = document.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        msg = f"'{file}' has format version {str(version)[:20]}; this version of fam reads {FORMAT_VERSION}"
        raise DataError(msg)
    return _checked(document, f"'{file}' is damaged")


def _checked(document: Any, of: str) -> Results:
    """The schema, and what values have to do with each other."""
    found = check(_SCHEMA, document, of)
    titles = [row.title for row in found.rows]
    wrong = "" if len(set(titles)) == len(titles) else "rows have to have different titles"
    for row in found.rows:
        if row.curve is not None and len(row.curve) != len(found.taus):
            wrong = f"the curve of row '{row.title}' has {len(row.curve)} values, and there are {len(found.taus)} taus"
    for difference in found.differences:
        if not {difference.of, difference.minus} <= set(titles):
            wrong = f"a difference is between '{difference.of}' and '{difference.minus}', which are not both rows"
    if wrong:
        msg = f"{of}: {wrong}"
        raise DataError(msg)
    return found
