"""Worker processes for the loop of :mod:`famcli.inference.pipeline`.

Each worker is an executor of one process. So an image is finished by the process that loaded it, which keeps what the
network does not need of it, a photograph to draw on for example; and a worker that dies takes nothing but its own
images with it. Arrays travel in one block of shared memory with a slot for each image in flight. It has no name, so
that nothing is left of it however the processes end.
"""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cached_property, partial
from itertools import cycle
from multiprocessing.context import SpawnContext
from threading import Thread
from typing import Any, NamedTuple

import cv2

from famcli.data import quiet_decoders
from famcli.data.memory import Memory, memory_here, set_memory
from famcli.inference.pipeline import Failed, guarded
from famcli_models.errors import ConfigError, DataError

CHUNK = 16  # images a task: each costs the calling thread 0.3 ms, whatever is in it
WAITING = 2  # tasks that each worker has to load, so that none is ever idle
ALIGNMENT = 64  # bytes, of arrays in a slot


class Packed(NamedTuple):
    """A pickled object whose arrays lie in a slot, one behind the other, as far as they fit."""

    data: bytes
    arrays: list[int | bytes]  # the length of each, or its bytes if it did not fit


def pack(value: object, slot: memoryview) -> Packed:
    """Put the arrays of an object into a slot, in which none of them may lie already."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    arrays: list[int | bytes] = []
    at = 0
    for buffer in buffers:
        raw = buffer.raw()
        if at + raw.nbytes > len(slot):
            arrays.append(bytes(raw))
            continue
        slot[at : at + raw.nbytes] = raw
        arrays.append(raw.nbytes)
        at += _aligned(raw.nbytes)
    return Packed(data, arrays)


def unpack(packed: Packed, slot: memoryview) -> Any:
    """The object again; its arrays are those in the slot."""
    buffers: list[bytes | memoryview] = []
    at = 0
    for array in packed.arrays:
        if isinstance(array, bytes):
            buffers.append(array)
            continue
        buffers.append(slot[at : at + array])
        at += _aligned(array)
    return pickle.loads(packed.data, buffers=buffers)  # noqa: S301  (from a process of this program)


class Entry(NamedTuple):
    """An image in a task: its slot and what it is; later what the network says of it, or why it could not be loaded."""

    slot: int
    item: Any
    inferred: Any = None  # Packed or Failed


# In the calling process.


class Processes:
    """See :class:`famcli.inference.pipeline.Crew`; there are ``slot_bytes`` for the arrays of each image in flight."""

    def __init__(
        self, load: Callable[..., Any], finish: Callable[..., Any], count: int, batch_size: int, slot_bytes: int
    ) -> None:
        self.ahead = 1 + math.ceil(WAITING * count * CHUNK / batch_size)
        self.behind = math.ceil(count * CHUNK / batch_size)
        slots, size = (self.ahead + 1 + self.behind) * batch_size, _aligned(slot_bytes)  # one batch is in the network
        context = multiprocessing.get_context("spawn")  # a fork beside the network's threads may hang
        memory = context.RawArray(ctypes.c_byte, slots * size)
        self.slots, self.free = _slots(memory, size), list(range(slots))
        decoding = Memory(memory_here().limit, context, places=count + 1)
        self.hire = partial(_Worker, context, decoding, load, finish, memory, size)
        self.workers = [self.hire(place=place) for place in range(count)]
        self.turns = cycle(self.workers[:])
        self.network = ThreadPoolExecutor(1)  # which waits for a GPU while this thread talks to the workers
        self.call = self.network.submit

    def begin(self, items: Sequence[Any]) -> _Batch:
        """See :meth:`famcli.inference.pipeline.Crew.begin`."""
        return _Batch(self, items)

    @cached_property
    def tester(self) -> _Worker:
        """A worker for nothing but one image at a time: if it dies, it is clear of which."""
        self.workers.append(self.hire(place=len(self.workers), keeps=False))
        return self.workers[-1]

    def close(self) -> None:
        """See :meth:`famcli.inference.pipeline.Crew.close`."""
        self.network.shutdown(cancel_futures=True)
        for worker in self.workers:
            worker.pool.shutdown(cancel_futures=True)


class _Batch:
    """See :class:`famcli.inference.pipeline.Batch`."""

    def __init__(self, crew: Processes, items: Sequence[Any]) -> None:
        self.crew = crew
        entries = [Entry(crew.free.pop(), item) for item in items]
        size = math.ceil(len(items) / math.ceil(len(items) / CHUNK))
        chunks = [entries[start : start + size] for start in range(0, len(items), size)]
        self.tasks = [_Task(crew, next(crew.turns), _load, chunk) for chunk in chunks]

    def loaded(self) -> list[tuple[Any, Any]]:
        self.answers = [task.answers() for task in self.tasks]
        return [
            (entry.item, answer if isinstance(answer, Failed) else unpack(answer, self.crew.slots[entry.slot]))
            for task, answers in zip(self.tasks, self.answers, strict=True)
            for entry, answer in zip(task.entries, answers, strict=True)
        ]

    def finish(self, inferred: Iterator[Any]) -> None:
        for i, (task, answers) in enumerate(zip(self.tasks, self.answers, strict=True)):
            entries = []
            for entry, answer in zip(task.entries, answers, strict=True):
                failed = isinstance(answer, Failed)
                news = answer if failed else pack(next(inferred), self.crew.slots[entry.slot])
                entries.append(entry._replace(inferred=news))
            self.tasks[i] = _Task(self.crew, task.worker, _finish, entries)

    def is_done(self) -> bool:
        return all(task.future.done() for task in self.tasks)

    def finished(self) -> list[Any]:
        values = [value for task in self.tasks for value in task.answers()]
        self.crew.free += [entry.slot for task in self.tasks for entry in task.entries]
        return values


class _Task:
    """A stage of some images in a worker; if that dies, of one image after the other in another."""

    def __init__(self, crew: Processes, worker: _Worker, stage: Callable[..., Any], entries: list[Entry]) -> None:
        self.crew, self.worker, self.stage, self.entries = crew, worker, stage, entries
        self.future = worker.submit(stage, entries)

    def answers(self) -> list[Any]:
        try:
            return self.future.result()
        except BrokenProcessPool:
            return [self._alone(entry) for entry in self.entries]

    def _alone(self, entry: Entry) -> Any:
        tester = self.crew.tester
        try:
            return tester.submit(self.stage, [entry]).result()[0]
        except BrokenProcessPool:
            return Failed(entry.item, DataError(f"a worker process died of it: {tester.restart()}"))


class _Worker:
    """A process that runs one task at a time; unless it ``keeps`` what it loads, it loads again to finish."""

    def __init__(
        self, context: SpawnContext, decoding: Memory, *stages_and_slots: Any, place: int, keeps: bool = True
    ) -> None:
        self.context, self.decoding, self.place = context, decoding, place
        self.arguments = (*stages_and_slots, decoding, place, keeps)
        self.start()

    def start(self) -> Future[int]:
        others = set(multiprocessing.active_children())
        self.pool = ProcessPoolExecutor(1, self.context, initializer=_begin, initargs=self.arguments)
        started = self.pool.submit(os.getpid)
        (self.process,) = set(multiprocessing.active_children()) - others
        return started

    def submit(self, stage: Callable[..., Any], entries: list[Entry]) -> Future[list[Any]]:
        try:
            future = self.pool.submit(stage, entries)
        except BrokenProcessPool:
            self.restart()
            future = self.pool.submit(stage, entries)
        future.add_done_callback(self._free_memory)
        return future

    def _free_memory(self, future: Future[list[Any]]) -> None:
        """Give back what a process that died had taken: others may wait for it."""
        if not future.cancelled() and isinstance(future.exception(), BrokenProcessPool):
            self.decoding.taken[self.place] = 0

    def restart(self) -> str:
        """Begin anew with another process, and say how the last one ended."""
        ended = self._ending()
        try:
            self.start().result()
        except BrokenProcessPool as error:
            hint = "free memory, and in a script of your own ask for them below `if __name__ == '__main__':`"
            raise ConfigError(f"worker processes die as they start ({self._ending()}); {hint}") from error
        return ended

    def _ending(self) -> str:
        self.pool.shutdown()
        exitcode = self.process.exitcode
        if exitcode is None or exitcode >= 0:
            return f"it ended with exit code {exitcode}"
        name = signal.Signals(-exitcode).name
        return f"it was ended by {name}" + (", perhaps for lack of memory" if name == "SIGKILL" else "")


# In a worker process.


class _Here:
    """What a worker process has."""

    load: Callable[..., Any]
    finish: Callable[..., Any]
    slots: list[memoryview]
    keeps: bool
    kept: dict[int, Any]  # what was loaded, by slot


_here = _Here()


def _begin(
    load: Callable[..., Any],
    finish: Callable[..., Any],
    memory: Any,
    slot_bytes: int,
    decoding: Memory,
    place: int,
    keeps: bool,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the calling process has it too, and ends this one
    Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)  # each core has a worker
    quiet_decoders()
    set_memory(decoding, place)
    _here.load, _here.finish, _here.slots = load, finish, _slots(memory, slot_bytes)
    _here.keeps, _here.kept = keeps, {}


def _end_with_parent() -> None:
    """A parent that was killed cannot tell its workers to end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _load(entries: Sequence[Entry]) -> list[Packed | Failed[Any]]:
    answers: list[Packed | Failed[Any]] = []
    for slot, item, _ in entries:
        loaded = guarded(_here.load, item)
        if isinstance(loaded, Failed):
            answers.append(loaded)
        else:
            if _here.keeps:
                _here.kept[slot] = loaded
            answers.append(pack(loaded, _here.slots[slot]))
    return answers


def _finish(entries: Sequence[Entry]) -> list[Any]:
    return [_finished(*entry) for entry in entries]


def _finished(slot: int, item: Any, inferred: Packed | Failed[Any]) -> Any:
    if isinstance(inferred, Failed):
        return inferred
    # A process that died took what it had loaded with it.
    loaded = _here.kept.pop(slot) if slot in _here.kept else guarded(_here.load, item)
    if isinstance(loaded, Failed):
        return loaded
    return guarded(_here.finish, item, loaded, unpack(inferred, _here.slots[slot]))


def _slots(memory: Any, size: int) -> list[memoryview]:
    whole = memoryview(memory).cast("B")
    return [whole[start : start + size] for start in range(0, len(whole), size)]


def _aligned(size: int) -> int:
    return math.ceil(size / ALIGNMENT) * ALIGNMENT
