"""Headers of any content, of weights and of model cards, are read or refused with one of this program's errors."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings, strategies as st

from famcli.hub.card import read_header
from famcli_models.checkpoint import read_config, read_shapes
from famcli_models.errors import WeightsError

EXAMPLES = [60, pytest.param(500, marks=pytest.mark.slow)]
values = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=4)
)
nested = st.recursive(values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))
entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "I64", "F64", "X"]) | values,
        "shape": st.lists(st.integers(-1, 2**63), max_size=3) | values,
        "data_offsets": st.lists(st.integers(-1, 64), min_size=2, max_size=2) | values,
    },
)
headers = st.dictionaries(st.text(max_size=5) | st.just("__metadata__"), entries | nested, max_size=4)


def run(test: Any, count: int, rng: random.Random) -> None:
    """Run a test of hypothesis as often as this, from the run's seed."""
    quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    seed(rng.randrange(1 << 32))(
        settings(max_examples=count, deadline=None, database=None, suppress_health_check=quiet)(test)
    )()


@pytest.mark.parametrize("count", EXAMPLES)
def test_weights(tmp_path: Path, rng: random.Random, count: int) -> None:
    """A weights file of any header, length and content gives types and shapes that fit its size, or is refused."""
    path = tmp_path / "model.safetensors"

    @given(header=headers.map(json.dumps) | st.text(), length=st.none() | st.integers(0, 2**64 - 1), data=st.binary())
    def test(header: str, length: int | None, data: bytes) -> None:
        raw = header.encode("utf-8", "surrogatepass")
        path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
        try:
            shapes = read_shapes(path)
        except WeightsError as error:
            assert len(str(error)) < 1000  # noqa: PT017
        else:
            assert all(dtype in {"F16", "F32", "I64"} for dtype, _ in shapes.values())

    run(test, count, rng)


@pytest.mark.parametrize("count", EXAMPLES)
def test_configs_and_cards(tmp_path: Path, rng: random.Random, count: int) -> None:
    """A config of any JSON is read or refused; the header of a card of any text names what it can, or nothing."""
    config = st.fixed_dictionaries(
        {"format": st.just("fam-checkpoint") | values, "format_version": st.just(1) | values},
        optional={"model": nested, "class_names": nested, "provenance": nested, "own": values},
    )

    @given(config=config | nested, card=st.text() | st.builds("---\n{}\n---\n{}".format, st.text(), st.text()))
    def test(config: Any, card: str) -> None:
        (tmp_path / "config.json").write_text(json.dumps(config))
        try:
            assert isinstance(read_config(tmp_path)["model"], dict)
        except WeightsError as error:
            assert len(str(error)) < 1000  # noqa: PT017
        (tmp_path / "README.md").write_bytes(card.encode("utf-8", "surrogatepass"))
        license_, measured = read_header(tmp_path / "README.md")
        assert len(license_) <= 200
        assert len(measured) <= 50

    run(test, count, rng)
