"""Options that several commands share, what they come to, and how results are printed.

What a file does not state, a caller does.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from npsi_twin.errors import ParameterError

if TYPE_CHECKING:
    from npsi_twin.specification import Specification
    from npsi_twin.storage.scanfile import Reading

#: Meaning of the labels of this package's own files.
OWN_LABELS = "0=void,1=silicon,2=carbon_binder,3=current_collector,4=sei,5=unresolved_silicon"

SpecificationFile = Annotated[
    Path | None, typer.Argument(metavar="[SPEC]", help="TOML specification; the preset when left out.")
]
Preset = Annotated[
    str | None, typer.Option(help="Specification shipped by name: demo (when none is given), tiny, zhao2018.")
]
Out = Annotated[Path, typer.Option(help="Folder of the run.")]
Workers = Annotated[int, typer.Option(min=1, help="Worker processes; the results are the same for any number.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Root of every random number, instead of the specification's.")]
ConditionName = Annotated[
    str | None,
    typer.Option("--condition", help="State of the electrode, e.g. 2000/100, instead of the specification's."),
]
HypothesisName = Annotated[
    str | None,
    typer.Option("--hypothesis", help="What brings it there, e.g. agglomeration, instead of the specification's."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start anew in a folder that holds a run.")]
RunPath = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.")]

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON for machines.")]
ProjectorOption = Annotated[
    Literal["auto", "fourier", "rays", "nufft", "cufinufft", "astra-cpu", "astra-cuda"] | None,
    typer.Option(help="Who projects the scan; cufinufft and astra-cuda need an NVIDIA GPU."),
]
RouteOption = Annotated[
    Literal["auto", "fourier", "rays", "nufft", "cufinufft", "astra", "astra-cpu", "astra-cuda", "tomopy"] | None,
    typer.Option(help="Route, instead of the specification's; tomopy (conda-forge) is the experiment's own."),
]
VolumeName = Annotated[
    str | None, typer.Option(help="Data set of an HDF5 or array of an npz, where there are several.")
]
VoxelNm = Annotated[float | None, typer.Option(help="Edge of a voxel in nm, where the file does not state it.")]
PixelNm = Annotated[float | None, typer.Option(help="Pixel at the sample, where the file does not state it.")]
ThetaUnitOption = Annotated[
    Literal["deg", "rad"] | None, typer.Option(help="Unit of the angles, where the file does not state it.")
]
Theta = Annotated[
    str,
    typer.Option(help="Angles, where the file has none: start:stop:exclusive or start:stop:inclusive, in degrees."),
]
Where = Annotated[
    str,
    typer.Option(
        help="Where things are in a file of another layout: 'data=PATH,theta=PATH,flats=PATH,darks=PATH,"
        "image_key=PATH,entry=PATH,current=PATH'."
    ),
]
Normalised = Annotated[
    bool, typer.Option("--assume-normalised", help="The projections are divided by the flat field already.")
]
LineIntegrals = Annotated[
    bool, typer.Option("--line-integrals", help="The projections are negative logarithms of the transmission already.")
]
Repair = Annotated[
    bool,
    typer.Option("--repair", help="Replace and count zingers, saturated values, and values that are NaN or infinite."),
]
FlatFromAir = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Columns at either edge that show air in every view: they scale each view, for flats of another flux, and "
        "stand in for flats that are missing.",
    ),
]
NoDarks = Annotated[bool, typer.Option("--no-darks", help="Take the dark level as zero where no darks were taken.")]
RingCurrent = Annotated[bool, typer.Option("--ring-current", help="Divide by the ring's current that the scan tells.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads of each worker; its share of the processors when left out.")
]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Dask scheduler whose workers do the slabs, tcp://HOST:8786; see docs/cluster.md."),
]
MaxMemory = Annotated[
    str | None, typer.Option(help="Memory to stay within, e.g. 8GiB: slabs become as low as that needs.")
]
MaxMemoryOfFile = Annotated[
    str | None, typer.Option("--max-memory", help="Most memory for a file, e.g. 8GiB, checked before it is read.")
]
BreakLock = Annotated[
    bool, typer.Option("--break-lock", help="Take the folder from a process of another machine that is gone.")
]
AlignOption = Annotated[
    Literal["none", "across", "both"] | None,
    typer.Option(help="Find where every view was from the data: shifts across the rotation axis, or along it as well."),
]
TiltOption = Annotated[
    Literal["none", "fit"] | None, typer.Option(help="Find how the rotation axis leans, from rows far apart.")
]
AllowRoot = Annotated[
    list[Path] | None,
    typer.Option(help="Folder in which files that the scan links to may lie, besides its own; may be repeated."),
]


def is_run_folder(path: Path) -> bool:
    """Tell a folder that may be a run's from a volume that is a folder, as OME-Zarr is."""
    return path.is_dir() and path.suffix.lower() != ".zarr"


