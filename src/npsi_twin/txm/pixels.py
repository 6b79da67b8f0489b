"""The camera's faults: what differs from pixel to pixel, and what hits single pixels.

Takes a `DetectorRecipe` and detector rows -> gives the `PixelPattern` of these rows, the same in every frame of a scan,
and the zingers of a series of frames. The model of a pixel's response at the time t, 0 at the first view and 1 at the
last, is

    flats before the views: 1 + p,    afterwards: (1 + p) (1 + d) (1 + c t),

p the photo-response, d the change between flats and projections that makes rings, c that of the few drifting pixels;
dead pixels have none. Zingers hit any pixel of any frame with one probability and leave an exponentially distributed
charge. Streams are named by the detector row, so whoever works on row 17 finds the same faults in every slab.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from npsi_twin.seeds import Seeds
from npsi_twin.txm.counting import Zingers
from npsi_twin.txm.detector import DetectorRecipe


@dataclass(frozen=True)
class PixelPattern:
    """The fixed pattern of some detector rows, every array (row, column).

    Attributes
    ----------
    response
        Relative response in the flats before the first view, 0 where dead.
    drifted_response
        The same from the first view on.
    response_change
        What the response changes by from the first view to the last, relative.
    dark_electrons
        Mean dark signal in one exposure in electrons.
    dead, hot, drifting
        True where a pixel sees no light, has a large dark signal, or drifts during the scan.
    """

    response: NDArray[np.float64]
    drifted_response: NDArray[np.float64]
    response_change: NDArray[np.float64]
    dark_electrons: NDArray[np.float64]
    dead: NDArray[np.bool_]
    hot: NDArray[np.bool_]
    drifting: NDArray[np.bool_]

    def __post_init__(self) -> None:
        for field in fields(self):
            frozen = getattr(self, field.name).view()
            frozen.flags.writeable = False
            object.__setattr__(self, field.name, frozen)


def pixel_pattern(detector: DetectorRecipe, rows: range, *, seeds: Seeds) -> PixelPattern:
    """Return the fixed pattern of some detector rows.

    Parameters
    ----------
    detector
        The recipe.
    rows
        Detector rows in the whole scan.
    seeds
        Root of the random numbers; one stream a row for each of response, drift, dead, hot and drifting pixels.

    Returns
    -------
    PixelPattern
        Arrays (row, column).

    Examples
    --------
    >>> pixels = pixel_pattern(DetectorRecipe(dead_pixel_fraction=0.0), range(7, 8), seeds=Seeds(1))
    >>> bool(abs(pixels.response.std() - 0.01) < 0.002)  # 400 draws: 0.01 +- 0.01 / sqrt(800)
    True
    """
    shape = (len(rows), detector.columns)
    normal, gain, alive_draw, hot_draw = np.empty((4, *shape))
    moving, sign = np.ones(shape), np.zeros(shape)
    for i, row in enumerate(rows):
        normal[i] = seeds.stream("photo-response", row).standard_normal(detector.columns)
        gain[i] = seeds.stream("gain-drift", row).standard_normal(detector.columns)
        alive_draw[i] = seeds.stream("dead-pixels", row).random(detector.columns)
        hot_draw[i] = seeds.stream("hot-pixels", row).random(detector.columns)
        if detector.drifting_pixel_fraction:
            rng = seeds.stream("drifting-pixels", row)
            moving[i] = rng.random(detector.columns)
            sign[i] = np.where(rng.random(detector.columns) < 0.5, -1.0, 1.0)
    dead = alive_draw < detector.dead_pixel_fraction
    hot = hot_draw < detector.hot_pixel_fraction
    drifting = moving < detector.drifting_pixel_fraction
    response = np.maximum(1 + detector.photo_response_spread * normal, 0.0) * ~dead
    dark = np.where(hot, detector.hot_pixel_electrons, 0.0) + detector.binning**2 * detector.dark_electrons
    return PixelPattern(
        response=response,
        drifted_response=response * np.maximum(1 + detector.gain_drift_spread * gain, 0.0),
        response_change=np.where(drifting, sign * detector.drifting_pixel_change, 0.0),
        dark_electrons=dark,
        dead=dead,
        hot=hot,
        drifting=drifting,
    )


def zingers_of(detector: DetectorRecipe, rows: range, frames: int, series: str, *, seeds: Seeds) -> Zingers:
    """Return the zingers of a series of frames on some detector rows.

    Parameters
    ----------
    detector
        The recipe.
    rows
        Detector rows in the whole scan.
    frames
        Frames of the series.
    series
        Name of the series, ``"projections"``, ``"flats"`` or ``"later flats"``.
    seeds
        Root of the random numbers; stream ``("zingers in <series>", row)``.

    Returns
    -------
    Zingers
        Places and charges, row by row.

    Examples
    --------
    >>> camera = DetectorRecipe(columns=1000, zinger_fraction=1e-3)
    >>> hits = zingers_of(camera, range(2), 500, "projections", seeds=Seeds(1))
    >>> bool(abs(hits.place.size - 1000) < 4.5 * 1000**0.5)
    True
    """
    pixels = frames * detector.columns
    places, charges = [np.zeros(0, np.int64)], [np.zeros(0)]
    for row in rows if detector.zinger_fraction else ():
        rng = seeds.stream(f"zingers in {series}", row)
        hits = int(rng.binomial(pixels, detector.zinger_fraction))
        places.append(np.sort(rng.choice(pixels, hits, replace=False)))
        charges.append(rng.exponential(detector.zinger_electrons, hits))
    counts = [place.size for place in places[1:]] or [0] * len(rows)
    return Zingers(np.concatenate([[0], np.cumsum(counts)]), np.concatenate(places), np.concatenate(charges))
