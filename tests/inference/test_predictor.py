"""Predictor: images to predictions."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from famcli.inference.predictor import Failure, Item, Prediction, Predictor, Settings
from famcli.inference.torch_engine import pick_device
from famcli_models.errors import ConfigError, DataError, ShapeError
from famcli_models.localization import localize
from famcli_models.methods.cam import CAM
from famcli_models.methods.fam import FAM

Make = Callable[..., FAM]


@pytest.fixture(scope="module")
def make_predictor(make_model: Make) -> Callable[..., Predictor]:
    """A function that builds a predictor on the tiny model, on the CPU."""

    def make(**settings: Any) -> Predictor:
        return Predictor(make_model(), "cpu", Settings(**settings))

    return make


def items(folder: Path, names: list[str]) -> list[Item]:
    return [Item(name, folder / name) for name in names]


def same(a: Prediction | Failure, b: Prediction | Failure) -> None:
    """Two predictions agree, up to what another batch size does to float32."""
    assert isinstance(a, Prediction)
    assert isinstance(b, Prediction)
    assert (a.name, a.size_hw) == (b.name, b.size_hw)
    np.testing.assert_allclose(a.M, b.M, atol=1e-4)
    assert [c.index for c in a.classes] == [c.index for c in b.classes]
    assert [c.probability for c in a.classes] == pytest.approx([c.probability for c in b.classes], abs=1e-4)


def test_one_image(make_predictor: Callable[..., Predictor], image_dir: Path) -> None:
    """A path gives the image's size, its best class, and boxes in its pixels that follow from M."""
    found = make_predictor()(image_dir / "b.png")
    assert found.size_hw == (40, 60)
    assert found.M.shape == (4, 4)
    assert found.M.dtype == np.float32
    assert len(found.classes) == 1
    assert found.classes[0].name in {"cat", "dog", "cup", "rocket", "person"}
    assert found.regions == localize(found.M, (40, 60)).regions
    assert found.mask is None


def test_path_array_and_picture_are_the_same(make_predictor: Callable[..., Predictor], image_dir: Path) -> None:
    """An image may be given as a path, a string, a Pillow image or an RGB array."""
    predictor, path = make_predictor(), image_dir / "b.png"
    with Image.open(path) as image:
        pictures = [path, str(path), image.copy(), np.asarray(image)]
    results = [predictor(p) for p in pictures]
    for result in results[1:]:
        np.testing.assert_array_equal(result.M, results[0].M)
        assert result.regions == results[0].regions


def test_transparent_picture_is_shown_on_white(make_predictor: Callable[..., Predictor], tmp_path: Path) -> None:
    """An RGBA picture given from memory is the same as the same picture given as a file."""
    image = Image.new("RGBA", (60, 40))  # all of it transparent black
    image.save(tmp_path / "x.png")
    predictor = make_predictor()
    np.testing.assert_allclose(predictor(image).M, predictor(tmp_path / "x.png").M, atol=1e-6)


def test_bad_image_is_a_data_error(make_predictor: Callable[..., Predictor], tmp_path: Path) -> None:
    """One bad image, asked for by itself, is an error with its name and the reason."""
    with pytest.raises(DataError, match=r"gone\.jpg: no such file"):
        make_predictor()(tmp_path / "gone.jpg")


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_stream_keeps_the_order(
    make_predictor: Callable[..., Predictor], image_dir: Path, names: list[str], batch_size: int
) -> None:
    """Whatever the batch size, predictions come in the order of the items and are those of single images."""
    predictor = make_predictor(batch_size=batch_size)
    order = names[::-1] + names
    results = list(predictor.stream(items(image_dir, order)))
    assert [r.name for r in results] == order
    singles = {name: make_predictor()(image_dir / name) for name in names}
    for result in results:
        single = singles[result.name]
        assert isinstance(result, Prediction)
        np.testing.assert_allclose(result.M, single.M, atol=1e-4)
        assert result.size_hw == single.size_hw


def test_stream_of_nothing(make_predictor: Callable[..., Predictor]) -> None:
    """No items give no predictions."""
    assert list(make_predictor().stream([])) == []


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_failures_stay_in_their_place(
    make_predictor: Callable[..., Predictor], image_dir: Path, batch_size: int
) -> None:
    """Bad images become failures with a reason, in order, and the others go on."""
    (image_dir / "empty.png").touch()
    (image_dir / "text.png").write_text("text")
    order = ["empty.png", "a.jpg", "gone.png", "text.png", "empty.png", "b.png", "gone.png"]
    results = list(make_predictor(batch_size=batch_size).stream(items(image_dir, order)))
    assert [r.name for r in results] == order
    assert [getattr(r, "reason", None) for r in results] == [
        "the file is empty",
        None,
        "no such file",
        "not a JPEG, PNG, WebP, BMP or TIFF image",
        "the file is empty",
        None,
        "no such file",
    ]


