"""Speed of ``fam train``, as ratios of two things run in one go.

    python benchmarks/train.py                                       # everything, on photographs it makes
    python benchmarks/train.py --data ilsvrc-like --steps 100        # the loader on your own data
    python benchmarks/train.py --backbone resnet50 --rounds 3 --skip-loader

1. one training step of FAM over one of a plain classifier: the same backbone at the same stride, global average
   pooling and a linear layer, the same optimiser; all weights trained, then the backbone frozen;
2. the share of time that training waits for images, and images a second, with ``--workers`` loading processes.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from famcli.data.dataset import open_dataset
from famcli.data.sample import NO_BOXES, Sample
from famcli.demo import PHOTOS, photo_folder
from famcli.training.config import TrainConfig
from famcli.training.environment import make_accelerator
from famcli.training.loading import ImageBatch
from famcli.training.loop import Training, fit
from famcli_models import FAM, FAMConfig
from famcli_models.preprocess import normalize

STEPS_A_TURN = 3
PHOTO_HW = (375, 500)  # the size of most ImageNet photographs


class Plain(nn.Module):
    """A plain classifier on FAM's backbone: images to logits."""

    def __init__(self, config: FAMConfig) -> None:
        super().__init__()
        model = FAM(config)
        self.backbone, self.classifier = model.backbone, model.classifier

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.backbone(images).X.mean(dim=(2, 3)))
        return logits


def plain_step(
    config: FAMConfig, batch: ImageBatch, train_backbone: bool, device: torch.device
) -> Callable[[], object]:
    """A function that trains a plain classifier for one step."""
    model = Plain(config).to(device).train()
    for parameter in model.backbone.parameters():
        parameter.requires_grad_(train_backbone)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def step() -> float:
        images = normalize(batch.inputs.to(device), config.mean, config.std)
        loss = F.cross_entropy(model(images), batch.labels.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()  # a log needs it, in any training

    return step


def fam_step(config: FAMConfig, batch: ImageBatch, train_backbone: bool, device: str) -> Callable[[], object]:
    """A function that trains FAM for one step, as ``fam train`` does."""
    train = TrainConfig(
        batch_size=len(batch.labels), epochs=100_000, lr=1e-4, backbone="trained" if train_backbone else "frozen"
    )
    samples = [Sample(str(i), Path(str(i)), label, NO_BOXES) for i, label in enumerate(batch.labels.tolist())]
    training = Training(FAM(config), samples, train, make_accelerator(device))
    batches: Iterator[ImageBatch] = itertools.repeat(batch)
    return lambda: training.take_step(batches)


def compare(args: argparse.Namespace) -> None:
    """Print step times and their ratio."""
    config = FAMConfig(backbone=args.backbone, num_classes=1000)
    inputs = torch.randint(0, 256, (args.batch_size, config.size, config.size, 3), dtype=torch.uint8)
    labels = torch.randint(0, config.num_classes, (args.batch_size,))
    batch = ImageBatch(inputs, torch.zeros(args.batch_size, 1, 1), labels, list(range(args.batch_size)), {})
    device = make_accelerator(args.device).device
    for trained in (True, False):
        steps = {
            "FAM": fam_step(config, batch, trained, args.device),
            "plain": plain_step(config, batch, trained, device),
        }
        times: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(args.rounds + 1):
            for name, step in steps.items():
                start = time.perf_counter()
                for _ in range(STEPS_A_TURN):
                    step()
                if turn:  # the first warms up
                    times[name].append((time.perf_counter() - start) / STEPS_A_TURN)
        ratios = [a / b for a, b in zip(times["FAM"], times["plain"], strict=True)]
        fam, plain = (1000 * statistics.median(times[name]) for name in ("FAM", "plain"))
        print(
            f"{args.backbone}, backbone {'trained' if trained else 'frozen'}, batch {args.batch_size}, {device}: "
            f"FAM {fam:.0f} ms, plain {plain:.0f} ms a step; ratio {statistics.median(ratios):.3f} "
            f"({min(ratios):.3f}-{max(ratios):.3f}); {1000 * args.batch_size / fam:.1f} images/s"
        )


def make_photos(folder: Path, count: int) -> list[Sample]:
    """JPEGs cut at random from the demo's photographs, two classes."""
    rng = np.random.default_rng(0)
    sources = [Image.open(photo_folder() / photo.file).convert("RGB") for photo in PHOTOS]
    samples = []
    for i in range(count):
        source = sources[i % len(sources)]
        w, h = (round(side * rng.uniform(0.6, 1.0)) for side in source.size)
        path = folder / f"{i:05d}.jpg"
        source.crop((0, 0, w, h)).resize(PHOTO_HW[::-1]).save(path, quality=90)
        samples.append(Sample(path.name, path, i % 2, NO_BOXES))
    return samples


def load(args: argparse.Namespace) -> None:
    """Print the share of waiting in real training."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = args.steps * args.batch_size
        samples = open_dataset(args.data).samples("train") if args.data else make_photos(Path(folder), 256)
        samples = list(itertools.islice(itertools.cycle(samples), wanted))
        for trained in ("trained", "frozen"):
            model = FAM(FAMConfig(backbone=args.backbone, num_classes=1000))
            config = TrainConfig(epochs=1, batch_size=args.batch_size, lr=1e-4, backbone=trained)
            training = Training(model, samples, config, make_accelerator(args.device))
            for _ in fit(training, args.workers):
                pass
            (epoch,) = training.history
            print(
                f"{args.backbone}, backbone {trained}, {args.workers} workers, {args.data or 'made photographs'}: "
                f"waiting {epoch.waiting:.1%} of the time, {epoch.images / epoch.seconds:.1f} images/s"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="mobilenetv1")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data", help="dataset to load, instead of photographs made here")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--skip-steps", action="store_true")
    parser.add_argument("--skip-loader", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    if not args.skip_steps:
        compare(args)
    if not args.skip_loader:
        load(args)


if __name__ == "__main__":
    main()
