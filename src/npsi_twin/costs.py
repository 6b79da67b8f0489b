"""What a run may cost, stage by stage, and whether memory and disk have room for it.

Takes -> gives: `StageCost` of every stage, which `npsi_twin.plan` predicts -> `Costs`, what a folder lacks of them, the
slabs that fit into some memory, and one clear error, before anything is written, where something does not fit.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from npsi_twin.errors import ResourceError
from npsi_twin.execution import STATE, ExecutionRecipe, available_cpus, cluster_memory
from npsi_twin.execution.run_folder import finished_bytes, shard_bytes
from npsi_twin.memory import Memory, memory_bytes, memory_there
from npsi_twin.stages import RECONSTRUCTION, SCAN, TRUTH

#: Where the slabs of a stage lie that is not finished, if they stay beside a file that refers to them.
_VIRTUAL = {"build": TRUTH, "truth": TRUTH, "scan": SCAN, "reconstruct": RECONSTRUCTION}
#: What the process that began a run does itself, also where a cluster does the rest.
_NEVER_ON_A_CLUSTER = ("electrode", "axis, filters")
#: What is done for the sake of other stages, and not where they are finished.
_FOR = {"electrode": ("build", "scan"), "axis, filters": ("reconstruct",)}


@dataclass(frozen=True)
class StageCost:
    """Expected cost of one stage.

    Attributes
    ----------
    stage
        Its name.
    seconds
        Its time.
    memory_bytes
        Memory at its peak, of all workers together.
    disk_bytes
        Size of what it writes.
    passing_bytes
        Size of its slabs, where they are copied into one file and then go.
    """

    stage: str
    seconds: float
    memory_bytes: float
    disk_bytes: float
    passing_bytes: float = 0.0


@dataclass(frozen=True)
class Costs:
    """Expected cost of a run."""

    stages: Sequence[StageCost]
    workers: int

    @property
    def seconds(self) -> float:
        """Time of all stages."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def memory_bytes(self) -> float:
        """Peak of the stages."""
        return max(stage.memory_bytes for stage in self.stages)

    @property
    def disk_bytes(self) -> float:
        """Size of all files."""
        return sum(stage.disk_bytes for stage in self.stages)

    @property
    def fullest_disk_bytes(self) -> float:
        """Most that lies on disk at a time: all files so far, and the slabs of which one of them is being copied."""
        written, most = 0.0, 0.0
        for stage in self.stages:
            written += stage.disk_bytes
            most = max(most, written + stage.passing_bytes)
        return most

    def only(self, *stages: str) -> "Costs":
        """Return the costs of some stages alone."""
        return Costs([cost for cost in self.stages if cost.stage in stages], self.workers)

    def beyond(self, folder: Path, *, again: bool = False) -> "Costs":
        """Return the costs of what a folder does not hold yet.

        Parameters
        ----------
        folder
            Of a run that is gone on with. What it holds is not hashed here: where a file turns out not to be what
            was written, more is done than these costs say.
        again
            Do finished stages again; only slabs of unfinished ones are there already.
        """
        if not (folder / STATE).is_file():
            return self
        finished = {} if again else finished_bytes(folder)
        left = []
        for cost in self.stages:
            if not all(stage in finished for stage in _FOR.get(cost.stage, (cost.stage,))):
                slabs = shard_bytes(folder, cost.stage, _VIRTUAL.get(cost.stage))
                # Slabs that are copied lie beside the copy, of which nothing is there; others are the file's own.
                whole = "passing_bytes" if cost.passing_bytes else "disk_bytes"
                left.append(replace(cost, **{whole: max(0.0, getattr(cost, whole) - slabs)}))
        return Costs(left, self.workers)

    def as_dict(self) -> dict[str, Any]:
        """Return the costs for machines."""
        total = {
            "seconds": self.seconds,
            "memory_bytes": self.memory_bytes,
            "disk_bytes": self.disk_bytes,
            "fullest_disk_bytes": self.fullest_disk_bytes,
        }
        return {"workers": self.workers, "stages": [asdict(stage) for stage in self.stages], "total": total}

    def as_text(self) -> str:
        """Return the costs for people."""
        lines = [f"{'stage':<13} {'time':>10} {'memory':>10} {'disk':>10}"]
        rows = [*self.stages, StageCost("together", self.seconds, self.memory_bytes, self.disk_bytes)]
        for row in rows:
            memory, disk = (f"{size / 2**30:.2f} GiB" for size in (row.memory_bytes, row.disk_bytes))
            lines.append(f"{row.stage:<13} {_duration(row.seconds):>10} {memory:>10} {disk:>10}")
        lines.append(
            f"with {self.workers} worker(s) on {available_cpus()} processor(s); memory is the peak; at its fullest the "
            f"disk holds {_size(self.fullest_disk_bytes)}"
        )
        return "\n".join(lines)


