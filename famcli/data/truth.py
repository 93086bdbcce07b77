"""Whether true boxes and stated sizes fit their images: the one policy, for every way that truth is read.

A box must have an area and lie in the upright image; tools round differently, so it may reach out by a pixel.
A stated size must be that of the upright image: otherwise boxes were drawn on another picture, or on unturned pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from famcli.data.images import TURNED, Header, read_headers
from famcli.data.sample import Sample
from famcli_models.errors import DataError, short

SLACK = 1.0  # pixels that a box may reach out of its image: inclusive corners and corners from 1 are off by one


def area_fault(x0: float, y0: float, x1: float, y1: float) -> str:
    """What is wrong with the sides of a box, in words behind it; empty if nothing is."""
    if x1 < x0 or y1 < y0:
        return "whose width or height is negative"
    return "which has no area" if x1 == x0 or y1 == y0 else ""


def size_fault(stated_hw: tuple[int, int], header: Header) -> str:
    """What is wrong with a stated size, in words behind the image's name; empty if nothing is."""
    if stated_hw == header.size_hw:
        return ""
    (height, width), (h, w) = stated_hw, header.size_hw
    if header.orientation in TURNED and stated_hw == (w, h):
        turned = f"is {w}x{h} when its EXIF orientation is applied; sizes and boxes must be of the upright image"
        return f"is given as {width}x{height}, but {turned}"
    return f"is given as {width}x{height}, but is {w}x{h}; boxes must be in the pixels of the image"


def truth_faults(sample: Sample, header: Header | DataError) -> Iterator[tuple[str, str]]:
    """Problems of a sample in a few words, each with an example; an image that cannot be read has its stated size."""
    if isinstance(header, Header) and sample.size_hw and (why := size_fault(sample.size_hw, header)):
        yield "wrong image size", f"{short(sample.name)} {why}"
    size_hw = header.size_hw if isinstance(header, Header) else sample.size_hw
    for x0, y0, x1, y1 in sample.boxes.tolist():
        box = f"{short(sample.name)} ({x0:g},{y0:g},{x1:g},{y1:g}"
        if why := area_fault(x0, y0, x1, y1):
            yield "box without area", f"{box}, {why})"
        elif size_hw and min(size_hw) > 2 and max(x1, y1) <= 1:
            yield "box within one pixel", f"{box}; boxes are in pixels of the image, not in shares of it)"
        elif min(x0, y0) < -SLACK or (size_hw and (x1 > size_hw[1] + SLACK or y1 > size_hw[0] + SLACK)):
            yield "box outside the image", f"{box}" + (f" of {size_hw[1]}x{size_hw[0]})" if size_hw else ")")


def check_truth(samples: Sequence[Sample], origin: str, command: str) -> None:
    """Refuse samples whose boxes or stated sizes cannot be true, by the first problem; this reads headers of images.

    ``origin`` begins the message, and ``command`` is one that lists all that is wrong.
    """
    stated = [sample for sample in samples if len(sample.boxes) or sample.size_hw]
    first: tuple[str, str] | None = None
    counts: Counter[str] = Counter()
    known: set[str] = set()
    for sample, header in zip(stated, read_headers(sample.path for sample in stated), strict=True):
        faults = {"listed twice": short(sample.name)} if sample.name in known else {}
        for problem, example in truth_faults(sample, header):
            faults.setdefault(problem, example)  # an image counts once
        known.add(sample.name)
        first = first or next(iter(faults.items()), None)
        counts.update(faults.keys())
    if first:
        problem, example = first
        others = f" ({counts[problem]:,} such images)" if counts[problem] > 1 else ""
        raise DataError(f"{origin}: {problem}: {example}{others}; '{command}' lists what is wrong")
