"""The illumination: how the X-ray beam lights the field, frame by frame.

Takes a `BeamRecipe`, the detector's frame and the frames' times -> gives the relative light on every pixel of every
frame, 1 at the beam's centre in the first frame. The model is

    light(row, column, frame) = I(t) G(row, column) [1 + c f(row - a, column - b)],    G = exp(-4 ln 2 r^2 / w^2),

G a Gaussian of full width at half maximum w, r measured in the sample plane from the beam's centre; f the condenser's
fine structure, a Gaussian random field of unit variance and covariance exp(-r^2 / (2 size^2)) made of plane waves, so
that any slab of rows holds the same one; (a, b) its place in a frame, a drift over the scan and a shake; I the current
of the ring, which decays with its lifetime and is topped up. Frames are taken one after the other: flats, views with
flats between, flats. A shake slower than an exposure is meant; one faster than it smooths the structure, a smaller c.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from npsi_twin.recipes import Recipe, parameter
from npsi_twin.seeds import Seeds
from npsi_twin.txm.counting import Light
from npsi_twin.volumes import FloatArray

_WAVES = 256  # of the fine structure: its values are then normal to about 1 / 256 in kurtosis
_SMALLEST_LIGHT = 0.02  # a condenser leaves no pixel quite dark; keeps the random field from doing so


class BeamRecipe(Recipe):
    """How the field is lit."""

    fwhm_um: float = parameter(
        80.0,
        "full width at half maximum of the illumination, at the sample",
        unit="um",
        source="assumed: the 62 um field is lit to its edges",
        gt=0,
        le=10_000,
    )
    centre_column_um: float = parameter(
        4.0,
        "distance of the beam's centre from the middle of the detector, towards higher columns",
        unit="um",
        source="assumed",
        ge=-1000,
        le=1000,
    )
    centre_row_um: float = parameter(
        -2.0,
        "distance of the beam's centre from the middle of the detector, towards higher rows",
        unit="um",
        source="assumed",
        ge=-1000,
        le=1000,
    )
    structure_contrast: float = parameter(
        0.0,
        "fine structure of the condenser's light, relative standard deviation; 0 leaves it smooth",
        source="assumed: smooth; some per cent are seen in flats",
        ge=0,
        le=0.3,
    )
    structure_size_um: float = parameter(
        2.0, "length over which the fine structure is alike", unit="um", source="assumed", gt=0, le=1000
    )
    structure_shake_um: float = parameter(
        0.0,
        "motion of the fine structure from frame to frame, root mean square in each direction",
        unit="um",
        source="assumed: none left; 32-ID shakes its condenser to smooth it",
        ge=0,
        le=20,
    )
    structure_drift_um: float = parameter(
        0.0,
        "motion of the fine structure from the first view to the last, in each direction",
        unit="um",
        source="assumed: none",
        ge=-20,
        le=20,
    )
    lifetime_h: float = parameter(
        0.0,
        "time in which the ring's current falls to 1 / e; 0 keeps it steady",
        unit="h",
        source="assumed: steady",
        ge=0,
        le=10_000,
    )
    top_up_s: float = parameter(
        0.0,
        "time between top-ups, each back to the first current; 0 stands for none",
        unit="s",
        source="assumed: none; the APS tops up every minute or two",
        ge=0,
        le=1e6,
    )
    frame_s: float = parameter(
        1.0,
        "time from one frame to the next, readout included",
        unit="s",
        source="stated: exposures of 0.2 to 1 s at 32-ID (its documents)",
        gt=0,
        le=1e4,
    )


class Schedule(NamedTuple):
    """When frames are taken, as numbers of frames from the first one.

    Attributes
    ----------
    before
        Flats before the first view, (frames,).
    views
        Projections, (views,).
    later
        Flats between the views and after the last one, (frames,).
    """

    before: NDArray[np.int64]
    views: NDArray[np.int64]
    later: NDArray[np.int64]

    def progress(self, frames: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the time of frames from 0, the first view, to 1, the last one; flats lie beyond both ends."""
        first, last = self.views[0], self.views[-1]
        return np.asarray((frames - first) / max(int(last - first), 1), np.float64)


