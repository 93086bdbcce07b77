"""Gray and colour values of more than 8 bits to 8: the rule by which a range of values is shown from black to white.

``auto`` looks at the values themselves, because files seldom say how many of their bits are used:

* Values that are not finite do not count, nor does a smallest or largest value that is farther from all the others than
  10 times their range: it stands for missing data. Of the rest the 0.1 and 99.9 percentiles are LOW and HIGH.
* Integers are of 8, 10, 12 or 14 bits if these hold HIGH, else of all that their kind has, such as 16, and shown from 0
  to the largest such value; a file that says that it has 12 bits has these.
* Floats are shown from 0 to 1 if HIGH is at most 1.1, because resampling overshoots, else as integers are.
* Values below 0 are shown from -1 to 1 if they lie there; if not, and where LOW and HIGH are closer than a sixteenth of
  the range that would hold them (of 0 to 1 a 256th), LOW is black and HIGH is white.

So the same picture looks the same in any depth. Values outside of the range are black or white.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image

from famcli_models.errors import ConfigError, shown

AUTO_RANGE: Final = "auto"
CONTAINER_RANGE: Final = "container"
ValueRange = str | tuple[float, float]  # AUTO_RANGE, CONTAINER_RANGE, or what is black and what is white
STEPS = (8, 10, 12, 14, 16)  # bits that cameras and scanners use
KINDS = (15, 16, 31, 32)  # bits of positive integers of a kind
PERCENTILES = (0.1, 99.9)
OVERSHOOT = 0.1  # of the range, by which floats may lie outside of it
FAR = 10  # times the range of all other values: what is farther from them is no value
FEW = 16  # different values, of which none is called far
SAMPLE_SIDE = 1024  # pixels a side that are looked at for the range
PART = 1 << 18  # pixels that are worked on at once
BITS, PHOTOMETRIC, FORMAT = 258, 262, 339  # tags of a TIFF
WHITE_IS_ZERO, UNSIGNED = 0, 1


def parse_range(text: str) -> ValueRange:
    """``auto``, ``container`` or ``LOW,HIGH``."""
    if text in (AUTO_RANGE, CONTAINER_RANGE):
        return text
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = 0.0
    if not -np.inf < low < high < np.inf:
        raise ConfigError(f"{shown(text)} is no range of values: give auto, container, or LOW,HIGH such as 0,4095")
    return low, high


def shown_range(sample: np.ndarray, bits: int = 16) -> tuple[float, float]:
    """What is black and what is white by the rule of ``auto``, of some values; positive integers have so many bits."""
    floats = sample.dtype.kind == "f"
    if not floats and bits not in KINDS:
        return 0.0, 2.0**bits - 1
    finite = sample[np.isfinite(sample)].astype(np.float64)
    first, last = _ends(np.unique(finite))
    inside = finite[(finite >= first) & (finite <= last)]
    if not inside.size:
        return 0.0, 1.0
    low, high = np.percentile(inside, PERCENTILES).tolist()
    slack = OVERSHOOT if floats else 0.0
    steps = [2.0**step - 1 for step in (*(step for step in STEPS if step + 2 <= bits), bits)]
    fulls = [1.0, *steps] if floats else steps
    full = next((full for full in fulls if high <= full * (1 + slack)), np.inf)
    # What 8 bits would show as one gray is spread; the smallest range is that of 8 bits, or of floats up to 1.
    narrow = 0 if full == fulls[0] == 255 else 256 if full == fulls[0] else 16
    if low >= -full * slack and (not narrow or full < narrow * (high - low)):
        return 0.0, full
    return (-1.0, 1.0) if full == 1 and -1 - slack <= low < -full * slack else (low, high)


def _ends(values: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest of sorted values that stand for no missing data."""
    first, last = 0, len(values) - 1
    while last - first > FEW:
        if values[last] - values[last - 1] > FAR * (values[last - 1] - values[first]):
            last -= 1
        elif values[first + 1] - values[first] > FAR * (values[last] - values[first + 1]):
            first += 1
        else:
            break
    return (float(values[first]), float(values[last])) if len(values) else (0.0, 0.0)


