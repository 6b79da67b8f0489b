"""A sweep made: every twin a task of its own, one table, the same bytes for any number of workers.

`Sweep` -> a folder:

* ``sweep.csv``: a row a twin, in the order of the design; ``columns.csv``: unit and meaning of its columns;
* ``twins/KEY.json``: the record of a twin (status, reason, warnings, every quantity), and ``twins/KEY.toml``, its
  specification, with which ``npsi-twin run`` makes it again; with ``keep`` also ``twins/KEY/``, its folder;
* ``sweep.toml`` and ``base.toml``: the request, from which ``npsi-twin sweep`` makes the folder again.

A record is written whole after the rest of its twin, so that a sweep that was killed goes on with the twins that have
none. A twin that cannot be (its electrode does not pack, its parts do not fit) is a row with its reason; one that the
machine could not make (memory, disk, a missing library) is a row without a record, and is tried again on resume.
"""

import json
import shutil
import tempfile
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from npsi_twin.analysis import COMPARISON, MEASURED_MAPS
from npsi_twin.comparison.agreement import compare
from npsi_twin.costs import Costs, StageCost, check_resources, slabs_within
from npsi_twin.errors import (
    DataError,
    IncompatibleError,
    IncompleteError,
    NotConvergedError,
    ParameterError,
    collected_warnings,
)
from npsi_twin.execution import (
    ExecutionRecipe,
    Executor,
    Progress,
    RunFolder,
    code_sha256,
    file_sha256,
    in_order,
    open_run,
    opened_executor,
    silent,
    write_text_whole,
    written_whole,
)
from npsi_twin.morphology.measure import measure
from npsi_twin.plan import plan_twin
from npsi_twin.provenance import finish, remember
from npsi_twin.specification import Specification, to_toml
from npsi_twin.stages import TRUTH
from npsi_twin.storage.measurements import read_comparison, read_measurements, without_nan
from npsi_twin.storage.volumes import read_volume
from npsi_twin.sweeps.designs import Twin, draw_twins, salib_problem
from npsi_twin.sweeps.request import BASE, Sweep, sweep_text
from npsi_twin.sweeps.table import (
    ACCURACY,
    check_parquet,
    columns,
    columns_csv,
    compares,
    table_csv,
    table_row,
    write_parquet,
)
from npsi_twin.twin import STAGES, run_twin
from npsi_twin.variations import with_values

TABLE, COLUMNS, PARQUET, REQUEST, TWINS = "sweep.csv", "columns.csv", "sweep.parquet", "sweep.toml", "twins"


@dataclass(frozen=True)
class TwinMaker:
    """Makes the twins of a sweep; a worker process gets one.

    Attributes
    ----------
    sweep
        The sweep.
    folder
        Where it goes.
    """

    sweep: Sweep
    folder: Path

    def __call__(self, twin: Twin) -> str:
        """Make a twin and write its record; return why the machine could not, or nothing."""
        with tempfile.TemporaryDirectory(prefix=".making-", dir=self.folder) as temporary:
            try:
                with collected_warnings() as said:
                    record = self._tried(twin, Path(temporary) / "run")
            except (OSError, MemoryError, ImportError) as error:
                return f"{type(error).__name__}: {error}".replace(temporary, "")
            record |= {"warnings": said, "made_by": f"npsi-twin {version('npsi-twin')}"}
            text = json.dumps(without_nan(record), indent=2, allow_nan=False).replace(temporary, "")
            write_text_whole(self.folder / TWINS / f"{twin.key}.json", text + "\n")
        return ""

    def _tried(self, twin: Twin, work: Path) -> dict[str, Any]:
        """Return the record of a twin that was made, or of one that cannot be."""
        record: dict[str, Any] = {"key": twin.key, "seed": twin.seed, "values": dict(twin.values)}
        try:
            made = self._made(twin, work)
        except (ParameterError, IncompatibleError, NotConvergedError, DataError) as error:
            return record | {
                "status": "failed",
                "reason": "; ".join(str(error).splitlines()),
                "quantities": {},
                "accuracy": {},
            }
        except (OSError, MemoryError, ImportError):
            raise
        except Exception as error:  # a fault of ours costs its row, not the campaign; the record says where it is
            told = {
                "status": "failed",
                "reason": f"{type(error).__name__}: {error}",
                "traceback": traceback.format_exc(),
            }
            return record | told | {"quantities": {}, "accuracy": {}}
        return record | {"status": "made", "reason": ""} | made

    def _made(self, twin: Twin, work: Path) -> dict[str, Any]:
        recipe = self.sweep.recipe
        specification = with_values(self.sweep.base, {**twin.values, "seed": twin.seed})
        write_text_whole(self.folder / TWINS / f"{twin.key}.toml", to_toml(specification))
        run_twin(specification, work, until=recipe.until)
        found: dict[str, Any] = {"specification_digest": specification.digest()}
        found["quantities"] = _quantities(work, specification, compared=compares(self.sweep))
        accuracy = read_comparison(work / COMPARISON)["segmentation_accuracy"] if (work / COMPARISON).is_file() else {}
        found["accuracy"] = {name: accuracy[name] for name in ACCURACY if name in accuracy}
        if recipe.keep:
            place = self.folder / TWINS / twin.key
            shutil.rmtree(place, ignore_errors=True)
            work.rename(place)
        return found


