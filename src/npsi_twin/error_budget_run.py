"""How wrong every number comes out and which step of the road is to blame: chains played, shares written.

`Specification`, `ErrorBudgetRecipe` -> a folder with ``outcomes.csv`` (every metric of every chain that was played),
``budget.csv`` and ``budget.json`` (shares of bias and variance with their intervals), ``budget.png`` (the waterfall)
and ``summary.txt``, beside the request (``specification.toml``, ``design.toml``) and ``run.json``. What a switch means
when it is off is said in `npsi_twin.imaging_chain`, what a share is in `npsi_twin.comparison.error_budget`.

Coalitions that mean the same, because the specification has nothing of what a switch turns off, are one chain: such a
switch gets exactly zero. A chain that was played is a row, known by a key of all that went into it, so that a run goes
on where it was interrupted and ends with the same bytes, and a larger design takes over the chains of a smaller one.

Chains of one replicate that share line integrals are one task of the executor; a task that was lost is played again.
"""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from npsi_twin.comparison.error_budget import (
    VARIANCE_COVERAGE,
    Budget,
    Coalition,
    Estimate,
    Order,
    Share,
    coalitions_of,
    draw_orders,
    share_error,
)
from npsi_twin.costs import Costs, StageCost, check_resources
from npsi_twin.errors import DataError, NotConvergedError
from npsi_twin.execution import (
    ExecutionRecipe,
    Executor,
    Progress,
    code_sha256,
    open_run,
    opened_executor,
    silent,
    write_text_whole,
    written_whole,
)
from npsi_twin.imaging_chain import SWITCHES, Chain, chain_bytes, chain_of, forget, play
from npsi_twin.morphology.measure import measure
from npsi_twin.provenance import SPECIFICATION, finish, remember
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.report.budget_picture import waterfall_figure
from npsi_twin.seeds import Seeds
from npsi_twin.specification import Specification, load_specification, parse_values, to_toml
from npsi_twin.toml_files import read_toml
from npsi_twin.volumes import Volume

OUTCOMES, BUDGET, BUDGET_TREE, PICTURE, SUMMARY = (
    "outcomes.csv", "budget.csv", "budget.json", "budget.png", "summary.txt",
)  # fmt: skip
DESIGN = "design.toml"
_STAGE = "budget"
#: What is pictured and put into words: metric -> (what people call it, unit).
TOLD = {
    "porosity_layer": ("porosity of the layer", ""),
    "porosity_particles": ("porosity inside the particles", ""),
    "thickness_silicon_um": ("thickness of the silicon", "um"),
    "local_thickness_ligament_nm": ("ligament size (local thickness)", "nm"),
    "local_thickness_pore_nm": ("pore size (local thickness)", "nm"),
    "normalised_attenuation_plateau": ("normalised attenuation", ""),
}
_FILES = (OUTCOMES, BUDGET, BUDGET_TREE, PICTURE, SUMMARY)
_FACTS = ["key", "replicate", "seed", "switches", "failure"]


class ErrorBudgetRecipe(Recipe):
    """How many chains are played, and how sure the intervals are meant to be."""

    orders: int = parameter(
        16, "orders in which the switches are turned on", source="assumed: some 50 coalitions", ge=1, le=1000
    )
    replicates: int = parameter(
        6, "specimens, each with a camera and a noise of its own", source="assumed: spreads need some", ge=1, le=1000
    )
    truth_refinement: int = parameter(
        2, "voxels of the truth along a detector pixel's edge", source="assumed: 25 nm at the default pixel", ge=2, le=8
    )
    confidence: float = parameter(0.95, "probability of the intervals", source="assumed", gt=0, lt=1)
    resamples: int = parameter(
        1000, "times that orders and replicates are drawn again", source="assumed", ge=2, le=10**6
    )


#: A first look: wide intervals in a few minutes.
QUICK = ErrorBudgetRecipe(orders=3, replicates=3)