def is_deep(image: Image.Image) -> bool:
    """Whether an image has one value of more than 8 bits a pixel."""
    return image.mode.startswith("I") or image.mode == "F"


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values to uint8, ``low`` to 0 and ``high`` to 255; what is not finite is 0."""
    if not low < high:
        return np.zeros(values.shape, np.uint8)
    finite = np.where(np.isfinite(values), values, low)
    return ((finite.clip(low, high).astype(np.float64) - low) * (255 / (high - low))).round().astype(np.uint8)


@dataclass(frozen=True, slots=True)
class DeepImage:
    """An image whose values have more than 8 bits.

    Attributes:
        image: Gray of any deep mode; or the upper bytes of colours of 16 bits.
        low: The lower bytes of colours.
        bits: Of a positive integer, as far as the file says so.
        unsigned: Values of 32 bits that Pillow took for signed ones.
        inverted: 0 is white.
    """

    image: Image.Image
    low: Image.Image | None = None
    bits: int = 16
    unsigned: bool = False
    inverted: bool = False

    @classmethod
    def from_gray(cls, image: Image.Image) -> DeepImage:
        """An opened image of a deep mode, with what its tags say if it is a TIFF."""
        tags: Any = getattr(image, "tag_v2", {})
        stated = tags.get(BITS, (32 if image.mode == "I" else 16,))[0]
        signed = image.mode == "I" and not (tags and tags.get(FORMAT, (UNSIGNED,))[0] == UNSIGNED)
        unsigned = image.mode == "I" and not signed
        return cls(image, None, stated - signed, unsigned, tags.get(PHOTOMETRIC) == WHITE_IS_ZERO)

    def to_8_bits(self, value_range: ValueRange = AUTO_RANGE) -> Image.Image:
        """Gray, or the mode of the colours, with 8 bits a value."""
        low, high = self._range(value_range)
        shown_image = Image.new("L" if self.low is None else self.image.mode, self.image.size)
        for box in parts(self.image.size):
            values = scaled(self._values(box), low, high)
            shown_image.paste(Image.fromarray(255 - values if self.inverted else values, shown_image.mode), box)
        return shown_image

    def _range(self, value_range: ValueRange) -> tuple[float, float]:
        if isinstance(value_range, tuple):
            return value_range
        if value_range == CONTAINER_RANGE:
            return 0.0, 1.0 if self.image.mode == "F" else 2.0**self.bits - 1
        return shown_range(self._values(None), self.bits)

    def _values(self, box: tuple[int, int, int, int] | None) -> np.ndarray:
        """Values of a part, or a sample of all."""
        high = np.asarray(_cut(self.image, box))
        if self.low is not None:
            values = high.astype(np.uint16) << 8 | np.asarray(_cut(self.low, box))
            return values[..., :3] if box is None and self.image.mode == "RGBA" else values  # alpha is no colour
        return high.view(np.uint32) if self.unsigned else high


def _cut(image: Image.Image, box: tuple[int, int, int, int] | None) -> Image.Image:
    if box is not None:
        return image.crop(box)
    width, height = image.size
    return image.resize((min(width, SAMPLE_SIDE), min(height, SAMPLE_SIDE)), Image.Resampling.NEAREST)


def upper_bytes_suffice(image: Image.Image, value_range: ValueRange) -> bool:
    """Whether the upper bytes of colours of 16 bits, which are an image of their own, show all of the range."""
    if value_range == CONTAINER_RANGE:
        return True
    sample = np.asarray(_cut(image, None))[..., : 3 if image.mode == "RGBA" else None]
    return value_range == AUTO_RANGE and shown_range(sample.astype(np.uint16) << 8)[1] == 2**16 - 1


def parts(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Boxes of whole rows that an image ``(w, h)`` is worked on in, so that no step needs much memory."""
    width, height = size
    rows = max(1, PART // width)
    return ((0, top, width, min(top + rows, height)) for top in range(0, height, rows))


def lower_bytes(rawmode: str) -> str | None:
    """Pillow's raw mode for the lower bytes of colours of which another gives the upper bytes, if it is one."""
    colours, _, order = rawmode.partition(";16")
    if colours == "LA" and order:
        return "RGBA"  # both bytes of both
    if colours not in ("RGB", "RGBX", "RGBA", "CMYK") or not order:
        return None
    big = order == "B" or (order == "N" and sys.byteorder == "big")
    return f"{colours};16{'L' if big else 'B'}"
