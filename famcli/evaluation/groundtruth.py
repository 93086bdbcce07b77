"""What is known of a split: its images with their boxes, and where their masks are."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from famcli.data.dataset import Dataset
from famcli.data.masks import MaskSource, covered, find_masks
from famcli.data.sample import Sample


@dataclass(frozen=True, slots=True)
class Truth:
    """Images of a split.

    Attributes:
        samples: The images, with their boxes.
        masks: Where the masks of each are; ``None`` for an image without.
    """

    samples: list[Sample]
    masks: list[MaskSource | None]

    @classmethod
    def read(cls, dataset: Dataset, split: str, masks: Path | None, over_maps: bool) -> Truth:
        """Read a split: each image with a box, or, for protocols over maps, none with a box and some with masks.

        Args:
            dataset: The data.
            split: The split.
            masks: Folder of the masks, if they are not where a dataset has them.
            over_maps: Masks alone will do.

        Raises:
            DataError: The split cannot be read, or an image has no box.
        """
        samples = dataset.samples(split, with_boxes=True, boxes_optional=True)
        found = find_masks(dataset, samples, masks)
        boxed = sum(bool(len(s.boxes)) for s in samples)
        if boxed < len(samples) and (boxed or not over_maps or not covered(found)):
            samples = dataset.samples(split, with_boxes=True)  # names the image without a box, or the file that lacks
        return cls(samples, found)

    @property
    def has_boxes(self) -> bool:
        """Each image has a box; if not, none has."""
        return bool(len(self.samples[0].boxes))

    def without(self, names: Collection[str]) -> Truth:
        """The same less some images."""
        gone = set(names)
        pairs = [pair for pair in zip(self.samples, self.masks, strict=True) if pair[0].name not in gone]
        return Truth([sample for sample, _ in pairs], [source for _, source in pairs])

    def facts(self) -> dict[str, Any]:
        """Numbers of images, boxes and masks, and a hash of names, labels and boxes."""
        digest = hashlib.sha256()
        for sample in self.samples:
            line = f"{sample.name}\n{sample.label}\n{sample.boxes.tolist()}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return {
            "images": len(self.samples),
            "boxes": sum(len(sample.boxes) for sample in self.samples),
            "masks": covered(self.masks),
            "sha256": digest.hexdigest(),
        }
