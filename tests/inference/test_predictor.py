"""Predictor: images to predictions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from famcli.inference.engine import OutOfMemoryError
from famcli.inference.predictor import Predictor, Settings
from famcli.outputs.prediction import Failure, Item, Prediction
from famcli_models.checkpoint import DEFAULT_MODEL, read_config, resolve
from famcli_models.errors import ConfigError, DataError, ShapeError, UnknownNameError
from famcli_models.localization import localize

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "api.md"
Make = Callable[..., Predictor]


@pytest.fixture(scope="module")
def make_predictor(make_model: Callable[..., Any]) -> Make:
    """A function that builds a predictor on the tiny model, on the CPU."""
    return lambda **settings: Predictor(make_model(), "cpu", **settings)


@pytest.fixture
def photo(image_dir: Path) -> np.ndarray:
    """b.png: 40 x 60."""
    with Image.open(image_dir / "b.png") as image:
        return np.asarray(image)


def items(folder: Path, names: list[str]) -> list[Item]:
    return [Item(name, folder / name) for name in names]


def test_one_image(make_predictor: Make, image_dir: Path) -> None:
    """A path gives the image's size, its best class, and boxes in its pixels that follow from M."""
    found = make_predictor()(image_dir / "b.png")
    assert found.size_hw == (40, 60)
    assert found.M.shape == (4, 4)
    assert found.M.dtype == np.float32
    (best,) = found.classes
    assert best.name in {"cat", "dog", "cup", "rocket", "person"}
    assert found.regions == localize(found.M, (40, 60)).regions
    assert found.scores.tolist() == [found.regions[0].foreground]  # a model without weights of the box score
    assert (found.mask, found.parts) == (None, None)


def test_models_by_name_and_folder(checkpoint: Path, make_model: Callable[..., Any], photo: np.ndarray) -> None:
    """A packaged name, a folder with a method and fields of the settings are enough."""
    tau = read_config(resolve(DEFAULT_MODEL))["model"]["tau"]
    packaged = Predictor(DEFAULT_MODEL, device="cpu", max_boxes=3)
    assert (packaged.settings.max_boxes, packaged.config.num_classes, packaged.tau) == (3, 1000, tau)
    assert np.array_equal(Predictor(checkpoint, "cpu")(photo).M, Predictor(make_model(), "cpu")(photo).M)
    assert np.array_equal(
        Predictor(str(checkpoint), "cpu", method="fam")(photo).M, Predictor(checkpoint, "cpu")(photo).M
    )
    assert Predictor(DEFAULT_MODEL, "cpu", method="cam").config.method == "cam"


def test_path_array_and_picture_are_the_same(make_predictor: Make, image_dir: Path, tmp_path: Path) -> None:
    """An image may be a path, a string, a Pillow image or an RGB array; transparent pixels are shown on white."""
    predictor, path = make_predictor(), image_dir / "b.png"
    with Image.open(path) as image:
        first, *others = [predictor(p) for p in (path, str(path), image.copy(), np.asarray(image))]
    for other in others:
        np.testing.assert_array_equal(other.M, first.M)
        assert other.regions == first.regions
    clear = Image.new("RGBA", (60, 40))
    clear.save(tmp_path / "x.png")
    np.testing.assert_array_equal(predictor(clear).M, predictor(tmp_path / "x.png").M)
    np.testing.assert_array_equal(predictor(clear).M, predictor(np.full((40, 60, 3), 255, np.uint8)).M)


def test_a_bad_image_is_an_error(make_predictor: Make, tmp_path: Path, photo: np.ndarray) -> None:
    """One bad image, asked for by itself, is an error with its name and the reason."""
    with pytest.raises(DataError, match=r"gone\.jpg: no such file"):
        make_predictor()(tmp_path / "gone.jpg")
    for array in (photo.astype(np.float32), np.zeros((3, 10, 10), np.uint8), np.zeros((0, 10, 3), np.uint8)):
        with pytest.raises(ShapeError, match="expected uint8"):
            make_predictor()(array)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_stream(make_predictor: Make, image_dir: Path, names: list[str], batch_size: int) -> None:
    """Predictions come in the order of the items and are those of single images; bad images are failures in place."""
    (image_dir / "empty.png").touch()
    (image_dir / "text.png").write_bytes(b"\0\1\2")
    predictor = make_predictor(batch_size=batch_size)
    order = ["empty.png", *names[::-1], "gone.png", "text.png", *names, "gone.png"]
    results = list(predictor.stream(items(image_dir, order)))
    assert [r.name for r in results] == order
    assert [r for r in results if isinstance(r, Failure)] == [
        Failure("empty.png", "the file is empty"),
        Failure("gone.png", "no such file"),
        Failure("text.png", "not a JPEG, PNG, WebP, BMP or TIFF image"),
        Failure("gone.png", "no such file"),
    ]
    for result in results:
        if isinstance(result, Prediction):
            single = predictor(image_dir / result.name)
            assert result.size_hw == single.size_hw
            np.testing.assert_allclose(result.M, single.M, atol=1e-4)


