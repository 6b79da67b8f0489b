"""The whole road and its siblings: what the commands of ``npsi-twin`` do, callable from Python.

`run_twin` walks every stage in one folder; `build_run` and `run_stage` do one at a time, so that any file between them
may come from another tool. Files that have no run are `npsi_twin.single_files`'s.
"""

from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from npsi_twin import analysis, stages
from npsi_twin.ahead import Ahead
from npsi_twin.costs import check_resources
from npsi_twin.electrode.scene import Electrode
from npsi_twin.errors import DataError, ParameterError
from npsi_twin.execution import (
    Executor,
    Progress,
    RunFolder,
    code_sha256,
    open_run,
    opened_executor,
    read_state,
    silent,
    write_text_whole,
)
from npsi_twin.execution.locks import check_free
from npsi_twin.morphology.segmentation import chosen_method
from npsi_twin.plan import plan_twin
from npsi_twin.projectors.choice import available_projector
from npsi_twin.provenance import SPECIFICATION, finish, remember
from npsi_twin.recipes import describe
from npsi_twin.specification import Specification, load_specification, to_toml
from npsi_twin.storage.formats import open_scan
from npsi_twin.storage.measurements import read_comparison, read_measurements

STAGES = ("build", "scan", "reconstruct", "segment", "measure", "compare", "report")


def _request(specification: Specification) -> dict[str, str]:
    return {"specification": specification.digest(), "version": version("npsi-twin"), "code": code_sha256()}


def _changed(folder: Path, specification: Specification) -> list[str]:
    """Return the fields in which a specification is not that of the run in the folder."""
    try:
        before = {leaf.path: leaf.value for leaf in describe(load_specification(folder / SPECIFICATION))}
    except (DataError, ParameterError):
        return []
    return [leaf.path for leaf in describe(specification) if before.get(leaf.path) != leaf.value]


def _remember(run: RunFolder, specification: Specification) -> None:
    run.state["seed"] = specification.seed
    write_text_whole(run.path / SPECIFICATION, to_toml(specification))
    remember(run, asked=(SPECIFICATION,))


def run_twin(
    specification: Specification,
    folder: Path,
    *,
    workers: int = 1,
    threads: int | None = None,
    scheduler: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    until: str = STAGES[-1],
    break_lock: bool = False,
    progress: Progress = silent,
    scan_format: stages.ScanFormat = "dataexchange",
) -> dict[str, Any]:
    """Walk the whole road: build, scan, reconstruct, segment, measure, compare, report.

    Parameters
    ----------
    specification
        What to make; `npsi_twin.specification.preset_specification` has some.
    folder
        Where everything goes; see the README for its layout.
    workers
        Worker processes; the bytes of the results are the same for any number.
    threads
        Threads of each worker; its share of this machine when None.
    scheduler
        Address of a Dask scheduler whose workers do the slabs instead, ``"tcp://host:8786"``.
    resume
        Keep the finished stages, and the finished slabs of the next, of an interrupted run of the same specification.
    overwrite
        Start anew in a folder that holds a run.
    until
        Last stage; a run that ends before ``"report"`` stays incomplete, and goes on with ``resume``.
    break_lock
        Take the folder from a process of another machine that left its lock behind.
    progress
        Who to tell how far it has come.
    scan_format
        Layout of the scan file.

    Returns
    -------
    dict
        Summary: folder, status, seconds of each stage, and what ``comparison.json`` holds where it was written.

    Raises
    ------
    ParameterError
        When ``until`` is no stage.
    ResourceError
        When memory, disk or the folder is not to be had.
    MissingBackendError
        When ``execution.projector`` is not present.
    DataError
        When ``segmentation.forest_file`` is not the forest that ``segmentation.forest_digest`` names.
    """
    if until not in STAGES:
        raise ParameterError(f"until: got {until!r}; known are {', '.join(STAGES)}.")
    asked = STAGES[: STAGES.index(until) + 1]
    # At once, and not only when an electrode, which may take minutes, is built.
    check_free(folder, break_lock=break_lock, progress=progress)
    costs = plan_twin(specification, workers=workers).only("electrode", *asked)
    costs = costs.beyond(folder) if resume else costs
    check_resources(costs, folder, scheduler=scheduler, overwrite=overwrite)
    available_projector(specification.execution.projector)
    if "segment" in asked:
        chosen_method(specification.segmentation)
    with opened_executor(workers, threads=threads, scheduler=scheduler, progress=progress) as executor:
        # A specification whose electrode cannot be built is refused before anything is written.
        electrode = None if resume else stages.make_electrode(specification)
        request = _request(specification)
        with open_run(
            folder,
            request=request,
            resume=resume,
            overwrite=overwrite,
            break_lock=break_lock,
            differs={"specification": partial(_changed, folder, specification)},
        ) as run:
            _remember(run, specification)
            _walk(run, asked, specification, electrode, executor, progress, scan_format)
            if asked == STAGES:
                finish(run)
            compared = "compare" in asked
            return _summary(run) | ({"comparison": read_comparison(folder / analysis.COMPARISON)} if compared else {})