def test_nothing_but_failures(make_predictor: Callable[..., Predictor], tmp_path: Path) -> None:
    """Batches without one readable image are all failures, in order."""
    order = [f"{i}.png" for i in range(7)]
    results = list(make_predictor(batch_size=2).stream(items(tmp_path, order)))
    assert [(r.name, isinstance(r, Failure)) for r in results] == [(n, True) for n in order]


def test_stream_is_lazy(make_predictor: Callable[..., Predictor], image_dir: Path) -> None:
    """Memory stays flat: the source is at most three batches ahead of what was given out."""
    size, taken, given = 2, 0, 0

    def source() -> Iterator[Item]:
        nonlocal taken
        for _ in range(30):
            taken += 1
            yield Item("a.jpg", image_dir / "a.jpg")

    for _ in make_predictor(batch_size=size).stream(source()):
        given += 1
        assert taken - given <= 3 * size
    assert given == taken == 30


def test_stream_can_be_left(make_predictor: Callable[..., Predictor], image_dir: Path) -> None:
    """Stopping in the middle stops the workers and reads no further."""
    taken = []

    def source() -> Iterator[Item]:
        for i in range(100):
            taken.append(i)
            yield Item("a.jpg", image_dir / "a.jpg")

    stream = make_predictor(batch_size=1).stream(source())
    next(stream)
    stream.close()
    assert len(taken) < 10


def test_then_sees_every_prediction(
    make_predictor: Callable[..., Predictor], image_dir: Path, names: list[str]
) -> None:
    """The function given is called once with each prediction and its item."""
    seen = []
    results = list(
        make_predictor(batch_size=2).stream(items(image_dir, names), lambda i, p: seen.append((i.name, p.name)))
    )
    assert sorted(seen) == [(n, n) for n in names]
    assert len(results) == len(names)


def test_then_may_fail_for_one_image(
    make_predictor: Callable[..., Predictor], image_dir: Path, names: list[str]
) -> None:
    """A file that cannot be written makes its image a failure, and the others go on."""

    def write(item: Item, _: Prediction) -> None:
        if item.name == "b.png":
            msg = "disk full"
            raise OSError(msg)

    results = list(make_predictor().stream(items(image_dir, names), write))
    assert [(r.name, r.reason) for r in results if isinstance(r, Failure)] == [("b.png", "disk full")]


def test_topk(make_predictor: Callable[..., Predictor], image_dir: Path) -> None:
    """The most probable classes come first, and never more than there are."""
    three = make_predictor(topk=3)(image_dir / "a.jpg").classes
    every = make_predictor(topk=99)(image_dir / "a.jpg").classes
    assert len(three) == 3
    assert every[:3] == three
    assert len(every) == 5
    assert sorted((c.probability for c in every), reverse=True) == [c.probability for c in every]
    assert sum(c.probability for c in every) == pytest.approx(1, abs=1e-5)


def test_score_is_map_times_probability(make_predictor: Callable[..., Predictor], image_dir: Path) -> None:
    """A box's score is the mean of M in its region times the probability of the class."""
    found = make_predictor(tau=0.0)(image_dir / "a.jpg")
    (region,) = found.regions
    assert found.score(region, found.classes[0]) == region.foreground * found.classes[0].probability


def test_known_class(make_predictor: Callable[..., Predictor], image_dir: Path) -> None:
    """With the class given it is the only one reported, and the score is the mean of M alone."""
    predictor = make_predictor(tau=0.0, topk=3)
    found = predictor(image_dir / "a.jpg", label=4)
    (region,) = found.regions
    assert [c.name for c in found.classes] == ["person"]
    assert found.known
    assert found.score(region, found.classes[0]) == region.foreground
    (streamed,) = predictor.stream([Item("a.jpg", image_dir / "a.jpg", 4)])
    same(streamed, Prediction("a.jpg", found.size_hw, found.classes, found.regions, found.M, known=True))


def test_thresholds(make_predictor: Callable[..., Predictor], image_dir: Path) -> None:
    """The model's own threshold is the default; 0 takes the whole image and 0.999 finds nothing."""
    assert make_predictor().tau == 0.5
    assert make_predictor(tau=0.0)(image_dir / "b.png").regions[0].xyxy == (0, 0, 60, 40)
    assert make_predictor(tau=0.999)(image_dir / "b.png").regions == ()


