"""Commands that make many twins: seven states, a budget of errors, a set to train on, a sweep."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from npsi_twin.cli_options import (
    BreakLock,
    Json,
    MaxMemory,
    Overwrite,
    Resume,
    Scheduler,
    Seed,
    Threads,
    Workers,
    print_result,
    specification_from,
)
from npsi_twin.cli_progress import progress_shown
from npsi_twin.errors import ParameterError


def states(
    out: Annotated[Path, typer.Option(help="Folder for five figures and two tables.")] = Path("runs/states"),
    hypothesis: Annotated[str, typer.Option(help="Ageing hypothesis, by name.")] = "agglomeration",
    field_um: Annotated[float, typer.Option(help="Edge of the block that is pictured, um.")] = 12.0,
    voxel_nm: Annotated[float, typer.Option(help="Edge of a voxel, nm.")] = 80.0,
    loading_variation: Annotated[
        float, typer.Option(help="Coefficient of variation of the layer between cells.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Root of every random number.")] = 2018,
    workers: Workers = 1,
    threads: Threads = None,
    scheduler: Scheduler = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    break_lock: BreakLock = False,
    as_json: Json = False,
) -> None:
    """Play the paper's seven states in the truth: pictures, sections, thickness, attenuation, capacity, targets.

    Example: npsi-twin states --hypothesis agglomeration --out runs/states
    """
    from npsi_twin.seeds import Seeds
    from npsi_twin.specification import parse_values
    from npsi_twin.state_series import StateSeriesRecipe, make_states

    block = {"specimen": {"shape": "block", "width_um": field_um, "length_um": field_um}}
    given = {
        "hypothesis": hypothesis, "electrode": block, "voxel_nm": voxel_nm, "loading_variation": loading_variation,
    }  # fmt: skip
    recipe = parse_values(StateSeriesRecipe(), given, "states")
    with progress_shown() as progress:
        result = make_states(
            recipe,
            out,
            seeds=Seeds(seed),
            workers=workers,
            threads=threads,
            scheduler=scheduler,
            resume=resume,
            overwrite=overwrite,
            break_lock=break_lock,
            progress=progress,
        )
    print_result(result, as_json, lambda _: f"Wrote {len(result['files'])} files into {out}")


def budget(
    spec: Annotated[
        Path | None, typer.Argument(metavar="[SPEC]", help="TOML specification; a small needle when left out.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the budget.")] = Path("runs/budget"),
    preset: Annotated[str | None, typer.Option(help="Specification shipped by name.")] = None,
    orders: Annotated[int | None, typer.Option(min=1, help="Orders in which switches are turned on.")] = None,
    replicates: Annotated[
        int | None, typer.Option(min=1, help="Specimens, each with a noise of its own; 2 are needed for intervals.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A first look: 3 orders, 3 replicates.")] = False,
    seed: Seed = None,
    workers: Workers = 1,
    threads: Threads = None,
    scheduler: Scheduler = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    break_lock: BreakLock = False,
    as_json: Json = False,
) -> None:
    """Say how wrong every number comes out and which step of the road is to blame (budget.csv, .json, .png).

    Voxel size, optics, photons, number of views, rings and drift, alignment, reconstruction, smoothing and threshold
    are turned on in many orders; what each adds to bias and to variance is shared out so that it adds up. With
    --resume an interrupted budget goes on where it was, and a finished one takes on more --orders and --replicates.
    Whole volumes are held in memory: give a crop. The page of a run shows the budget that lies in its folder budget/.

    Example: npsi-twin budget study.toml --out runs/budget
    """
    from npsi_twin.error_budget_run import QUICK, ErrorBudgetRecipe, needle_specification, run_budget
    from npsi_twin.specification import parse_values

    specification = needle_specification()
    if spec is not None or preset is not None:
        specification = specification_from(spec, preset, None)
    if seed is not None:
        specification = specification.model_copy(update={"seed": seed})
    given = {name: value for name, value in (("orders", orders), ("replicates", replicates)) if value is not None}
    recipe = parse_values(QUICK if quick else ErrorBudgetRecipe(), given, "budget")
    with progress_shown() as progress:
        result = run_budget(
            specification,
            out,
            recipe,
            workers=workers,
            threads=threads,
            scheduler=scheduler,
            resume=resume,
            overwrite=overwrite,
            break_lock=break_lock,
            progress=progress,
        )
    print_result(
        result, as_json, lambda tree: "\n".join([*tree["summary"], f"Wrote {out / 'budget.csv'} and four more"])
    )


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
    threads: Threads = None,
    scheduler: Scheduler = None,
    max_memory: MaxMemory = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    break_lock: BreakLock = False,
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
    with progress_shown() as progress:
        result = make_phantoms(
            out,
            recipe,
            load_ranges(vary),
            base,
            seeds=Seeds(seed),
            workers=workers,
            threads=threads,
            scheduler=scheduler,
            max_memory=max_memory,
            resume=resume,
            overwrite=overwrite,
            break_lock=break_lock,
            progress=progress,
        )
    print_result(result, as_json, lambda _: f"Made {result['cases']} cases. Read {out / 'README.md'}")


def sweep(
    path: Annotated[
        Path | None, typer.Argument(metavar="SWEEP.toml", help="What varies and how; see --template.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the sweep.")] = Path("runs/sweep"),
    workers: Workers = 1,
    threads: Threads = None,
    scheduler: Scheduler = None,
    max_memory: MaxMemory = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    break_lock: BreakLock = False,
    only: Annotated[list[str] | None, typer.Option(metavar="KEY", help="Make this row alone; may be repeated.")] = None,
    parquet: Annotated[bool, typer.Option("--parquet", help="Write the table as sweep.parquet too.")] = False,
    template: Annotated[bool, typer.Option("--template", help="Print an example and end.")] = False,
    as_json: Json = False,
) -> None:
    """Make many twins over any fields of the specification: a row each in one table (sweep.csv).

    Points are a grid, a list, a Latin hypercube, a Sobol sequence, or SALib's saltelli and morris; every point is made
    as often as replicates say. A sweep that was interrupted goes on with --resume and ends with the same bytes; a twin
    that cannot be made is a row with its reason. Any row is made again by its key, or by npsi-twin run twins/KEY.toml.

    Example: npsi-twin sweep --template > sweep.toml

    Example: npsi-twin sweep sweep.toml --out runs/sweep --workers 2

    Example: npsi-twin sweep sweep.toml --only 0123456789abcdef --out runs/one
    """
    from npsi_twin.sweeps.request import load_sweep
    from npsi_twin.sweeps.request import template as example

    if template:
        typer.echo(example(), nl=False)
        return
    if path is None:
        raise ParameterError("sweep: a file SWEEP.toml is needed; npsi-twin sweep --template prints an example.")
    from npsi_twin.sweeps.run import make_sweep

    with progress_shown() as progress:
        result = make_sweep(
            load_sweep(path),
            out,
            workers=workers,
            threads=threads,
            scheduler=scheduler,
            max_memory=max_memory,
            resume=resume,
            overwrite=overwrite,
            only=tuple(only or ()),
            parquet=parquet,
            break_lock=break_lock,
            progress=progress,
        )
    failed = f", {result['failed']} of which cannot be; the table says why" if result["failed"] else ""
    print_result(result, as_json, lambda _: f"Made {result['twins']} twins{failed}. Open {result['table']}")