def tell_where_incomplete(*paths: Path) -> None:
    """Say on standard error where files or folders belong to a run that is not complete."""
    from npsi_twin.errors import DataError
    from npsi_twin.execution import read_state

    for folder in dict.fromkeys(path if is_run_folder(path) else path.parent for path in paths):
        try:
            state = read_state(folder)
        except DataError:  # no run, or none of ours: that is for the command to say, if it matters there
            continue
        if state.get("status") != "complete":
            done = ", ".join(map(str, state["stages"])) or "nothing"
            typer.echo(
                f"npsi-twin: {folder}: this run is not complete (done: {done}); its files may be replaced when it goes "
                "on with --resume.",
                err=True,
            )


def reading_from(
    theta: str,
    where: str,
    line_integrals: bool,
    allow_root: list[Path] | None,
    *,
    repair: bool = False,
    flat_from_air: int | None = None,
) -> "Reading":
    """Return what the options state about a scan."""
    from npsi_twin.storage.formats import parse_places
    from npsi_twin.storage.scanfile import Reading

    places = parse_places(where) if where else {}
    return Reading(theta, places, line_integrals, tuple(allow_root or ()), repair, flat_from_air is not None)


def corrections_from(
    *, repair: bool, flat_from_air: int | None, no_darks: bool, ring_current: bool
) -> dict[str, bool | float | str]:
    """Return the fields of the correction recipe that the options ask for."""
    found: dict[str, bool | float | str] = {}
    if repair:
        # A fifth of the flat field in one value is more than an edge makes beyond its neighbours' median.
        found |= {"zinger_excess": 0.2, "saturated_values": "replace", "not_finite": "replace"}
    if flat_from_air is not None:
        found["air_columns_px"] = flat_from_air
    if no_darks:
        found["assume_no_darks"] = True
    if ring_current:
        found["ring_current"] = True
    return found


def alignment_from(
    align: Literal["none", "across", "both"] | None, tilt: Literal["none", "fit"] | None
) -> dict[str, bool | str]:
    """Return the fields of the alignment recipe that the options ask for.

    Examples
    --------
    >>> alignment_from("across", None)
    {'method': 'reprojection', 'rows': False}
    """
    found: dict[str, bool | str] = {}
    if align is not None:
        found |= {"method": "none" if align == "none" else "reprojection", "rows": align == "both"}
    if tilt is not None:
        found["tilt"] = tilt
    return found


def measured_text(result: dict[str, Any]) -> str:
    """Return measured quantities as a table, with the reason of each that is missing."""
    lines = []
    for name, entry in result["quantities"].items():
        if entry["value"] is None:
            lines.append(f"{name:<40} not available: {entry['note']}")
        else:
            spread = "" if entry["spread"] is None else f" +- {entry['spread']:.4g}"
            lines.append(f"{name:<40} {entry['value']:.5g}{spread} {entry['unit']}  (n = {entry['n']})")
    return "\n".join(lines)


def specification_from(
    path: Path | None,
    preset: str | None,
    seed: int | None,
    condition: str | None = None,
    hypothesis: str | None = None,
    projector: str | None = None,
) -> "Specification":
    """Return the specification that the options name, with what they change of it."""
    from npsi_twin.specification import load_specification, parse_values, preset_specification

    if path is not None and preset is not None:
        raise ParameterError(f"got both the specification {path} and --preset {preset}; give one of them.")
    specification = preset_specification(preset or "demo") if path is None else load_specification(path)
    changed: dict[str, Any] = {} if seed is None else {"seed": seed}
    ageing = {"condition": condition, "hypothesis": hypothesis}
    if given := {name: value for name, value in ageing.items() if value is not None}:
        changed["ageing"] = parse_values(specification.ageing, given, "ageing")
    if projector is not None:
        changed["execution"] = specification.execution.model_copy(update={"projector": projector})
    return specification.model_copy(update=changed) if changed else specification


def print_result(result: dict[str, Any], as_json: bool, say: Callable[[dict[str, Any]], str]) -> None:
    """Print a result for people, or as JSON."""
    typer.echo(json.dumps(result, indent=2) if as_json else say(result))