def needle_specification() -> Specification:
    """Return the paper's settings on a needle small enough to be scanned a hundred times over.

    Pixel, dose, number of views and blur are those of the demo, so that a voxel is as noisy and as blurred as there;
    the field is 128 columns and 64 rows of it. So many views of so few columns leave little for ``views`` to do.

    Examples
    --------
    >>> needle_specification().microscope.stage.views
    1201
    """
    demo = Specification()
    specimen = demo.electrode.specimen.model_copy(
        update={
            "width_um": 5.0,
            "length_um": 4.6,
            "foil_surface_height_um": -0.8,
            "needle_offset_across_um": 0.3,
            "needle_offset_height_um": -0.2,
        }
    )
    detector = demo.microscope.detector.model_copy(update={"rows": 64, "columns": 128})
    return Specification(
        name="needle",
        electrode=demo.electrode.model_copy(update={"specimen": specimen}),
        microscope=demo.microscope.model_copy(update={"detector": detector}),
        execution=ExecutionRecipe(slab_rows=16),
    )


def run_budget(
    specification: Specification,
    folder: Path,
    recipe: ErrorBudgetRecipe | None = None,
    *,
    workers: int = 1,
    threads: int | None = None,
    scheduler: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    break_lock: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Play the chains, share out every metric's error and write what came out.

    Parameters
    ----------
    specification
        The road whose errors are looked for.
    folder
        Where the files go.
    recipe
        The design; the default recipe when None.
    workers
        Worker processes; the files are the same for any number, but for ``run.json`` and the crate.
    threads
        Threads of each worker; its share of this machine when None.
    scheduler
        Address of a Dask scheduler whose workers play the chains instead, ``"tcp://host:8786"``.
    resume
        Go on with a budget of the same specification, version and code; its design may be another, of which the chains
        that are played already are taken over.
    overwrite
        Start anew in a folder that holds a budget.
    break_lock
        Take the folder from a process of another machine that left its lock behind.
    progress
        Who to tell how far it has come.

    Returns
    -------
    dict
        What ``budget.json`` holds, and the files that were written.

    Raises
    ------
    ResourceError
        A chain does not fit into memory, or the folder is not to be had.
    IncompleteError
        When the folder holds a budget of another request.
    """
    recipe = ErrorBudgetRecipe() if recipe is None else recipe
    costs = Costs([StageCost("chain", 0.0, workers * chain_bytes(specification), 1e7)], workers)
    check_resources(costs, folder, scheduler=scheduler, overwrite=overwrite)
    # The rest of the design decides which chains are played, not what comes out of one.
    request = {
        "budget": specification.digest(),
        "truth_refinement": recipe.truth_refinement,
        "version": version("npsi-twin"),
        "code": code_sha256(),
    }
    with (
        opened_executor(workers, threads=threads, scheduler=scheduler, progress=progress) as executor,
        open_run(
            folder,
            request=request,
            resume=resume,
            overwrite=overwrite,
            break_lock=break_lock,
            owns=(OUTCOMES,),
            progress=progress,
        ) as run,
    ):
        run.state["seed"] = specification.seed
        for kept in run.reopen(_STAGE):
            progress(f"kept {kept}, which this budget did not write", 0, 1)
        write_text_whole(folder / SPECIFICATION, to_toml(specification))
        write_text_whole(folder / DESIGN, to_toml(recipe))
        remember(run, asked=(SPECIFICATION, DESIGN))
        with run.stage(_STAGE, *_FILES):
            tree = play_budget(specification, recipe, folder, executor, progress)
        finish(run)
    return tree | {"files": [str(folder / name) for name in _FILES]}


def asked_budget(folder: Path) -> tuple[Specification, ErrorBudgetRecipe]:
    """Return what a budget was asked for, from the files that it keeps of it.

    Raises
    ------
    DataError, ParameterError
        When one of them is missing or was broken.
    """
    tree = read_toml(folder / DESIGN, "the file that `npsi-twin budget` wrote")
    return load_specification(folder / SPECIFICATION), parse_values(ErrorBudgetRecipe(), tree, "budget")


def play_budget(
    specification: Specification,
    recipe: ErrorBudgetRecipe,
    folder: Path,
    executor: Executor,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Play the chains that ``outcomes.csv`` does not hold yet and write the files, without lock and record.

    Parameters
    ----------
    specification, recipe, folder, progress
        As for `run_budget`, which is what users want; chains are taken over whichever code played them.
    executor
        Who plays them.

    Returns
    -------
    dict
        What ``budget.json`` holds.
    """
    seeds = Seeds(specification.seed)
    orders = draw_orders(tuple(SWITCHES), recipe.orders, seeds=seeds, after=SWITCHES)
    outcomes, notes, played = _outcomes(specification, recipe, orders, folder / OUTCOMES, executor, progress)
    budgets = {
        name: share_error(values, orders, seeds=seeds, confidence=recipe.confidence, resamples=recipe.resamples)
        for name, values in outcomes.items()
    }
    notes = {name: _with_used(note, budgets[name], recipe) for name, note in notes.items()}
    words = [tell(name, budgets[name], recipe.confidence) for name in TOLD]
    words += [tell_coverage()] if recipe.replicates > 1 else []
    tree = {
        "specification": specification.name,
        "specification_digest": specification.digest(),
        "design": recipe.model_dump(mode="json"),
        "seeds": _replicate_seeds(specification, recipe),
        "orders": [list(order) for order in orders],
        "coalitions": len(coalitions_of(orders)),
        "chains": played,
        "metrics": {name: _tree(budgets[name], notes.get(name, "")) for name in budgets},
        "summary": words,
    }
    write_text_whole(folder / BUDGET, _table(budgets, notes))
    write_text_whole(folder / BUDGET_TREE, json.dumps(tree, indent=2, allow_nan=False) + "\n")
    write_text_whole(folder / SUMMARY, "\n".join(words) + "\n")
    titles = {f"{said}, {unit}" if unit else said: budgets[name] for name, (said, unit) in TOLD.items()}
    with written_whole(folder / PICTURE) as path:
        figure = waterfall_figure(titles, tuple(SWITCHES), confidence=recipe.confidence)
        figure.savefig(path, format="png", dpi=130, metadata={"Software": None})
    return tree


def _replicate_seeds(specification: Specification, recipe: ErrorBudgetRecipe) -> list[int]:
    """Return the roots of the replicates; more of them begin with fewer."""
    seeds = Seeds(specification.seed)
    return [int(seeds.stream("replicate", number).integers(1 << 32)) for number in range(recipe.replicates)]


@dataclass(frozen=True)
class _Task:
    """Chains of one replicate that share line integrals; printed where a worker died over them."""

    replicate: int
    seed: int
    chains: tuple[Chain, ...]

    def __str__(self) -> str:
        return f"{len(self.chains)} chain(s) of replicate {self.replicate}"


def _played_together(task: _Task) -> list[dict[str, str]]:
    return [_played(chain, task.seed) for chain in task.chains]


def _outcomes(
    specification: Specification,
    recipe: ErrorBudgetRecipe,
    orders: Sequence[Order],
    path: Path,
    executor: Executor,
    progress: Progress,
) -> tuple[dict[str, dict[Coalition, list[float]]], dict[str, str], int]:
    """Play what is not in the file yet: metric -> outcomes of all coalitions, reasons for NaN, and number of chains."""
    coalitions = sorted(coalitions_of(orders), key=_in_common)
    chains = {on: chain_of(specification, on, truth_refinement=recipe.truth_refinement) for on in coalitions}
    wanted: dict[str, tuple[int, int, Coalition, Chain]] = {}
    keys: dict[Coalition, list[str]] = {on: [] for on in coalitions}
    for number, seed in enumerate(_replicate_seeds(specification, recipe)):
        for on, chain in chains.items():
            key = chain.key(seed)
            keys[on].append(key)
            wanted.setdefault(key, (number, seed, on, chain))
    known = {row["key"]: row for row in _rows(path) if row["key"] in wanted}
    metrics = list(measure(Volume(np.zeros((2, 4, 4), np.uint8), 50.0)).quantities)
    progress("chains", len(known), len(wanted))
    missing: dict[tuple[Any, ...], list[str]] = {}
    for key, (number, _, on, _) in wanted.items():
        if key not in known:
            missing.setdefault((number, *_in_common(on)[:_SHARING_LINES]), []).append(key)
    tasks = [_Task(*wanted[keys[0]][:2], tuple(wanted[key][3] for key in keys)) for keys in missing.values()]
    try:
        for place, told in executor.completed(_played_together, tasks):
            for key, cells in zip(list(missing.values())[place], told, strict=True):
                number, seed, on, _ = wanted[key]
                facts = {"key": key, "replicate": str(number), "seed": str(seed), "switches": "+".join(_in_order(on))}
                known[key] = facts | cells
            write_text_whole(path, _csv([*_FACTS, *metrics], [known[key] for key in wanted if key in known]))
            progress("chains", len(known), len(wanted))
    finally:
        forget()
    rows = [known[key] for key in wanted]
    write_text_whole(path, _csv([*_FACTS, *metrics], rows))
    found = {name: {on: [_number(known[k].get(name)) for k in of] for on, of in keys.items()} for name in metrics}
    return found, {name: note for name in metrics if (note := _why_missing(name, rows))}, len(rows)


#: How many of what `_in_common` compares decide the line integrals.
_SHARING_LINES = 4


def _in_common(on: Coalition) -> tuple[bool, ...]:
    """Return a key of sorting that lets neighbours share scene, projections and reconstruction."""
    first = ("voxel_size", "reconstruction", "views", "alignment", "optics", "photons", "rings_and_drift")
    return tuple(name in on for name in (*first, "threshold", "smoothing"))


def _in_order(on: Coalition) -> list[str]:
    return [name for name in SWITCHES if name in on]


def _played(chain: Chain, seed: int) -> dict[str, str]:
    """Return every metric as text: its number, or the reason why there is none."""
    try:
        found = play(chain, seed).quantities
    except (DataError, NotConvergedError) as error:
        return {"failure": f"{type(error).__name__}: {error}"}
    return {"failure": ""} | {
        name: repr(float(entry.value)) if math.isfinite(entry.value) else entry.note for name, entry in found.items()
    }


def _number(cell: str | None) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        return math.nan


def _why_missing(name: str, rows: Sequence[Mapping[str, str]]) -> str:
    missing = [row for row in rows if not math.isfinite(_number(row.get(name)))]
    if not missing:
        return ""
    first = missing[0]
    reason = first["failure"] or first.get(name, "")
    where = f"with {first['switches'] or 'all switches off'} in replicate {first['replicate']}"
    return f"not measured in {len(missing)} of {len(rows)} chains; {where}: {reason}"


def _with_used(note: str, budget: Budget, recipe: ErrorBudgetRecipe) -> str:
    """Add to the reason for missing values how many replicates could be used all the same."""
    return f"{note}; {budget.replicates} of {recipe.replicates} replicates have it in every chain" if note else note


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}). Remove it, or give another --out.") from None
    if rows and "key" not in rows[0]:
        raise DataError(f"{path}: holds no chains of an error budget. Remove it, or give another --out.")
    return rows


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _table(budgets: Mapping[str, Budget], notes: Mapping[str, str]) -> str:
    """Return ``budget.csv``: a row for every metric and switch, and one for all switches together."""
    rows = []
    for metric, budget in budgets.items():
        shares = [(name, budget[name].bias, budget[name].variance) for name in SWITCHES]
        for switch, bias, variance in (*shares, ("all", budget.bias, budget.variance)):
            row: dict[str, Any] = {"metric": metric, "switch": switch, "replicates": budget.replicates}
            row["truth"] = budget.reference
            row |= {f"bias{end}": value for end, value in _ends(bias)}
            row |= {f"variance{end}": value for end, value in _ends(variance)}
            rows.append(row | {"note": notes.get(metric, "")})
    return _csv(list(rows[0]), rows)