def schedule(views: int, flats: int, sets_between: int, flats_after: int) -> Schedule:
    """Line up the frames of a scan: flats before, as many at ``sets_between`` even gaps, ``flats_after`` at the end.

    Examples
    --------
    >>> frames = schedule(views=4, flats=2, sets_between=1, flats_after=1)
    >>> frames.before.tolist(), frames.views.tolist(), frames.later.tolist()
    ([0, 1], [2, 3, 6, 7], [4, 5, 8])
    """
    sets_before = np.arange(views) * (sets_between + 1) // views
    places = flats + np.arange(views) + flats * sets_before
    every = np.arange(views + flats * (1 + sets_between) + flats_after)
    rest = np.setdiff1d(every, places)
    return Schedule(rest[:flats], places, rest[flats:])


def illuminate(beam: BeamRecipe, shape: tuple[int, int], pixel_nm: float) -> NDArray[np.float64]:
    """Return the relative illumination of the whole detector, without fine structure.

    Parameters
    ----------
    beam
        The recipe.
    shape
        (rows, columns) of the detector.
    pixel_nm
        Detector pixel at the sample in nm.

    Returns
    -------
    numpy.ndarray
        float64 (row, column), at most 1.

    Examples
    --------
    >>> lit = illuminate(BeamRecipe(fwhm_um=10.0, centre_column_um=0.0, centre_row_um=0.0), (1, 201), 50.0)
    >>> [float(i) for i in lit[0, [0, 100, 200]].round(3)]
    [0.5, 1.0, 0.5]
    """
    rows_um, columns_um = (_places_um(n, pixel_nm) for n in shape)
    return gaussian_patch(beam.fwhm_um, rows_um - beam.centre_row_um, columns_um - beam.centre_column_um)