def test_then(make_predictor: Make, image_dir: Path, names: list[str]) -> None:
    """A function is called once with each prediction; what it raises for one is a warning, and the boxes are kept."""
    calls = []

    def write(prediction: Prediction) -> None:
        calls.append(prediction.name)
        if prediction.name == "b.png":
            msg = "disk full"
            raise OSError(msg)

    results = list(make_predictor(batch_size=2).stream(items(image_dir, names), write))
    assert sorted(calls) == names
    assert all(isinstance(result, Prediction) for result in results)
    assert {r.name: r.warning for r in results if isinstance(r, Prediction)} == dict.fromkeys(names) | {
        "b.png": "disk full"
    }


def test_lists_and_iterators(make_predictor: Make, image_dir: Path, names: list[str], photo: np.ndarray) -> None:
    """Lists give lists and iterators iterators, in order, whatever the mix, with the predictions of single images."""
    predictor = make_predictor(batch_size=2)
    with Image.open(image_dir / "a.jpg") as opened:
        mixed = [image_dir / "sub/c.bmp", photo, opened.copy(), str(image_dir / "b.png")]
    mixed.append((image_dir / "sub/d.webp").read_bytes())
    several, single = predictor(mixed), [predictor(image) for image in mixed]
    assert [p.name for p in several] == [str(mixed[0]), "images[1]", "images[2]", mixed[3], "images[4]"]
    for one, other in zip(several, single, strict=True):
        assert (one.size_hw, one.classes[0].name) == (other.size_hw, other.classes[0].name)
        np.testing.assert_allclose(one.M, other.M, atol=1e-4)
    assert [p.regions for p in predictor(iter(mixed))] == [p.regions for p in predictor(tuple(mixed))]
    assert predictor([]) == []


def test_iterators_are_read_as_predictions_are_taken(make_predictor: Make, photo: np.ndarray) -> None:
    """Of an iterator a few batches are read ahead and no more, and what is no image ends it in its place."""
    taken = 0

    def images() -> Iterator[Any]:
        nonlocal taken
        while True:
            taken += 1
            yield None if taken == 30 else photo

    found = make_predictor(batch_size=2)(images(), label="cup")
    assert taken == 0
    assert [next(found).labels[:1] for _ in range(5)] == [("cup",)] * 5
    assert taken <= 5 + 6
    with pytest.raises(DataError, match=r"images\[29\]: a NoneType is no image"):
        list(found)


@pytest.mark.parametrize("image", [None, 5, 2.0, {}, {"a": 1}, range(3), torch.zeros(3, 8, 8), Path.cwd])
def test_what_is_no_image(make_predictor: Make, image: Any, photo: np.ndarray) -> None:
    """What is no image is refused by its type, alone and in a list, in one sentence that says what is allowed."""
    kind = type(image).__name__
    with pytest.raises(DataError, match=rf"^image: a {kind} is no image: give a path, a Pillow image, an RGB array"):
        make_predictor()(image)
    with pytest.raises(DataError, match=rf"^images\[1\]: a {kind} is no image"):
        make_predictor()([photo, image])


def test_images_that_are_damaged(make_predictor: Make, tmp_path: Path, photo: np.ndarray) -> None:
    """A file object, bytes of no image, a closed picture and one without pixels are errors with a reason."""
    (tmp_path / "x.png").write_bytes(b"text")
    with (tmp_path / "x.png").open("rb") as file, pytest.raises(DataError, match="a BufferedReader is no image"):
        make_predictor()(file)
    with pytest.raises(DataError, match="image: not a JPEG, PNG"):
        make_predictor()(b"text")
    Image.fromarray(photo).save(tmp_path / "y.png")
    with Image.open(tmp_path / "y.png") as closed:
        pass
    with pytest.raises(DataError, match="image: damaged image"):
        make_predictor()(closed)
    with pytest.raises(ShapeError, match="no pixels"):
        make_predictor()(Image.new("RGB", (0, 5)))
    with pytest.raises(ShapeError, match=r"images\[1\]: the image is float64 of shape \(2, 2\); expected uint8"):
        make_predictor()([photo, np.zeros((2, 2))])


