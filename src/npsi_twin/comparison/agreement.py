"""Truth, recovered and published side by side.

Takes -> gives: `Measurements` of truth and of recovered labels, and the seed paper -> a `Comparison`, one row a
quantity.

The model. Two measurements by one recipe differ by the bias of the whole chain (microscope, reconstruction,
segmentation):

    bias = recovered - truth

Against the paper, a printed value agrees when

    |recovered - published| <= half-width + 2 spread / sqrt(n)   (ratios),   <= half-width   (maps)

with half-width the printed standard deviation, or half of the last digit that the paper prints; a bound is kept or
broken by the recovered value itself. n = blocks of slices; the columns of a map are correlated, so that spread /
sqrt(n) would claim too much.

Holds for the pristine electrode, for which the paper prints values; for any other state ask for ``state=None``.

References
----------
C. Zhao et al., Nano Energy 52 (2018) 381-390, sections 2.1, 3.2 and 3.3.1.
"""

from dataclasses import dataclass
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

    ``scale`` turns the paper's unit into the measured one; ``half_width`` is half of the last digit printed, in the
    paper's unit, where no standard deviation is printed.
    """

    record: str
    scale: float
    half_width: float
    is_map: bool


_PRISTINE = {
    "thickness_silicon_um": _Counterpart("pristine_thickness", 1.0, 0.05, True),
    "thickness_solids_um": _Counterpart("pristine_thickness", 1.0, 0.05, True),
    "porosity_particles": _Counterpart("npsi_porosity", 0.01, 0.05, False),
    "pore_size_nm": _Counterpart("npsi_pore_size_mean", 1.0, 50.0, False),
    "ligament_size_nm": _Counterpart("npsi_single_crystal_size", 1.0, 0.0, False),
    "normalised_attenuation_plateau": _Counterpart("grey_pristine_plateau", 1.0, 0.05, True),
}


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
    verdict
        How the recovered value stands to it.
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
    state: Literal["pristine"] | None = "pristine",
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
        State of the electrode whose published values apply; None leaves them out.

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
    counterparts = _PRISTINE if state == "pristine" else {}
    rows = []
    for name, found in recovered.quantities.items():
        true = truth.quantities[name] if truth is not None else None
        rows.append(_row(name, true, found, counterparts.get(name)))
    return Comparison(tuple(rows), accuracy, MadeBy("compare", recovered.made_by.recipe_digest))


def _row(name: str, true: Measured | None, found: Measured, counterpart: _Counterpart | None) -> ComparisonRow:
    nan = float("nan")
    record = zhao2018()[counterpart.record] if counterpart is not None else None
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
        verdict=_verdict(found, record, counterpart),
        note=found.note,
    )


def _verdict(found: Measured, record: Published | None, counterpart: _Counterpart | None) -> Verdict:
    if record is None or counterpart is None:
        return "no published value"
    if not np.isfinite(found.value):
        return "not measured"
    value = record.number() * counterpart.scale
    width = (counterpart.half_width if record.spread is None else record.spread) * counterpart.scale
    if not counterpart.is_map and record.relation == "eq" and np.isfinite(found.spread):
        width += 2 * found.spread / found.n**0.5
    if found.value > value + width:
        return "above"
    if found.value < value - width and record.relation != "upto":
        return "below"
    return "agrees"
