"""The beam during every view: how flat fields make one up, and how bright it was.

Takes a `Scan` (a few rows from its middle), gives `Illumination`, which turns the flats of any rows into the beam that
each view was taken with,

    flat_v - dark = brightness_v * sum over frames f of shares_vf (flat_f - dark),

so that rows are independent although all share what is found here. Shares are 1 / frames (``"mean"``); or follow the
time between two groups of flats linearly (``"interpolated"``); or come from principal components
(``"components"``, Van Nieuwenhove et al. 2015): the flats' deviations from their mean are few patterns, and a view's
amounts w of them are those that leave least structure in it,

    minimise sum |grad (q + sum_k w_k e_k)|,     q = -ln((projection - dark) / mean),   e_k = pattern_k / mean,

the paper's total variation, in the logarithm, where it is convex. Brightness is the ring's current, relative to that of
the flats, or what the outermost columns show, where nothing but air is.

Holds for patterns that are the same in every row up to the flats themselves, and small against the mean.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError
from npsi_twin.reconstruction.correction_recipe import CorrectionRecipe
from npsi_twin.scan import Scan

#: Steps of the reweighted least squares that minimise a sum of lengths; the amounts settle to 1e-3 in about ten.
_REWEIGHTINGS = 20
#: A gradient below this share of a view's median gradient counts as that, so that weights stay finite.
_LEAST_GRADIENT = 1e-2
#: Views this many times brighter or darker than the middle one show that the columns taken for air are not.
_BRIGHTNESS_RANGE = 2.0
#: Exposures of flats and views may differ by this factor; beyond it they hardly belong together.
_FLUX_RANGE = 5.0


@dataclass(frozen=True)
class Illumination:
    """The beam of every view in terms of the flats.

    Attributes
    ----------
    shares
        (view, frame); rows add up to 1.
    brightness
        (view,); 1 for the beam of the flats.
    """

    shares: NDArray[np.float64]
    brightness: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ("shares", "brightness"):
            frozen = getattr(self, name).view()
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)

    def of_row(self, light: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the beam of every view, (view, column), from a row's flats above the dark, (frame, column)."""
        return np.asarray((self.shares @ light) * self.brightness[:, None], np.float64)


def find_illumination(
    scan: Scan, recipe: CorrectionRecipe, dark: NDArray[np.float64], good: NDArray[np.bool_]
) -> Illumination | None:
    """Find the beam of every view.

    Parameters
    ----------
    scan
        Rows from the middle of the scan, not normalised or with empty flats.
    recipe
        Which flat field, air or ring current to use.
    dark
        Mean dark, counts, (row, column).
    good
        (row, column), False where a pixel is dead or hot.

    Returns
    -------
    Illumination or None
        None where the mean flat, as it is, was asked for.

    Raises
    ------
    DataError
        What the recipe asks for is not in the scan: times of the flats, the ring's current, at least two flats; or the
        columns taken for air are not.

    References
    ----------
    V. Van Nieuwenhove, J. De Beenhouwer, F. De Carlo, L. Mancini, F. Marone, J. Sijbers, "Dynamic intensity
    normalization using eigen flat fields in X-ray imaging", Opt. Express 23, 27975 (2015), doi:10.1364/OE.23.027975.
    """
    views, frames = scan.beam.views, len(scan.flats)
    if recipe.flat_field == "mean" and recipe.air_columns_px == 0 and not recipe.ring_current:
        return None
    shares = np.full((views, frames), 1 / max(frames, 1))
    if not scan.normalised:
        if recipe.flat_field == "interpolated":
            shares = _between_groups(scan)
        elif recipe.flat_field == "components":
            shares = _by_components(scan, recipe.flat_components, dark, good)
    brightness: NDArray[np.float64] = np.ones(views)
    if recipe.ring_current:
        brightness = _by_current(scan, shares)
    found = Illumination(shares, brightness)
    if recipe.air_columns_px > 0:
        found = Illumination(shares, brightness * _by_air(scan, recipe.air_columns_px, dark, good, found))
    return found


def _between_groups(scan: Scan) -> NDArray[np.float64]:
    if scan.flat_views is None:
        raise DataError(
            "flats: flat_field = 'interpolated' needs to know when each flat was taken, and this scan does not say. "
            "Give a file that tells it, or use 'mean' or 'components'."
        )
    times, group = np.unique(scan.flat_views, return_inverse=True)
    members = np.eye(times.size)[group] / np.bincount(group)[group][:, None]
    # View v is taken between v and v + 1 projections.
    moments = np.arange(scan.beam.views) + 0.5
    weights = np.stack([np.interp(moments, times, np.eye(times.size)[k]) for k in range(times.size)], axis=1)
    return np.asarray(weights @ members.T, np.float64)


