"""Worker processes of this machine, of which each dies for itself.

The standard library's pool ends all its workers where one dies, and with them what the others were doing. Here each
worker is a pool of its own; tasks wait in one queue and are handed to whoever is free.
"""

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import connection, get_context, parent_process, set_start_method
from multiprocessing.context import BaseContext
from threading import RLock, Thread
from typing import Any, TypeVar

from npsi_twin.memory import keep_freed_memory
from npsi_twin.threads import few_blas_threads, limit_threads

Task = TypeVar("Task")
Result = TypeVar("Result")


class WorkerProcesses:
    """Processes that do tasks in the order in which they are given; each begins when it is needed first.

    Parameters
    ----------
    number
        Number of processes at most.
    threads
        Threads of each.
    """

    def __init__(self, number: int, threads: int) -> None:
        self._number, self._threads = number, threads
        self._lock = RLock()
        self._waiting: deque[tuple[Callable[[Any], Any], Any, Future[Any]]] = deque()
        self._idle: list[ProcessPoolExecutor] = []
        self._busy: list[ProcessPoolExecutor] = []

    def submit(self, function: Callable[[Task], Result], task: Task) -> Future[Result]:
        """Queue a task; its future tells a `BrokenProcessPool` where its own worker died over it."""
        told: Future[Result] = Future()
        with self._lock:
            self._waiting.append((function, task, told))
            self._hand_out()
        return told

    def stop(self) -> None:
        """End the workers, whatever they do, and cancel what waits."""
        with self._lock:
            for _, _, told in self._waiting:
                told.cancel()
            self._waiting.clear()
            workers = [*self._idle, *self._busy]
        for worker in workers:
            for process in list((worker._processes or {}).values()):
                process.terminate()
        for worker in workers:
            worker.shutdown(cancel_futures=True)

    def _hand_out(self) -> None:
        while self._waiting and (self._idle or len(self._busy) < self._number):
            function, task, told = self._waiting.popleft()
            worker = self._idle.pop() if self._idle else self._begun()
            try:
                doing = self._given(worker, function, task)
            except BrokenProcessPool:  # it died while it had nothing to do
                worker = self._begun()
                doing = self._given(worker, function, task)
            self._busy.append(worker)
            doing.add_done_callback(partial(self._done, worker, told))

    def _begun(self) -> ProcessPoolExecutor:
        begin = (self._threads, dict(os.environ))
        return ProcessPoolExecutor(1, mp_context=_context(), initializer=_begin_worker, initargs=begin)

    def _given(self, worker: ProcessPoolExecutor, function: Callable[[Task], Result], task: Task) -> Future[Result]:
        with few_blas_threads(self._threads):  # a worker that is not forked reads it when it begins
            return worker.submit(function, task)

    def _done(self, worker: ProcessPoolExecutor, told: Future[Any], doing: Future[Any]) -> None:
        """Pass on what a worker did, and give it the next task; called in a thread of its executor."""
        error = CancelledError() if doing.cancelled() else doing.exception()
        with self._lock:
            self._busy.remove(worker)
            if not isinstance(error, BrokenProcessPool):
                self._idle.append(worker)
            self._hand_out()
        if error is None:
            told.set_result(doing.result())
        else:
            told.set_exception(error)


def _begin_worker(threads: int, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)  # the server of workers may have begun under another
    # Ctrl-C reaches the whole group of processes; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Where processes are forked, numba guards its threads by a semaphore that a worker's end would leave behind.
    set_start_method("spawn", force=True)
    limit_threads(threads)
    keep_freed_memory()
    Thread(target=_end_with_parent, daemon=True).start()


def _context() -> BaseContext:
    """Return how workers begin: forked from a server that has imported all they need; elsewhere they import it."""
    return get_context("forkserver" if sys.platform == "linux" else "spawn")


def _end_with_parent() -> None:
    """End a worker whose parent was killed: it would wait for tasks for ever."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
