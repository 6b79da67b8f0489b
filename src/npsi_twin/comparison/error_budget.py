"""Which step is to blame: shares of a bias and of a variance that add up.

Takes outcomes, coalition of switches that are on -> a metric's value in every replicate, and orders in which switches
are turned on -> a `Budget`: what every switch adds, with confidence intervals.

The model. y(S, r) is the metric in replicate r with the switches S on, e(S, r) = y(S, r) - y({}, r) its error against
everything off. Along an order pi each switch i adds the difference between its predecessors P with and without it,

    bias_i = mean over pi and r of  e(P + i, r) - e(P, r),      variance_i = mean over pi of  V(P + i) - V(P),

V(S) the variance of e(S, r) over replicates. Over all orders these are Shapley's values, the one division that adds up,
gives nothing to a switch that does nothing and the same to two that act alike. Where a switch means nothing before
another one is on (noise, before anything is reconstructed), only orders that respect this are counted, all with equal
weight (Faigle & Kern 1992): the shares still add up, and what noise does is not shared with what let it in. The share
of a variance may be negative: blur averages noise away.

Confidence: orders and replicates are drawn again with replacement, with one replicate less than there are, so that
the spread of the means is right (Rao & Wu 1988); variances, which need all, are scaled by R / (R - 1). The interval is
the share and the resampled standard deviation times Student's quantile of R - 1 degrees of freedom.

Holds for replicates that share nothing but the design. Few replicates know a variance badly, and its interval, which is
symmetric, covers less than it says: of 600 trials with two to ten replicates 0.94 to 0.96 for a bias, 0.82 to 0.86 for
a variance (`VARIANCE_COVERAGE`), where 0.95 was asked for. A replicate that lacks an outcome is left out with all of
its outcomes; where a metric fails on some kind of specimen, the budget is that of the other kind.

References
----------
L. S. Shapley, in: Contributions to the Theory of Games II, Princeton (1953) 307, doi:10.1515/9781400881970-018.
J. Castro, D. Gomez and J. Tejada, Comput. Oper. Res. 36 (2009) 1726, doi:10.1016/j.cor.2008.04.004 (sampled orders).
U. Faigle and W. Kern, Int. J. Game Theory 21 (1992) 249, doi:10.1007/BF01258278 (order constraints).
J. N. K. Rao and C. F. J. Wu, J. Am. Stat. Assoc. 83 (1988) 231, doi:10.1080/01621459.1988.10478591.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from npsi_twin.errors import ParameterError
from npsi_twin.seeds import Seeds

#: Switches that are on.
Coalition = frozenset[str]
Order = tuple[str, ...]
#: How often an interval of a variance covers it where 0.95 was asked for, from and to (600 trials, see above).
VARIANCE_COVERAGE = (0.82, 0.86)


@dataclass(frozen=True)
class Estimate:
    """A number with its confidence interval; the ends are NaN where there is too little to tell."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Share:
    """What one switch adds to the bias of a metric, in its unit, and to its variance, in the unit's square."""

    switch: str
    bias: Estimate
    variance: Estimate


@dataclass(frozen=True)
class Budget:
    """Where the error of a metric comes from.

    Attributes
    ----------
    reference
        Mean of the metric with everything off.
    bias
        Mean error with everything on: the sum of the shares' biases.
    variance
        Its variance over replicates: the sum of the shares' variances; NaN with one replicate.
    replicates
        How many were used: those that have the metric in every coalition.
    shares
        One a switch, by name.
    """

    reference: float
    bias: Estimate
    variance: Estimate
    replicates: int
    shares: tuple[Share, ...]

    def __getitem__(self, switch: str) -> Share:
        """Return the share of one switch."""
        for share in self.shares:
            if share.switch == switch:
                return share
        raise KeyError(switch)


def draw_orders(
    switches: Sequence[str], count: int, *, seeds: Seeds, after: Mapping[str, Iterable[str]] | None = None
) -> tuple[Order, ...]:
    """Draw orders in which switches are turned on, all that are allowed being equally likely.

    Parameters
    ----------
    switches
        Their names.
    count
        How many orders; one may be drawn again.
    seeds
        Root of the stream ``("orders", number)``: more orders begin with fewer.
    after
        Switch -> those that must be on before it.

    Raises
    ------
    ParameterError
        A name occurs twice or is not known, no order is allowed, or none is asked for.

    Notes
    -----
    With n(S) the number of ways to go on from S, switch i comes next with probability n(S + i) / n(S).

    Examples
    --------
    >>> draw_orders(("noise", "scan"), 2, seeds=Seeds(1), after={"noise": ("scan",)})
    (('scan', 'noise'), ('scan', 'noise'))
    """
    needs = {name: frozenset((after or {}).get(name, ())) for name in switches}
    unknown = frozenset(after or {}).union(*needs.values()) - set(switches)
    if count < 1 or len(needs) < len(switches) or unknown:
        raise ParameterError(
            f"draw_orders: got {count} orders of {', '.join(switches)}, and rules that name "
            f"{', '.join(sorted(unknown)) or 'no others'}; at least one order of switches that occur once is needed, "
            "and rules for these alone."
        )

    def allowed(on: Coalition) -> list[str]:
        return [name for name in switches if name not in on and needs[name] <= on]

    @cache
    def ways(on: Coalition) -> int:
        return 1 if len(on) == len(switches) else sum(ways(on | {name}) for name in allowed(on))

    if not ways(frozenset()):
        raise ParameterError(
            "draw_orders: some switches wait for one another, so that none of them can be the first. Break the circle."
        )
    orders = []
    for number in range(count):
        rng = seeds.stream("orders", number)
        order: Order = ()
        while len(order) < len(switches):
            on: Coalition = frozenset(order)
            left = int(rng.integers(ways(on)))
            edges = list(accumulate(ways(on | {name}) for name in allowed(on)))
            order = (*order, allowed(on)[int(np.searchsorted(edges, left, side="right"))])
        orders.append(order)
    return tuple(orders)