def test_labels(make_predictor: Make, photo: np.ndarray) -> None:
    """A class is given by name, index or WordNet id, one for all or one each; unknown names are one's own."""
    predictor = make_predictor()
    found = predictor([photo] * 4, label=["CUP", 2, np.int64(2), None])
    assert [p.known for p in found] == [True, True, True, False]
    assert {(c.index, c.name) for p in found[:3] for c in p.classes} == {(2, "cup")}
    assert all(0 < p.classes[0].probability < 1 for p in found)
    assert [p.classes[0].index for p in predictor((photo, photo), label="rocket")] == [3, 3]
    own = predictor([photo] * 3, label=["wing", "cup", None])
    assert [(c.index, c.name, c.probability) for p in own[:2] for c in p.classes] == [
        (1, "wing", None),
        (0, "cup", None),
    ]
    assert own[0].regions == predictor(photo).regions
    assert (own[2].known, own[2].classes[0].name) == (False, predictor(photo).classes[0].name)


@pytest.mark.parametrize(
    ("count", "label", "text"),
    [
        (2, ["cup"], "1 labels for 2 images"),
        (1, 7, "label 7 is no class; the 5 classes are numbered from 0"),
        (1, -1, "label -1 is no class"),
        (1, True, "not True"),
        (1, 2.0, "not 2.0"),
        (2, ["wing", 1], "'wing' is a name of your own, and indices of the model cannot go with it"),
        (None, ["cup"], r"not \['cup'\]"),
    ],
)
def test_labels_that_do_not_fit(
    make_predictor: Make, photo: np.ndarray, count: int | None, label: Any, text: str
) -> None:
    """Labels of another number or kind than the images and the model's classes are refused."""
    with pytest.raises(DataError, match=text):
        make_predictor()([photo] * count if count else iter([photo]), label=label)


def test_boxes_do_not_depend_on_overlays(tmp_path: Path, picture: Callable[..., np.ndarray], model: Any) -> None:
    """Of a large JPEG the boxes are the same to the last bit whether its photograph is kept for drawing or not."""
    noise = np.random.default_rng(0).normal(0, 20, (1500, 2000, 1))
    large = np.asarray(Image.fromarray(picture(60, 80)).resize((2000, 1500))) + noise
    Image.fromarray(large.clip(0, 255).astype(np.uint8)).save(tmp_path / "x.jpg")
    plain, drawn = (Predictor(model, "cpu", photos=photos)(tmp_path / "x.jpg") for photos in (False, True))
    assert np.array_equal(plain.M, drawn.M)
    assert plain.regions == drawn.regions
    assert plain.source == tmp_path / "x.jpg"
    assert isinstance(drawn.source, Image.Image)
    assert drawn.source.size == (1600, 1200)
    assert np.array_equal(np.asarray(plain.overlay()), np.asarray(drawn.overlay()))


def test_topk(make_predictor: Make, photo: np.ndarray) -> None:
    """The most probable classes come first, and never more than there are."""
    three, every = make_predictor(topk=3)(photo).classes, make_predictor(topk=99)(photo).classes
    assert (len(three), len(every)) == (3, 5)
    assert every[:3] == three
    assert sorted((c.probability for c in every), reverse=True) == [c.probability for c in every]
    assert sum(c.probability for c in every) == pytest.approx(1, abs=1e-5)


def test_known_class(make_predictor: Make, image_dir: Path) -> None:
    """With the class given it is the only one reported."""
    predictor = make_predictor(tau=0.0, topk=3)
    found = predictor(image_dir / "a.jpg", label=4)
    assert len(found.regions) == 1
    assert [c.name for c in found.classes] == ["person"]
    assert found.known
    (streamed,) = predictor.stream([Item("a.jpg", image_dir / "a.jpg", 4)])
    assert isinstance(streamed, Prediction)
    assert (streamed.known, streamed.classes, streamed.regions) == (True, found.classes, found.regions)


def test_thresholds(make_predictor: Make, photo: np.ndarray) -> None:
    """The model's own threshold is the default; 0 takes the whole image and 0.999 finds nothing."""
    assert make_predictor().tau == 0.5
    assert make_predictor(tau=0.0)(photo).regions[0].xyxy == (0, 0, 60, 40)
    assert make_predictor(tau=0.999)(photo).regions == ()


