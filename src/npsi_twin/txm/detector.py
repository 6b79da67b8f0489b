"""The camera: mean transmission -> counts, with every noise that a scintillator, a lens and a CMOS sensor add.

Takes transmission (view, row, column) of some detector rows -> gives uint16 counts of projections, flats and darks. A
detector pixel is ``binning`` x ``binning`` camera pixels whose conversions are summed after digitisation, so full well,
offset and full scale are binning^2 times, and read noise ``binning`` times, those of one camera pixel. The model, in
order:

    photons N ~ Poisson(n I T),    electrons E ~ Poisson(g r N + D),
    counts = round(K min(E, full well) + offset + read noise),

clipped to the camera's range; n photons in the open beam, I the illumination, r the pixel's response, D dark electrons,
g electrons per absorbed X-ray photon, K camera units per electron. With the signal's mean m above the offset and the
dark,

    variance = K (1 + g) m + K^2 D + binning^2 (read noise^2 + 1/12)    (camera units squared).

The rounding of the single camera pixels of a bin is drawn as normal noise of variance (binning^2 - 1) / 12, only the
last rounding being real. The 1/12 holds where the noise s before rounding is not small: the error falls as exp(-2 pi^2
s^2), below 1e-5 units from a signal of about 5 units a camera pixel upwards.

Random streams are named by the detector row, not by the view: the slab of rows is the unit of work, so whoever records
row 17 draws the same numbers in every slab, thread and worker.

References
----------
H. H. Barrett and W. Swindell, "Radiological Imaging", Academic Press (1981) (cascaded Poisson processes).
EMVA Standard 1288, release 4.0 (2021), section 2 (camera model, photon transfer curve).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.seeds import Seeds
from npsi_twin.volumes import FloatArray

Counts = NDArray[np.uint16]

_IMX250 = "inferred: Sony IMX250 camera of 32-ID-C, figure from the sensor's EMVA data as remembered"


class DetectorRecipe(Recipe):
    """The camera and its exposure."""

    rows: int = parameter(
        160,
        "recorded detector rows, after binning",
        unit="detector pixels",
        source="assumed: a quick crop",
        ge=1,
        le=65_536,
    )
    columns: int = parameter(
        400,
        "recorded detector columns, after binning",
        unit="detector pixels",
        source="assumed: a quick crop",
        ge=2,
        le=65_536,
    )
    camera_pixel_nm: float = parameter(
        25.4,
        "camera pixel demagnified to the sample, before binning; proportional to the energy at a fixed camera distance",
        unit="nm",
        source="inferred: the stated 52 x 62 um field is 2048 x 2448 pixels",
        gt=0,
        le=10_000,
    )
    binning: int = parameter(
        2,
        "camera pixels summed along each edge of a detector pixel, after digitisation",
        source="assumed: 2 x 2, as TomoBank advises for this microscope",
        ge=1,
        le=8,
    )
    blur_fwhm_px: float = parameter(
        1.2,
        "blur of scintillator and lens, full width at half maximum of a Gaussian",
        unit="camera pixels",
        source="inferred: 1.3 um resolving power of the 5x lens at 1.17 um pixels",
        ge=0,
        le=20,
    )
    flat_electrons: float = parameter(
        8000.0,
        "mean electrons in a detector pixel at the centre of the open beam",
        unit="electrons",
        source="assumed: 2000 in a camera pixel",
        gt=0,
        le=1e8,
    )
    electrons_per_photon: float = parameter(
        0.31,
        "electrons per absorbed X-ray photon; proportional to the energy",
        source="inferred: LuAG scintillator, NA 0.21, 8 keV",
        gt=0,
        le=1000,
    )
    camera_units_per_electron: float = parameter(
        0.1,
        "gain of the camera",
        unit="camera units per electron",
        source="inferred: full well over 10 bits",
        gt=0,
        le=100,
    )
    read_noise_electrons: float = parameter(
        2.3, "read noise of a camera pixel, root mean square", unit="electrons", source=_IMX250, ge=0, le=1000
    )
    dark_electrons: float = parameter(
        2.0,
        "dark signal of a camera pixel in one exposure",
        unit="electrons",
        source="assumed: exposures of about a second",
        ge=0,
        le=1e6,
    )
    offset_units: float = parameter(
        8.0, "black level of a camera pixel", unit="camera units", source="assumed", ge=0, le=10_000
    )
    full_well_electrons: float = parameter(
        10_400.0, "full well of a camera pixel", unit="electrons", source=_IMX250, gt=0, le=1e7
    )
    bit_depth: int = parameter(
        10, "bits of the camera's converter", unit="bits", source="stated (documentation of 32-ID)", ge=4, le=16
    )
    photo_response_spread: float = parameter(
        0.01,
        "fixed spread of the pixels' response, the same in flats and projections, relative standard deviation",
        source="assumed: of the order of CMOS sensors",
        ge=0,
        le=0.2,
    )
    gain_drift_spread: float = parameter(
        0.003,
        "spread of the change of the pixels' response between flats and projections (the source of rings), relative",
        source="assumed: 0.1 to 1 %",
        ge=0,
        le=0.2,
    )
    dead_pixel_fraction: float = parameter(
        1e-4, "share of detector pixels that see no light", source="assumed", ge=0, le=0.05
    )
    hot_pixel_fraction: float = parameter(
        1e-4, "share of detector pixels with a large dark signal", source="assumed", ge=0, le=0.05
    )
    hot_pixel_electrons: float = parameter(
        4000.0,
        "additional dark signal of a hot detector pixel in one exposure",
        unit="electrons",
        source="assumed",
        ge=0,
        le=1e8,
    )
    flat_frames: int = parameter(
        20, "frames taken with the beam on and the sample out", source="stated (10 to 20, TomoBank)", ge=1, le=1000
    )
    dark_frames: int = parameter(
        20, "frames taken with the beam off", source="assumed: as many as flats", ge=1, le=1000
    )

    @property
    def pixel_nm(self) -> float:
        """Detector pixel at the sample in nm, after binning."""
        return self.camera_pixel_nm * self.binning

    @property
    def full_scale_units(self) -> int:
        """Largest count of a detector pixel."""
        return int(self.binning**2 * (2**self.bit_depth - 1))

    @model_validator(mode="after")
    def _open_beam_fits(self) -> Self:
        camera_pixels = self.binning**2
        electrons = self.flat_electrons + camera_pixels * self.dark_electrons
        if electrons > camera_pixels * self.full_well_electrons:
            raise ParameterError(
                f"detector.flat_electrons: got {self.flat_electrons:g} electrons, {electrons:g} with the dark signal; "
                f"at most {camera_pixels * self.full_well_electrons:g} fit into the full wells of {camera_pixels} "
                "camera pixel(s). The open beam would saturate every flat. Lower flat_electrons or bin more."
            )
        level = self.camera_units_per_electron * electrons + camera_pixels * self.offset_units
        if level > self.full_scale_units:
            raise ParameterError(
                f"detector.flat_electrons: the open beam gives {level:.0f} camera units; at most "
                f"{self.full_scale_units} can be written ({camera_pixels} camera pixel(s) of {self.bit_depth} bits). "
                "Lower flat_electrons, camera_units_per_electron or offset_units, or raise bit_depth."
            )
        if self.full_scale_units > np.iinfo(np.uint16).max:
            raise ParameterError(
                f"detector.bit_depth: {self.bit_depth} bits summed over {camera_pixels} camera pixel(s) reach "
                f"{self.full_scale_units}; scan files hold 16 bits (65535). Lower bit_depth or binning."
            )
        return self


@dataclass(frozen=True)
class PixelRow:
    """The fixed pattern of one detector row.

    Attributes
    ----------
    response
        Relative response of every pixel, 0 where dead, (columns,).
    drifted_response
        The same when the projections are taken, after the flats, (columns,).
    dark_electrons
        Mean dark signal in one exposure in electrons, (columns,).
    """

    response: NDArray[np.float64]
    drifted_response: NDArray[np.float64]
    dark_electrons: NDArray[np.float64]


def pixel_row(detector: DetectorRecipe, row: int, *, seeds: Seeds) -> PixelRow:
    """Return the fixed pattern of a detector row, the same in every frame of a scan.

    Parameters
    ----------
    detector
        The recipe.
    row
        Detector row in the whole scan.
    seeds
        Root of the random numbers; one stream a row for each of response, drift, dead and hot pixels.

    Examples
    --------
    >>> pixels = pixel_row(DetectorRecipe(dead_pixel_fraction=0.0), 7, seeds=Seeds(1))
    >>> bool(abs(pixels.response.std() - 0.01) < 0.002)  # 400 draws: 0.01 +- 0.01 / sqrt(800)
    True
    """
    n = detector.columns
    response = 1 + detector.photo_response_spread * seeds.stream("photo-response", row).standard_normal(n)
    drift = 1 + detector.gain_drift_spread * seeds.stream("gain-drift", row).standard_normal(n)
    alive = seeds.stream("dead-pixels", row).random(n) >= detector.dead_pixel_fraction
    hot = seeds.stream("hot-pixels", row).random(n) < detector.hot_pixel_fraction
    response = np.maximum(response, 0.0) * alive
    dark = np.where(hot, detector.hot_pixel_electrons, 0.0) + detector.binning**2 * detector.dark_electrons
    return PixelRow(response, response * np.maximum(drift, 0.0), dark)


def record_projections(
    transmission: FloatArray,
    illumination: NDArray[np.float64],
    detector: DetectorRecipe,
    rows: range,
    *,
    seeds: Seeds,
) -> Counts:
    """Record projections of some detector rows.

    Parameters
    ----------
    transmission
        Mean transmission in every pixel, (view, row, column), not negative.
    illumination
        Relative illumination of the same rows, (row, column).
    detector
        The recipe.
    rows
        Detector rows in the whole scan that the arrays hold.
    seeds
        Root of the random numbers; stream ``("photons", row)``.

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
    >>> counts = record_projections(open_beam, np.ones((1, 100)), camera, range(1), seeds=Seeds(3))
    >>> bool(abs(np.median(counts) - (800 + 0.8 + 32)) < 3)  # K flat_electrons + K dark + offset
    True
    """
    views = transmission.shape[0]
    if transmission.shape != (views, len(rows), detector.columns) or illumination.shape != transmission.shape[1:]:
        raise IncompatibleError(
            f"record_projections: transmission is {transmission.shape} and illumination {illumination.shape}; "
            f"(view, row, column) with {len(rows)} rows and {detector.columns} columns are needed."
        )
    counts = np.empty(transmission.shape, np.uint16)
    for i, row in enumerate(rows):
        pixels = pixel_row(detector, row, seeds=seeds)
        seen = transmission[:, i] * illumination[i]
        rng = seeds.stream("photons", row)
        counts[:, i] = _expose(seen, pixels.drifted_response, pixels.dark_electrons, detector, rng)
    return counts


def record_flats(illumination: NDArray[np.float64], detector: DetectorRecipe, rows: range, *, seeds: Seeds) -> Counts:
    """Record flats (beam on, sample out) of some detector rows, from stream ``("flat-photons", row)``.

    Parameters are those of `record_projections`; the result is uint16 (frame, row, column).

    Examples
    --------
    >>> record_flats(np.ones((2, 400)), DetectorRecipe(), range(4, 6), seeds=Seeds(3)).shape
    (20, 2, 400)
    """
    counts = np.empty((detector.flat_frames, len(rows), detector.columns), np.uint16)
    for i, row in enumerate(rows):
        pixels = pixel_row(detector, row, seeds=seeds)
        seen = np.broadcast_to(illumination[i], (detector.flat_frames, detector.columns))
        rng = seeds.stream("flat-photons", row)
        counts[:, i] = _expose(seen, pixels.response, pixels.dark_electrons, detector, rng)
    return counts


def record_darks(detector: DetectorRecipe, rows: range, *, seeds: Seeds) -> Counts:
    """Record darks (beam off) of some detector rows, from stream ``("dark", row)``.

    Parameters are those of `record_projections`; the result is uint16 (frame, row, column).

    Examples
    --------
    >>> darks = record_darks(DetectorRecipe(), range(2), seeds=Seeds(3))
    >>> darks.shape, int(np.median(darks))  # offset 4 x 8 and 0.8 units of dark signal
    ((20, 2, 400), 33)
    """
    counts = np.empty((detector.dark_frames, len(rows), detector.columns), np.uint16)
    for i, row in enumerate(rows):
        pixels = pixel_row(detector, row, seeds=seeds)
        unlit = np.zeros((detector.dark_frames, detector.columns))
        counts[:, i] = _expose(unlit, pixels.response, pixels.dark_electrons, detector, seeds.stream("dark", row))
    return counts


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


def _expose(
    seen: NDArray[np.floating],
    response: NDArray[np.float64],
    dark_electrons: NDArray[np.float64],
    detector: DetectorRecipe,
    rng: np.random.Generator,
) -> Counts:
    """Turn relative intensity (frame, column) of one row into counts."""
    camera_pixels, gain = detector.binning**2, detector.camera_units_per_electron
    yields = detector.electrons_per_photon * response
    photons = rng.poisson(seen * (detector.flat_electrons / detector.electrons_per_photon))
    # Poisson of a sum of means is the sum of Poisson draws: signal and dark electrons in one.
    electrons = rng.poisson(photons * yields + dark_electrons)
    charge = np.minimum(electrons, camera_pixels * detector.full_well_electrons)
    read = camera_pixels * (gain * detector.read_noise_electrons) ** 2 + (camera_pixels - 1) / 12
    level = gain * charge + camera_pixels * detector.offset_units + np.sqrt(read) * rng.standard_normal(seen.shape)
    return np.asarray(np.clip(np.rint(level), 0, detector.full_scale_units), np.uint16)
