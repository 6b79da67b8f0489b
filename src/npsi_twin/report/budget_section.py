"""The error budget that `run_budget` left in a run's folder, as sections of its page."""

import csv
import json
from pathlib import Path

from npsi_twin.errors import DataError
from npsi_twin.report.page import Picture, Section, Table
from npsi_twin.report.run_tables import number
from npsi_twin.specification import Specification


def budget_sections(folder: Path, specification: Specification) -> list[Section]:
    """Return waterfall and table of an error budget, where one lies in the run's folder.

    Parameters
    ----------
    folder
        The run folder, with ``budget.png``, ``budget.json`` and for the table ``budget.csv`` in its ``budget/``.
    specification
        The run's own, to say whether the budget is of it.

    Raises
    ------
    DataError
        ``budget.json`` or ``budget.csv`` is none.
    """
    picture, tree, table = (folder / "budget" / f"budget.{kind}" for kind in ("png", "json", "csv"))
    if not (picture.is_file() and tree.is_file()):
        return []
    try:
        told = json.loads(tree.read_text(encoding="utf-8"))
        own, name = told["specification_digest"] == specification.digest(), told["specification"]
        said = " ".join(map(str, told["summary"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{tree}: holds no error budget ({type(error).__name__}: {error}). Remove it, or make it again with "
            "`npsi-twin budget`."
        ) from None
    whose = "of this run's specification" if own else f"of another specification, {name!r}, not of this run's"
    found: list[Section] = [
        Picture(picture, "Error budget", f"What each step adds to the error of a metric, {whose}. {said}")
    ]
    return [*found, _table(table, whose)] if table.is_file() else found


def _table(path: Path, whose: str) -> Table:
    """Return the rows of ``budget.csv`` in rounded numbers, steps that nobody could measure left out."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                (
                    row["metric"].replace("_", " "),
                    row["switch"].replace("_", " "),
                    _rounded(row["truth"]),
                    _rounded(row["bias"]),
                    _interval(row["bias_low"], row["bias_high"]),
                    _rounded(row["variance"]),
                    row["note"],
                )
                for row in csv.DictReader(file)
                if row["bias"] or row["switch"] == "all"
            ]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise DataError(
            f"{path}: holds no error budget ({type(error).__name__}: {error}). Remove it, or make it again with "
            "`npsi-twin budget`."
        ) from None
    note = (
        f"Share of every step in the bias of a metric, {whose}, with its confidence interval, and in the variance. "
        "Names end in the unit; ‘all’ is the whole chain."
    )
    header = ("metric", "step", "truth", "bias", "interval of bias", "variance", "why not measured")
    return Table("Error budget: every metric and step", note, header, rows)


def _rounded(text: str) -> str:
    return number(float(text) if text else None, 3)


def _interval(low: str, high: str) -> str:
    return f"{_rounded(low)} to {_rounded(high)}" if low and high else ""
