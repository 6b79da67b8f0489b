"""How counts become line integrals: the settings that `corrections`, `illumination` and `bad_pixels` read.

Takes -> gives: settings -> a `CorrectionRecipe`. It has a file of its own so that none of its readers needs another.
"""

from typing import Literal

from npsi_twin.recipes import Recipe, parameter


class CorrectionRecipe(Recipe):
    """How counts become line integrals."""

    outlier_sigmas: float = parameter(
        8.0,
        "a pixel is bad when its gain, or its dark count, departs from its neighbours' by more robust sigmas than this",
        source="assumed: far outside photon noise, near enough to find a hot pixel",
        gt=0,
        le=1000,
    )
    gain_tolerance: float = parameter(
        0.5,
        "relative departure of a pixel's gain from its neighbours' that flat correction can still remove",
        source="assumed: a pixel that keeps half of its light is noisy, not dead",
        gt=0,
        lt=1,
    )
    neighbourhood_px: int = parameter(
        9, "columns over which the neighbours' median is taken", unit="pixels", source="assumed", ge=3, le=101
    )
    bad_fraction_limit: float = parameter(
        0.01, "share of bad pixels beyond which the flats or darks are refused", source="assumed", gt=0, lt=1
    )
    saturation_counts: float | None = parameter(
        None,
        "count at which the detector saturates; none takes the largest value of an integer file",
        unit="counts",
        source="inferred from the file's type when absent",
        gt=0,
    )
    assume_no_darks: bool = parameter(
        False, "take the dark level as zero where a scan has no dark frames", source="assumed: refuse unless told"
    )
    normalised_floor: float = parameter(
        1e-4,
        "smallest transmission of a scan that arrives already normalised, where one count is not known",
        source="assumed: one count of a flat of 10 000",
        gt=0,
        lt=1,
    )
    flat_field: Literal["mean", "interpolated", "components", "air"] = parameter(
        "mean",
        "beam of a view: mean of all flats, in time between groups of flats, by the flats' principal components, or "
        "without flats from air_columns_px, linear between both edges",
        source="assumed: right for a steady beam, and adds least noise",
    )
    flat_components: int = parameter(
        2, "principal components of the flats, for flat_field = components", source="assumed", ge=1, le=20
    )
    air_columns_px: int = parameter(
        0,
        "columns at either edge that show air in every view and are scaled to a transmission of 1; 0 scales nothing",
        unit="pixels",
        source="assumed: the beam is as bright as in the flats",
        ge=0,
        le=10_000,
    )
    ring_current: bool = parameter(
        False, "divide by the storage ring's current, where the scan tells it", source="assumed: top-up operation"
    )
    zinger_excess: float | None = parameter(
        None,
        "share of the flat field by which a value exceeds the median of its neighbours in view and column to be "
        "replaced as a zinger; none replaces nothing",
        source="assumed: off, since the sample's own edges must stay",
        gt=0,
        le=10,
    )
    saturated_values: Literal["keep", "replace"] = parameter(
        "keep", "values at saturation: as they are, or interpolated from their view's neighbours", source="assumed"
    )
    not_finite: Literal["refuse", "replace"] = parameter(
        "refuse",
        "counts that are NaN or infinite: refuse the scan, or interpolate them from their view's neighbours",
        source="assumed: refuse unless told",
    )
