"""What a split holds, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from famcli.data.sample import Sample


@dataclass(frozen=True, slots=True)
class Summary:
    """Numbers of one split.

    Attributes:
        split: Its name.
        images: Number of images.
        classes: Number of classes that occur.
        boxes: Number of boxes.
        without_boxes: Images that have none.
        several_boxes: Share of the images that have more than one, in percent.
        fewest: Label with the fewest images, and their number; of equals the lowest.
        most: Label with the most images, and their number.
        smallest_hw: ``(h, w)`` of the image with the fewest pixels, if the dataset states sizes.
        median_hw: The same of the middle one.
        largest_hw: The same of the one with most pixels.
    """

    split: str
    images: int
    classes: int
    boxes: int
    without_boxes: int
    several_boxes: float
    fewest: tuple[int, int]
    most: tuple[int, int]
    smallest_hw: tuple[int, int] | None
    median_hw: tuple[int, int] | None
    largest_hw: tuple[int, int] | None

    @classmethod
    def of(cls, split: str, samples: Sequence[Sample]) -> Summary:
        """Count samples, of which there is at least one."""
        labels = Counter(sample.label for sample in samples)
        order = sorted(labels.items(), key=lambda item: (item[1], item[0]))
        most = max(labels.items(), key=lambda item: (item[1], -item[0]))
        boxes = [len(sample.boxes) for sample in samples]
        sizes = sorted((s.size_hw for s in samples if s.size_hw is not None), key=lambda hw: (hw[0] * hw[1], hw))
        return cls(
            split=split,
            images=len(samples),
            classes=len(labels),
            boxes=sum(boxes),
            without_boxes=sum(n == 0 for n in boxes),
            several_boxes=round(100 * sum(n > 1 for n in boxes) / len(samples), 2),
            fewest=order[0],
            most=most,
            smallest_hw=sizes[0] if sizes else None,
            median_hw=sizes[len(sizes) // 2] if sizes else None,
            largest_hw=sizes[-1] if sizes else None,
        )
