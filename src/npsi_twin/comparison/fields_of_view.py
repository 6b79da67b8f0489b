"""What a single field of view can and cannot tell: how far a number scatters from field to field of one electrode.

Takes -> gives: `Measurements` of several fields of one electrode, by one recipe -> a `FieldScatter` a quantity.

The model. Fields are independent draws of one normal population, of which mean m and standard deviation s are estimated
from n of them, t = t_{n-1} at the confidence asked for:

    one further field lies in                       m +- t s sqrt(1 + 1 / n)
    two single fields differ by chance by up to     t s sqrt(2)
    mean of k fields known to +- tolerance          smallest k with t_{k-1} s / sqrt(k) <= tolerance |m|

Holds where fields are farther apart than the structure is correlated and are as large as the field that is asked about;
neither loading from electrode to electrode nor what the microscope adds is in it, unless the fields contain them.

References
----------
W. Q. Meeker, G. J. Hahn, L. A. Escobar, Statistical Intervals, 2nd ed., Wiley (2017), doi:10.1002/9781118594841,
chapter 3 (prediction interval for one future observation).
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy.special import stdtrit

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.morphology.quantities import Measurements

#: More fields than anybody scans; beyond it the number is given as infinite.
_MOST_FIELDS = 10_000


@dataclass(frozen=True)
class FieldScatter:
    """How a quantity scatters between fields.

    Attributes
    ----------
    mean, sd
        Over the fields in which it could be measured; NaN of fewer than two.
    n
        How many these are.
    low, high
        Where one further field is to be expected.
    chance
        Largest difference of two single fields that chance explains.
    fields_needed
        Fields whose mean is known to the tolerance; infinite beyond ten thousand, NaN where nothing is known.
    unit
        Of all of them but `n` and `fields_needed`.
    note
        Why there are fewer fields than were given; empty otherwise.
    """

    mean: float
    sd: float
    n: int
    low: float
    high: float
    chance: float
    fields_needed: float
    unit: str
    note: str = ""


def scatter_between_fields(
    fields: Sequence[Measurements], *, confidence: float = 0.95, tolerance: float = 0.1
) -> Mapping[str, FieldScatter]:
    """Say how far every quantity scatters from field to field.

    Parameters
    ----------
    fields
        At least two, measured with one recipe.
    confidence
        Probability of the intervals, between 0 and 1.
    tolerance
        How well the mean is to be known, as a share of it, above 0.

    Returns
    -------
    Mapping
        Quantity -> its scatter, in the order of the measurements.

    Raises
    ------
    ParameterError
        Fewer than two fields, or a confidence or tolerance that means nothing.
    IncompatibleError
        Fields that were measured with different recipes.

    Examples
    --------
    >>> from npsi_twin.morphology.measure import measure
    >>> from npsi_twin.volumes import Phase, Volume
    >>> def field(height):
    ...     values = np.zeros((4, 60, 30), np.uint8)
    ...     values[:, 50:] = Phase.CURRENT_COLLECTOR
    ...     values[:, 50 - height : 50] = Phase.SILICON
    ...     return measure(Volume(values, 50.0))
    >>> found = scatter_between_fields([field(height) for height in (36, 40, 44)])["thickness_silicon_um"]
    >>> round(found.mean, 3), round(found.sd, 3), round(found.low, 2), found.fields_needed
    (2.0, 0.2, 1.01, 7)
    """
    if len(fields) < 2:
        raise ParameterError(
            f"scatter_between_fields: got {len(fields)} field(s); scatter needs at least two. Measure more fields."
        )
    if not (0 < confidence < 1 and 0 < tolerance < math.inf):
        raise ParameterError(
            f"scatter_between_fields: got confidence = {confidence}, tolerance = {tolerance}; a probability between 0 "
            "and 1 and a share above 0 are needed. Give, for example, 0.95 and 0.1."
        )
    if len({field.made_by.recipe_digest for field in fields}) > 1:
        raise IncompatibleError(
            "scatter_between_fields: the fields were measured with different recipes, so that they differ for two "
            "reasons. Measure all of them with the same MeasurementRecipe."
        )
    return MappingProxyType({name: _scatter(fields, name, confidence, tolerance) for name in fields[0].quantities})


def _scatter(fields: Sequence[Measurements], name: str, confidence: float, tolerance: float) -> FieldScatter:
    entries = [field.quantities[name] for field in fields]
    values = np.array([entry.value for entry in entries if math.isfinite(entry.value)], np.float64)
    n, unit = values.size, entries[0].unit
    reasons = dict.fromkeys(entry.note for entry in entries if not math.isfinite(entry.value))
    note = f"{len(entries) - n} of {len(entries)} fields without: {'; '.join(reasons)}" if reasons else ""
    if n < 2:
        nan = math.nan
        return FieldScatter(nan, nan, n, nan, nan, nan, nan, unit, note)
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    t = float(stdtrit(n - 1, (1 + confidence) / 2))
    half = t * sd * math.sqrt(1 + 1 / n)
    needed = _fields_needed(sd, tolerance * abs(mean), confidence)
    return FieldScatter(mean, sd, n, mean - half, mean + half, t * sd * math.sqrt(2), needed, unit, note)


def _fields_needed(sd: float, wanted: float, confidence: float) -> float:
    """Return the smallest number of fields whose mean has an interval of half-width ``wanted`` at most."""

    def enough(count: int) -> bool:
        return bool(stdtrit(count - 1, (1 + confidence) / 2) * sd / math.sqrt(count) <= wanted)

    counts = range(2, _MOST_FIELDS + 1)
    first = bisect_left(counts, True, key=enough)  # the interval only narrows
    return counts[first] if first < len(counts) else math.inf
