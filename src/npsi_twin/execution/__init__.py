"""Slabs over an executor, and the folder a run lives in.

`executors` do tasks in this process, in worker processes or on a Dask cluster; `shards` keeps what they made, slab by
slab, and puts files together; `run_folder` owns one run, `locks` keeps others out of it, and `files` writes whole or
not at all. What is written depends neither on who did it, nor in what order, nor on how often it was interrupted.
"""

from npsi_twin.execution.executors import (
    Executor,
    InProcess,
    cluster_memory,
    in_order,
    map_slabs,
    opened_executor,
    slabs,
)
from npsi_twin.execution.files import file_sha256, flush_to_disk, write_text_whole, written_hdf5, written_whole
from npsi_twin.execution.progress import Progress, silent
from npsi_twin.execution.recipe import ExecutionRecipe
from npsi_twin.execution.run_folder import STATE, RunFolder, open_run, read_state
from npsi_twin.execution.software import code_sha256
from npsi_twin.threads import available_cpus, threads

__all__ = [
    "STATE",
    "ExecutionRecipe",
    "Executor",
    "InProcess",
    "Progress",
    "RunFolder",
    "available_cpus",
    "cluster_memory",
    "code_sha256",
    "file_sha256",
    "flush_to_disk",
    "in_order",
    "map_slabs",
    "open_run",
    "opened_executor",
    "read_state",
    "silent",
    "slabs",
    "threads",
    "write_text_whole",
    "written_hdf5",
    "written_whole",
]
