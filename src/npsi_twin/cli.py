"""The command ``npsi-twin``.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once. Exit codes: 0 done, 2 wrong usage
or specification, 3 unusable data, 4 missing resources, 5 incomplete.
"""

import json
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from npsi_twin.cli_files import export_volume_file, inspect_scan_file, score_label_file
from npsi_twin.cli_options import (
    OWN_LABELS,
    AllowRoot,
    FlatFromAir,
    Json,
    LineIntegrals,
    NoDarks,
    Normalised,
    PixelNm,
    ProjectorOption,
    Repair,
    RingCurrent,
    RouteOption,
    Theta,
    ThetaUnitOption,
    VolumeName,
    VoxelNm,
    Where,
    corrections_from,
    measured_text,
    reading_from,
)
from npsi_twin.errors import (
    DataError,
    IncompatibleError,
    IncompleteError,
    MissingBackendError,
    NotConvergedError,
    OutOfRangeWarning,
    ParameterError,
    ResourceError,
)

if TYPE_CHECKING:
    from npsi_twin.execution import Progress
    from npsi_twin.specification import Specification

app = typer.Typer(
    name="npsi-twin",
    help="Digital twin of nanoporous-silicon electrodes under a transmission X-ray microscope.",
    epilog="Begin with: npsi-twin run --out runs/first      Real scan: npsi-twin reconstruct SCAN.h5 --out runs/real",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

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

_EXIT_CODES: tuple[tuple[type[Exception], int], ...] = (
    (ParameterError, 2),
    (IncompatibleError, 2),
    (DataError, 3),
    (MissingBackendError, 4),
    (ResourceError, 4),
    (MemoryError, 4),
    (NotConvergedError, 5),
    (IncompleteError, 5),
    (OSError, 4),
)


def main() -> None:
    """Run the command line and turn the package's errors into messages and exit codes."""
    # A terminated run leaves through the same doors as a failed one, so that it gives its folder free.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, _interrupted)
    warnings.showwarning = _show_warning
    warnings.filterwarnings("default", category=OutOfRangeWarning)
    try:
        app()
    except Exception as error:
        code = next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), None)
        if code is None:
            raise
        message = str(error) or type(error).__name__
        if type(error).__module__ == "builtins" and isinstance(error, OSError) and error.filename:
            message = f"{error.filename}: {error.strerror}. Give another path, or make this one writable."
        if "--json" in sys.argv:
            typer.echo(json.dumps({"error": type(error).__name__, "message": message, "exit_code": code}))
        typer.echo(f"npsi-twin: {message}", err=True)
        sys.exit(code)


def _interrupted(*_: object) -> None:
    typer.echo("npsi-twin: stopped. A run goes on with --resume.", err=True)
    sys.exit(130)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    typer.echo(f"npsi-twin: {category.__name__}: {message}", err=True)


@dataclass
class PlainProgress:
    """Progress as plain lines on standard error, about ten a stage."""

    started: float = 0.0
    told: int = -1

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Print a line at the start, at every tenth, and at the end of a stage."""
        now = time.perf_counter()
        if done == 0:
            self.started, self.told = now, -1
        tenth = 10 * done // max(total, 1)
        if tenth == self.told:
            return
        self.told = tenth
        spent = now - self.started
        left = f", about {spent / done * (total - done):.0f} s left" if 0 < done < total else ""
        typer.echo(f"{stage}: {done}/{total} ({spent:.0f} s{left})", err=True)


@contextmanager
def _progress() -> Iterator["Progress"]:
    """Give a bar with time left on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield PlainProgress()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield tell


def _specification(
    path: Path | None,
    preset: str | None,
    seed: int | None,
    condition: str | None = None,
    hypothesis: str | None = None,
    projector: str | None = None,
) -> "Specification":
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