def _by_components(
    scan: Scan, components: int, dark: NDArray[np.float64], good: NDArray[np.bool_]
) -> NDArray[np.float64]:
    frames = len(scan.flats)
    if frames < 2:
        raise DataError(
            f"flats: flat_field = 'components' needs how the beam changes; {frames} flat shows none. Use 'mean'."
        )
    light = np.where(good, scan.flats.astype(np.float64) - dark, 1.0)
    mean = np.where(good, light.mean(axis=0), 1.0)
    relative = light / mean - 1
    # In the space of frames: what is found for these rows makes up the flats of any other.
    values, directions = np.linalg.eigh(np.einsum("frc,grc->fg", relative, relative))
    kept = min(components, frames - 1)
    taken = directions[:, ::-1][:, :kept] / np.sqrt(np.maximum(values[::-1][:kept], np.finfo(float).tiny))
    patterns = np.einsum("fk,frc->krc", taken, relative)
    amounts = _least_variation(scan, dark, mean, good, patterns)
    # Deviations are from the mean, so a pattern's share of the frames adds up to nothing.
    return np.asarray(1 / frames + amounts @ (taken - taken.mean(axis=0)).T, np.float64)


def _least_variation(
    scan: Scan,
    dark: NDArray[np.float64],
    mean: NDArray[np.float64],
    good: NDArray[np.bool_],
    patterns: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the amounts, (view, component), by iteratively reweighted least squares on differences along columns."""
    both = good[:, 1:] & good[:, :-1]
    slopes = np.diff(patterns, axis=2)[:, both]
    amounts = np.empty((scan.beam.views, len(patterns)))
    for view, projection in enumerate(scan.projections):
        transmission = np.maximum((projection - dark) / mean, 1 / np.maximum(mean, 1.0))
        transmission = np.where(np.isfinite(transmission), transmission, 1.0)
        # A brighter flat lowers q: q + sum w e is what is left once the flat's excess w e is taken into account.
        change = np.diff(-np.log(np.where(good, transmission, 1.0)), axis=1)[both]
        least = _LEAST_GRADIENT * float(np.median(np.abs(change))) + np.finfo(float).tiny
        found = np.zeros(len(patterns))
        for _ in range(_REWEIGHTINGS):
            weighed = slopes / np.maximum(np.abs(change + found @ slopes), least)
            found = np.asarray(np.linalg.lstsq(weighed @ slopes.T, -weighed @ change)[0], np.float64)
        amounts[view] = found
    return amounts


def _by_current(scan: Scan, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    if scan.view_current_ma is None or (scan.flat_current_ma is None and not scan.normalised):
        raise DataError(
            "scan: ring_current = true needs the storage ring's current for projections and flats, and this scan does "
            "not tell it. Use air_columns_px instead, or leave it out."
        )
    current = np.asarray(scan.view_current_ma, np.float64)
    if scan.flat_current_ma is None:
        return np.asarray(current / current.mean(), np.float64)
    return np.asarray(current / (shares @ scan.flat_current_ma), np.float64)


def _by_air(
    scan: Scan, columns: int, dark: NDArray[np.float64], good: NDArray[np.bool_], so_far: Illumination
) -> NDArray[np.float64]:
    """Return the mean transmission of every view in the outermost columns of all rows, (view,)."""
    edges = np.zeros(scan.beam.columns, bool)
    edges[:columns] = edges[-columns:] = True
    total, beam = np.zeros(scan.beam.views), np.zeros(scan.beam.views)
    for row in range(scan.rows):
        used = edges & good[row]
        if scan.normalised:
            expected = np.repeat(so_far.brightness[:, None], int(used.sum()), axis=1)
        else:
            expected = so_far.of_row(scan.flats[:, row, used].astype(np.float64) - dark[row, used])
        seen = scan.projections[:, row, used].astype(np.float64) - dark[row, used]
        if not np.all(np.isfinite(seen)):
            seen, expected = (np.where(np.isfinite(seen), values, 0.0) for values in (seen, expected))
        total += seen.sum(axis=1)
        beam += expected.sum(axis=1)
    air = np.asarray(total / np.where(beam > 0, beam, np.nan), np.float64)
    # Flats may have been exposed otherwise than all views; one view that differs from the others shows something else.
    usual = float(np.nanmedian(air)) if np.any(np.isfinite(air)) else np.nan
    odd = np.flatnonzero(~((air > usual / _BRIGHTNESS_RANGE) & (air < usual * _BRIGHTNESS_RANGE)))
    if odd.size or not 1 / _FLUX_RANGE < usual < _FLUX_RANGE:
        view = int(odd[0]) if odd.size else 0
        raise DataError(
            f"air: the outermost {columns} columns of view {view} transmit {air[view]:.3g} of the flat field, "
            f"{usual:.3g} in the middle of all views; {odd.size} of {air.size} views differ from it by more than a "
            f"factor of {_BRIGHTNESS_RANGE:g}; there is sample in them, or no beam. Give fewer air_columns_px, or 0."
        )
    return air