def coalitions_of(orders: Iterable[Order]) -> tuple[Coalition, ...]:
    """Return every coalition that some orders pass through, once each, the smaller ones first.

    Examples
    --------
    >>> [sorted(coalition) for coalition in coalitions_of([("a", "b"), ("b", "a")])]
    [[], ['a'], ['b'], ['a', 'b']]
    """
    passed = {frozenset(order[:length]) for order in orders for length in range(len(order) + 1)}
    return tuple(sorted(passed, key=lambda coalition: (len(coalition), sorted(coalition))))


def share_error(
    outcomes: Mapping[Coalition, Sequence[float]],
    orders: Sequence[Order],
    *,
    seeds: Seeds,
    confidence: float = 0.95,
    resamples: int = 1000,
) -> Budget:
    """Share out the error of one metric.

    Parameters
    ----------
    outcomes
        Coalition -> the metric in every replicate, for all of `coalitions_of`; NaN where it could not be measured.
    orders
        From `draw_orders`.
    seeds
        Root of the stream ``"resamples"``.
    confidence
        Probability that an interval is meant to cover its share with, 0 to 1.
    resamples
        How often orders and replicates are drawn again.

    Returns
    -------
    Budget
        Of the replicates that have every outcome; all NaN where none has.

    Raises
    ------
    ParameterError
        Outcomes are missing or have different numbers of replicates.

    Examples
    --------
    >>> outcomes = {frozenset(): [1.0, 1.2], frozenset({"blur"}): [1.5, 1.7]}
    >>> budget = share_error(outcomes, [("blur",)], seeds=Seeds(1))
    >>> round(budget["blur"].bias.value, 12), round(budget.bias.high, 12), round(budget["blur"].variance.value, 12)
    (0.5, 0.5, 0.0)
    """
    values, paths = _table(outcomes, orders)
    values = values[:, np.isfinite(values).all(axis=0)]
    if not values.size:
        unknown = Estimate(np.nan, np.nan, np.nan)
        return Budget(np.nan, unknown, unknown, 0, tuple(Share(name, unknown, unknown) for name in sorted(orders[0])))
    errors = values - values[0]
    replicates, switches = errors.shape[1], sorted(orders[0])
    place = np.array([[order.index(name) for name in switches] for order in orders])
    once = np.arange(len(orders))[None]
    bias = _added(errors.mean(axis=1)[:, None], paths, place, once)[0]
    variance, half = np.full(bias.size, np.nan), np.full((2, bias.size), np.nan)
    if replicates > 1:
        variance = _added(errors.var(axis=1, ddof=1)[:, None], paths, place, once)[0]
        rng, many = seeds.stream("resamples"), replicates - 1
        again = rng.integers(len(orders), size=(resamples, len(orders)))
        few, full = (rng.integers(replicates, size=(resamples, size)) for size in (many, replicates))
        means, scatter = errors[:, few].mean(axis=2), errors[:, full].var(axis=2, ddof=1) * replicates / many
        spread = [_added(value, paths, place, again).std(axis=0) for value in (means, scatter)]
        half = student.ppf((1 + confidence) / 2, replicates - 1) * np.array(spread)
    told = [
        [Estimate(float(v), float(v - h), float(v + h)) for v, h in zip(found, width, strict=True)]
        for found, width in ((bias, half[0]), (variance, half[1]))
    ]
    shares = tuple(Share(name, told[0][i], told[1][i]) for i, name in enumerate(switches))
    return Budget(float(values[0].mean()), told[0][-1], told[1][-1], replicates, shares)


def _table(
    outcomes: Mapping[Coalition, Sequence[float]], orders: Sequence[Order]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the outcomes (coalition, replicate), nothing on first, and what orders pass through, (order, step)."""
    known = coalitions_of(orders)
    missing = [sorted(coalition) for coalition in known if coalition not in outcomes]
    lengths = {len(outcomes[coalition]) for coalition in known if coalition in outcomes}
    if missing or len(lengths) != 1 or 0 in lengths:
        raise ParameterError(
            f"share_error: {len(missing)} of {len(known)} coalitions have no outcome, the others {sorted(lengths)} "
            "replicates; a difference needs both of its ends, in the same replicates. Play every coalition of "
            "`coalitions_of` as often."
        )
    number = {coalition: i for i, coalition in enumerate(known)}
    passed = [[number[frozenset(order[:step])] for step in range(len(order) + 1)] for order in orders]
    return np.array([outcomes[coalition] for coalition in known], np.float64), np.array(passed)


def _added(
    value: NDArray[np.float64], paths: NDArray[np.intp], place: NDArray[np.intp], drawn: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return what every switch adds, mean over the orders drawn, and the sum last, (resample, switch + 1).

    ``value`` is (coalition, resample), ``paths`` the coalitions that orders pass, ``place`` where in an order each
    switch stands, ``drawn`` the orders of each resample.
    """
    steps = np.take_along_axis(np.diff(value[paths], axis=1), place[:, :, None], axis=1).transpose(2, 0, 1)
    mean = np.take_along_axis(steps, drawn[:, :, None], axis=1).mean(axis=1)
    return np.column_stack([mean, value[paths[0, -1]] - value[paths[0, 0]]])