def _print(result: dict[str, Any], as_json: bool, say: Callable[[dict[str, Any]], str]) -> None:
    typer.echo(json.dumps(result, indent=2) if as_json else say(result))


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"npsi-twin {version('npsi-twin')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def init(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.")] = Path("npsi-twin.toml"),
    preset: Preset = None,
) -> None:
    """Write a commented specification to begin from.

    Example: npsi-twin init study.toml --preset zhao2018
    """
    from npsi_twin.specification import preset_specification, to_toml

    text = to_toml(preset_specification(preset or "demo"))
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ParameterError(f"{out}: exists. Give another name, or remove it first.") from None
    typer.echo(f"Wrote {out}. Next: npsi-twin explain {out}; npsi-twin run {out} --out runs/first")


@app.command()
def explain(spec: SpecificationFile = None, preset: Preset = None, seed: Seed = None, as_json: Json = False) -> None:
    """Print the resolved specification with units and sources, and the mechanisms in order.

    Example: npsi-twin explain study.toml
    """
    from npsi_twin.specification import explain as explain_specification
    from npsi_twin.specification import explain_mechanisms

    specification = _specification(spec, preset, seed)
    leaves = explain_specification(specification)
    mechanisms = explain_mechanisms(specification)
    if as_json:
        values = [leaf._asdict() for leaf in leaves]
        typer.echo(json.dumps({"values": values, "mechanisms": mechanisms}, indent=2))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("field", "value", "unit", "what it is", "source", box=None, pad_edge=False)
    for leaf in leaves:
        value = "found from the data" if leaf.value is None else str(leaf.value)
        table.add_row(*(escape(text) for text in (leaf.path, value, leaf.unit, leaf.description, leaf.source)))
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    console.print("\nMechanisms, in the order in which they act:")
    for number, mechanism in enumerate(mechanisms, start=1):
        console.print(f"  {number}. {mechanism}", markup=False)


@app.command()
def plan(
    spec: SpecificationFile = None,
    preset: Preset = None,
    workers: Workers = 1,
    as_json: Json = False,
) -> None:
    """Print expected memory, disk and time of every stage before anything runs.

    Example: npsi-twin plan --preset zhao2018
    """
    from npsi_twin.plan import plan_twin

    costs = plan_twin(_specification(spec, preset, None), workers=workers)
    _print(costs.as_dict(), as_json, lambda _: costs.as_text())


