"""Networks look at labelled images: the maps, and the place of the right class among the classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from famcli.data.sample import Sample, read_sample
from famcli.evaluation.boxrules import BoxRules, ten_crops
from famcli.inference.torch_engine import pick_device
from famcli_models.errors import DataError, WeightsError
from famcli_models.methods.method import Method
from famcli_models.preprocess import normalize

SHOWN_CLASSES = 5


@dataclass(frozen=True, slots=True)
class Seen:
    """What the networks said of one image.

    Attributes:
        sample: The image.
        size_hw: ``(h, w)`` of the original, EXIF orientation applied.
        maps: ``(h, w)`` float32 in [0, 1] at feature resolution, by method; CAM's is that of the label, or of the most
            probable class where the labels are not the model's classes.
        ranks: Place of the right class, 0 for the best, by method; empty where classes do not apply.
        classes: The most probable classes of the first method: index and probability, best first.
    """

    sample: Sample
    size_hw: tuple[int, int]
    maps: Mapping[str, np.ndarray]
    ranks: Mapping[str, int]
    classes: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Networks:
    """A FAM, a CAM, or both, the first of which is what is measured.

    Attributes:
        fam: The FAM; ``None`` if CAM alone is measured.
        cam: The CAM; one that shares the FAM's backbone takes its features too.
    """

    fam: Method | None
    cam: Method | None

    @property
    def first(self) -> Method:
        """What is measured."""
        chosen = self.fam or self.cam
        if chosen is None:  # pragma: no cover  (the caller's mistake)
            msg = "no network was given"
            raise ValueError(msg)
        return chosen

    @property
    def sharing(self) -> bool:
        """The CAM reads the features of the FAM."""
        return self.fam is not None and self.cam is not None and self.cam.backbone is self.fam.backbone

    def to(self, device: torch.device) -> None:
        """Move to a device, for evaluation."""
        for network in (self.fam, self.cam):
            if network is not None:
                network.to(device).eval()


@dataclass(frozen=True, slots=True)
class Look:
    """How to look.

    Attributes:
        rules: Give the view of an image.
        ten_crops: Class scores are the mean softmax of ten crops, and not those of the view that the map is of.
        same_classes: The labels are classes of the networks.
        device: See :func:`famcli.inference.torch_engine.pick_device`.
        batch_size: Images per forward pass.
        workers: Threads that decode.
        on_unreadable: Told the name and the reason of an image that cannot be read, which is then left out; if not
            given, such an image ends the looking.
    """

    rules: BoxRules = BoxRules()  # noqa: RUF009  (frozen)
    ten_crops: bool = False
    same_classes: bool = True
    device: str = "auto"
    batch_size: int = 32
    workers: int = 2
    on_unreadable: Callable[[str, str], None] | None = None

    def at(self, networks: Networks, samples: Sequence[Sample]) -> Iterator[list[Seen]]:
        """Look at images, batch by batch, in their order.

        Raises:
            DataError: An image cannot be read, and nobody is to be told.
            WeightsError: A network's map or class scores are not finite.
        """
        device = pick_device(self.device)
        networks.to(device)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="look") as pool:
            for start in range(0, len(samples), self.batch_size):
                loaded = list(pool.map(lambda s: self._load(networks, s), samples[start : start + self.batch_size]))
                views = [view for view in loaded if view is not None]
                if views:
                    yield self._see(networks, views, device)

    def _load(self, networks: Networks, sample: Sample) -> _Views | None:
        sides = [n.config.size for n in (networks.fam, networks.cam) if n is not None]
        first = networks.first.config.size
        try:
            picture = read_sample(sample, max(sides))  # as `fam predict` does, so that the maps are the same
        except DataError as error:
            if self.on_unreadable is None:
                raise
            self.on_unreadable(sample.name, str(error))
            return None
        image = picture.image
        own = networks.cam is not None and networks.fam is not None and not networks.sharing
        return _Views(
            sample,
            picture.size_hw,
            self.rules.view(image, first),
            self.rules.view(image, sides[-1]) if own else None,
            self._crops(image, first),
            self._crops(image, sides[-1]) if own else [],
        )

    def _crops(self, image: Image.Image, side: int) -> list[np.ndarray]:
        return ten_crops(image, side) if self.ten_crops and self.same_classes else []

    @torch.inference_mode()
    def _see(self, networks: Networks, views: list[_Views], device: torch.device) -> list[Seen]:
        labels = torch.tensor([v.sample.label for v in views], device=device)
        fam, cam, first = networks.fam, networks.cam, networks.first
        features = first.features(_input(first, [v.view for v in views], device))
        maps: dict[str, np.ndarray] = {}
        scores: dict[str, Tensor] = {}
        if fam is not None:
            out = fam.head(features)
            maps["FAM"] = fam.maps(out).float().cpu().numpy()
            scores["FAM"] = self._class_scores(fam, out.logits, [v.crops for v in views], device)
        if cam is not None:
            own = networks.fam is not None and not networks.sharing
            if own:
                features = cam.features(_input(cam, [v.other for v in views if v.other is not None], device))
            found_cam = cam.head(features)
            logits = found_cam.logits
            chosen = labels if self.same_classes else logits.argmax(dim=1)
            maps["CAM"] = cam.maps(found_cam, chosen).float().cpu().numpy()
            crops = [v.other_crops if own else v.crops for v in views]
            scores["CAM"] = self._class_scores(cam, logits, crops, device)
        for name, found in [*maps.items(), *((name, s.cpu().numpy()) for name, s in scores.items())]:
            odd = np.flatnonzero(~np.isfinite(found.reshape(len(views), -1)).all(axis=1))
            if odd.size:
                image = views[odd[0]].sample.name
                msg = f"what {name} says of '{image}' is not finite: the weights are damaged; look at them: fam verify"
                raise WeightsError(msg)
        ranks = {name: rank(found, labels).tolist() for name, found in scores.items()} if self.same_classes else {}
        of_first = next(iter(scores.values()))
        probabilities = of_first if views[0].crops else of_first.softmax(dim=1)
        best = probabilities.topk(min(SHOWN_CLASSES, first.config.num_classes), dim=1)
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [
            Seen(
                v.sample,
                v.size_hw,
                {name: found[i] for name, found in maps.items()},
                {name: places[i] for name, places in ranks.items()},
                tuple(zip(indices, values, strict=True)),
            )
            for i, (v, (indices, values)) in enumerate(zip(views, pairs, strict=True))
        ]

    def _class_scores(
        self, network: Method, logits: Tensor, crops: Sequence[Sequence[np.ndarray]], device: torch.device
    ) -> Tensor:
        """``(B, L)``: the view's logits, or the mean probabilities of the crops of each image."""
        if not crops[0]:
            return logits.float()
        batches = (network(_input(network, list(crop), device)).logits for crop in zip(*crops, strict=True))
        return torch.stack([batch.float().softmax(dim=1) for batch in batches]).mean(dim=0)


@dataclass(frozen=True, slots=True)
class _Views:
    """One decoded image; ``other`` is the view of a CAM with a backbone of its own."""

    sample: Sample
    size_hw: tuple[int, int]
    view: np.ndarray
    other: np.ndarray | None
    crops: list[np.ndarray]
    other_crops: list[np.ndarray]


def _input(network: Method, views: list[np.ndarray], device: torch.device) -> Tensor:
    pixels = torch.from_numpy(np.stack(views)).to(device)
    return normalize(pixels, network.config.mean, network.config.std)


def rank(scores: Tensor, labels: Tensor) -> Tensor:
    """Place of the right class, 0 for the best; a tie, and a NaN, counts against the network.

    Args:
        scores: ``(B, L)``.
        labels: ``(B,)``.
    """
    right = scores.gather(1, labels[:, None])
    return (~(scores < right)).sum(dim=1).cpu() - 1