def test_several_boxes_and_masks(make_predictor: Callable[..., Predictor], image_dir: Path) -> None:
    """max_boxes gives the largest regions first, and the mask has the pixels of just those."""
    predictor = make_predictor(max_boxes=3, masks=True)
    M = np.zeros((4, 4), dtype=np.float32)
    M[0, 0] = M[3, 3] = M[3, 2] = M[0, 3] = 0.9
    probability = np.full(5, 0.2, dtype=np.float32)
    found = predictor._finish(Item("x", image_dir), ((40, 40), []), (M, probability, None))
    assert found.mask is not None
    assert len(found.regions) == 3
    assert [r.area for r in found.regions] == sorted((r.area for r in found.regions), reverse=True)
    assert found.mask.sum() == sum(r.area for r in found.regions)


def test_flip_averages_both_sides(make_predictor: Callable[..., Predictor], image_dir: Path) -> None:
    """With flip an image and its mirror image have mirrored maps and the same probabilities."""
    predictor = make_predictor(flip=True, topk=5)
    with Image.open(image_dir / "b.png") as image:
        array = np.asarray(image)
    plain, mirrored = predictor(array), predictor(array[:, ::-1].copy())
    np.testing.assert_allclose(mirrored.M[:, ::-1], plain.M, atol=1e-4)
    assert [c.probability for c in mirrored.classes] == pytest.approx([c.probability for c in plain.classes], abs=1e-4)


def test_flip_is_the_mean_of_two_passes(make_predictor: Callable[..., Predictor], image_dir: Path) -> None:
    """M with flip is the mean of M and of the mirrored M of the mirror image."""
    with Image.open(image_dir / "b.png") as image:
        array = np.asarray(image)
    single = make_predictor()
    expected = (single(array).M + single(array[:, ::-1].copy()).M[:, ::-1]) / 2
    np.testing.assert_allclose(make_predictor(flip=True)(array).M, expected, atol=1e-4)


def test_scales_give_the_finest_map(make_predictor: Callable[..., Predictor], image_dir: Path) -> None:
    """Averaging over scales gives a map of the finest one's size, between the scales' own values."""
    found = make_predictor(scales=(1.0, 1.5, 2.0))(image_dir / "b.png")
    assert found.M.shape == (8, 8)
    assert ((found.M > 0) & (found.M < 1)).all()
    assert found.size_hw == (40, 60)
    only = make_predictor(scales=(2.0,))(image_dir / "b.png")
    assert only.M.shape == (8, 8)


def test_amp(make_predictor: Callable[..., Predictor], image_dir: Path) -> None:
    """bfloat16 gives a float32 map near that of float32."""
    half, full = make_predictor(amp=True)(image_dir / "b.png"), make_predictor()(image_dir / "b.png")
    assert half.M.dtype == np.float32
    np.testing.assert_allclose(half.M, full.M, atol=0.1)


def test_large_jpegs_are_decoded_small_without_a_difference(
    make_predictor: Callable[..., Predictor], tmp_path: Path, picture: Callable[..., np.ndarray]
) -> None:
    """A large JPEG decoded at a part of its size keeps its size in the output, and nearly its map."""
    small = Image.fromarray(picture(60, 90)).resize((1440, 960), Image.Resampling.BICUBIC)
    small.save(tmp_path / "x.jpg", quality=95)
    predictor = make_predictor()
    found = predictor(tmp_path / "x.jpg")
    with Image.open(tmp_path / "x.jpg") as image:
        whole = predictor(image)
    assert found.size_hw == whole.size_hw == (960, 1440)
    np.testing.assert_allclose(found.M, whole.M, atol=0.05)