def _ends(estimate: Estimate) -> tuple[tuple[str, float], ...]:
    return ("", estimate.value), ("_low", estimate.low), ("_high", estimate.high)


def _tree(budget: Budget, note: str) -> dict[str, Any]:
    shares = {name: {"bias": _plain(budget[name].bias), "variance": _plain(budget[name].variance)} for name in SWITCHES}
    truth = budget.reference if math.isfinite(budget.reference) else None
    whole = {"bias": _plain(budget.bias), "variance": _plain(budget.variance)}
    return {"truth": truth, **whole, "replicates": budget.replicates, "shares": shares, "note": note}


def _plain(estimate: Estimate) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in asdict(estimate).items()}


def tell(metric: str, budget: Budget, confidence: float = 0.95) -> str:
    """Say in plain words how wrong a metric of `TOLD` comes out and which steps are to blame.

    Parameters
    ----------
    metric
        Its name.
    budget
        Its budget.
    confidence
        Of the budget's intervals.

    Returns
    -------
    str
        One paragraph, all of whose numbers are the budget's.
    """
    said, unit = TOLD[metric]
    said, unit = said[0].upper() + said[1:], f" {unit}" if unit else ""
    bias, sure = budget.bias, f"{100 * confidence:g} %"
    if not math.isfinite(bias.value):
        return f"{said}: could be measured in every chain of no replicate; budget.csv says why."
    recovered = budget.reference + bias.value
    text = f"{said} comes out as {recovered:.3g}{unit} where the truth is {budget.reference:.3g}{unit}"
    if not math.isfinite(bias.low):
        text += f", an error of {bias.value:+.2g}{unit}; one replicate cannot tell how sure that is."
    else:
        interval = f"{sure} interval {bias.low:+.2g} to {bias.high:+.2g}, {budget.replicates} replicates"
        text += f", an error of {bias.value:+.2g}{unit} ({interval})"
        text += "." if _is_sure(bias) else ", which cannot be told from none."
    largest = sorted((share for share in budget.shares if share.bias.value), key=lambda share: -abs(share.bias.value))
    if largest:
        shares = ", ".join(f"{_spoken(share.switch)} {_with_interval(share.bias)}{unit}" for share in largest[:3])
        text += f" The largest shares: {shares}."
        if math.isfinite(bias.low):
            blamed = [_spoken(share.switch) for share in largest[:3] if _is_sure(share.bias)]
            text += f" Certain of these: {', '.join(blamed) or 'none'}."
        text += _cancelling(largest, bias.value, unit)
    if math.isfinite(budget.variance.value):
        deviation = math.sqrt(max(budget.variance.value, 0.0))
        text += f" From specimen to specimen the error scatters by {deviation:.2g}{unit}"
        wide = sorted((s for s in budget.shares if s.variance.low > 0), key=lambda share: -share.variance.value)
        through = ", ".join(_spoken(share.switch) for share in wide)
        text += f", part of it through {through}." if wide else "; so few replicates cannot tell through which step."
    return text