def _walk(
    run: RunFolder,
    asked: Sequence[str],
    specification: Specification,
    electrode: Electrode | None,
    executor: Executor,
    progress: Progress,
    scan_format: stages.ScanFormat = "dataexchange",
) -> None:
    """Do the stages that are not done yet."""
    # What follows the first that is missing is made anew, whatever is there.
    left = asked[next((place for place, name in enumerate(asked) if not run.has(name)), len(asked)) :]
    for name in left:
        for kept in run.set_aside(name):
            progress(f"kept {kept}, which this run did not write", 0, 1)
    ahead = Ahead(run.path, specification, executor, left)
    for name in left:
        if name in ("build", "scan") and electrode is None:
            electrode = stages.make_electrode(specification)
        _do(name, run, specification, electrode, executor, progress, scan_format, ahead)


def build_run(
    specification: Specification,
    folder: Path,
    *,
    workers: int = 1,
    threads: int | None = None,
    scheduler: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    break_lock: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Begin a run: make the electrode and write its truth; what is asked for and raised is as for `run_twin`."""
    check_free(folder, break_lock=break_lock, progress=progress)
    costs = plan_twin(specification, workers=workers).only("electrode", "build")
    costs = costs.beyond(folder) if resume else costs
    check_resources(costs, folder, scheduler=scheduler, overwrite=overwrite)
    # An electrode that cannot be built is refused before anything is written.
    electrode = None if resume else stages.make_electrode(specification)
    request = _request(specification)
    with (
        open_run(
            folder,
            request=request,
            resume=resume,
            overwrite=overwrite,
            break_lock=break_lock,
            differs={"specification": partial(_changed, folder, specification)},
        ) as run,
        opened_executor(workers, threads=threads, scheduler=scheduler, progress=progress) as executor,
    ):
        _remember(run, specification)
        _walk(run, STAGES[:1], specification, electrode, executor, progress)
        if all(stage in run.state["stages"] for stage in STAGES):
            finish(run)
        return _summary(run)


def run_stage(
    folder: Path,
    name: str,
    *,
    workers: int = 1,
    threads: int | None = None,
    scheduler: str | None = None,
    break_lock: bool = False,
    progress: Progress = silent,
    scan_format: stages.ScanFormat = "dataexchange",
) -> dict[str, Any]:
    """Do one stage of a run on the files that are in its folder.

    Parameters
    ----------
    folder
        A run folder, begun by `build_run` or `run_twin`.
    name
        One of ``scan``, ``reconstruct``, ``segment``, ``measure``, ``compare``, ``report``.
    workers, threads, scheduler, break_lock, progress
        As for `run_twin`.
    scan_format
        Layout of the scan file that the stage ``scan`` writes.

    Raises
    ------
    ParameterError
        For any other name.
    DataError
        When the folder is no run or lacks the files that the stage reads.
    """
    if name not in STAGES[1:]:
        raise ParameterError(f"stage: got {name!r}; known are {', '.join(STAGES[1:])}.")
    begun = read_state(folder)["request"]
    if "specification" not in begun:
        raise ParameterError(f"{folder}: is not the run of a twin, whose stages these are. {_following(folder)}")
    specification = load_specification(folder / SPECIFICATION)
    costs = plan_twin(specification, workers=workers, ahead=False).only(name).beyond(folder, again=True)
    check_resources(costs, folder, scheduler=scheduler)
    # A stage alone is asked for as it is now, on purpose; its record says which code did it.
    request = _request(specification) | {"code": begun.get("code")}
    with (
        open_run(folder, request=request, resume=True, break_lock=break_lock, progress=progress) as run,
        opened_executor(workers, threads=threads, scheduler=scheduler, progress=progress) as executor,
    ):
        remember(run, asked=(SPECIFICATION,))
        _do(name, run, specification, None, executor, progress, scan_format)
        if all(stage in run.state["stages"] for stage in STAGES):
            finish(run)
        return _summary(run)


def _following(folder: Path) -> str:
    go_on = "It was made from a single file: go on with its files, for example: npsi-twin"
    if (folder / stages.RECONSTRUCTION).is_file():
        return f"{go_on} segment {folder}/{stages.RECONSTRUCTION} --out {folder}/labels.h5"
    if (folder / stages.SCAN).is_file():
        return f"{go_on} reconstruct {folder}/{stages.SCAN} --out {folder}-reconstructed"
    return "Begin one with npsi-twin run, or npsi-twin build."


def _do(
    name: str,
    run: RunFolder,
    specification: Specification,
    electrode: Electrode | None,
    executor: Executor,
    progress: Progress,
    scan_format: stages.ScanFormat = "dataexchange",
    ahead: Ahead | None = None,
) -> None:
    # What follows was made from files that are about to change.
    for later in STAGES[STAGES.index(name) :]:
        run.state["stages"].pop(later, None)
    run.save()

    def made() -> Electrode:
        return electrode if electrode is not None else stages.make_electrode(specification)

    def reconstruct() -> None:
        scan_file = open_scan(run.path / stages.SCAN)
        plan = stages.plan_reconstruction_of(scan_file, specification.reconstruction, progress)
        stages.reconstruct_scan(
            run,
            scan_file,
            specification.reconstruction,
            plan,
            execution=specification.execution,
            executor=executor,
            progress=progress,
        )

    # A stage alone begins nothing for others.
    ahead = Ahead(run.path, specification, executor, ()) if ahead is None else ahead
    match name:
        case "build":
            stages.build(run, specification, made(), executor=executor, progress=progress)
        case "scan":
            stages.scan(
                run,
                specification,
                made(),
                executor=executor,
                progress=progress,
                scan_format=scan_format,
                beside_last=ahead.measure_truth,
            )
        case "reconstruct":
            reconstruct()
        case "segment":
            analysis.segment_reconstruction(
                run, specification, executor=executor, progress=progress, beside=ahead.draw_what_is_there
            )
        case "measure":
            measured = analysis.measure_run(
                run,
                specification,
                executor=executor,
                progress=progress,
                truth=ahead.truth,
                beside=ahead.score_and_draw,
            )
            ahead.draw(measured, *measured)
        case "compare":
            analysis.compare_run(run, specification, executor=executor, progress=progress, scores=ahead.scores)
        case _:
            _report(run, specification, executor, progress, ahead)


def _report(run: RunFolder, specification: Specification, executor: Executor, progress: Progress, ahead: Ahead) -> None:
    from npsi_twin.report.run_page import FIGURES, write_run_page

    folder = run.path
    truth = (stages.TRUTH,) if (folder / stages.TRUTH).is_file() else ()
    inputs = (*truth, stages.SCAN, stages.RECONSTRUCTION, analysis.SEGMENTATION)
    read = (*inputs, analysis.MEASURED_MAPS, analysis.COMPARISON)
    with run.stage("report", "report.html", sometimes=FIGURES, inputs=read):
        write_run_page(
            folder,
            specification=specification,
            measured=read_measurements(folder / analysis.MEASURED_MAPS),
            comparison=read_comparison(folder / analysis.COMPARISON),
            state=run.state,
            executor=executor,
            begun=ahead.drawn,
            progress=progress,
        )


def _summary(run: RunFolder) -> dict[str, Any]:
    seconds = {name: entry["seconds"] for name, entry in run.state["stages"].items()}
    return {"folder": str(run.path), "status": run.state["status"], "seconds": seconds}
