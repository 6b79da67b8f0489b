"""Points of a sweep, and the twins that they are: the same rows, in the same order, on every machine.

`Sweep` -> `Twin` for every replicate of every point. A grid runs through its last field fastest. Others are points of
the unit cube, each coordinate taken through its `Range`:

* ``latin-hypercube``: N points, one in each of the N slices of every coordinate (scipy);
* ``sobol``: the Sobol sequence, shifted digitally by random bits, so that a longer sweep begins with a shorter one;
* ``saltelli``: N (d + 2) points from which SALib estimates first-order and total Sobol indices;
* ``morris``: N (d + 1) points, N trajectories that change one field at a time.

References
----------
M. D. McKay et al., Technometrics 21 (1979) 239, doi:10.2307/1268522 (Latin hypercube).
A. Saltelli et al., Comput. Phys. Commun. 181 (2010) 259, doi:10.1016/j.cpc.2009.09.018.
M. D. Morris, Technometrics 33 (1991) 161, doi:10.2307/1269043.
T. Iwanaga et al., Socio-Environ. Syst. Model. 4 (2022) 18155, doi:10.18174/sesmo.18155 (SALib 2).
"""

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import MissingBackendError, ParameterError
from npsi_twin.seeds import Seeds
from npsi_twin.sweeps.request import Sweep
from npsi_twin.variations import unit_point

#: A campaign larger than this is a slip of the pen.
LARGEST = 1_000_000


@dataclass(frozen=True)
class Twin:
    """One row of a sweep, before it is made.

    Attributes
    ----------
    key
        Name of the row: what of base, values, seed and last stage makes its bytes, hashed.
    point, replicate
        Its place in the design.
    seed
        Root of its random numbers.
    values
        What varies, by dotted path.
    """

    key: str
    point: int
    replicate: int
    seed: int
    values: Mapping[str, Any]


def draw_twins(sweep: Sweep) -> list[Twin]:
    r"""Return the twins of a sweep in the order of its table.

    Raises
    ------
    ParameterError
        For more than a million twins, and a number of base samples that SALib cannot balance.
    MissingBackendError
        For a design of SALib's where SALib is not present.

    Examples
    --------
    >>> from npsi_twin.sweeps.request import parse_sweep
    >>> sweep = parse_sweep("replicates = 2\n[vary]\nmicroscope.stage.views = {choices = [61, 121]}")
    >>> [(twin.point, twin.replicate, twin.values["microscope.stage.views"]) for twin in draw_twins(sweep)]
    [(0, 0, 61), (0, 1, 61), (1, 0, 121), (1, 1, 121)]
    """
    recipe, seeds = sweep.recipe, Seeds(sweep.recipe.seed)
    twins = []
    for number, values in enumerate(_points(sweep)):
        for replicate in range(recipe.replicates):
            index = (replicate,) if recipe.seeds == "common" else (replicate, number)
            seed = int(seeds.stream(f"sweep seed, {recipe.seeds}", *index).integers(1 << 32))
            twins.append(Twin(_key(sweep, values, seed), number, replicate, seed, values))
    return twins


def _key(sweep: Sweep, values: Mapping[str, Any], seed: int) -> str:
    made_from = [sweep.base.digest(), dict(values), seed, sweep.recipe.until]
    canonical = json.dumps(made_from, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _points(sweep: Sweep) -> list[dict[str, Any]]:
    names = [entry.name for entry in sweep.ranges]
    if sweep.recipe.design == "list":
        points = [dict(row) for row in sweep.rows]
    elif sweep.recipe.design == "grid":
        _check_number(sweep, int(np.prod([len(entry.choices) for entry in sweep.ranges], dtype=object)))
        levels = (entry.choices for entry in sweep.ranges)
        points = [dict(zip(names, values, strict=True)) for values in itertools.product(*levels)]
    else:
        points = [
            {entry.name: entry.at(float(u)) for entry, u in zip(sweep.ranges, row, strict=True)}
            for row in _unit_points(sweep)
        ]
    _check_number(sweep, len(points))
    return points


def _check_number(sweep: Sweep, points: int) -> None:
    if points * sweep.recipe.replicates > LARGEST:
        raise ParameterError(
            f"sweep: {points} points with {sweep.recipe.replicates} replicates are more than {LARGEST} twins. Give "
            "fewer steps, or points of a latin-hypercube or sobol design."
        )


def _unit_points(sweep: Sweep) -> NDArray[np.float64]:
    recipe, size, seeds = sweep.recipe, len(sweep.ranges), Seeds(sweep.recipe.seed)
    match recipe.design:
        case "sobol":
            rows = (unit_point("sobol", "sweep points", size, i, 0, seeds=seeds) for i in range(recipe.points))
            return np.stack(list(rows))
        case "latin-hypercube":
            from scipy.stats.qmc import LatinHypercube

            return np.asarray(LatinHypercube(size, rng=seeds.stream("sweep points")).random(recipe.points))
        case _:
            return _by_salib(sweep, seeds.stream("sweep points"))


def _by_salib(sweep: Sweep, rng: np.random.Generator) -> NDArray[np.float64]:
    recipe = sweep.recipe
    try:
        from SALib.sample import morris, sobol
    except ImportError:
        raise MissingBackendError(
            f"design = '{recipe.design}' needs SALib, which is not installed. Install it with "
            "`pip install 'npsi-twin[sensitivity]'`, or give design = 'sobol'."
        ) from None
    if recipe.design == "saltelli" and recipe.points & (recipe.points - 1):
        raise ParameterError(
            f"points = {recipe.points}: Saltelli's design is balanced for powers of 2 only. Give "
            f"{1 << recipe.points.bit_length()}."
        )
    problem = salib_problem(sweep)
    if recipe.design == "morris":
        return np.asarray(morris.sample(problem, recipe.points, seed=rng))
    return np.asarray(sobol.sample(problem, recipe.points, calc_second_order=False, seed=rng))


def salib_problem(sweep: Sweep) -> dict[str, Any]:
    r"""Return what SALib's analyses call the problem; its bounds are those of the unit cube.

    Examples
    --------
    >>> from npsi_twin.sweeps.request import parse_sweep
    >>> text = "design = 'sobol'\n[vary]\nelectrode.silicon.mean_pore_nm = {low = 300, high = 400}"
    >>> salib_problem(parse_sweep(text))
    {'num_vars': 1, 'names': ['electrode.silicon.mean_pore_nm'], 'bounds': [[0.0, 1.0]]}
    """
    names = [entry.name for entry in sweep.ranges]
    return {"num_vars": len(names), "names": names, "bounds": [[0.0, 1.0]] * len(names)}