def _size(size_bytes: float) -> str:
    """Return a size on disk in a unit that leaves digits to compare.

    Examples
    --------
    >>> _size(2.27e6), _size(49e9)
    ('2.3 MB', '49.0 GB')
    """
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def slabs_within(
    execution: ExecutionRecipe, most: str | None, costs: Callable[[ExecutionRecipe], Costs]
) -> ExecutionRecipe:
    """Return the recipe with slabs as high as some memory allows, and no higher than it asks for.

    Parameters
    ----------
    execution
        What is asked for.
    most
        Memory of all workers together, such as ``"8GiB"``; None changes nothing.
    costs
        What would be spent by a recipe.

    Raises
    ------
    ParameterError
        When that is no amount of memory.
    ResourceError
        When slabs of one row need more, or a stage that holds the whole volume.
    """
    if most is None:
        return execution
    allowed = memory_bytes(most)
    for height in range(execution.slab_rows, 0, -1):
        lower = execution.model_copy(update={"slab_rows": height})
        planned = costs(lower)
        if planned.memory_bytes <= allowed:
            return lower
    worst = max(planned.stages, key=lambda stage: stage.memory_bytes)
    raise ResourceError(
        f"--max-memory: got {most}; {worst.stage} needs about {worst.memory_bytes / 2**30:.2f} GiB with "
        f"{planned.workers} worker(s), and slabs of one row. Give more, fewer --workers, or fewer detector rows or "
        "columns."
    )


def check_resources(costs: Costs, folder: Path, *, scheduler: str | None = None, overwrite: bool = False) -> None:
    """Refuse what does not fit into memory or onto the disk, before anything is written.

    Parameters
    ----------
    costs
        Of what is to be done; `Costs.beyond` leaves out what a folder holds.
    folder
        Where it goes.
    scheduler
        Address of the Dask cluster that does it: the memory of its smallest worker counts, as far as its workers are
        there already and have a limit. The scene, axis and filters are this process's own.
    overwrite
        What an old run wrote there goes first.

    Raises
    ------
    ResourceError
        With what is needed, what there is, and what to change.
    """
    if scheduler is None:
        _check_memory(costs, memory_there())
    else:
        _check_memory(costs.only(*_NEVER_ON_A_CLUSTER), memory_there())
        elsewhere = [cost.stage for cost in costs.stages if cost.stage not in _NEVER_ON_A_CLUSTER]
        _check_memory(costs.only(*elsewhere), cluster_memory(scheduler))
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free, needed = shutil.disk_usage(existing).free, 1.2 * costs.fullest_disk_bytes
    if overwrite and (folder / STATE).is_file():
        free += sum(finished_bytes(folder).values())
    if needed > free:
        raise ResourceError(
            f"{folder}: needs about {_size(needed)} of disk; {_size(free)} are free. Free some space, give another "
            "--out, or a smaller specification."
        )


def _check_memory(costs: Costs, memory: Memory) -> None:
    worst = max(costs.stages, key=lambda stage: stage.memory_bytes, default=None)
    if worst is not None and worst.memory_bytes > memory.size_bytes:
        raise ResourceError(
            f"{worst.stage}: needs about {worst.memory_bytes / 2**30:.3g} GiB of memory; {memory}. Segmentation and "
            "measurement hold the whole volume: give fewer microscope.detector.rows or columns, or fewer --workers; "
            "other stages need less with --max-memory."
        )


def check_file(stage: str, path: Path, needed_bytes: float, most: str | None) -> None:
    """Refuse a file whose volume would take more memory than the caller allows, before anything of it is read.

    Parameters
    ----------
    stage
        What would be done with it.
    path
        The file.
    needed_bytes
        From `npsi_twin.plan.segment_file_bytes` and its siblings.
    most
        Memory, such as ``"8GiB"``; None allows everything.

    Raises
    ------
    ParameterError
        When ``most`` is no amount of memory.
    ResourceError
        When more is needed; tells both.
    """
    if most is not None and needed_bytes > memory_bytes(most):
        raise ResourceError(
            f"--max-memory: got {most}; {stage} needs about {needed_bytes / 2**30:.3g} GiB for the volume that {path} "
            "claims to hold. Give more, or cut the volume."
        )
