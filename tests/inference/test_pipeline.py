"""The loop that runs a model over images, on threads and in processes: order, failures, memory, ends of all kinds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
import pytest

from famcli.inference import pipeline
from famcli.inference.pipeline import Failed, Workers, all_finished, run_images, spread
from famcli_models.errors import ConfigError, DataError

HERE = Path(__file__).parent
THREADS, PROCESSES = {}, {"shared_bytes": 40 * 40 * 8}
crews = pytest.mark.parametrize("crew", [THREADS, PROCESSES], ids=["threads", "processes"])


@pytest.fixture(autouse=True)
def stages(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stages that worker processes can import, as they take their path from this one; three images are many."""
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setattr(pipeline, "ENOUGH", 3)
    return import_module("stages")


def loop(items: Any, **options: Any) -> Iterator[Any]:
    """Doubles numbers, three a batch; 5 cannot be loaded and 7 not finished."""
    stages = import_module("stages")
    return run_images(items, stages.load, stages.infer, stages.finish, **{"batch_size": 3, **options})


def kinds(results: list[Any]) -> list[Any]:
    """The item of each result, or the message of its failure."""
    return [str(result.error) if isinstance(result, Failed) else result[0] for result in results]


@pytest.mark.parametrize(
    ("batch_size", "crew"),
    [*((size, THREADS) for size in (1, 2, 3, 100)), *((size, PROCESSES) for size in (1, 3, 20))],
)
def test_results_keep_their_order(batch_size: int, crew: dict[str, Any]) -> None:
    """Whatever the batch size results come in the order of the items, failures in their place."""
    found = list(loop([*range(9), 5, 5, 5, *range(10, 40)], batch_size=batch_size, **crew))
    assert [r.item if isinstance(r, Failed) else r[0] for r in found] == [*range(9), 5, 5, 5, *range(10, 40)]
    assert [str(r.error) for r in found if isinstance(r, Failed)] == ["no 5", "no 7", "no 5", "no 5", "no 5"]
    good = [i for i in range(40) if i not in (5, 7, 9)]
    assert [r for r in found if not isinstance(r, Failed)] == [(i, i, 2 * i) for i in good]
    assert list(loop([], **crew)) == []


@pytest.mark.parametrize("shared_bytes", [1, 40 * 40 * 8 - 1])
def test_arrays_that_do_not_fit_are_sent(shared_bytes: int) -> None:
    """Shared memory that is too small costs time and changes nothing."""
    assert list(loop(range(10, 20), shared_bytes=shared_bytes)) == [(i, i, 2 * i) for i in range(10, 20)]


@crews
def test_the_loop_is_lazy_and_can_be_left(crew: dict[str, Any]) -> None:
    """Memory stays flat: so many batches are in flight and no more, also when one stops, and then no worker is left."""
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield 0

    results = loop(source(), workers=1, **crew)
    # Two batches ahead and one behind; of a process two tasks of 16 images and one, and of the network two batches.
    in_flight = 9 if crew is THREADS else 3 * (11 + 6 + 2)
    for given in range(60):
        assert taken - given <= in_flight
        next(results)
    results.close()
    assert taken <= 60 + in_flight
    assert multiprocessing.active_children() == []


def test_where_none_may_fail() -> None:
    """The first failure is raised, and without one all results are there."""
    assert len(all_finished(loop([1, 2]))) == 2
    with pytest.raises(DataError, match="no 5"):
        all_finished(loop([1, 7, 5][::-1]))


@crews
def test_a_bug_ends_the_run(crew: dict[str, Any]) -> None:
    """An error that is none of an image is raised, and no worker is left."""
    with pytest.raises(ZeroDivisionError):
        list(loop([1, 2, 3, 1003, 4], **crew))
    assert multiprocessing.active_children() == []


def test_an_image_that_kills_a_worker_fails_alone() -> None:
    """A worker that dies is replaced, and the image that it died of fails with how it ended; all others are there."""
    items = [*range(10, 30), 1001, *range(30, 60), 1002, *range(60, 70), 1001, 1002]
    found = list(loop(items, workers=1, batch_size=8, **PROCESSES))
    killed = "a worker process died of it: it was ended by SIGKILL, perhaps for lack of memory"
    left = "a worker process died of it: it ended with exit code 3"
    assert kinds(found) == [{1001: killed, 1002: left}.get(item, item) for item in items]
    assert all(result == (result[0], result[0], 2 * result[0]) for result in found if not isinstance(result, Failed))


def test_workers_that_cannot_start_end_the_run(stages: Any) -> None:
    """Nothing is tried again for ever where no process starts."""
    with pytest.raises(ConfigError, match=r"worker processes die as they start \(it ended with exit code 4\)"):
        list(run_images(range(9), stages.Deadly(), stages.infer, stages.finish, workers=1, **PROCESSES))
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_run(number: signal.Signals) -> None:
    """Ctrl-C, which the whole group gets, and the end of the one process by whatever signal leave no worker behind."""
    with subprocess.Popen(
        [sys.executable, HERE / "stages.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, errors = process.communicate(timeout=30)
        assert errors.count(b"Traceback") == (number == signal.SIGINT)  # of the one process alone
    assert psutil.wait_procs(children, timeout=10)[1] == []


@pytest.mark.parametrize(
    ("on_cpu", "cores", "workers"),
    [
        (True, 1, Workers(1)),
        (True, 2, Workers(2)),
        (True, 4, Workers(2)),
        (True, 16, Workers(4, processes=True)),
        (False, 1, Workers(2)),
        (False, 2, Workers(2)),
        (False, 16, Workers(15, processes=True)),
        (False, 128, Workers(24, processes=True)),
    ],
)
def test_workers_beside_a_network(on_cpu: bool, cores: int, workers: Workers) -> None:
    """Threads where the network needs the cores, processes where there are some to spare."""
    assert Workers.beside(network_on_cpu=on_cpu, cores=cores) == workers


def test_spread() -> None:
    """First and last are in, and there are no more than asked for."""
    assert spread(range(10), 4) == [0, 3, 6, 9]
    assert spread([1, 2], 5) == [1, 2]
    assert spread([], 5) == []
