"""Truth, recovered and published side by side.

Takes -> gives: `Measurements` of truth and of recovered labels, and the seed paper -> a `Comparison`, one row a
quantity.

The model. Two measurements by one recipe differ by the bias of the whole chain (microscope, reconstruction,
segmentation):

    bias = recovered - truth

Against the paper, a printed value agrees when the acceptance number of ISO/IEC 17043,

    E_n = (recovered - published) / sqrt(U_r^2 + U_p^2),     |E_n| <= 1,

allows it, with U the expanded uncertainties (k = 2). Recovered: U_r = 2 spread / sqrt(n) for ratios, n = blocks of
slices; the columns of a map are correlated, so that spread / sqrt(n) would claim too much, and U_r = 0 makes the test
the stricter. Published, as far as the paper tells:

    U_p = 2 sqrt((spread / sqrt(n))^2 + a^2 / 3)    standard error, and a value rounded to +- a
    U_p = 2 a / sqrt(3)                             where no spread is printed
    U_p = spread                                    where a spread is printed and no n

The last is no uncertainty of a mean but the printed half-width itself, a weak test; the row says so. A bound is kept
or broken by the recovered value itself and has no E_n.

Holds for the states of which the paper prints a value or a bound (`COUNTERPARTS`); of any other it says nothing, and
neither do the rows. Thicknesses that it prints against the pristine electrode are against its own 2.0 um.

References
----------
C. Zhao et al., Nano Energy 52 (2018) 381-390, sections 2.1, 3.2 and 3.3.1.
ISO/IEC 17043:2023, annex B, and ISO 13528:2022, section 9 (E_n scores); JCGM 100:2008, section 4.3.7 (rounded values).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np

from npsi_twin.comparison.published import Published, zhao2018
from npsi_twin.comparison.segmentation_accuracy import SegmentationAccuracy
from npsi_twin.errors import IncompatibleError
from npsi_twin.morphology.measure import Measured, Measurements
from npsi_twin.recipes import MadeBy

Verdict = Literal["agrees", "above", "below", "not measured", "no published value"]


class _Counterpart(NamedTuple):
    """A record of the paper that speaks of a measured quantity.

    ``scale`` turns the paper's unit into the measured one, ``offset`` (measured unit) comes on top; ``half_width`` is
    half of the last digit printed, in the paper's unit.
    """

    record: str
    scale: float
    half_width: float
    is_map: bool
    offset: float = 0.0


_PRISTINE = {
    "thickness_silicon_um": _Counterpart("pristine_thickness", 1.0, 0.05, True),
    "thickness_solids_um": _Counterpart("pristine_thickness", 1.0, 0.05, True),
    "porosity_particles": _Counterpart("npsi_porosity", 0.01, 0.05, False),
    "pore_size_nm": _Counterpart("npsi_pore_size_mean", 1.0, 50.0, False),
    "ligament_size_nm": _Counterpart("npsi_single_crystal_size", 1.0, 0.0, False),
    "normalised_attenuation_plateau": _Counterpart("grey_pristine_plateau", 1.0, 0.05, True),
}


def _both_thicknesses(counterpart: _Counterpart) -> dict[str, _Counterpart]:
    """Hold both thicknesses against one record: the paper does not say which solids its top is of."""
    return dict.fromkeys(("thickness_silicon_um", "thickness_solids_um"), counterpart)


#: What the paper prints of each of its states, by measured quantity; "% relative expansion" is of 2.0 um.
COUNTERPARTS: Mapping[str, Mapping[str, _Counterpart]] = MappingProxyType(
    {
        "pristine": _PRISTINE,
        "1000/2nd-lithiation": {
            **_both_thicknesses(_Counterpart("thick_1000_2nd", 0.02, 50.0, True, offset=2.0)),
            "normalised_attenuation_plateau": _Counterpart("grey_1000_2nd", 1.0, 0.005, True),
        },
        "1000/500": _both_thicknesses(_Counterpart("thick_1000_500", 2.0, 0.5, True)),
        "2000/1st-lithiation": _both_thicknesses(_Counterpart("thick_2000_1st", 0.02, 50.0, True, offset=2.0)),
    }
)


@dataclass(frozen=True)
class ComparisonRow:
    """One quantity: truth, recovered, published.

    Attributes
    ----------
    quantity, unit
        Name and unit, as `measure` gives them.
    truth, truth_spread, recovered, recovered_spread, bias
        Numbers in `unit`; NaN where there is none.
    n
        Columns or blocks of the recovered measurement.
    published
        The paper's value in its own words and unit; empty where it prints none for this state.
    relation
        Relation of the true quantity to the published value; empty where there is none.
    published_value, published_uncertainty
        The paper's value in `unit` and its expanded uncertainty; NaN where there is none.
    uncertainty_from
        What that uncertainty is; empty where there is none.
    recovered_uncertainty
        Expanded uncertainty of the recovered value as the test takes it; NaN where there is no test.
    e_n
        Acceptance number; NaN where there is no test.
    verdict
        How the recovered value stands to the published one: for a value, by E_n.
    note
        Definitions, and reasons for NaN.
    """

    quantity: str
    unit: str
    truth: float
    truth_spread: float
    recovered: float
    recovered_spread: float
    bias: float
    n: int
    published: str
    relation: str
    published_value: float
    published_uncertainty: float
    uncertainty_from: str
    recovered_uncertainty: float
    e_n: float
    verdict: Verdict
    note: str


@dataclass(frozen=True)
class Comparison:
    """All rows, and the segmentation's accuracy where there is a truth.

    Attributes
    ----------
    rows
        In the order of `Measurements.quantities`.
    accuracy
        Voxel-wise agreement, or None.
    made_by
        Provenance.
    """

    rows: tuple[ComparisonRow, ...]
    accuracy: SegmentationAccuracy | None
    made_by: MadeBy

    def __getitem__(self, quantity: str) -> ComparisonRow:
        """Return the row of one quantity."""
        for row in self.rows:
            if row.quantity == quantity:
                return row
        raise KeyError(quantity)


def compare(
    truth: Measurements | None,
    recovered: Measurements,
    *,
    accuracy: SegmentationAccuracy | None = None,
    state: str | None = "pristine",
) -> Comparison:
    """Hold recovered measurements against the truth and against the published ones.

    Parameters
    ----------
    truth
        Measurements of the truth, or None for a real scan.
    recovered
        Measurements of what was reconstructed and segmented.
    accuracy
        What `score` found, where there is a truth.
    state
        Condition of the electrode whose published values apply, as `npsi_twin.cycling` names it; None, or one of which
        the paper prints none, leaves them out.

    Returns
    -------
    Comparison
        One row for every quantity of `recovered`.

    Raises
    ------
    IncompatibleError
        Truth and recovered were measured with different recipes, so that their difference is no bias.

    Examples
    --------
    >>> from npsi_twin.morphology.measure import measure
    >>> from npsi_twin.volumes import Phase, Volume
    >>> values = np.zeros((8, 60, 30), np.uint8)
    >>> values[:, 50:] = Phase.CURRENT_COLLECTOR
    >>> values[:, 10:50, ::2] = Phase.SILICON
    >>> found = measure(Volume(values, 50.0))
    >>> row = compare(found, found)["thickness_silicon_um"]
    >>> row.recovered, row.bias, row.published, row.verdict
    (2.0, 0.0, '2 +- 0.5 um', 'agrees')
    """
    if truth is not None and truth.made_by.recipe_digest != recovered.made_by.recipe_digest:
        raise IncompatibleError(
            "compare: truth and recovered were measured with different recipes; one recipe is needed, since "
            "only the difference of two "
            "equal measurements is a bias. Measure both again with the same MeasurementRecipe."
        )
    counterparts = {} if state is None else COUNTERPARTS.get(state, {})
    rows = []
    for name, found in recovered.quantities.items():
        true = truth.quantities[name] if truth is not None else None
        rows.append(_row(name, true, found, counterparts.get(name)))
    return Comparison(tuple(rows), accuracy, MadeBy("compare", recovered.made_by.recipe_digest))


def _row(name: str, true: Measured | None, found: Measured, counterpart: _Counterpart | None) -> ComparisonRow:
    nan = float("nan")
    record = zhao2018()[counterpart.record] if counterpart is not None else None
    test = _Test(nan, nan, "", nan, nan)
    verdict: Verdict = "no published value"
    if record is not None and counterpart is not None:
        test = _test(found, record, counterpart)
        verdict = _verdict(found.value, test, record)
    return ComparisonRow(
        quantity=name,
        unit=found.unit,
        truth=true.value if true is not None else nan,
        truth_spread=true.spread if true is not None else nan,
        recovered=found.value,
        recovered_spread=found.spread,
        bias=found.value - true.value if true is not None else nan,
        n=found.n,
        published=record.text() if record is not None else "",
        relation=record.relation if record is not None else "",
        **test._asdict(),
        verdict=verdict,
        note=found.note,
    )


class _Test(NamedTuple):
    """A published value in the measured unit, and the acceptance number of what was recovered."""

    published_value: float
    published_uncertainty: float
    uncertainty_from: str
    recovered_uncertainty: float
    e_n: float


def _test(found: Measured, record: Published, counterpart: _Counterpart) -> _Test:
    nan = float("nan")
    value = record.number() * counterpart.scale + counterpart.offset
    if record.relation != "eq":
        return _Test(value, nan, "", nan, nan)
    published, origin = _published_uncertainty(record, counterpart)
    known = not counterpart.is_map and np.isfinite(found.spread)
    recovered = 2 * found.spread / found.n**0.5 if known else 0.0
    if not np.isfinite(found.value):
        return _Test(value, published, origin, nan, nan)
    return _Test(value, published, origin, recovered, (found.value - value) / float(np.hypot(recovered, published)))


def _published_uncertainty(record: Published, counterpart: _Counterpart) -> tuple[float, str]:
    """Return the expanded uncertainty of a printed value in the measured unit, and what it is."""
    rounding = counterpart.half_width / 3**0.5
    if record.spread is None:
        return 2 * rounding * counterpart.scale, "last printed digit"
    if record.n is None:
        return record.spread * counterpart.scale, "printed spread, n not stated: weak"
    standard_error = record.spread / record.n**0.5
    return 2 * float(np.hypot(standard_error, rounding)) * counterpart.scale, f"standard error, n = {record.n}"


def _verdict(recovered: float, test: _Test, record: Published) -> Verdict:
    if not np.isfinite(recovered):
        return "not measured"
    if record.relation == "upto":
        return "above" if recovered > test.published_value else "agrees"
    if record.relation == "gt":
        return "agrees" if recovered > test.published_value else "below"
    return "agrees" if abs(test.e_n) <= 1 else "above" if test.e_n > 0 else "below"
