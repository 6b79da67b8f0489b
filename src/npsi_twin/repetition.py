"""Does it come out again: a recorded run made once more, and compared byte by byte.

A folder -> `Repetition`: the recorded request is run again in another folder, and every recorded file is compared. A
twin's run is repeated from its specification, a reconstruction from the same scan, a scan of one's own object from the
same object, and a sweep, a set of phantoms, a budget of errors and the seven states from the files that they keep of
their request. Where bytes differ, HDF5 files are compared data set by data set and texts line by line; packages, code
and machines that differ between the two runs are named, since they are the likeliest reason.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypedDict, cast, get_args

import h5py
import numpy as np

from npsi_twin.error_budget_run import asked_budget, run_budget
from npsi_twin.errors import DataError, ParameterError
from npsi_twin.execution import ExecutionRecipe, Progress, file_sha256, read_state, silent
from npsi_twin.object_scan import COMPOUNDS, MICROSCOPE, microscope_from, scan_object
from npsi_twin.phantoms.data_set import asked_phantoms, make_phantoms
from npsi_twin.provenance import SPECIFICATION
from npsi_twin.seeds import Seeds
from npsi_twin.single_files import reconstruct_file
from npsi_twin.specification import load_specification, parse_values
from npsi_twin.stages import ScanFormat
from npsi_twin.state_series import asked_states, make_states
from npsi_twin.storage.scanfile import Reading
from npsi_twin.sweeps.request import load_sweep
from npsi_twin.sweeps.run import REQUEST, make_sweep
from npsi_twin.twin import STAGES, run_twin
from npsi_twin.verification import recorded_files

#: Numbers of a data set that are compared at a time.
_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Repetition:
    """What came out the second time.

    Attributes
    ----------
    folder, again
        The first run and the second.
    equal
        Recorded files whose bytes are the same.
    differing
        Recorded file -> where it differs, one line each.
    given
        Recorded files that the user gave, which no run can make again; what follows from them may differ.
    changed_since
        What is not the same about the two runs: packages, code, machine.
    """

    folder: Path
    again: Path
    equal: tuple[str, ...]
    differing: Mapping[str, tuple[str, ...]]
    given: tuple[str, ...]
    changed_since: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether every recorded file came out byte for byte."""
        return not self.differing

    def as_text(self) -> str:
        """Return what came out, for people."""
        lines = [f"{name}: differs; {line}" for name, told in self.differing.items() for line in told]
        lines += [f"{name}: was given by the user; what follows from it may differ" for name in self.given]
        lines += [f"not the same as then: {line}" for line in self.changed_since]
        return "\n".join([*lines, f"{len(self.equal)} files equal, {len(self.differing)} differ"])

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for machines."""
        tree = vars(self) | {"folder": str(self.folder), "again": str(self.again), "same": self.same}
        return {**tree, "differing": {name: list(told) for name, told in self.differing.items()}}


class _How(TypedDict):
    """Who makes it again, and whom to tell."""

    workers: int
    threads: int | None
    scheduler: str | None
    progress: Progress


def repeat(
    folder: Path,
    again: Path,
    *,
    scan: Path | None = None,
    workers: int = 1,
    threads: int | None = None,
    scheduler: str | None = None,
    progress: Progress = silent,
) -> Repetition:
    """Run a recorded request again and compare what comes out.

    Parameters
    ----------
    folder
        Of a run, a reconstruction of a scan file, a scan of an object, a sweep, phantoms, a budget or states.
    again
        Folder for the second run; empty, or not there.
    scan
        Where the scan of a reconstruction, or the object of a scan, lies, if no longer where it was.
    workers, threads, scheduler, progress
        As for `npsi_twin.twin.run_twin`.

    Raises
    ------
    ParameterError
        When the folder holds something that is not made by one of these commands.
    DataError
        When the folder is no run, nothing of it is finished, or what it was made from is not what it was.
    """
    state = read_state(folder)
    again_by = next((make for key, make in _MAKERS.items() if key in state["request"]), None)
    if again_by is None:
        raise ParameterError(
            f"{folder}: was made by `{state.get('command', 'another command')}`, and does not say of what; only what "
            "a command of npsi-twin made can be repeated. Give that command another --out."
        )
    recorded = [name for name, _, _ in recorded_files(folder, state)]
    if not recorded:
        raise DataError(f"{folder}: no stage of it is finished; there is nothing to compare with. Finish it first.")
    how: _How = {"workers": workers, "threads": threads, "scheduler": scheduler, "progress": progress}
    again_by(folder, again, state, scan, how)
    equal, differing = [], {}
    for name in dict.fromkeys(recorded):
        if told := tuple(differences(folder / name, again / name)):
            differing[name] = told
        else:
            equal.append(name)
    given = {name for entry in state["stages"].values() for name in entry.get("given_by_user", [])}
    now = read_state(again)
    return Repetition(folder, again, tuple(equal), differing, tuple(sorted(given)), tuple(_changed(state, now)))


def _run_again(folder: Path, again: Path, state: Mapping[str, Any], _: Path | None, how: _How) -> None:
    specification = load_specification(folder / SPECIFICATION)
    if specification.digest() != state["request"]["specification"]:
        raise DataError(
            f"{folder / SPECIFICATION}: is not the specification that was run; its values were changed since. Put it "
            "back, or run the changed one with another --out."
        )
    if not any(stage in STAGES for stage in state["stages"]):
        raise DataError(f"{folder}: none of its stages is one of a run: {', '.join(state['stages'])}. It was changed.")
    last = max((stage for stage in state["stages"] if stage in STAGES), key=STAGES.index)
    # A run of an older version does not say it; nearly all are so, and where not, the comparison tells.
    scan_format = _scan_format(folder, {"format": "dataexchange"} | state["stages"].get("scan", {}))
    run_twin(specification, again, until=last, scan_format=scan_format, **how)


def _scan_format(folder: Path, tree: Mapping[str, Any]) -> ScanFormat:
    found = tree.get("format")
    if found in get_args(ScanFormat):
        return cast(ScanFormat, found)
    raise _unsaid(folder, "format", found)


def _unsaid(folder: Path, key: str, found: object) -> DataError:
    return DataError(
        f"{folder}: its run.json has {key} = {found!r}, from which it cannot be made again; another version wrote it, "
        "or somebody changed it. Give the command that made it another --out."
    )


def _said(folder: Path, tree: Mapping[str, Any], key: str, kind: Any) -> Any:
    """Return what a record says, of the type that it must have."""
    found = tree.get(key)
    if not isinstance(found, kind) or isinstance(found, bool) is not (kind is bool):
        raise _unsaid(folder, key, found)
    return found


def _check_asked(folder: Path, state: Mapping[str, Any]) -> None:
    """Refuse a folder in which what was asked for was changed."""
    for name, digest in _said(folder, state, "asked", dict).items():
        if not (folder / name).is_file() or file_sha256(folder / name) != digest:
            raise DataError(f"{folder / name}: is not what was asked for; it was changed since. Put it back.")


def _input(folder: Path, state: Mapping[str, Any], given: Path | None, called: str) -> Path:
    """Return where the scan or the object lies that was read."""
    inputs = state.get("inputs")
    if given is None and not inputs:
        raise DataError(f"{folder}: does not say where its {called} lay. Give it with --scan.")
    path = Path(inputs[0]["path"]) if given is None and inputs else given
    if path is None or not path.exists():
        raise DataError(f"{path}: the {called} is no longer there. Give its new place with --scan.")
    return path


def _execution(folder: Path, stated: Mapping[str, Any]) -> ExecutionRecipe:
    return parse_values(ExecutionRecipe(), _said(folder, stated, "execution", dict), "execution")


def _reconstruct_again(folder: Path, again: Path, state: Mapping[str, Any], scan: Path | None, how: _How) -> None:
    request, stated = state["request"], _said(folder, state, "arguments", dict)
    path = _input(folder, state, scan, "scan")
    specification = load_specification(folder / SPECIFICATION)
    if specification.reconstruction.digest() != request["recipe"]:
        raise DataError(f"{folder / SPECIFICATION}: is not the recipe that was run; it was changed since. Put it back.")
    specification = specification.model_copy(update={"execution": _execution(folder, stated)})
    told = request["reading"]
    roots = tuple(Path(root) for root in stated.get("allowed_roots", ()))
    reading = Reading(
        told["theta"], told["where"], told["line_integrals"], roots, told["repair"], told["flats_from_air"]
    )
    reconstruct_file(
        path,
        again,
        specification=specification,
        pixel_nm=stated.get("pixel_nm", request["pixel_nm"]),
        theta_unit=request["theta_unit"],
        assume_normalised=request["assume_normalised"],
        reading=reading,
        **how,
    )
    now = read_state(again)["request"]
    if now["scan_sha256"] != request["scan_sha256"]:
        raise DataError(f"{path}: is not the scan that was reconstructed; its hash differs. Give that one with --scan.")


def _scan_again(folder: Path, again: Path, state: Mapping[str, Any], scan: Path | None, how: _How) -> None:
    request, stated = state["request"], _said(folder, state, "arguments", dict)
    path = _input(folder, state, scan, "object")
    _check_asked(folder, state)
    if path.is_file() and file_sha256(path) != request["object_sha256"]:
        raise DataError(f"{path}: is not the object that was scanned; its hash differs. Give that one with --scan.")
    scan_object(
        path,
        again,
        microscope_from(str(folder / MICROSCOPE)),
        dataset=_said(folder, stated, "dataset", str | None),
        voxel_nm=_said(folder, stated, "voxel_nm", float | int | None),
        unit=_said(folder, stated, "unit", str | None),
        compounds=folder / COMPOUNDS if COMPOUNDS in state["asked"] else None,
        seed=_said(folder, request, "seed", int),
        scan_format=_scan_format(folder, request),
        execution=_execution(folder, stated),
        **how,
    )


def _sweep_again(folder: Path, again: Path, state: Mapping[str, Any], _: Path | None, how: _How) -> None:
    _check_asked(folder, state)
    only = tuple(state.get("arguments", {}).get("only", ()))
    parquet = (folder / "sweep.parquet").is_file()
    make_sweep(load_sweep(folder / REQUEST), again, only=only, parquet=parquet, **how)


def _phantoms_again(folder: Path, again: Path, state: Mapping[str, Any], _: Path | None, how: _How) -> None:
    _check_asked(folder, state)
    make_phantoms(again, *asked_phantoms(folder), seeds=Seeds(_said(folder, state["request"], "seed", int)), **how)


def _budget_again(folder: Path, again: Path, state: Mapping[str, Any], _: Path | None, how: _How) -> None:
    _check_asked(folder, state)
    specification, recipe = asked_budget(folder)
    run_budget(specification, again, recipe, **how)


def _states_again(folder: Path, again: Path, state: Mapping[str, Any], _: Path | None, how: _How) -> None:
    _check_asked(folder, state)
    make_states(asked_states(folder), again, seeds=Seeds(_said(folder, state["request"], "seed", int)), **how)


#: A key of a request that tells what kind of folder it is -> what makes such a folder again.
_MAKERS: Mapping[str, Callable[[Path, Path, Mapping[str, Any], Path | None, _How], None]] = {
    "specification": _run_again,
    "scan_sha256": _reconstruct_again,
    "object_sha256": _scan_again,
    "sweep": _sweep_again,
    "ranges": _phantoms_again,
    "budget": _budget_again,
    "states": _states_again,
}


def differences(first: Path, second: Path) -> Iterator[str]:
    r"""Say where two files differ; nothing where their bytes are the same.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.txt").write_text("one\ntwo"), (folder / "b.txt").write_text("one\ntoo")
    >>> list(differences(folder / "a.txt", folder / "b.txt"))
    ["line 2: 'two' became 'too'"]
    """
    for path, when in ((first, "was removed since"), (second, "did not come out again")):
        if not path.is_file():
            yield when
            return
    if file_sha256(first) == file_sha256(second):
        return
    if first.suffix in (".h5", ".hdf5"):
        yield from _hdf5_differences(first, second)
        return
    texts = [path.read_bytes().decode("utf-8", "replace").splitlines() for path in (first, second)]
    pairs = enumerate(zip_longest(*texts, fillvalue=""), start=1)
    number, (before, after) = next((pair for pair in pairs if pair[1][0] != pair[1][1]), (0, ("", "")))
    yield f"line {number}: {_short(before)} became {_short(after)}" if number else "in the ends of its lines"


def _short(line: str) -> str:
    return repr(line if len(line) <= 80 else f"{line[:77]}...")


def _hdf5_differences(first: Path, second: Path) -> Iterator[str]:
    with h5py.File(first, "r") as before, h5py.File(second, "r") as after:
        trees = [_members(file) for file in (before, after)]
        told = 0
        for name in sorted(trees[0].keys() | trees[1].keys()):
            for line in _member_differences(name, trees[0].get(name), trees[1].get(name)):
                told += 1
                yield line
    if not told:
        yield "in how HDF5 lays its bytes; all data sets and attributes are equal"


def _members(file: h5py.File) -> dict[str, Any]:
    found: dict[str, Any] = {"/": file}
    file.visititems(lambda name, member: found.update({f"/{name}": member}))
    return found


def _member_differences(name: str, before: Any, after: Any) -> Iterator[str]:
    if before is None or after is None:
        yield f"{name} is {'new' if before is None else 'gone'}"
        return
    for key in sorted(before.attrs.keys() | after.attrs.keys()):
        pair = before.attrs.get(key), after.attrs.get(key)
        if not np.array_equal(*pair):
            yield f"{name}: attribute {key} was {pair[0]} and became {pair[1]}"
    if not (isinstance(before, h5py.Dataset) and isinstance(after, h5py.Dataset)):
        return
    if (before.shape, before.dtype) != (after.shape, after.dtype):
        yield f"{name} was {before.shape} {before.dtype} and became {after.shape} {after.dtype}"
        return
    number, largest = _how_much(before, after)
    if number:
        yield f"{name}: {number} of {math.prod(before.shape)} values differ" + (
            "" if math.isnan(largest) else f", by {largest:.3g} at most"
        )


def _how_much(before: h5py.Dataset, after: h5py.Dataset) -> tuple[int, float]:
    """Return how many values of two data sets differ, and by how much at most; NaN where they are no numbers."""
    number, largest = 0, 0.0
    rows = before.shape[0] if before.shape else 1
    height = max(1, _AT_ONCE * rows // max(math.prod(before.shape), 1))
    for start in range(0, rows, height):
        where = slice(start, start + height) if before.shape else ()
        one, other = np.asarray(before[where]), np.asarray(after[where])
        if one.dtype.kind not in "iufb":
            number, largest = number + int(np.sum(one != other)), math.nan
            continue
        differ = (one != other) & ~((one != one) & (other != other))
        number += int(np.count_nonzero(differ))
        apart = np.abs(one[differ].astype(float) - other[differ].astype(float))
        largest = max(largest, float(apart.max(initial=0.0)))
    return number, largest


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Say what of software and machine is not the same in two runs."""
    packages = [
        {**state.get("versions", {}), **state.get("environment", {}).get("packages", {})} for state in (before, now)
    ]
    for name in sorted(packages[0].keys() | packages[1].keys()):
        was, became = (found.get(name, "not there") for found in packages)
        if was != became:
            yield f"{name} was {was}, is {became}"
    for key, called in (("python", "Python"), ("platform", "platform"), ("code_sha256", "code of npsi-twin")):
        if before.get(key) != now.get(key):
            yield f"{called} was {before.get(key, 'not recorded')}, is {now.get(key)}"