def tell_coverage() -> str:
    """Say how far intervals of variances may be trusted.

    Examples
    --------
    >>> tell_coverage()
    'Intervals of variances that are called 95 % cover in 82 to 86 % of trials; those of errors do what they say.'
    """
    low, high = (f"{100 * share:.0f}" for share in VARIANCE_COVERAGE)
    return (
        f"Intervals of variances that are called 95 % cover in {low} to {high} % of trials; those of errors do what "
        "they say."
    )


def _is_sure(estimate: Estimate) -> bool:
    """Tell whether an interval excludes zero."""
    return estimate.low > 0 or estimate.high < 0


def _cancelling(largest: Sequence[Share], whole: float, unit: str) -> str:
    """Say where shares of both signs hide behind a small sum: the smaller side is more than half of what is left."""
    up, down = ([share for share in largest if sign * share.bias.value > 0] for sign in (1, -1))
    sums = [math.fsum(share.bias.value for share in side) for side in (up, down)]
    if min(abs(total) for total in sums) <= abs(whole) / 2 or not (_is_sure(up[0].bias) and _is_sure(down[0].bias)):
        return ""
    foremost = f"{_spoken(up[0].switch)} against {_spoken(down[0].switch)}"
    return f" Shares cancel: {sums[0]:+.2g} and {sums[1]:+.2g} leave {whole:+.2g}{unit}, foremost {foremost}."


def _with_interval(estimate: Estimate) -> str:
    if not math.isfinite(estimate.low):
        return f"{estimate.value:+.2g}"
    return f"{estimate.value:+.2g} ({estimate.low:+.2g} to {estimate.high:+.2g})"


def _spoken(switch: str) -> str:
    return {"views": "the number of views"}.get(switch, switch.replace("_", " "))