def gaussian_patch(
    fwhm_um: float, rows_um: NDArray[np.float64], columns_um: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return exp(-4 ln 2 r^2 / fwhm^2) on rows and columns, (row, column)."""
    scale = 4 * np.log(2) / fwhm_um**2
    # 300: a darkness of 1e-130 is dark enough, and the product of two stays a normal number.
    across = np.exp(-np.minimum(scale * columns_um**2, 300.0))
    along = np.exp(-np.minimum(scale * rows_um**2, 300.0))
    return np.asarray(along[:, None] * across[None, :], np.float64)


def _places_um(count: int, pixel_nm: float) -> NDArray[np.float64]:
    return (np.arange(count) - (count - 1) / 2) * pixel_nm / 1000


def stray_light(fraction: float, fwhm_um: float, shape: tuple[int, int], pixel_nm: float) -> NDArray[np.float64]:
    """Return the stray light on the whole detector, a broad patch on its middle, (row, column).

    Examples
    --------
    >>> float(stray_light(0.05, 40.0, (1, 3), 50.0)[0, 1].round(3))
    0.05
    """
    rows_um, columns_um = (_places_um(n, pixel_nm) for n in shape)
    return fraction * gaussian_patch(fwhm_um, rows_um, columns_um)


def steady_light(illumination: NDArray[np.floating], frames: int) -> Light:
    """Return light that no frame changes, from the relative illumination (row, column) of some detector rows.

    Examples
    --------
    >>> steady_light(np.ones((2, 5)), 3).intensity.tolist()
    [1.0, 1.0, 1.0]
    """
    smooth = np.ascontiguousarray(illumination, np.float32)
    nothing = np.zeros((0, 0), np.float32)
    still = np.zeros((frames, 2))
    return Light(smooth, np.zeros_like(smooth), nothing, 0, np.ones(frames), still, np.zeros(frames))


def light_of(
    beam: BeamRecipe,
    frames: NDArray[np.int64],
    progress: NDArray[np.float64],
    smooth: FloatArray,
    stray: FloatArray,
    rows: range,
    shape: tuple[int, int],
    pixel_nm: float,
    *,
    seeds: Seeds,
) -> Light:
    """Return the light on some detector rows in some frames.

    Parameters
    ----------
    beam
        The recipe.
    frames
        Numbers of the frames in their `Schedule`.
    progress
        Their times, see `Schedule.progress`.
    smooth, stray
        What does not move, of the same rows, (row, column).
    rows
        Detector rows.
    shape
        (rows, columns) of the whole detector.
    pixel_nm
        Detector pixel at the sample in nm.
    seeds
        Root of the random numbers; streams ``"condenser"`` and ``("condenser-shake", frame)``.

    Returns
    -------
    Light
        For `npsi_twin.txm.counting.count`.
    """
    shift_px = np.zeros((frames.size, 2))
    structure, margin = np.zeros((0, 0), np.float32), 0
    if beam.structure_contrast:
        um_per_px = pixel_nm / 1000
        shift_px += beam.structure_drift_um / um_per_px * progress[:, None]
        if beam.structure_shake_um:
            shake = [seeds.stream("condenser-shake", int(frame)).standard_normal(2) for frame in frames]
            shift_px += beam.structure_shake_um / um_per_px * np.reshape(shake, (-1, 2))
        margin = int(np.ceil(np.abs(shift_px).max(initial=0.0))) + 2
        structure = fine_structure(beam, rows, shape, margin, pixel_nm, seeds=seeds)
    return Light(smooth, stray, structure, margin, current(beam, frames), shift_px, np.clip(progress, 0.0, None))


def current(beam: BeamRecipe, frames: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the ring's current in frames over that in the first one.

    Examples
    --------
    >>> ring = BeamRecipe(lifetime_h=1.0, top_up_s=120.0, frame_s=60.0)
    >>> current(ring, np.arange(5)).round(4).tolist()
    [1.0, 0.9835, 1.0, 0.9835, 1.0]
    """
    if beam.lifetime_h == 0:
        return np.ones(frames.size)
    seconds = frames * beam.frame_s
    if beam.top_up_s:
        seconds = np.mod(seconds, beam.top_up_s)
    return np.asarray(np.exp(-seconds / (3600 * beam.lifetime_h)), np.float64)


def fine_structure(
    beam: BeamRecipe, rows: range, shape: tuple[int, int], margin: int, pixel_nm: float, *, seeds: Seeds
) -> FloatArray:
    """Return c f, the condenser's relative fine structure at rest, on some rows and a margin all round.

    Parameters
    ----------
    beam
        The recipe.
    rows
        Detector rows.
    shape
        (rows, columns) of the whole detector.
    margin
        Pixels added all round.
    pixel_nm
        Detector pixel at the sample in nm.
    seeds
        Root of the random numbers; stream ``"condenser"``.

    Returns
    -------
    FloatArray
        Float32 (row + 2 margin, column + 2 margin), above -1.

    Examples
    --------
    >>> lit = fine_structure(BeamRecipe(structure_contrast=0.05), range(400), (400, 400), 0, 200.0, seeds=Seeds(1))
    >>> bool(abs(lit.std() / 0.05 - 1) < 0.1)
    True
    """
    rng = seeds.stream("condenser")
    waves = rng.standard_normal((2, _WAVES)) / beam.structure_size_um
    phases = rng.uniform(0.0, 2 * np.pi, _WAVES)
    um = pixel_nm / 1000
    along = (np.arange(rows.start - margin, rows.stop + margin) - (shape[0] - 1) / 2) * um
    across = (np.arange(-margin, shape[1] + margin) - (shape[1] - 1) / 2) * um
    turns, further = waves[0] * along[:, None] + phases, waves[1][:, None] * across
    row_waves = np.concatenate([np.cos(turns), -np.sin(turns)], axis=1)
    column_waves = np.concatenate([np.cos(further), np.sin(further)])
    # einsum without optimize: one order of summing for any slab and any number of threads.
    field = np.einsum("rk,kc->rc", row_waves, column_waves) * np.sqrt(2 / _WAVES)
    structure: FloatArray = np.maximum(beam.structure_contrast * field, _SMALLEST_LIGHT - 1).astype(np.float32)
    return structure