def _quantities(work: Path, specification: Specification, *, compared: bool) -> dict[str, dict[str, Any]]:
    """Return what was measured of a twin, quantity by quantity."""
    if not compared:
        truth = measure(
            read_volume(work / TRUTH, "phase"),
            read_volume(work / TRUTH, "attenuation_per_um"),
            specification.measurement,
        )
        return {
            name: {"unit": entry.unit, "truth": entry.value, "truth_spread": entry.spread, "n": entry.n}
            for name, entry in truth.quantities.items()
        }
    measured = read_measurements(work / MEASURED_MAPS)
    kept = ("unit", "truth", "truth_spread", "recovered", "recovered_spread", "bias", "n")
    rows = compare(measured["truth"], measured["recovered"]).rows
    return {row.quantity: {name: value for name, value in asdict(row).items() if name in kept} for row in rows}


def make_sweep(
    sweep: Sweep,
    folder: Path,
    *,
    workers: int = 1,
    threads: int | None = None,
    scheduler: str | None = None,
    max_memory: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    only: Sequence[str] = (),
    parquet: bool = False,
    break_lock: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Make the twins of a sweep and write their table.

    Parameters
    ----------
    sweep
        From `npsi_twin.sweeps.request.load_sweep`.
    folder
        Where it goes.
    workers
        Worker processes, which share the processors; the files are the same for any number, but for ``run.json`` and
        the crate.
    threads
        Threads of each worker; its share of this machine when None.
    scheduler
        Address of a Dask scheduler whose workers make the twins instead, ``"tcp://host:8786"``.
    max_memory
        Memory of all workers together, such as ``"8GiB"``, that decides the height of slabs, which is a part of the
        base and so of every key.
    resume
        Go on with a sweep of the same request.
    overwrite
        Start anew in a folder that holds a sweep.
    only
        Keys of rows to make alone; all when empty.
    parquet
        Whether the table is written as ``sweep.parquet`` too.
    break_lock
        Take the folder from a process of another machine that left its lock behind.
    progress
        Who to tell how far it has come.

    Returns
    -------
    dict
        ``folder``, ``twins``, how many are ``made`` and ``failed``, and ``table``.

    Raises
    ------
    ParameterError
        For an unknown key, and a design that cannot be laid.
    MissingBackendError
        When SALib or pyarrow is asked for and not present.
    ResourceError
        When memory, disk or the folder is not to be had.
    IncompleteError
        When the folder holds a sweep of another request; and, after the table is written, when the machine could not
        make every twin.
    """
    if parquet:
        check_parquet()

    def costs(execution: ExecutionRecipe) -> Costs:
        lower = replace(sweep, base=sweep.base.model_copy(update={"execution": execution}))
        return _costs(lower, 1, workers)

    execution = slabs_within(sweep.base.execution, max_memory, costs)
    sweep = replace(sweep, base=sweep.base.model_copy(update={"execution": execution}))
    twins = _chosen(draw_twins(sweep), only)
    left = sum(not (resume and (folder / TWINS / f"{twin.key}.json").is_file()) for twin in twins)
    check_resources(_costs(sweep, left, workers), folder, scheduler=scheduler, overwrite=overwrite)
    request = {
        "sweep": sweep_text(sweep),
        "base": sweep.base.digest(),
        "twins": sha256("\n".join(twin.key for twin in twins).encode()).hexdigest(),
        "version": version("npsi-twin"),
        "code": code_sha256(),
    }
    with (
        opened_executor(workers, threads=threads, scheduler=scheduler, progress=progress) as executor,
        open_run(
            folder,
            request=request,
            resume=resume,
            overwrite=overwrite,
            break_lock=break_lock,
            owns=(TWINS,),
            progress=progress,
        ) as run,
    ):
        for kept in run.set_aside("sweep"):
            progress(f"kept {kept}, which this sweep did not write", 0, 1)
        # What a process that was killed was working on.
        for leftover in folder.glob(".making-*"):
            shutil.rmtree(leftover)
        (folder / TWINS).mkdir(exist_ok=True)
        write_text_whole(folder / REQUEST, sweep_text(sweep))
        write_text_whole(folder / BASE, to_toml(sweep.base))
        run.state |= {"seed": sweep.recipe.seed, "salib_problem": salib_problem(sweep)}
        remember(run, asked=(REQUEST, BASE), arguments={"only": list(only)})
        missing = _make_missing(run, sweep, twins, executor, progress)
        rows = [table_row(twin, _record(folder, twin), missing.get(twin.key, "")) for twin in twins]
        _write(run, sweep, twins, rows, parquet=parquet)
        if missing:
            raise IncompleteError(
                f"{folder}: {len(missing)} of {len(twins)} twins could not be made on this machine, the first for this "
                f"reason: {next(iter(missing.values()))} The others are in {TABLE}. Go on with --resume."
            )
        finish(run)
    counts = {kind: sum(row["status"] == kind for row in rows) for kind in ("made", "failed")}
    return {"folder": str(folder), "twins": len(rows), **counts, "table": str(folder / TABLE)}


def _chosen(twins: list[Twin], only: Iterable[str]) -> list[Twin]:
    if not only:
        return twins
    unknown = sorted(set(only) - {twin.key for twin in twins})
    if unknown:
        raise ParameterError(
            f"--only: {', '.join(unknown)} is no key of this sweep; keys are the first column of its {TABLE}, 16 "
            "characters each. A changed base, seed or last stage changes them."
        )
    return [twin for twin in twins if twin.key in only]


def _costs(sweep: Sweep, twins: int, workers: int) -> Costs:
    """Return what the sweep will cost if every twin is as large as its base; every worker has a road of its own."""
    until = STAGES[: STAGES.index(sweep.recipe.until) + 1]
    one = plan_twin(sweep.base).only("electrode", *until)
    disk = (twins if sweep.recipe.keep else min(workers, twins)) * one.disk_bytes
    return Costs([StageCost("twins", twins * one.seconds, workers * one.memory_bytes, disk)], workers)


def _make_missing(
    run: RunFolder, sweep: Sweep, twins: Sequence[Twin], executor: Executor, progress: Progress
) -> dict[str, str]:
    """Make every twin that has no sound record; return why those are missing that the machine could not make."""
    hashes = run.state["stages"].get("sweep", {}).get("files", {})
    sound = partial(_sound, run.path, hashes, sweep.recipe.keep)
    tasks = list({twin.key: twin for twin in twins if not sound(twin)}.values())
    told = in_order(executor, TwinMaker(sweep, run.path.absolute()), tasks, stage="twins", progress=progress)
    reasons = {twin.key: reason for twin, reason in zip(tasks, told, strict=True)}
    for twin in tasks:
        if not reasons[twin.key] and _record(run.path, twin) is None:
            reasons[twin.key] = (
                f"its record {TWINS}/{twin.key}.json was written, and is not here. Workers on other machines must see "
                "the folder of the sweep under the same path."
            )
    return {key: reason for key, reason in reasons.items() if reason}


def _sound(folder: Path, hashes: dict[str, str], keep: bool, twin: Twin) -> bool:
    """Tell whether a twin has a record that is as it was written."""
    record = _record(folder, twin)
    if record is None or (keep and record["status"] == "made" and not (folder / TWINS / twin.key).is_dir()):
        return False
    name = f"{TWINS}/{twin.key}.json"
    return name not in hashes or hashes[name] == file_sha256(folder / name)


def _record(folder: Path, twin: Twin) -> dict[str, Any] | None:
    """Return the record of a twin; None where there is none that can be read."""
    try:
        record = json.loads((folder / TWINS / f"{twin.key}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    parts = {"key": str, "status": str, "reason": str, "warnings": list, "quantities": dict, "accuracy": dict}
    whole = isinstance(record, dict) and all(isinstance(record.get(name), kind) for name, kind in parts.items())
    return record if whole and record["key"] == twin.key else None


def _write(
    run: RunFolder, sweep: Sweep, twins: Sequence[Twin], rows: Sequence[dict[str, Any]], *, parquet: bool
) -> None:
    """Write the table, and record the hash of every file."""
    folder, names = run.path, [name for name, _, _ in columns(sweep)]
    run.reopen("sweep")
    own = [f"{TWINS}/{twin.key}{kind}" for twin in twins for kind in (".json", ".toml")]
    files = [TABLE, COLUMNS, *([PARQUET] if parquet else [])]
    with run.stage("sweep", *files, *(name for name in dict.fromkeys(own) if (folder / name).is_file())):
        write_text_whole(folder / TABLE, table_csv(names, rows))
        write_text_whole(folder / COLUMNS, columns_csv(sweep))
        if parquet:
            with written_whole(folder / PARQUET) as path:
                write_parquet(path, names, rows)
