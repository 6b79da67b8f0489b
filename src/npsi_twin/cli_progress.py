"""How far a command has come: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from npsi_twin.execution import Progress


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
def progress_shown() -> Iterator["Progress"]:
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
