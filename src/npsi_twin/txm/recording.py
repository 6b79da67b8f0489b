"""The camera at work: mean transmission and light -> counts, with every noise of a scintillator, a lens and a sensor.

Takes transmission (view, row, column) of some detector rows, their `Light` and the camera's recipe -> gives uint16
counts of projections, flats and darks. The model, in order:

    photons N ~ Poisson(n (I T + stray)),    electrons E ~ Poisson(g r N + D) + zingers,
    counts = round(K min(E, full well) + offset + read noise),

clipped to the camera's range; n photons in the open beam, I the light, r the pixel's response, D dark electrons, g
electrons per absorbed X-ray photon, K camera units per electron. With the signal's mean m above the offset and the
dark,

    variance = K (1 + g) m + K^2 D + binning^2 (read noise^2 + 1/12)    (camera units squared).

The rounding of the single camera pixels of a bin is drawn as normal noise of variance (binning^2 - 1) / 12, only the
last rounding being real. The 1/12 holds where the noise s before rounding is not small: the error falls as exp(-2 pi^2
s^2), below 1e-5 units from a signal of about 5 units a camera pixel upwards. Noise of neighbouring pixels is
independent: the light's spread in the scintillator blurs the mean, before the photons are drawn.

Random numbers are functions of (stream, detector row, frame, column), `npsi_twin.txm.counting`: whoever records row 17
draws the same ones in every slab, thread and worker.

References
----------
H. H. Barrett and W. Swindell, "Radiological Imaging", Academic Press (1981) (cascaded Poisson processes).
EMVA Standard 1288, release 4.0 (2021), section 2 (camera model, photon transfer curve).
"""

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import IncompatibleError
from npsi_twin.projectors.contract import accepted_threads
from npsi_twin.seeds import Seeds
from npsi_twin.txm.beam import steady_light
from npsi_twin.txm.counting import Counts, Levels, Light, Pixels, Zingers, count
from npsi_twin.txm.detector import DetectorRecipe
from npsi_twin.txm.pixels import PixelPattern, pixel_pattern, zingers_of
from npsi_twin.volumes import FloatArray


def record_projections(
    transmission: FloatArray,
    light: Light,
    detector: DetectorRecipe,
    rows: range,
    *,
    seeds: Seeds,
    threads: int | None = None,
) -> Counts:
    """Record projections of some detector rows.

    Parameters
    ----------
    transmission
        Mean transmission in every pixel, (view, row, column), not negative.
    light
        Light on the same rows in these views.
    detector
        The recipe.
    rows
        Detector rows in the whole scan that the arrays hold.
    seeds
        Root of the random numbers; stream ``("photons", row)``.
    threads
        Threads to use; all when None. They change no bit.

    Returns
    -------
    Counts
        uint16 (view, row, column), camera units.

    Raises
    ------
    IncompatibleError
        If the shapes do not fit.

    Examples
    --------
    >>> camera = DetectorRecipe(rows=1, columns=100)
    >>> open_beam = np.ones((50, 1, 100), np.float32)
    >>> counts = record_projections(open_beam, steady_light(np.ones((1, 100)), 50), camera, range(1), seeds=Seeds(3))
    >>> bool(abs(np.median(counts) - (800 + 0.8 + 32)) < 3)  # K flat_electrons + K dark + offset
    True
    """
    views = transmission.shape[0]
    fits = transmission.shape == (views, len(rows), detector.columns) and light.smooth.shape == transmission.shape[1:]
    if not fits or light.intensity.size != views:
        raise IncompatibleError(
            f"record_projections: transmission is {transmission.shape}, the light {light.smooth.shape} in "
            f"{light.intensity.size} frames; (view, row, column) with {len(rows)} rows and {detector.columns} columns "
            "are needed, and light on the same rows in as many frames."
        )
    pattern = pixel_pattern(detector, rows, seeds=seeds)
    zingers = zingers_of(detector, rows, views, "projections", seeds=seeds)
    return _expose(
        transmission, light, pattern, pattern.drifted_response, detector, zingers, "photons", rows, seeds, threads
    )


def record_flats(
    before: Light, later: Light, detector: DetectorRecipe, rows: range, *, seeds: Seeds, threads: int | None = None
) -> Counts:
    """Record flats (beam on, sample out) of some detector rows.

    Parameters
    ----------
    before
        Light in the flats before the first view.
    later
        Light in those between the views and after them, when the pixels' response has changed.
    detector, rows, seeds, threads
        As for `record_projections`; streams ``("flat-photons", row)`` and ``("later-flat-photons", row)``.

    Returns
    -------
    Counts
        uint16 (frame, row, column), in the order in which they were taken.

    Examples
    --------
    >>> lit = np.ones((2, 400))
    >>> record_flats(steady_light(lit, 20), steady_light(lit, 5), DetectorRecipe(), range(4, 6), seeds=Seeds(3)).shape
    (25, 2, 400)
    """
    pattern = pixel_pattern(detector, rows, seeds=seeds)
    series = (
        ("flats", "flat-photons", before, pattern.response),
        ("later flats", "later-flat-photons", later, pattern.drifted_response),
    )
    counts = []
    for name, stream, light, response in series:
        frames = light.intensity.size
        clear = np.ones((frames, len(rows), detector.columns), np.float32)
        zingers = zingers_of(detector, rows, frames, name, seeds=seeds)
        counts.append(_expose(clear, light, pattern, response, detector, zingers, stream, rows, seeds, threads))
    return np.concatenate(counts)