def test_several_boxes_and_masks(make_predictor: Make, picture: Callable[..., np.ndarray]) -> None:
    """max_boxes gives the largest regions first, and the mask has the pixels of just those."""
    found = max(
        (make_predictor(max_boxes=3, masks=True, tau=tau)(picture(90, 120)) for tau in (0.4, 0.45, 0.5, 0.55)),
        key=lambda prediction: len(prediction.regions),
    )
    assert found.mask is not None
    assert 2 <= len(found.regions) <= 3
    assert [r.area for r in found.regions] == sorted((r.area for r in found.regions), reverse=True)
    assert found.mask.sum() == sum(r.area for r in found.regions)


def test_flip_is_the_mean_of_two_passes(make_predictor: Make, photo: np.ndarray) -> None:
    """M with flip is the mean of M and of the mirrored M of the mirror image, whose result is the mirrored one."""
    single, both, mirror = make_predictor(topk=5), make_predictor(flip=True, topk=5, parts=True), photo[:, ::-1].copy()
    found, mirrored = both(photo), both(mirror)
    np.testing.assert_allclose(found.M, (single(photo).M + single(mirror).M[:, ::-1]) / 2, atol=1e-4)
    np.testing.assert_allclose(mirrored.M[:, ::-1], found.M, atol=1e-4)
    assert [c.probability for c in mirrored.classes] == pytest.approx([c.probability for c in found.classes], abs=1e-4)
    assert found.parts is not None
    assert mirrored.parts is not None
    np.testing.assert_allclose(mirrored.parts.A[:, :, ::-1], found.parts.A, atol=1e-4)
    assert mirrored.parts.weights == pytest.approx(found.parts.weights, abs=1e-5)


def test_scales_give_the_finest_map(make_predictor: Make, photo: np.ndarray) -> None:
    """Averaging over scales gives a map of the finest one's size, between the scales' own values."""
    found = make_predictor(scales=(1.0, 1.5, 2.0))(photo)
    assert found.M.shape == make_predictor(scales=(2.0,))(photo).M.shape == (8, 8)
    assert ((found.M > 0) & (found.M < 1)).all()
    assert found.size_hw == (40, 60)


def test_amp(make_predictor: Make, photo: np.ndarray) -> None:
    """--amp gives a float32 map near that of float32."""
    half = make_predictor(amp=True)(photo)
    assert half.M.dtype == np.float32
    np.testing.assert_allclose(half.M, make_predictor()(photo).M, atol=0.01)


def test_parts_are_the_models(model: Any, photo: np.ndarray) -> None:
    """The parts of a prediction are A and t of one forward pass."""
    found = Predictor(model, "cpu", parts=True)(photo).parts
    assert found is not None
    with torch.inference_mode():
        out = model(model.preprocess(photo))
    assert np.allclose(found.A, out.A[0].numpy(), atol=1e-5)
    assert found.weights == pytest.approx(out.t[0].tolist(), abs=1e-5)
    assert sum(found.weights) == pytest.approx(1, abs=1e-5)