@app.command()
def run(
    spec: SpecificationFile = None,
    out: Out = Path("runs/twin"),
    preset: Preset = None,
    workers: Workers = 1,
    seed: Seed = None,
    condition: ConditionName = None,
    hypothesis: HypothesisName = None,
    projector: ProjectorOption = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Walk the whole road: build, scan, reconstruct, segment, measure, compare, report.

    Example: npsi-twin run --preset demo --condition 2000/100 --hypothesis agglomeration --out runs/aged
    """
    from npsi_twin.twin import run_twin

    with _progress() as progress:
        result = run_twin(
            _specification(spec, preset, seed, condition, hypothesis, projector),
            out,
            workers=workers,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
        )
    _print(result, as_json, lambda _: f"Done. Open {out / 'report.html'}")


@app.command()
def build(
    spec: SpecificationFile = None,
    out: Out = Path("runs/twin"),
    preset: Preset = None,
    workers: Workers = 1,
    seed: Seed = None,
    condition: ConditionName = None,
    hypothesis: HypothesisName = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make the electrode and write its truth (truth.h5).

    Example: npsi-twin build study.toml --out runs/study
    """
    from npsi_twin.twin import build_run

    with _progress() as progress:
        specification = _specification(spec, preset, seed, condition, hypothesis)
        result = build_run(specification, out, workers=workers, overwrite=overwrite, progress=progress)
    _print(result, as_json, lambda _: f"Wrote {out / 'truth.h5'}. Next: npsi-twin scan {out}")


@app.command()
def states(
    out: Annotated[Path, typer.Option(help="Folder for five figures and two tables.")] = Path("runs/states"),
    hypothesis: Annotated[str, typer.Option(help="Ageing hypothesis, by name.")] = "agglomeration",
    field_um: Annotated[float, typer.Option(help="Edge of the block that is pictured, um.")] = 12.0,
    voxel_nm: Annotated[float, typer.Option(help="Edge of a voxel, nm.")] = 80.0,
    loading_variation: Annotated[
        float, typer.Option(help="Coefficient of variation of the layer between cells.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Root of every random number.")] = 2018,
    as_json: Json = False,
) -> None:
    """Play the paper's seven states in the truth: pictures, sections, thickness, attenuation, capacity, targets.

    Example: npsi-twin states --hypothesis agglomeration --out runs/states
    """
    from npsi_twin.seeds import Seeds
    from npsi_twin.specification import parse_values
    from npsi_twin.state_series import StateSeriesRecipe, play_states, write_states

    block = {"specimen": {"shape": "block", "width_um": field_um, "length_um": field_um}}
    given = {
        "hypothesis": hypothesis, "electrode": block, "voxel_nm": voxel_nm, "loading_variation": loading_variation,
    }  # fmt: skip
    recipe = parse_values(StateSeriesRecipe(), given, "states")
    with _progress() as progress:
        written = write_states(play_states(recipe, seeds=Seeds(seed), progress=progress), out)
    _print({"files": [str(path) for path in written]}, as_json, lambda _: f"Wrote {len(written)} files into {out}")


@app.command()
def budget(
    spec: Annotated[
        Path | None, typer.Argument(metavar="[SPEC]", help="TOML specification; a small needle when left out.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the budget; goes on with the chains that it holds.")] = Path(
        "runs/budget"
    ),
    preset: Annotated[str | None, typer.Option(help="Specification shipped by name.")] = None,
    orders: Annotated[int | None, typer.Option(min=1, help="Orders in which switches are turned on.")] = None,
    replicates: Annotated[
        int | None, typer.Option(min=1, help="Specimens, each with a noise of its own; 2 are needed for intervals.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A first look: 3 orders, 3 replicates.")] = False,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Say how wrong every number comes out and which step of the road is to blame (budget.csv, .json, .png).

    Voxel size, optics, photons, number of views, rings and drift, alignment, reconstruction, smoothing and threshold
    are turned on in many orders; what each adds to bias and to variance is shared out so that it adds up. An
    interrupted budget goes on where it was. Whole volumes are held in memory: give a crop.

    Example: npsi-twin budget study.toml --out runs/budget
    """
    from npsi_twin.error_budget_run import QUICK, ErrorBudgetRecipe, needle_specification, run_budget
    from npsi_twin.specification import parse_values

    specification = needle_specification()
    if spec is not None or preset is not None:
        specification = _specification(spec, preset, None)
    if seed is not None:
        specification = specification.model_copy(update={"seed": seed})
    given = {name: value for name, value in (("orders", orders), ("replicates", replicates)) if value is not None}
    recipe = parse_values(QUICK if quick else ErrorBudgetRecipe(), given, "budget")
    with _progress() as progress:
        result = run_budget(specification, out, recipe, progress=progress)
    _print(result, as_json, lambda tree: "\n".join([*tree["summary"], f"Wrote {out / 'budget.csv'} and four more"]))


@app.command()
def phantoms(
    spec: Annotated[
        Path | None, typer.Argument(metavar="[SPEC]", help="TOML specification of what does not vary.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the set.")] = Path("runs/phantoms"),
    count: Annotated[int, typer.Option(min=1, help="Cases.")] = 16,
    vary: Annotated[
        Path | None, typer.Option(metavar="RANGES.toml", help="What varies; shipped ranges when left out.")
    ] = None,
    to: Annotated[
        Literal["nnunet", "hdf5", "ome-zarr", "tiff", "npz"], typer.Option(help="Layout of image and labels.")
    ] = "nnunet",
    scans: Annotated[int, typer.Option(min=1, help="Scans of every specimen, by a microscope each.")] = 1,
    projections: Annotated[bool, typer.Option("--projections", help="Keep the scan of every case.")] = False,
    licence: Annotated[Literal["CC-BY-4.0", "CC0-1.0"], typer.Option(help="Licence of the set.")] = "CC-BY-4.0",
    split: Annotated[
        str, typer.Option(help="Shares of specimens: train,validation; the rest is the test.")
    ] = "0.7,0.15",
    attempts: Annotated[int, typer.Option(min=1, help="Draws of a specimen before the set is given up.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Root of every random number.")] = 42,
    workers: Workers = 1,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Make labelled volumes to train on: electrodes, states and microscopes at random, scanned and reconstructed.

    RANGES.toml names fields: electrode.silicon.porosity_fraction = {low = 0.5, high = 0.7}, microscope.stage.views =
    {low = 181, high = 721, scale = "log"}, or choices; a set keeps those it was made with in ranges.toml. SPEC is what
    does not vary (128 voxels along every edge when left out). A set can be resumed, and grows with a larger --count.

    Example: npsi-twin phantoms --count 16 --vary ranges.toml --to nnunet --out runs/phantoms
    """
    from npsi_twin.phantoms.data_set import make_phantoms
    from npsi_twin.phantoms.draws import PhantomRecipe
    from npsi_twin.phantoms.ranges import load_ranges
    from npsi_twin.seeds import Seeds
    from npsi_twin.specification import load_specification, parse_values

    try:
        train, validation = (float(share) for share in split.split(","))
    except ValueError:
        raise ParameterError(f"--split: got {split!r}; give two shares, for example 0.7,0.15.") from None
    given = {
        "count": count, "scans_per_specimen": scans, "attempts": attempts, "layout": to, "licence": licence,
        "train_fraction": train, "validation_fraction": validation, "keep_projections": projections,
    }  # fmt: skip
    recipe = parse_values(PhantomRecipe(), given, "phantoms")
    base = None if spec is None else load_specification(spec)
    with _progress() as progress:
        result = make_phantoms(
            out,
            recipe,
            load_ranges(vary),
            base,
            seeds=Seeds(seed),
            workers=workers,
            resume=resume,
            progress=progress,
        )
    _print(result, as_json, lambda _: f"Made {result['cases']} cases. Read {out / 'README.md'}")


def _only_for_files(folder: Path, **options: object) -> None:
    """Refuse options that a run folder's own specification answers already."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value not in (None, False)]
    if given:
        raise ParameterError(
            f"{folder}: is a run folder, whose specification.toml decides; {', '.join(given)} is for single files. "
            "Change the specification and run again, or give the file itself."
        )


def _stage(
    folder: Path,
    name: str,
    workers: int,
    as_json: bool,
    written: str,
    following: str,
    scan_format: Literal["dataexchange", "nxtomo"] = "dataexchange",
) -> None:
    from npsi_twin.twin import run_stage

    with _progress() as progress:
        result = run_stage(folder, name, workers=workers, progress=progress, scan_format=scan_format)
    _print(result, as_json, lambda _: f"Wrote {folder / written}.{following}")


@app.command()
def scan(
    path: Annotated[Path, typer.Argument(metavar="DIR|VOLUME", help="Folder of a run, or an object of your own.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the scan of a VOLUME.")] = None,
    microscope: Annotated[
        str | None,
        typer.Option(help="Microscope for a VOLUME: aps-32-id-c-2018, demo, tiny, zhao2018, or a TOML file."),
    ] = None,
    compounds: Annotated[
        Path | None, typer.Option(help="TOML file that says what the labels of a VOLUME are made of.")
    ] = None,
    unit: Annotated[
        str | None, typer.Option(help="Unit of a VOLUME's attenuation, e.g. 1/um or 1/cm, where it is not stated.")
    ] = None,
    dataset: VolumeName = None,
    voxel_nm: VoxelNm = None,
    seed: Seed = None,
    scan_format: Annotated[
        Literal["dataexchange", "nxtomo"], typer.Option("--format", help="Layout of the scan file.")
    ] = "dataexchange",
    projector: ProjectorOption = None,
    workers: Workers = 1,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Scan the electrode of a run, or any object of your own, in the simulated microscope (scan.h5).

    An object is a volume (z, y, x), z along the rotation axis, in HDF5, TIFF, npz or npy: attenuation, or labels with
    --compounds, one table a label: [1] formula = "Si", density_g_per_cm3 = 2.329 (or material = "copper", or
    attenuation_per_um = 0.015).

    Example: npsi-twin scan runs/study

    Example: npsi-twin scan object.tif --microscope demo --voxel-nm 50 --unit 1/um --out runs/own

    Example: npsi-twin scan labels.npy --microscope demo --voxel-nm 50 --compounds compounds.toml --out runs/own
    """
    if path.is_dir():
        _only_for_files(
            path,
            out=out,
            microscope=microscope,
            compounds=compounds,
            unit=unit,
            dataset=dataset,
            voxel_nm=voxel_nm,
            seed=seed,
            projector=projector,
            overwrite=overwrite,
        )
        _stage(path, "scan", workers, as_json, "scan.h5", f" Next: npsi-twin reconstruct {path}", scan_format)
        return
    if out is None or microscope is None:
        raise ParameterError(
            "scan: an object of your own needs --microscope (a name or a TOML file) and --out, the folder for its scan."
        )
    from npsi_twin.execution import ExecutionRecipe
    from npsi_twin.object_scan import microscope_from, scan_object

    with _progress() as progress:
        result = scan_object(
            path,
            out,
            microscope_from(microscope),
            dataset=dataset,
            voxel_nm=voxel_nm,
            unit=unit,
            compounds=compounds,
            seed=42 if seed is None else seed,
            scan_format=scan_format,
            execution=ExecutionRecipe(projector=projector or "auto"),
            workers=workers,
            overwrite=overwrite,
            progress=progress,
        )
    _print(
        result,
        as_json,
        lambda _: f"Wrote {out / 'scan.h5'}. Next: npsi-twin reconstruct {out / 'scan.h5'} --out {out}-reconstructed",
    )


@app.command()
def reconstruct(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|SCAN",
            help="Folder of a run, or any scan: Data Exchange, NXtomo, NSLS-II FXI, folder of TIFF images.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for the result of a SCAN.")] = None,
    spec: Annotated[Path | None, typer.Option(help="Specification whose [reconstruction] is used for a SCAN.")] = None,
    algorithm: Annotated[
        Literal["sirt-fbp", "fbp", "sirt", "landweber", "cgls", "tv"] | None,
        typer.Option(help="Algorithm, instead of the specification's."),
    ] = None,
    route: RouteOption = None,
    axis_px: Annotated[float | None, typer.Option(help="Column of the rotation axis; found when left out.")] = None,
    pixel_nm: PixelNm = None,
    theta_unit: ThetaUnitOption = None,
    theta: Theta = "",
    where: Where = "",
    assume_normalised: Normalised = False,
    line_integrals: LineIntegrals = False,
    repair: Repair = False,
    flat_from_air: FlatFromAir = None,
    no_darks: NoDarks = False,
    ring_current: RingCurrent = False,
    allow_root: AllowRoot = None,
    workers: Workers = 1,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Reconstruct a simulated scan, or a real one with the very same code.

    Example: npsi-twin reconstruct tooth.h5 --out runs/tooth
    """
    if path.is_dir() and (out is None or (path / "run.json").is_file()):
        _only_for_files(
            path,
            out=out,
            spec=spec,
            algorithm=algorithm,
            route=route,
            axis_px=axis_px,
            pixel_nm=pixel_nm,
            theta_unit=theta_unit,
            theta=theta or None,
            where=where or None,
            assume_normalised=assume_normalised,
            line_integrals=line_integrals,
            repair=repair,
            flat_from_air=flat_from_air,
            no_darks=no_darks,
            ring_current=ring_current,
            allow_root=allow_root,
            resume=resume,
            overwrite=overwrite,
        )
        _stage(path, "reconstruct", workers, as_json, "reconstruction.h5", f" Next: npsi-twin segment {path}")
        return
    if out is None:
        raise ParameterError("reconstruct: a scan file needs --out, the folder for its result.")
    from npsi_twin.twin import reconstruct_file

    changes = {"algorithm": algorithm, "route": route, "rotation_axis_px": axis_px}
    corrections = corrections_from(
        repair=repair, flat_from_air=flat_from_air, no_darks=no_darks, ring_current=ring_current
    )
    with _progress() as progress:
        result = reconstruct_file(
            path,
            out,
            specification=None if spec is None else _specification(spec, None, None),
            changes={name: value for name, value in changes.items() if value is not None},
            corrections=corrections,
            pixel_nm=pixel_nm,
            theta_unit=theta_unit,
            assume_normalised=assume_normalised,
            reading=reading_from(theta, where, line_integrals, allow_root, repair=repair, flat_from_air=flat_from_air),
            workers=workers,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
        )
    axis = result["rotation_axis_px"]
    _print(result, as_json, lambda _: f"Rotation axis at column {axis:.2f}. Open {out / 'report.html'}")


@app.command()
def segment(
    path: Annotated[
        Path, typer.Argument(metavar="DIR|VOLUME", help="Folder of a run, or a volume of attenuation per um.")
    ],
    out: Annotated[Path | None, typer.Option(help="Label file to write for a VOLUME.")] = None,
    spec: Annotated[Path | None, typer.Option(help="Specification whose [segmentation] is used for a VOLUME.")] = None,
    forest: Annotated[
        Path | None, typer.Option(help="Trained forest (.npz) that takes the place of the method, for a VOLUME.")
    ] = None,
    dataset: VolumeName = None,
    voxel_nm: VoxelNm = None,
    as_json: Json = False,
) -> None:
    """Tell silicon, void and foil apart, as the paper did or by another method (segmentation.h5).

    The specification's [segmentation] names filter, method and threshold; by default it smooths and thresholds.

    Example: npsi-twin segment runs/study
    """
    if path.is_dir():
        _only_for_files(path, out=out, spec=spec, forest=forest, dataset=dataset, voxel_nm=voxel_nm)
        _stage(path, "segment", 1, as_json, "segmentation.h5", f" Next: npsi-twin measure {path}")
        return
    if out is None:
        raise ParameterError("segment: a volume needs --out, the label file to write.")
    from npsi_twin.twin import segment_file

    recipe = None if spec is None else _specification(spec, None, None).segmentation
    result = segment_file(path, out, recipe, forest=forest, dataset=dataset, voxel_nm=voxel_nm)
    _print(result, as_json, lambda _: f"Wrote {out}. Next: npsi-twin measure {out}")


@app.command()
def measure(
    path: Annotated[Path, typer.Argument(metavar="DIR|VOLUME", help="Folder of a run, or any label volume.")],
    labels: Annotated[
        str | None,
        typer.Option(help="Meaning of the labels of a VOLUME, e.g. '0=void,1=silicon'."),
    ] = None,
    dataset: VolumeName = None,
    voxel_nm: VoxelNm = None,
    closing_radius_nm: Annotated[
        float | None, typer.Option(help="Radius of the ball that closes silicon into particles, for a VOLUME.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure truth and recovered volume of a run alike, or any label volume (TIFF, npz, npy, HDF5).

    Example: npsi-twin measure berea.npz --voxel-nm 5345 --labels 0=silicon,1=void
    """
    if path.is_dir():
        _only_for_files(path, labels=labels, dataset=dataset, voxel_nm=voxel_nm, closing_radius_nm=closing_radius_nm)
        _stage(path, "measure", 1, as_json, "measurements.csv", f" Next: npsi-twin compare {path}")
        return
    from npsi_twin.twin import measure_file

    result = measure_file(
        path, labels=labels or OWN_LABELS, dataset=dataset, voxel_nm=voxel_nm, closing_radius_nm=closing_radius_nm
    )
    _print(result, as_json, measured_text)


@app.command()
def compare(folder: RunPath, as_json: Json = False) -> None:
    """Hold the recovered numbers against the truth and the published ones (comparison.json).

    Example: npsi-twin compare runs/study
    """
    _stage(folder, "compare", 1, as_json, "comparison.json", f" Next: npsi-twin report {folder}")


@app.command()
def report(folder: RunPath, as_json: Json = False) -> None:
    """Draw the figures and write the self-contained page (report.html).

    Example: npsi-twin report runs/study
    """
    _stage(folder, "report", 1, as_json, "report.html", "")


app.command("inspect")(inspect_scan_file)
app.command("export")(export_volume_file)
app.command("score")(score_label_file)

if __name__ == "__main__":
    main()