def record_darks(detector: DetectorRecipe, rows: range, *, seeds: Seeds, threads: int | None = None) -> Counts:
    """Record darks (beam off) of some detector rows, from stream ``("dark", row)``.

    Parameters are those of `record_projections`; the result is uint16 (frame, row, column).

    Examples
    --------
    >>> darks = record_darks(DetectorRecipe(), range(2), seeds=Seeds(3))
    >>> darks.shape, int(np.median(darks))  # offset 4 x 8 and 0.8 units of dark signal
    ((20, 2, 400), 33)
    """
    pattern = pixel_pattern(detector, rows, seeds=seeds)
    unlit = np.zeros((detector.dark_frames, len(rows), detector.columns), np.float32)
    light = steady_light(np.zeros(unlit.shape[1:]), detector.dark_frames)
    none = Zingers(np.zeros(len(rows) + 1, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return _expose(unlit, light, pattern, pattern.response, detector, none, "dark", rows, seeds, threads)


def count_variance(signal_units: NDArray[np.float64], detector: DetectorRecipe) -> NDArray[np.float64]:
    """Return the variance of counts in one pixel from frame to frame.

    Parameters
    ----------
    signal_units
        Mean signal above the dark level, camera units, any shape.
    detector
        The recipe.

    Returns
    -------
    numpy.ndarray
        K (1 + g) signal + K^2 D + binning^2 (read noise^2 + 1/12), camera units squared.

    Notes
    -----
    For a pixel of average response that is neither hot nor saturated, and for signals from about 5 units a camera
    pixel.

    Examples
    --------
    >>> camera = DetectorRecipe(binning=1, dark_electrons=0.0)
    >>> float(count_variance(np.array(100.0), camera).round(3))  # 0.1 x 1.31 x 100 + 0.23^2 + 1/12
    13.236
    """
    gain, camera_pixels = detector.camera_units_per_electron, detector.binning**2
    shot = gain * (1 + detector.electrons_per_photon) * np.asarray(signal_units, np.float64)
    read = (gain * detector.read_noise_electrons) ** 2
    return np.asarray(shot + camera_pixels * (gain**2 * detector.dark_electrons + read + 1 / 12), np.float64)


def saturation_units(detector: DetectorRecipe) -> float:
    """Return the count from which a pixel counts as saturated: its well is full, or the converter at its end.

    Examples
    --------
    >>> saturation_units(DetectorRecipe())  # 4 camera pixels of 10 bits, filled before their wells
    4092.0
    """
    levels = levels_of(detector)
    full = levels.units_per_electron * levels.full_well_electrons + levels.offset_units
    return float(min(full - 3 * levels.noise_units, levels.full_scale_units))


def levels_of(detector: DetectorRecipe) -> Levels:
    """Return what all pixels of a camera have in common."""
    camera_pixels, gain = detector.binning**2, detector.camera_units_per_electron
    noise = camera_pixels * (gain * detector.read_noise_electrons) ** 2 + (camera_pixels - 1) / 12
    return Levels(
        detector.flat_electrons / detector.electrons_per_photon,
        camera_pixels * detector.full_well_electrons,
        gain,
        camera_pixels * detector.offset_units,
        float(np.sqrt(noise)),
        float(detector.full_scale_units),
    )


def _expose(
    seen: FloatArray,
    light: Light,
    pattern: PixelPattern,
    response: NDArray[np.float64],
    detector: DetectorRecipe,
    zingers: Zingers,
    stream: str,
    rows: range,
    seeds: Seeds,
    threads: int | None,
) -> Counts:
    """Turn what is seen (frame, row, column) into counts."""
    pixels = Pixels(
        (detector.electrons_per_photon * response).astype(np.float32),
        pattern.response_change.astype(np.float32),
        pattern.dark_electrons.astype(np.float32),
    )
    keys = np.array([seeds.stream(stream, row).integers(2**32, size=2, dtype=np.uint64) for row in rows])
    cores = accepted_threads("record", threads)
    return count(
        np.ascontiguousarray(seen, np.float32), light, pixels, levels_of(detector), zingers, keys, threads=cores
    )