def test_exif_frame(make_predictor: Callable[..., Predictor], tmp_path: Path) -> None:
    """Boxes of a turned photograph are in the upright frame."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40)).save(tmp_path / "x.jpg", exif=exif)
    found = make_predictor(tau=0.0)(tmp_path / "x.jpg")
    assert found.size_hw == (80, 40)
    assert found.regions[0].xyxy == (0, 0, 40, 80)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_boxes", 0),
        ("topk", 0),
        ("batch_size", 0),
        ("workers", 0),
        ("tau", 1.0),
        ("tau", -0.5),
        ("tau", float("nan")),
        ("scales", ()),
        ("scales", (0.1,)),
        ("scales", (5.0,)),
        ("scales", (float("nan"),)),
    ],
)
def test_settings_out_of_range(name: str, value: Any) -> None:
    """A setting that makes no sense is refused by name."""
    with pytest.raises(ConfigError, match="threshold" if name == "tau" else name):
        Settings(**{name: value})


def test_devices() -> None:
    """The CPU is always there; what is not there or no device is refused with what to use instead."""
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in {"cpu", "cuda", "mps"}
    for name in ("tpu", "", "cuda:x", "cuda:99", "meta"):
        with pytest.raises(ConfigError, match="use "):
            pick_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda() -> None:
    """CUDA that is not there is refused with a hint."""
    with pytest.raises(ConfigError, match="'cuda' is not available here; use --device auto or cpu"):
        pick_device("cuda")


def test_images_may_vanish_meanwhile(make_predictor: Callable[..., Predictor], image_dir: Path) -> None:
    """A file deleted between listing and reading is one failure."""
    shutil.copy(image_dir / "a.jpg", image_dir / "z.jpg")
    listed = items(image_dir, ["a.jpg", "z.jpg"])
    (image_dir / "z.jpg").unlink()
    results = list(make_predictor().stream(listed))
    assert isinstance(results[0], Prediction)
    assert results[1] == Failure("z.jpg", "no such file")


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 3), np.float32), np.zeros((3, 10, 10), np.uint8), np.zeros((0, 10, 3), np.uint8)]
)
def test_arrays_of_another_kind_are_refused(make_model: Callable[..., FAM], array: np.ndarray) -> None:
    """Only RGB uint8 pictures are taken from memory."""
    with pytest.raises(ShapeError, match="expected uint8"):
        Predictor(make_model(), "cpu")(array)


def test_a_label_that_is_no_class_is_refused(make_model: Callable[..., FAM]) -> None:
    """A known class has to be one of the model's."""
    with pytest.raises(DataError, match="label 5000"):
        Predictor(make_model(), "cpu")(np.zeros((8, 8, 3), np.uint8), label=5000)


@pytest.fixture(scope="module")
def cam(make_model: Make) -> CAM:
    """A CAM with clear opinions."""
    model = make_model(method="cam").eval()
    assert isinstance(model, CAM)
    with torch.no_grad():
        model.classifier.weight.mul_(100)
    return model


def test_a_cam_shows_the_class_it_names(cam: CAM, image_dir: Path) -> None:
    """Its map is that of the most probable class, from 0 to 1, its box that of the map at the CAM's own threshold."""
    found = Predictor(cam, "cpu")(image_dir / "b.png")
    for label in range(5):
        known = Predictor(cam, "cpu")(image_dir / "b.png", label=label)
        same_map = np.array_equal(known.M, found.M)
        assert same_map == (label == found.classes[0].index)
        assert (known.M.min(), known.M.max(), known.classes[0].index) == (0, 1, label)
        assert known.regions == localize(known.M, (40, 60), 0.2).regions


def test_known_and_unknown_classes_of_a_cam_in_one_batch(cam: CAM, image_dir: Path, names: list[str]) -> None:
    """Each image of a batch has the map of its own class, also beside images that cannot be read."""
    predictor = Predictor(cam, "cpu", Settings(batch_size=6))
    (image_dir / "bad.png").touch()
    labels = [3, None, 0, 4, None]
    queue = [Item("bad.png", image_dir / "bad.png", 1)]
    queue += [Item(n, image_dir / n, label) for n, label in zip(names, labels, strict=True)]
    failed, *found = predictor.stream(queue)
    assert isinstance(failed, Failure)
    for name, label, prediction in zip(names, labels, found, strict=True):
        assert isinstance(prediction, Prediction)
        np.testing.assert_allclose(prediction.M, predictor(image_dir / name, label).M, atol=1e-4)


def test_all_views_of_a_cam_show_one_class(cam: CAM, image_dir: Path) -> None:
    """Averaged over the mirrored image, the class is the most probable in the mean, and the map goes from 0 to 1."""
    path = image_dir / "a.jpg"
    both = Predictor(cam, "cpu", Settings(flip=True))(path)
    once = Predictor(cam, "cpu")(path, label=both.classes[0].index)
    with Image.open(path) as image:
        flipped = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        mirrored = Predictor(cam, "cpu")(flipped, label=both.classes[0].index)
    mean = (once.M + mirrored.M[:, ::-1]) / 2
    np.testing.assert_allclose(both.M, (mean - mean.min()) / (mean.max() - mean.min()), atol=1e-3)
    assert Predictor(cam, "cpu", Settings(scales=(1, 1.5)))(path).M.shape == (6, 6)
