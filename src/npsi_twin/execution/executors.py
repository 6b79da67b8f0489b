"""Who does the slabs of a stage: this process, worker processes of this machine, or a Dask cluster.

An `Executor` takes a pure function and its tasks and yields each result with the number of its task as soon as it is
there. `in_order` brings them into order, so that nothing depends on who was faster; `begun` has one task done beside
the others. A worker that dies (killed, or for want of memory) costs its task, which is given to another; a task that
takes its workers with it is named.
"""

import math
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from threading import Lock
from typing import Any, Protocol, TypeVar, cast

from npsi_twin.errors import IncompatibleError, MissingBackendError, ParameterError, ResourceError
from npsi_twin.execution.progress import Progress, silent
from npsi_twin.execution.software import code_sha256
from npsi_twin.execution.worker_processes import WorkerProcesses
from npsi_twin.memory import Memory, freed_memory_kept, memory_there
from npsi_twin.threads import using_threads
from npsi_twin.worker_server import begin_server, threads_of_each

Task = TypeVar("Task")
Result = TypeVar("Result")

#: How often a task is given out again after the worker that did it died.
_RETRIES = 2
_SECONDS_TO_CONNECT = 20


def slabs(rows: int, slab_rows: int) -> list[range]:
    """Cut ``rows`` detector rows into slabs of at most ``slab_rows``.

    Examples
    --------
    >>> slabs(5, 2)
    [range(0, 2), range(2, 4), range(4, 5)]
    """
    return [range(start, min(start + slab_rows, rows)) for start in range(0, rows, slab_rows)]


