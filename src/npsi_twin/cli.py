"""The command ``npsi-twin``.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once. Exit codes: 0 done, 2 wrong usage
or specification, 3 unusable data, 4 missing resources, 5 incomplete. Here are the commands that make, explain and run a
specification; those on one stage, on many twins and on single files have files of their own.
"""

import atexit
import gc
import json
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from npsi_twin import cli_campaigns, cli_files, cli_records, cli_stages
from npsi_twin.cli_options import (
    BreakLock,
    ConditionName,
    HypothesisName,
    Json,
    MaxMemory,
    Out,
    Overwrite,
    Preset,
    ProjectorOption,
    Resume,
    Scheduler,
    Seed,
    SpecificationFile,
    Threads,
    Workers,
    print_result,
    specification_from,
)
from npsi_twin.cli_progress import progress_shown
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
from npsi_twin.memory import keep_freed_memory

app = typer.Typer(
    name="npsi-twin",
    help="Digital twin of nanoporous-silicon electrodes under a transmission X-ray microscope.",
    epilog="Begin with: npsi-twin run --out runs/first      Real scan: npsi-twin reconstruct SCAN.h5 --out runs/real",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

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
    keep_freed_memory()
    atexit.register(gc.freeze)  # nobody looks for garbage among all modules when they go: half a second
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

    specification = specification_from(spec, preset, seed)
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
    max_memory: MaxMemory = None,
    as_json: Json = False,
) -> None:
    """Print expected memory, disk and time of every stage before anything runs.

    Example: npsi-twin plan --preset zhao2018
    """
    from npsi_twin.plan import plan_twin, within_memory

    specification = within_memory(specification_from(spec, preset, None), max_memory, workers=workers)
    costs, height = plan_twin(specification, workers=workers), specification.execution.slab_rows
    told = costs.as_dict() | {"slab_rows": height}
    print_result(told, as_json, lambda _: f"{costs.as_text()}\nslabs of at most {height} detector rows")


@app.command()
def run(
    spec: SpecificationFile = None,
    out: Out = Path("runs/twin"),
    preset: Preset = None,
    workers: Workers = 1,
    threads: Threads = None,
    scheduler: Scheduler = None,
    max_memory: MaxMemory = None,
    seed: Seed = None,
    condition: ConditionName = None,
    hypothesis: HypothesisName = None,
    projector: ProjectorOption = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    break_lock: BreakLock = False,
    as_json: Json = False,
) -> None:
    """Walk the whole road: build, scan, reconstruct, segment, measure, compare, report.

    Example: npsi-twin run --preset demo --condition 2000/100 --hypothesis agglomeration --out runs/aged
    """
    from npsi_twin.worker_server import begin_server

    if scheduler is None:
        # Imports what workers need, some of it not needed here, while this process imports and prepares.
        begin_server(workers, threads, ["npsi_twin.twin", "npsi_twin.report.run_page", "xraydb"])
    from npsi_twin.plan import within_memory
    from npsi_twin.twin import run_twin

    specification = specification_from(spec, preset, seed, condition, hypothesis, projector)
    with progress_shown() as progress:
        result = run_twin(
            within_memory(specification, max_memory, workers=workers),
            out,
            workers=workers,
            threads=threads,
            scheduler=scheduler,
            resume=resume,
            overwrite=overwrite,
            break_lock=break_lock,
            progress=progress,
        )
    print_result(result, as_json, lambda _: f"Done. Open {out / 'report.html'}")


# In the order in which --help lists them.
app.command()(cli_stages.build)
app.command()(cli_campaigns.states)
app.command()(cli_campaigns.budget)
app.command()(cli_campaigns.phantoms)
app.command()(cli_campaigns.sweep)
app.command()(cli_stages.scan)
app.command()(cli_stages.reconstruct)
app.command()(cli_stages.segment)
app.command()(cli_stages.measure)
app.command()(cli_stages.compare)
app.command()(cli_stages.report)
app.command("inspect")(cli_files.inspect_scan_file)
app.command("export")(cli_files.export_volume_file)
app.command("score")(cli_files.score_label_file)
app.command()(cli_records.verify)
app.command()(cli_records.repeat)

if __name__ == "__main__":
    main()