def test_large_jpegs_are_decoded_small_without_a_difference(
    make_predictor: Make, tmp_path: Path, picture: Callable[..., np.ndarray]
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


def test_exif_frame(make_predictor: Make, tmp_path: Path) -> None:
    """Boxes of a turned photograph are in the upright frame."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40)).save(tmp_path / "x.jpg", exif=exif)
    found = make_predictor(tau=0.0)(tmp_path / "x.jpg")
    assert found.size_hw == (80, 40)
    assert found.regions[0].xyxy == (0, 0, 40, 80)


@pytest.mark.parametrize("fits", [1, 2, 4])
def test_a_batch_too_large_for_the_memory_is_halved(
    fits: int, make_predictor: Make, image_dir: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on with half as many images a forward pass, from then on, and says the same."""
    predictor, sizes = make_predictor(batch_size=5), []
    expected = list(predictor.stream(items(image_dir, names)))
    infer = predictor.engine.infer

    def of_little_memory(views: list[np.ndarray], *rest: Any, **more: Any) -> Any:
        sizes.append(len(views[0]))
        if len(views[0]) > fits:
            raise OutOfMemoryError("out of memory")
        return infer(views, *rest, **more)

    monkeypatch.setattr(predictor.engine, "infer", of_little_memory)
    for _ in range(2):
        found = list(predictor.stream(items(image_dir, names)))
        for one, other in zip(found, expected, strict=True):
            assert isinstance(one, Prediction)
            assert isinstance(other, Prediction)
            np.testing.assert_allclose(one.M, other.M, atol=1e-5)
    assert sizes == {4: [5, 2, 2, 1], 2: [5, 2, 2, 1], 1: [5, 2, 1, 1, 1, 1, 1]}[fits] + {1: [1] * 5}.get(
        fits, [2, 2, 1]
    )


def test_an_image_too_large_for_the_memory(
    make_predictor: Make, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where not even one fits, the error is that of the engine."""
    predictor = make_predictor()

    def of_no_memory(*_: Any, **__: Any) -> Any:
        raise OutOfMemoryError("out of memory on cuda:0")

    monkeypatch.setattr(predictor.engine, "infer", of_no_memory)
    with pytest.raises(ConfigError, match="out of memory on cuda:0"):
        predictor([photo, photo])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *((name, [0]) for name in ("max_boxes", "topk", "batch_size", "workers")),
        ("tau", [1.0, -0.5, float("nan")]),
        ("scales", [(), (0.1,), (5.0,), (float("nan"),)]),
    ],
)
def test_settings_out_of_range(name: str, values: list[Any]) -> None:
    """A setting that makes no sense is refused by name."""
    for value in values:
        with pytest.raises(ConfigError, match="threshold" if name == "tau" else name):
            Settings(**{name: value})


# ---- a method whose map depends on the class -------------------------------------------------------------


@pytest.fixture(scope="module")
def cam(make_model: Callable[..., Any]) -> Any:
    """A CAM with clear opinions."""
    model = make_model(method="cam").eval()
    with torch.no_grad():
        model.classifier.weight.mul_(100)
    return model


def test_a_cam_has_no_parts(cam: Any) -> None:
    """Parts of a method without are refused when the predictor is made."""
    with pytest.raises(ConfigError, match="'cam' has no parts"):
        Predictor(cam, "cpu", parts=True)


def test_a_cam_shows_the_class_it_names(cam: Any, photo: np.ndarray) -> None:
    """Its map is that of the most probable class, from 0 to 1, its box that of the map at the CAM's own threshold."""
    predictor = Predictor(cam, "cpu")
    found = predictor(photo)
    for label in range(5):
        known = predictor(photo, label=label)
        assert np.array_equal(known.M, found.M) == (label == found.classes[0].index)
        assert (known.M.min(), known.M.max(), known.classes[0].index) == (0, 1, label)
        assert known.regions == localize(known.M, (40, 60), 0.2).regions


def test_known_and_unknown_classes_of_a_cam_in_one_batch(cam: Any, image_dir: Path, names: list[str]) -> None:
    """Each image of a batch has the map of its own class, also beside images that cannot be read."""
    predictor = Predictor(cam, "cpu", batch_size=6)
    (image_dir / "bad.png").touch()
    labels = [3, None, 0, 4, None]
    queue = [Item("bad.png", image_dir / "bad.png", 1)]
    queue += [Item(n, image_dir / n, label) for n, label in zip(names, labels, strict=True)]
    failed, *found = predictor.stream(queue)
    assert isinstance(failed, Failure)
    for name, label, prediction in zip(names, labels, found, strict=True):
        assert isinstance(prediction, Prediction)
        np.testing.assert_allclose(prediction.M, predictor(image_dir / name, label).M, atol=1e-4)


def test_a_cam_takes_no_names_of_ones_own(cam: Any, photo: np.ndarray) -> None:
    """A class that the model does not know has no map, which is said; a FAM's map does not depend on it."""
    with pytest.raises(UnknownNameError, match=r"unknown class 'wing' .* takes no names of your own"):
        Predictor(cam, "cpu")(photo, label="wing")


def test_all_views_of_a_cam_show_one_class(cam: Any, photo: np.ndarray) -> None:
    """Averaged over the mirrored image, the class is the most probable in the mean, and the map goes from 0 to 1."""
    both, one = Predictor(cam, "cpu", flip=True)(photo), Predictor(cam, "cpu")
    label = both.classes[0].index
    mean = (one(photo, label).M + one(photo[:, ::-1].copy(), label).M[:, ::-1]) / 2
    np.testing.assert_allclose(both.M, (mean - mean.min()) / (mean.max() - mean.min()), atol=1e-3)
    assert Predictor(cam, "cpu", scales=(1, 1.5))(photo).M.shape == (6, 6)


# ---- the reference ---------------------------------------------------------------------------------------


def test_the_example(tmp_path: Path, picture: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The ten lines on the page of the reference run as they are printed, and print scores, names and corners."""
    program = re.search(r"## Prediction.*?```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert program is not None
    assert len([line for line in program[1].splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(120, 160)).save("photo.jpg")
    exec(compile(program[1], str(PAGE), "exec"), {})  # noqa: S102
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 4
    assert re.fullmatch(r"0\.\d\d  \S.*", lines[0])
    assert re.fullmatch(r"x \d+ to \d+, y \d+ to \d+", lines[1])