class Executor(Protocol):
    """Who does the work."""

    def completed(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Do every task and yield its number and result in the order in which they come.

        Raises
        ------
        ResourceError
            When the workers of a task died several times; names the task.
        """
        ...

    def begun(self, function: Callable[[Task], Result], task: Task) -> Callable[[], Result]:
        """Begin a task that nothing waits for yet; return what waits for its result, however often it is called."""
        ...


@dataclass(frozen=True)
class InProcess:
    """One task after the other in this process; ``threads`` as `using_threads` takes them."""

    threads: int | None = None

    def completed(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Do the tasks in their order."""
        for number, task in enumerate(tasks):
            with using_threads(self.threads):
                result = function(task)
            yield number, result

    def begun(self, function: Callable[[Task], Result], task: Task) -> Callable[[], Result]:
        """Do the task when its result is wanted first."""
        return cache(partial(_only, self, function, task))


def _only(executor: Executor, function: Callable[[Task], Result], task: Task) -> Result:
    """Do one task and wait for its result."""
    ((_, result),) = executor.completed(function, [task])
    return result


@dataclass
class LocalProcesses:
    """Worker processes of this machine, for a ``with`` statement.

    They are forked from a server that has imported what this process has and has run none of it, so that it has one
    thread; importing takes seconds of a processor, which are spent once, while the caller prepares. See `begin_server`.

    Attributes
    ----------
    workers
        Number of processes.
    threads
        Threads of each; its share of all processors when None.
    """

    workers: int
    threads: int | None = None
    _processes: WorkerProcesses | None = field(default=None, repr=False)

    def __enter__(self) -> "LocalProcesses":
        loaded = sorted(name for name in sys.modules if name.startswith("npsi_twin."))
        begin_server(self.workers, self.threads, loaded)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def completed(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Do the tasks, at most two a worker ahead of the oldest that is not done, so that memory is bounded."""
        left = dict(enumerate(tasks))
        running: dict[Future[Result], int] = {}
        died: Counter[int] = Counter()
        try:
            while left:
                # What took so many workers with it gets what memory there is, once it is alone.
                ahead = 1 if _RETRIES in died.values() else 2 * self.workers
                oldest, given = min(left), set(running.values())
                for number in left:
                    if number not in given and number - oldest < ahead and len(running) < ahead:
                        running[self._submit(function, left[number])] = number
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number = running.pop(future)
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        died[number] += 1
                        if died[number] > _RETRIES:
                            raise ResourceError(
                                f"{tasks[number]}: the worker process died {died[number]} times while it did this; it "
                                "was killed, or ran out of memory. Give fewer --workers, or --max-memory for lower "
                                "slabs."
                            ) from None
                        continue
                    del left[number], died[number]
                    yield number, result
        finally:
            if left:  # stopped, or failed: what the workers still do is dropped
                self._stop()

    def begun(self, function: Callable[[Task], Result], task: Task) -> Callable[[], Result]:
        """Give the task to the next worker that is free; it is done again where that worker was lost meanwhile."""
        future = self._submit(function, task)

        def result() -> Result:
            try:
                return future.result()
            except (BrokenProcessPool, CancelledError):
                return _only(self, function, task)

        return cache(result)

    def _submit(self, function: Callable[[Task], Result], task: Task) -> Future[Result]:
        if self._processes is None:
            self._processes = WorkerProcesses(self.workers, threads_of_each(self.workers, self.threads))
        return self._processes.submit(function, task)

    def _stop(self) -> None:
        """End the workers, whatever they do."""
        if self._processes is not None:
            self._processes.stop()
            self._processes = None


#: A worker of Dask may have several threads; each of our tasks uses all that it was given.
_one_at_a_time = Lock()


def _other_code(why: object) -> IncompatibleError:
    return IncompatibleError(
        f"dask: a worker has other code of npsi-twin than the process that began the run ({why}), so that its bytes "
        "might differ. Install the same version on all of them."
    )


def _on_worker(function: Callable[[Task], Result], threads: int | None, code: str, task: Task) -> Result:
    if code_sha256() != code:
        raise _other_code("its hash differs")
    with _one_at_a_time, using_threads(threads), freed_memory_kept():
        return function(task)


@dataclass(frozen=True)
class DaskCluster:
    """The workers of a Dask scheduler.

    Attributes
    ----------
    client
        A ``distributed.Client``.
    threads
        Threads of each task; what the worker's environment says when None.
    """

    client: Any
    threads: int | None = None

    def completed(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Give all tasks to the scheduler, which gives those of a lost worker to another."""
        dask = import_module("distributed")
        work = partial(_on_worker, function, self.threads, code_sha256())
        # A pure function that failed would fail again: no retries. Those of lost workers are not counted as such.
        futures = {self.client.submit(work, task, pure=False): number for number, task in enumerate(tasks)}
        try:
            for future in dask.as_completed(list(futures), loop=self.client.loop):
                number = futures.pop(future)
                try:
                    result = future.result()
                except dask.KilledWorker as error:
                    raise ResourceError(
                        f"{tasks[number]}: the Dask cluster lost it ({error}). Its workers ran out of memory or time; "
                        "give --max-memory for lower slabs, look at their logs, and go on with --resume."
                    ) from None
                except CancelledError as error:
                    raise ResourceError(
                        f"{tasks[number]}: the Dask scheduler is gone, or gave it up ({error}). Start scheduler and "
                        "workers again, and go on with --resume."
                    ) from None
                future.release()  # or it would be made again where the worker that holds it is lost
                yield number, result
        finally:
            self.client.cancel(list(futures))

    def begun(self, function: Callable[[Task], Result], task: Task) -> Callable[[], Result]:
        """Give the task to the scheduler, and again where the cluster has lost it meanwhile."""
        dask = import_module("distributed")
        work = partial(_on_worker, function, self.threads, code_sha256())
        future = self.client.submit(work, task, pure=False)

        def result() -> Result:
            try:
                return cast(Result, future.result())
            except (dask.KilledWorker, CancelledError):
                return _only(self, function, task)
            finally:
                future.release()

        return cache(result)


@contextmanager
def opened_executor(
    workers: int = 1, *, threads: int | None = None, scheduler: str | None = None, progress: Progress = silent
) -> Iterator[Executor]:
    """Give who does the work, and end it afterwards.

    Parameters
    ----------
    workers
        1 works in this process; more start that many worker processes. Without meaning on a cluster.
    threads
        Threads of each worker; its share of this machine when None.
    scheduler
        Address of a Dask scheduler, ``"tcp://host:8786"``, whose workers see the run's folder under the same path.
    progress
        Who is told where the cluster's dashboard is.

    Raises
    ------
    ParameterError
        For fewer than one worker or thread, and for what is no address of a scheduler.
    MissingBackendError
        When there is a scheduler, but Dask is not installed.
    ResourceError
        When the scheduler does not answer.
    """
    if workers < 1:
        raise ParameterError(f"workers: got {workers}; at least 1 is needed.")
    if threads is not None and threads < 1:
        raise ParameterError(f"threads: got {threads}; at least 1 is needed.")
    if scheduler is not None:
        client = _connected(scheduler)
        try:
            shown = "dashboard" in client.scheduler_info()["services"]
            progress(f"Dask dashboard: {client.dashboard_link if shown else 'none, the scheduler lacks bokeh'}", 0, 1)
            if not client.scheduler_info()["workers"]:
                progress(f"{scheduler} has no worker yet: the run waits for one", 0, 1)
            yield DaskCluster(client, threads)
        finally:
            client.close()
    elif workers == 1:
        yield InProcess(threads)
    else:
        with LocalProcesses(workers, threads) as local:
            yield local


def cluster_memory(scheduler: str) -> Memory:
    """Return the memory of a Dask cluster's smallest worker, infinite where none is there yet.

    A worker has what Dask was told (``--memory-limit``), and no more than its machine and its control group allow.

    Parameters
    ----------
    scheduler
        Address of the scheduler.

    Raises
    ------
    ParameterError, MissingBackendError, ResourceError
        As `opened_executor`.
    IncompatibleError
        When a worker has other code.
    """
    client = _connected(scheduler)
    try:
        told = [worker["memory_limit"] for worker in client.scheduler_info()["workers"].values()]
        there = [memory.size_bytes for memory in client.run(memory_there).values()]
    except (ImportError, AttributeError) as error:
        raise _other_code(error) from None
    finally:
        client.close()
    # Dask says 0 where it was told of no limit.
    smallest = min([float(limit) for limit in told if limit] + there, default=math.inf)
    return Memory(smallest, f"the smallest worker of {scheduler} has")


def _connected(scheduler: str) -> Any:
    if find_spec("distributed") is None:
        raise MissingBackendError(
            "--scheduler needs Dask, which is not here. Install it with: pip install npsi-twin[dask]"
        )
    heard_at = _checked_address(scheduler)
    try:
        if heard_at is not None:
            # A scheduler speaks first; Dask's client waits for ever for what accepts and says nothing.
            with socket.create_connection(heard_at, timeout=_SECONDS_TO_CONNECT) as line:
                line.recv(1)
        return import_module("distributed").Client(scheduler, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
    except OSError as error:
        raise ResourceError(
            f"--scheduler: no Dask scheduler answers at {scheduler} ({error}). Start one with `dask scheduler` and "
            "give the address that it prints."
        ) from None


def _checked_address(scheduler: str) -> tuple[str, int] | None:
    """Return host and port of a plain socket; None for what is none.

    What is no address at all is refused: Dask's client would be left half made, which ends in a traceback.
    """
    addressing, registry = (import_module(f"distributed.comm.{name}") for name in ("addressing", "registry"))
    try:
        scheme, place = addressing.parse_address(scheduler)
        registry.get_backend(scheme)
        heard_at = None if scheme == "inproc" else addressing.parse_host_port(place)
    except ValueError as error:
        raise ParameterError(
            f"--scheduler: got {scheduler!r}, which is no address ({error}). Give the one that `dask scheduler` "
            "prints, tcp://HOST:8786."
        ) from None
    return heard_at if scheme == "tcp" else None


def map_slabs(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    workers: int = 1,
    stage: str = "",
    progress: Progress = silent,
) -> Iterator[Result]:
    """Apply a pure function to every task and yield the results in the order of the tasks.

    Parameters
    ----------
    function
        A pure function; with more than one worker it must be picklable (a module-level function or a partial of one).
    tasks
        Its arguments.
    workers
        1 works in this process with all its threads; more start that many processes, which share the threads. At most
        ``2 * workers`` results are in flight, so memory does not grow with the number of tasks.
    stage, progress
        What to report after every task, and to whom.

    Raises
    ------
    ParameterError
        For fewer than one worker.

    Examples
    --------
    >>> list(map_slabs(abs, [-1, -2]))
    [1, 2]
    """
    with opened_executor(workers) as executor:
        yield from in_order(executor, function, tasks, stage=stage, progress=progress)


def in_order(
    executor: Executor,
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    stage: str = "",
    progress: Progress = silent,
) -> Iterator[Result]:
    """Do tasks by an executor and yield the results in the order of the tasks.

    Parameters
    ----------
    executor
        Who does them.
    function, tasks, stage, progress
        As for `map_slabs`.

    Examples
    --------
    >>> list(in_order(InProcess(), abs, [-1, -2]))
    [1, 2]
    """
    progress(stage, 0, len(tasks))
    early: dict[int, Result] = {}
    following = 0
    for done, (number, result) in enumerate(executor.completed(function, tasks), start=1):
        progress(stage, done, len(tasks))
        early[number] = result
        while following in early:
            yield early.pop(following)
            following += 1
