"""Commands on the record of a run: whether it is still what was written, and whether it comes out again."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from npsi_twin.cli_options import Json, Scheduler, Threads, Workers, print_result
from npsi_twin.cli_progress import progress_shown

Recorded = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="Folder of a run, a reconstruction, a scan, a sweep, phantoms, a budget or states."
    ),
]


def verify(folder: Recorded, as_json: Json = False) -> None:
    """Hash every recorded file again and say what changed, is missing, or was given by you.

    Ends with 0 when every file is as it was written or given, else with 3.

    Example: npsi-twin verify runs/study
    """
    from npsi_twin.verification import verify as verify_folder

    found = verify_folder(folder)
    print_result(found.as_dict(), as_json, lambda _: found.as_text())
    if not found.sound:
        raise typer.Exit(3)


def repeat(
    folder: Recorded,
    out: Annotated[
        Path | None, typer.Option(help="Folder that keeps the second run; it is thrown away when left out.")
    ] = None,
    scan: Annotated[
        Path | None,
        typer.Option(help="Where the scan of a reconstruction, or the object of a scan, is now, if it was moved."),
    ] = None,
    workers: Workers = 1,
    threads: Threads = None,
    scheduler: Scheduler = None,
    as_json: Json = False,
) -> None:
    """Run a recorded request again and compare what comes out, byte by byte.

    Slabs are cut as they were, since they decide bytes: there is no --max-memory.

    Ends with 0 when every recorded file comes out the same, else with 5, and says which data sets differ, by how much,
    and which packages are not the same.

    Example: npsi-twin repeat runs/study
    """
    from npsi_twin.repetition import repeat as repeat_folder

    with tempfile.TemporaryDirectory(prefix="npsi-twin-") as temporary, progress_shown() as progress:
        again = Path(temporary) / "again" if out is None else out
        result = repeat_folder(
            folder, again, scan=scan, workers=workers, threads=threads, scheduler=scheduler, progress=progress
        )
    print_result(result.as_dict(), as_json, lambda _: result.as_text())
    if not result.same:
        raise typer.Exit(5)
