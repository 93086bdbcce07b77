"""Labelled images to batches."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from famcli.data.sample import Sample
from famcli.training.loading import MAX_UNREADABLE, CachedFeatures, ImageBatch, Views, load_batches, map_size
from famcli.training.sampler import Order
from famcli_models.errors import DataError
from famcli_models.methods.fam import FAM
from famcli_models.preprocess import normalize

CPU = torch.device("cpu")
HW = (4, 4)


def order_of(samples: list[Sample], **fields: Any) -> Order:
    return Order(**{"images": len(samples), "batch_size": 4, "epochs": 1, "seed": 0, **fields})


def test_a_view_is_known_by_seed_epoch_and_image(labelled: list[Sample]) -> None:
    """The same seed, epoch and image give the same view, others another; file names may have odd bytes."""
    views, other_seed = Views(labelled, 64, HW, seed=0), Views(labelled, 64, HW, seed=1)
    first = views[1, 0].inputs
    assert torch.equal(first, views[1, 0].inputs)
    for other in (views[2, 0], other_seed[1, 0], views[1, 1]):
        assert not torch.equal(first, other.inputs)
    assert first.shape == (64, 64, 3)
    assert first.dtype == torch.uint8
    path = labelled[0].path.rename(labelled[0].path.with_name(os.fsdecode(b"\xff\xe9.png")))
    odd = Sample("odd", path, 0, labelled[0].boxes)
    assert Views([odd], 64, HW, seed=0)[1, 0].unreadable == {}


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_follow_the_order(labelled: list[Sample], workers: int) -> None:
    """Batches hold the views of the order with their labels, from any step on, whoever decodes them."""
    views, order = Views(labelled, 64, HW, seed=0), order_of(labelled, epochs=2)
    batches = list(load_batches(views, order.batches(1), workers))
    assert [batch.images for batch in batches] == [[image for _, image in step] for step in order.batches(1)]
    for batch, step in zip(batches, order.batches(1), strict=True):
        assert torch.equal(batch.inputs, torch.stack([views[view].inputs for view in step]))
        assert batch.labels.tolist() == [image % 2 for image in batch.images]
        assert batch.targets.shape == (4, *HW)
        assert not batch.targets.any()
        assert batch.unreadable == {}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_image_is_replaced_and_reported(labelled: list[Sample], workers: int) -> None:
    """The next image stands in, with its own view and label; the last one's next is the first."""
    whole = Views(labelled, 64, HW, seed=0)
    before = whole[1, 0], whole[1, 4]
    labelled[7].path.write_bytes(b"no image")
    labelled[3].path.unlink()
    batches = list(load_batches(Views(labelled, 64, HW, seed=0), order_of(labelled, batch_size=8).batches(), workers))
    assert len(batches) == 1
    assert sorted(batches[0].images) == [0, 0, 1, 2, 4, 4, 5, 6]
    assert set(batches[0].unreadable) == {3, 7}
    assert batches[0].unreadable[3] == "no such file"
    for stand_in in before:
        places = [i for i, image in enumerate(batches[0].images) if image == stand_in.images[0]]
        assert len(places) == 2
        assert all(torch.equal(batches[0].inputs[i], stand_in.inputs) for i in places)
        assert all(batches[0].labels[i] == stand_in.labels for i in places)


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_but_corrupt_images(labelled: list[Sample], workers: int) -> None:
    """When many images in a row are unreadable the error is one line with the first file, from a process too."""
    for sample in labelled:
        sample.path.write_bytes(b"")
    order = order_of(labelled)
    first = labelled[next(order.batches())[0][1]].path
    with pytest.raises(DataError, match=r"^8 images in a row cannot be read") as caught:
        list(load_batches(Views(labelled, 64, HW, seed=0), order.batches(), workers))
    assert str(caught.value).endswith(f"the first is {first}: the file is empty")
    assert "\n" not in str(caught.value)
    many = [labelled[0]] * (MAX_UNREADABLE + 50)
    with pytest.raises(DataError, match=f"^{MAX_UNREADABLE} images in a row"):
        Views(many, 64, HW, seed=0)[1, 3]


def test_targets_follow_the_crop(tmp_path: Any) -> None:
    """A target that is a picture's own brightness stays so in every view, up to interpolation."""
    pattern = np.zeros((64, 64), np.float32)
    pattern[8:40, 4:30] = 1
    path = tmp_path / "pattern.png"
    Image.fromarray((pattern[..., None] * 255).astype(np.uint8).repeat(3, axis=2)).save(path)
    views = Views([Sample("pattern.png", path, 0, np.zeros((0, 4)))], 56, (56, 56), seed=0, targets=[pattern])
    for epoch in range(1, 9):
        view = views[epoch, 0]
        assert (view.inputs[..., 0] / 255 - view.targets).abs().mean() < 0.02


def test_cached_features_are_those_of_fresh_views(make_model: Callable[..., FAM], labelled: list[Sample]) -> None:
    """Each epoch has the features of its fresh views up to float16, the rounds in turn; unreadable images are known."""
    model = make_model().eval()
    views = Views(labelled, 64, map_size(model, 64, CPU), 0, [np.full((8, 8), i / 8, np.float32) for i in range(8)])
    order = order_of(labelled, epochs=3)
    cached = CachedFeatures(model, views, 3, CPU, 0, rounds=2)
    compared = 0
    for got, step in zip(cached.batches(order, 1), list(order.batches(1)), strict=True):
        again = [((epoch - 1) % 2 + 1, image) for epoch, image in step]  # epoch 3 has the views of epoch 1
        fresh = [views[view] for view in again]
        X = model.features(
            normalize(torch.stack([view.inputs for view in fresh]), model.config.mean, model.config.std)
        ).X
        torch.testing.assert_close(got.inputs, X, rtol=1e-3, atol=1e-4)
        assert got.inputs.dtype == torch.float32
        assert got.labels.tolist() == [int(view.labels) for view in fresh]
        assert torch.equal(got.targets, torch.stack([view.targets for view in fresh]))
        assert got.images == [image for _, image in step]
        compared += 1
    assert compared == 5
    labelled[2].path.write_bytes(b"")
    cached = CachedFeatures(model, Views(labelled, 64, HW, 0), 4, CPU, 0, rounds=1)
    assert cached.unreadable == {2: "the file is empty"}


def test_the_map_size_leaves_the_model_alone(make_model: Callable[..., FAM]) -> None:
    """Asking for the size of M moves no batch-norm statistics and changes no mode."""
    model = make_model(frozen_norm=False).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert map_size(model, 64, CPU) == (4, 4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training
    assert all(module.training for module in model.backbone.modules())


def test_a_killed_process_is_one_sentence(
    make_model: Callable[..., FAM], train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the system kills a process that decodes, the error says what may help."""

    def die(_views: Views, _view: tuple[int, int]) -> ImageBatch:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    monkeypatch.setattr(Views, "__getitem__", die)
    with pytest.raises(DataError, match=r"a process that decodes images died.*lower --workers \(now 1;"):
        train(make_model(), workers=1)
