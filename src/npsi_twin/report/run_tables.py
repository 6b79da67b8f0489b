"""The tables of a run's page: what the comparison holds, in words and rounded numbers.

What ``comparison.json`` holds -> `Table`s: truth, recovered and published side by side with their acceptance numbers,
and how voxels of each true phase were called.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from npsi_twin.report.page import Table


def number(value: float | None, digits: int = 4) -> str:
    """Return a rounded number, and a dash for what could not be measured."""
    return "–" if value is None else f"{value:.{digits}g}"


def _with_spread(value: float | None, spread: float | None) -> str:
    return number(value) if spread is None else f"{number(value)} ± {number(spread, 2)}"


def _name(quantity: str) -> str:
    """Return a quantity's name without its unit, which has a column of its own."""
    for unit in ("_per_um", "_um", "_nm"):
        quantity = quantity.removesuffix(unit)
    return quantity.replace("_", " ")


def _verdict(row: Mapping[str, Any]) -> str:
    if not row["published"]:
        return ""
    return f"{row['verdict']} ({row['uncertainty_from']})" if row["uncertainty_from"] else str(row["verdict"])


def comparison_tables(comparison: Mapping[str, Any]) -> list[Table]:
    """Return the table of quantities and, where there is a truth, that of phases inside the layer."""
    rows = [
        (
            _name(row["quantity"]),
            row["unit"].replace("um", "µm"),
            _with_spread(row["truth"], row["truth_spread"]),
            _with_spread(row["recovered"], row["recovered_spread"]),
            number(row["bias"], 3),
            str(row["n"]),
            row["published"].replace("+-", "±").replace(" um", " µm"),
            number(row["e_n"], 3) if row["published"] else "",
            _verdict(row),
            row["note"],
        )
        for row in comparison["rows"]
    ]
    header = (
        "quantity",
        "unit",
        "truth",
        "recovered",
        "bias",
        "n",
        "published",
        "E_n",
        "recovered against published",
        "definition",
    )
    tables = [
        Table(
            "Truth, recovered, published",
            "± is the standard deviation over columns (heights) or over blocks of slices (ratios), n how many. "
            "– means that it could not be measured; the last column says why. E_n is the acceptance number of ISO/IEC "
            "17043: recovered less published, over the root of the sum of their squared expanded uncertainties; a "
            "value agrees where it lies between -1 and 1. Of a bound there is none. What the published uncertainty is "
            "stands beside the verdict: a printed spread whose n the paper does not state makes a weak test.",
            header,
            rows,
        )
    ]
    accuracy = comparison["segmentation_accuracy"]
    if accuracy is not None:
        counts = np.array(accuracy["confusion_layer_true_by_recovered"])
        names = [name.replace("_", " ") for name in accuracy["phases"]]
        true, found = counts.sum(axis=1) > 0, counts.sum(axis=0) > 0
        tables.append(
            Table(
                "Segmentation inside the layer",
                "Voxels of each true phase (rows) by what they were called (columns).",
                ("true phase", *(name for name, there in zip(names, found, strict=True) if there)),
                [
                    (name, *(f"{count}" for count in line[found]))
                    for name, line, there in zip(names, counts, true, strict=True)
                    if there
                ],
            )
        )
    return tables
