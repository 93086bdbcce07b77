"""Views of an image: what a quality is, and the second look at a part of the image."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from famcli.data.sample import Sample
from famcli.evaluation.models import Model
from famcli.evaluation.perimage import EvaluationSettings, run_models
from famcli.evaluation.protocols import BOX_RULES
from famcli.inference.engine import Engine
from famcli.inference.job import predict_files
from famcli.inference.predictor import Predictor, Settings, cut_item
from famcli.inference.torch_engine import TorchEngine
from famcli.inference.views import FINER, Part, Views, ViewSettings, infer_views
from famcli.outputs.prediction import Failure, Item
from famcli_models.config import MethodConfig
from famcli_models.errors import ConfigError, DataError, UnknownNameError
from famcli_models.localization import upsample
from famcli_models.preprocess import resize

CELL = 8  # pixels


@dataclass(frozen=True, kw_only=True)
class BrightnessConfig(MethodConfig):
    method: str = "brightness"
    tau: float = 0.1
    num_classes: int = 2
    size: int = 64


class Brightness(Engine[np.ndarray]):
    """Bright cells are foreground; class 1 is that a whole cell is bright."""

    config: MethodConfig = BrightnessConfig()
    class_names = ("dark", "bright")
    title, map_title = "Brightness", "brightness"

    def run(self, images: np.ndarray, labels: np.ndarray, *, flipped: bool = False) -> np.ndarray:
        B, cells = len(images), images.shape[1] // CELL
        images = images[:, :, ::-1] if flipped else images
        means = images.reshape(B, cells, CELL, cells, CELL, 3).mean(axis=(2, 4, 5), dtype=np.float32)
        return np.asarray(means / 255)

    def maps(self, out: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return out

    def scores(self, out: np.ndarray) -> np.ndarray:
        bright = 20 * out.max(axis=(1, 2)) - 10
        return np.stack([-bright, bright], axis=1)


class Parted(Brightness):
    """Its parts are what is bright and what is dark."""

    num_parts = 2

    def parts(self, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.stack([out, 1 - out], axis=1), np.full((len(out), 2), 0.5)


class Far(Brightness):
    """It is blind to what is near."""

    def run(self, images: np.ndarray, labels: np.ndarray, *, flipped: bool = False) -> np.ndarray:
        out = super().run(images, labels, flipped=flipped)
        return out * (out.max(axis=(1, 2), keepdims=True) < 0.5)


class Framed(Brightness):
    """It says the same box of every image."""

    gives_boxes = True

    def boxes(self, out: np.ndarray) -> np.ndarray:
        return np.tile([[0.25, 0.25, 0.75, 0.5]], (len(out), 1))


class Conditional(Brightness):
    """The map of class 0 is half that of class 1."""

    class_conditional = True

    def maps(self, out: np.ndarray, labels: np.ndarray) -> np.ndarray:
        said = np.where(labels < 0, self.scores(out).argmax(axis=1), labels)
        return out / np.where(said == 1, 1, 2)[:, None, None]


@pytest.fixture
def photo(picture: Callable[..., np.ndarray]) -> np.ndarray:
    return picture(40, 60)


@pytest.fixture
def bird() -> np.ndarray:
    """A bright rectangle of 75x60 of 1,000x800 pixels, within one cell of the first look."""
    image = np.zeros((800, 1000, 3), np.uint8)
    image[420:480, 650:725] = 255
    return image


def test_a_quality_is_a_set_of_views_and_options_go_before_it() -> None:
    """Each field that is given takes the place of what the quality says."""
    assert ViewSettings().views == Views((1.0,), flip=False, looks=1)
    best = ViewSettings(quality="best").views
    assert (best.flip, best.looks, len(best.scales)) == (True, 1, 2)
    assert ViewSettings(quality="best", looks=1, flip=False).views == Views(best.scales)
    assert replace(Settings(), quality="best").views == best
    assert Views((1, 1.5), flip=True, looks=2).words() == "sizes 1, 1.5; mirrored; 2 looks"
    assert Views().words() is None
    for wrong in ({"looks": 3}, {"scales": ()}, {"scales": (9.0,)}):
        for kind in (ViewSettings, Settings, EvaluationSettings):
            with pytest.raises(ConfigError, match=f"{next(iter(wrong))} is .*it must be"):
                kind(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="fast"):
        Settings(quality="fastt")


def test_a_part_is_the_cells_around_a_box() -> None:
    """A tenth of its sides is added, whole cells are taken, and nothing outside of the image."""
    part = Part.around(np.array([0.5, 0.25, 0.75, 1.0]), 0.1, (8, 16))
    assert part == (7, 1, 13, 8, 8, 16)
    assert part.box.tolist() == [7 / 16, 1 / 8, 13 / 16, 1]
    assert part.box_to_image(np.array([0, 0, 1, 0.5])).tolist() == [7 / 16, 1 / 8, 13 / 16, 9 / 16]
    M = np.random.default_rng(0).random((7, 6), np.float32)
    whole = part.map_to_image(M)
    np.testing.assert_array_equal(whole[1:, 7:13], M)
    assert whole.sum() == pytest.approx(M.sum(), abs=1e-4)
    assert Part.around(np.array([1, 1, 1, 1.0]), 0.1, (8, 16))[:4] == (15, 7, 16, 8)


def test_the_second_look_finds_the_box_more_exactly(bird: np.ndarray) -> None:
    """Of an object smaller than a cell of the first map, with the pixels of the original image."""
    one, two = (Predictor(Brightness(), looks=looks, topk=2)(bird) for looks in (1, 2))
    wanted = np.array([650, 420, 725, 480])
    error = [np.abs(found.boxes[0] - wanted).max() for found in (one, two)]
    assert error[1] < 30
    assert error[0] > 50
    assert two.M.shape == tuple(FINER * side for side in one.M.shape)
    assert [found.classes[0].name for found in (one, two)] == ["dark", "bright"]


def test_the_map_is_the_smaller_of_both_and_the_probability_the_mean(bird: np.ndarray) -> None:
    """As computed step by step with the engine; parts are those of the first look."""
    engine, image = Parted(), Image.fromarray(bird)
    images, boxes = [np.stack([resize(image, 64)])], list[np.ndarray]()

    def cut(i: int, box: np.ndarray) -> Sequence[np.ndarray]:
        assert i == 0
        boxes.append(box)
        return [resize(image, 64, box)]

    found = infer_views(engine, images, None, Views(flip=True, looks=2), cut, tau=0.1, parts=True)
    first = engine.infer(images, flip=True, parts=True)
    second = engine.infer([np.stack([resize(image, 64, boxes[0])])], flip=True)
    part = Part.around(boxes[0], 0, found.maps.shape[1:])  # of whole cells already
    assert (part.x1 - part.x0) * (part.y1 - part.y0) < part.width * part.height / 4
    wanted = np.minimum(upsample(first.maps[0], found.maps.shape[1:]), part.map_to_image(second.maps[0]))
    np.testing.assert_array_equal(found.maps[0], wanted)
    np.testing.assert_array_equal(found.probabilities, (first.probabilities + second.probabilities) / 2)
    assert found.parts is not None
    assert first.parts is not None
    np.testing.assert_array_equal(found.parts[0].A, first.parts[0].A)


def test_without_a_box_the_second_look_says_the_same(make_model: Callable[..., Any], photo: np.ndarray) -> None:
    """It is at the whole image again."""
    one, two = (Predictor(make_model(), "cpu", looks=looks, tau=0.999, topk=5)(photo) for looks in (1, 2))
    assert not len(two.regions)
    assert [c.probability for c in two.classes] == pytest.approx([c.probability for c in one.classes])
    np.testing.assert_allclose(two.M, upsample(one.M, two.M.shape), atol=1e-5)


def test_where_the_second_look_finds_nothing_the_first_stands(bird: np.ndarray) -> None:
    """An image never loses its box."""
    one, two = (Predictor(Far(), looks=looks)(bird) for looks in (1, 2))
    np.testing.assert_array_equal(two.M, upsample(one.M, two.M.shape))
    assert len(two.regions) == 1


def test_a_box_that_the_method_gives_is_the_part(bird: np.ndarray) -> None:
    """The second box is within the part, and the answer is the mean of both."""
    (region,) = Predictor(Framed(), looks=2)(bird).regions
    part = Part.around(np.array([0.25, 0.25, 0.75, 0.5]), 0.1, (FINER * CELL, FINER * CELL))
    second = part.box_to_image(np.array([0.25, 0.25, 0.75, 0.5]))
    wanted = (np.array([0.25, 0.25, 0.75, 0.5]) + second) / 2 * [1000, 800, 1000, 800]
    assert region.xyxy == pytest.approx(wanted.tolist())


def test_both_maps_are_of_the_class_that_is_said(bird: np.ndarray) -> None:
    """The first look alone says dark, both together bright."""
    found, given = (Predictor(Conditional(), looks=2)(bird, label) for label in (None, "dark"))
    assert found.classes[0].name == "bright"
    np.testing.assert_allclose(found.M, 2 * given.M)
    assert Predictor(Conditional())(bird).classes[0].name == "dark"


def test_a_part_is_cut_from_the_pixels_of_the_original(tmp_path: Path) -> None:
    """A JPEG that the first look is content with at an eighth of its size is decoded as large as the part needs."""
    blocks = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    Image.fromarray(blocks).save(tmp_path / "x.jpg", quality=95, subsampling=0)
    box = np.array([0.25, 0.5, 0.3125, 0.5625])
    (found,) = cut_item(Item("x", tmp_path / "x.jpg"), box, [64], "auto")
    np.testing.assert_allclose(found.astype(int), blocks[512:576, 256:320], atol=20)


def test_a_file_that_is_gone_at_the_second_look(tmp_path: Path, bird: np.ndarray) -> None:
    """It is a failure of its own, and the others go on."""
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        Image.fromarray(bird).save(path)

    class Hasty(Brightness):
        def run(self, *arguments: Any, **more: Any) -> np.ndarray:
            paths[1].unlink(missing_ok=True)
            return super().run(*arguments, **more)

    found = list(Predictor(Hasty(), looks=2).stream(Item(path.name, path) for path in paths))
    assert [isinstance(one, Failure) for one in found] == [False, True, False]
    assert found[1] == Failure("1.png", "no such file")


def test_predict_states_its_views_and_resumes_with_the_same_alone(checkpoint: Path, image_dir: Path) -> None:
    """Results say which views they are of, if more than one; masks, overlays and maps are written for two looks."""
    folders = {kind: image_dir.parent / kind for kind in ("masks", "overlays", "maps")}
    out, how = image_dir.parent / "o.json", {"model": checkpoint, "device": "cpu", "engine": "torch"}
    assert predict_files(image_dir, out, image_files=folders, looks=2, scales=(1.0, 1.5), **how).images == 5
    views = json.loads(out.read_text())["info"]["views"]
    assert views == "sizes 1, 1.5; 2 looks"
    assert [len(list(folder.rglob("*.*"))) for folder in folders.values()] == [5, 5, 5]
    predict_files(image_dir, out, **how)
    assert "views" not in json.loads(out.read_text())["info"]

    def stop(record: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_files(image_dir, out, looks=2, on_record=stop, **how)
    out.unlink()
    with pytest.raises(DataError, match="other options .looks."):
        predict_files(image_dir, out, resume=True, **how)
    assert predict_files(image_dir, out, looks=2, resume=True, **how).images == 5


def test_evaluation_runs_the_views_of_the_predictor(
    make_model: Callable[..., Any], tmp_path: Path, photo: np.ndarray
) -> None:
    """Its maps and boxes are the same."""
    views: dict[str, Any] = {"flip": True, "scales": (1.0, 1.5)}
    tau = float(np.quantile(Predictor(make_model(), "cpu", **views)(photo).M, 0.3))
    engine = TorchEngine(make_model(tau=tau), "cpu")
    Image.fromarray(photo).save(tmp_path / "x.png")
    sample = Sample("x.png", tmp_path / "x.png", 0, np.array([[5.0, 5, 30, 30]]))
    found = run_models([Model(engine, "FAM")], [sample], [tau], EvaluationSettings(looks=2, **views))
    wanted = Predictor(engine, looks=2, **views)(photo)
    assert len(wanted.boxes) == 1
    np.testing.assert_array_equal(found.maps["FAM"][0], wanted.M)
    np.testing.assert_array_equal(found.scores["FAM"].boxes[0, 0], wanted.boxes[0])


def test_a_cropped_protocol_has_its_second_look_at_a_part_of_the_crop(photo: np.ndarray) -> None:
    """The part of a box in shares of the crop is that of the picture of the crop."""
    image = Image.fromarray(photo).resize((320, 320))
    box = np.array([0.25, 0.5, 0.75, 1.0])
    rules = BOX_RULES["psol"]
    crop = Image.fromarray(rules.view(image, 280))
    difference = rules.view(image, 280, box).astype(int) - resize(crop, 280, box)
    assert np.abs(difference).max() <= 2
