"""What the paper's seven states demand of a failure hypothesis, and whether a set of states meets it.

A table of `StateObservables`, one row a condition -> a `TargetResult` for each target: the 13 validation targets of
`npsi_twin.comparison.published`, and what the paper says of the states without printing a number (`BESIDE`).

The model: every target is a list of clauses, each of them

    low <= a / b <= high     (ratios and bounds; b = 1 where there is none),     low < a / b     (orderings),

with a and b observables of two conditions. An observable is known between two numbers: a life beyond the end of the
record is known from below, what was not measured is not known at all. A target is *met* where all clauses hold for
everything that the observables may be, *not met* where one clause holds for nothing, else *not decidable*. The margin
of a clause is the factor by which it is kept (1: just met), that of a target the smallest of its clauses'.

A thickness is the mean over the field, where columns that have lost their layer count as nothing, or the mean over
columns that still hold silicon: the paper does not say which. Limits that the paper does not print are named so in
the target's note.

References
----------
C. Zhao et al., Nano Energy 52 (2018) 381-390, sections 3.1 to 3.4.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

from npsi_twin.comparison.published import ValidationTarget, zhao2018
from npsi_twin.errors import IncompatibleError

Verdict = Literal["met", "not met", "not decidable"]
Thickness = Literal["field", "covered"]

#: Share by which a life may miss the published one; the paper's two lives at 2000 mAh/g, 435 and 460, differ by 6 %.
LIFE_TOLERANCE = 0.10
#: What "much less" means where the paper says it in words.
MUCH_LESS = 0.5


@dataclass(frozen=True)
class StateObservables:
    """What is seen of one state; NaN: not measured.

    Attributes
    ----------
    thickness_field_um, thickness_covered_um, thickness_sd_um
        Height of the silicon's top above the local foil surface: mean over all columns with nothing where no silicon
        is left, mean and standard deviation over the columns that hold silicon, um.
    normalised_attenuation
        Mean over the layer, foil 1 and air 0: areal inventory over thickness.
    near_foil_attenuation
        The same in a band at the foil.
    inventory_um
        Silicon areal inventory g T, mean over the field, um of foil material.
    agglomerate_um, agglomerated_share
        Diameter of the sphere of the mean body's volume (weighted by volume), um; share of the silicon that has welded.
    core_shell_index
        Attenuation in the middle of bodies over that at their boundary.
    shadow_ratio
        Silicon of single particles at the foil, beneath agglomerates over elsewhere; 1 without agglomerates.
    lift_off_um
        Height of the silicon's underside above the foil, mean over columns that hold silicon, um.
    whole_share
        Share of the silicon that is not fragments.
    life_cycles, recorded_cycles
        Cycle after which the cut-off is no longer reached (infinity: not within the record), and the record's length.
    """

    thickness_field_um: float = math.nan
    thickness_covered_um: float = math.nan
    thickness_sd_um: float = math.nan
    normalised_attenuation: float = math.nan
    near_foil_attenuation: float = math.nan
    inventory_um: float = math.nan
    agglomerate_um: float = math.nan
    agglomerated_share: float = math.nan
    core_shell_index: float = math.nan
    shadow_ratio: float = math.nan
    lift_off_um: float = math.nan
    whole_share: float = math.nan
    life_cycles: float = math.nan
    recorded_cycles: float = math.nan


class Interval(NamedTuple):
    """Between which numbers something lies."""

    low: float
    high: float


class Clause(NamedTuple):
    """``low <= a / b <= high``; an ordering leaves the lower limit out. ``a``, ``b``: (condition, observable)."""

    a: tuple[str, str]
    b: tuple[str, str] | None
    low: float
    high: float = math.inf
    is_ordering: bool = False


@dataclass(frozen=True)
class TargetResult:
    """How a table of states stands to one target.

    Attributes
    ----------
    target
        What is demanded.
    verdict
        See the module.
    ratios
        a / b of each clause (a where there is no b); NaN where it is not known.
    margin
        Smallest factor by which a clause is kept; 1 and more where the target is met, NaN where it is not known.
    missing
        Observables that are not known, as ``"condition: name"``.
    """

    target: ValidationTarget
    verdict: Verdict
    ratios: tuple[float, ...]
    margin: float
    missing: tuple[str, ...]

    @property
    def text(self) -> str:
        """The ratios as one would print them."""
        return "; ".join("?" if math.isnan(ratio) else f"{ratio:.3g}" for ratio in self.ratios)


_FIRST_1000, _MIDDLE_1000, _LAST_1000 = "1000/2nd-lithiation", "1000/500", "1000/1556"
_FIRST_2000, _MIDDLE_2000, _LAST_2000 = "2000/1st-lithiation", "2000/100", "2000/460"
_LIFE_1000, _LIFE_2000 = (_LAST_1000, "life_cycles"), (_LAST_2000, "life_cycles")

#: What the paper says of the states beside the 13 targets.
BESIDE = tuple(
    ValidationTarget(name, expression, "ordering", from_records=records, note=note)
    for name, expression, records, note in (
        ("agglomerate_size_2000_1st", "d(2000,1st) > 1.26 d(1000,2nd)", (),
         "section 3.2.2: 'much larger particles/agglomeration'; twice the volume assumed"),
        ("core_shell_2000_1st", "centre / boundary > 1.05", ("agglomerate_core_shell",),
         "5 % assumed: pores and partial voxels scatter by less"),
        ("shadow_2000_1st", "singles at the foil, beneath agglomerates / elsewhere < 0.5", (),
         "section 3.3.2: 'few separated np-Si particles'; half assumed"),
        ("lift_off_1000_2nd", "underside(2nd) > underside(pristine)", (),
         "section 3.3.1: 'movement away from the current collector after the 2nd lithiation'"),
        ("identity_lost", "whole(1000,500) < 0.5 ; whole(2000,100) < 0.5", ("particles_lost_identity",),
         "section 3.4.1: 'can hardly be identified'; half assumed"),
        ("grey_2000_100", "g(2000,100) > g(1000,2nd) ; g(2000,100) > g(1000,500)", ("grey_2000_100",), ""),
        ("near_foil_1000_1556", "near(1556) > near(2nd) ; near(1556) > near(500)", ("grey_1000_1556_near_cc",),
         "held against the series' other cells"),
    )
)  # fmt: skip


def targets() -> Mapping[str, ValidationTarget]:
    """Return all targets by id: the paper's 13, then those beside them.

    Examples
    --------
    >>> list(targets())[:2], len(targets())
    (['T_ratio_1000_2nd', 'T_ratio_1000_500'], 20)
    """
    return MappingProxyType(dict(zhao2018().targets) | {target.id: target for target in BESIDE})


def judge(table: Mapping[str, StateObservables], *, thickness: Thickness = "field") -> Mapping[str, TargetResult]:
    """Hold a table of states against all targets.

    Parameters
    ----------
    table
        Condition -> what is seen of it; conditions that are not there are not known.
    thickness
        Which mean a thickness is: over the field, or over the columns that still hold silicon.

    Returns
    -------
    Mapping
        Id -> result, in the order of `targets`.

    Raises
    ------
    IncompatibleError
        If the shipped targets hold one that has no clauses here.

    Examples
    --------
    >>> states = {
    ...     "pristine": StateObservables(thickness_field_um=2.0),
    ...     "1000/2nd-lithiation": StateObservables(thickness_field_um=4.1),
    ... }
    >>> found = judge(states)["T_ratio_1000_2nd"]
    >>> found.verdict, found.text
    ('met', '2.05')
    >>> judge(states)["T_ratio_1000_500"].verdict
    'not decidable'
    """
    clauses = _clauses(f"thickness_{thickness}_um")
    unknown = set(targets()) ^ set(clauses)
    if unknown:
        raise IncompatibleError(
            f"targets: {', '.join(sorted(unknown))} is not both in zhao2018.toml and among the clauses; a target needs "
            "both. Add what is missing."
        )
    return {name: _judged(target, clauses[name], table) for name, target in targets().items()}


def _clauses(thickness: str) -> dict[str, tuple[Clause, ...]]:
    """Return the clauses of every target."""
    paper = zhao2018().targets

    def less(name: str, a: str, b: str, factor: float = 1.0) -> Clause:
        return Clause((b, name), (a, name), 1 / factor, is_ordering=True)

    def ratio(target: str, name: str, a: str) -> Clause:
        limits = paper[target]
        low, high = (limits.low, limits.high) if limits.kind == "value" else (limits.value, math.inf)
        return Clause((a, name), ("pristine", name), float(low or 0.0), math.inf if high is None else high)

    grey = "normalised_attenuation"
    life, bound = float(paper["life_2000"].value or 0.0), float(paper["life_1000"].value or 0.0)
    least_ratio = float(paper["life_ratio"].value or 0.0)
    return {
        "T_ratio_1000_2nd": (ratio("T_ratio_1000_2nd", thickness, _FIRST_1000),),
        "T_ratio_1000_500": (ratio("T_ratio_1000_500", thickness, _MIDDLE_1000),),
        "T_ratio_2000_1st": (ratio("T_ratio_2000_1st", thickness, _FIRST_2000),),
        "T_order_2000": (
            less(thickness, _MIDDLE_2000, _FIRST_2000),
            less(thickness, _LAST_2000, _MIDDLE_2000, MUCH_LESS),
        ),
        "T_order_1000": (less(thickness, _FIRST_1000, _MIDDLE_1000), less(thickness, _LAST_1000, _MIDDLE_1000)),
        "T_order_cross": (less(thickness, _FIRST_1000, _FIRST_2000), less(thickness, _MIDDLE_2000, _MIDDLE_1000)),
        "T_sd_order": (less("thickness_sd_um", _FIRST_1000, _FIRST_2000),),
        "grey_ratio_1000_2nd": (ratio("grey_ratio_1000_2nd", grey, _FIRST_1000),),
        "Si_areal_ratio_1000_2nd": (ratio("Si_areal_ratio_1000_2nd", "inventory_um", _FIRST_1000),),
        "grey_order": (less(grey, _FIRST_1000, _FIRST_2000), less(grey, _FIRST_2000, "pristine")),
        "life_2000": (Clause(_LIFE_2000, None, life * (1 - LIFE_TOLERANCE), life * (1 + LIFE_TOLERANCE)),),
        "life_1000": (Clause(_LIFE_1000, None, bound),),
        "life_ratio": (Clause(_LIFE_1000, _LIFE_2000, least_ratio),),
        "agglomerate_size_2000_1st": (less("agglomerate_um", _FIRST_1000, _FIRST_2000, 0.5 ** (1 / 3)),),
        "core_shell_2000_1st": (Clause((_FIRST_2000, "core_shell_index"), None, 1.05, is_ordering=True),),
        "shadow_2000_1st": (Clause((_FIRST_2000, "shadow_ratio"), None, 0.0, MUCH_LESS),),
        "lift_off_1000_2nd": (less("lift_off_um", "pristine", _FIRST_1000),),
        "identity_lost": tuple(
            Clause((condition, "whole_share"), None, 0.0, 0.5) for condition in (_MIDDLE_1000, _MIDDLE_2000)
        ),
        "grey_2000_100": (less(grey, _FIRST_1000, _MIDDLE_2000), less(grey, _MIDDLE_1000, _MIDDLE_2000)),
        "near_foil_1000_1556": (
            less("near_foil_attenuation", _FIRST_1000, _LAST_1000),
            less("near_foil_attenuation", _MIDDLE_1000, _LAST_1000),
        ),
    }  # fmt: skip


def _judged(
    target: ValidationTarget, clauses: tuple[Clause, ...], table: Mapping[str, StateObservables]
) -> TargetResult:
    verdicts, ratios, margins, missing = [], [], [], []
    for clause in clauses:
        a = _known(table, clause.a)
        b = Interval(1.0, 1.0) if clause.b is None else _known(table, clause.b)
        verdicts.append(_holds(clause, a, b))
        # Of what is known from below only, the bound is printed.
        ratios.append(math.nan if a == _NOTHING or math.isinf(b.high) else _ratio(a.low, b.low))
        margins.append(_margin(clause, ratios[-1]))
        for key, interval in ((clause.a, a), (clause.b, b)):
            if key is not None and interval == _NOTHING:
                missing.append(f"{key[0]}: {key[1]}")
    verdict: Verdict = "met" if all(verdicts) else "not met" if False in verdicts else "not decidable"
    margin = math.nan if any(map(math.isnan, margins)) else min(margins)
    return TargetResult(target, verdict, tuple(ratios), margin, tuple(dict.fromkeys(missing)))


#: What is known of something that was not measured; no observable is negative.
_NOTHING = Interval(0.0, math.inf)


def _known(table: Mapping[str, StateObservables], key: tuple[str, str]) -> Interval:
    condition, name = key
    if condition not in table:
        return _NOTHING
    value = float(getattr(table[condition], name))
    if name == "life_cycles" and math.isinf(value):
        return Interval(table[condition].recorded_cycles, math.inf)
    return _NOTHING if math.isnan(value) else Interval(value, value)


def _holds(clause: Clause, a: Interval, b: Interval) -> bool | None:
    """Say whether a clause holds for all, for none (False) or for some (None) of what a and b may be."""
    low, high = clause.low, clause.high
    bounded = not math.isinf(high)
    surely, possibly = (low * b.high if low else 0.0), low * b.low
    sure = a.low > surely if clause.is_ordering else a.low >= surely
    impossible = a.high <= possibly if clause.is_ordering else a.high < possibly
    if bounded:
        sure, impossible = sure and a.high <= high * b.low, impossible or a.low > high * b.high
    return True if sure else False if impossible else None


def _ratio(a: float, b: float) -> float:
    if b == 0:
        return math.nan if a == 0 else math.inf
    return a / b


def _margin(clause: Clause, ratio: float) -> float:
    if math.isnan(ratio):
        return math.nan
    above = ratio / clause.low if clause.low > 0 else math.inf
    below = clause.high / ratio if ratio > 0 and not math.isinf(clause.high) else math.inf
    return min(above, below)
