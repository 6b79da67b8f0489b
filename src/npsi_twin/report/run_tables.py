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
    return [*tables, *_score_table(comparison.get("label_scores")), *_confusion(comparison["segmentation_accuracy"])]


#: Scores of which 1 is the best; of distances and bits it is 0.
_BEST_IS_ONE = ("dice", "iou", "precision", "recall", "found")


def _score_table(scores: Mapping[str, Any] | None) -> list[Table]:
    """Return how well the labels agree with the truth; nothing without a truth, or where an older version scored."""
    if scores is None:
        return []
    rows = [
        (
            _name(name.removesuffix("_bits")),
            entry["unit"],
            _with_spread(entry["value"], entry["spread"]),
            _best(name),
            entry["note"],
        )
        for name, entry in scores["quantities"].items()
    ]
    return [
        Table(
            "How well the segmentation agrees with the truth",
            "Voxel by voxel (Dice, intersection over union; the layer lies between the foil and the top of the true "
            "silicon), by the distance of surfaces, and by particles. ± is the standard deviation over blocks of "
            "slices. The soft Dice holds labels against the true volume fractions, and its ceiling is the best that "
            "any labels could reach there: partial volumes alone cost that much.",
            ("score", "unit", "value", "best", "definition"),
            rows,
        )
    ]


def _best(name: str) -> str:
    if "particle_size" in name or "ceiling" in name:
        return ""
    return "1" if any(part in name for part in _BEST_IS_ONE) else "0"


def _confusion(accuracy: Mapping[str, Any] | None) -> list[Table]:
    if accuracy is None:
        return []
    counts = np.array(accuracy["confusion_layer_true_by_recovered"])
    names = [name.replace("_", " ") for name in accuracy["phases"]]
    true, found = counts.sum(axis=1) > 0, counts.sum(axis=0) > 0
    return [
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
    ]
