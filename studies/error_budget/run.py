"""Play the default error budget: how wrong every number comes out at the paper's settings, and which step is to blame.

``python run.py`` goes on where an earlier run stopped; the chains go into ``runs/error_budget`` and, once all are
played, into ``outcomes.csv``, from which the page is made again without playing any. ``--quick`` plays few of them.
It is what ``npsi-twin budget`` does, set out for reading.
"""

import math
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ledger import arguments, points, render, table

from npsi_twin.error_budget_run import (
    BUDGET,
    OUTCOMES,
    PICTURE,
    QUICK,
    TOLD,
    ErrorBudgetRecipe,
    needle_specification,
    play_budget,
    tell_coverage,
)
from npsi_twin.execution import InProcess
from npsi_twin.imaging_chain import SWITCHES

HERE = Path(__file__).resolve().parent


def told_progress(stage, done, total):
    """Print how far it has come."""
    print(f"{stage}: {done}/{total}", end="\r", flush=True)


def with_interval(estimate):
    """Write a share with its interval; a dash where it could not be had."""
    if estimate["value"] is None:
        return "-"
    text = f"{estimate['value']:+.2g}"
    return text if estimate["low"] is None else f"{text} ({estimate['low']:+.2g} to {estimate['high']:+.2g})"


def shares_of(tree, kind):
    """Return a table of the shares of bias or variance: a row a metric, a column a switch, and the sum."""
    rows = []
    for name, (said, unit) in TOLD.items():
        metric = tree["metrics"][name]
        shares = [metric["shares"][switch][kind] for switch in SWITCHES]
        rows.append((f"{said}, {unit}" if unit else said, *map(with_interval, (*shares, metric[kind]))))
    return table(("metric", *(switch.replace("_", " ") for switch in SWITCHES), "together"), rows)


def largest_gap(tree):
    """Return the largest difference between the sum of a metric's shares and its whole, over the largest share."""
    gaps = [0.0]
    for metric in tree["metrics"].values():
        for kind in ("bias", "variance"):
            shares = [metric["shares"][switch][kind]["value"] for switch in SWITCHES]
            whole = metric[kind]["value"]
            if whole is not None and any(shares):
                gaps.append(abs(math.fsum(shares) - whole) / max(map(abs, shares)))
    return max(gaps)


def main():
    given = arguments(__doc__, HERE)
    folder = Path("runs") / ("error_budget_quick" if given.quick else "error_budget")
    if given.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    if (given.out / OUTCOMES).is_file() and not (given.fresh or (folder / OUTCOMES).is_file()):
        shutil.copy(given.out / OUTCOMES, folder)
    recipe = QUICK if given.quick else ErrorBudgetRecipe()
    tree = play_budget(needle_specification(), recipe, folder, InProcess(), told_progress)
    for name in (OUTCOMES, BUDGET, PICTURE):
        shutil.copy(folder / name, given.out)
    size = f"{recipe.orders} orders, {recipe.replicates} specimens, {tree['coalitions']} coalitions"
    gap = f"{len(tree['metrics'])} metrics add up to the whole within {largest_gap(tree):.0e} of the largest share"
    design = [f"{size}, {tree['chains']} chains. The shares of {gap}."]
    unmeasured = [f"- {name}: {metric['note']}" for name, metric in tree["metrics"].items() if metric["note"]]
    parts = {
        "answer": points(given.quick, tree["summary"]),
        "design": design,
        "bias": shares_of(tree, "bias"),
        "variance": shares_of(tree, "variance"),
        "coverage": [tell_coverage()],
        "unmeasured": unmeasured or ["None."],
    }
    render(given.out, parts, {name: tree["metrics"][name] for name in TOLD} | {"quick": given.quick})


if __name__ == "__main__":
    main()
