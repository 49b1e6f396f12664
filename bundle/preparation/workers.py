"""Work in processes of their own: one that crashes takes its own task with it, and none of the others."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

# What decides how many threads a library starts; each reads its own when it is imported.
THREADS = ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
CRASHES = {
    -signal.SIGKILL: "The system ended its process, most often because memory was full; give fewer --workers.",
    -signal.SIGSEGV: "A library crashed in it (segmentation fault); prepare it again, and tell us if it crashes again.",
    -signal.SIGABRT: "A library crashed in it (abort); prepare it again, and tell us if it crashes again.",
}


def each_in_a_process(
    work: Callable[[Any], Any], tasks: Sequence[Any], workers: int = 1, threads: int = 1
) -> Iterator[tuple[Any, Any, str]]:
    """Do tasks in processes, several at a time, and give each back as soon as it is done.

    Args:
        work: Does one task and raises nothing; it, the tasks and the results can be pickled.
        tasks: What is to be done.
        workers: How many processes there are.
        threads: How many each may start.

    Returns:
        Task, result and ""; of a task whose process ended: task, None and the cause in a sentence.
    """
    waiting = deque(tasks)
    idle: list[_Worker] = []
    busy: dict[Any, tuple[_Worker, Any]] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                worker = idle.pop() if idle else _Worker(work, threads)
                busy[worker.connection] = (worker, waiting[0])
                worker.begin(waiting.popleft())
            for connection in wait(list(busy)):
                worker, task = busy.pop(connection)
                result, cause = worker.end()
                if not cause:
                    idle.append(worker)
                yield task, result, cause
    finally:
        for worker in [*idle, *(worker for worker, _ in busy.values())]:
            worker.stop()


class _Worker:
    """A process that does one task after the other."""

    def __init__(self, work: Callable[[Any], Any], threads: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share the threads of libraries, which hangs
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        with _environment(dict.fromkeys(THREADS, str(threads))):
            self.process.start()
        theirs.close()

    def begin(self, task: Any) -> None:
        """Hand over a task."""
        with contextlib.suppress(OSError):  # a process that ended already is found by `end`
            self.connection.send(task)

    def end(self) -> tuple[Any, str]:
        """The result, and the cause in a sentence where there is none because the process ended."""
        try:
            return self.connection.recv(), ""
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            return None, CRASHES.get(code, f"Its process ended silently (exit status {code}); prepare it again.")

    def stop(self) -> None:
        """End the process, whatever it does."""
        self.process.terminate()
        self.process.join()


def _serve(connection: Connection, work: Callable[[Any], Any]) -> None:
    """What a process does until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one ends the others
    with contextlib.suppress(EOFError):
        while True:
            connection.send(work(connection.recv()))


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Variables for processes that are started in the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
