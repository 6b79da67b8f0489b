"""Image formation: transmission on the fine grid -> transmission in detector pixels.

Takes exp(-line integral) at the fine sampling (fine row, view, fine column), with a halo of rows -> gives (view, row,
column). Intensities are blurred, not line integrals. The model is incoherent: image = PSF * transmission, with

    H(nu) = (2 / pi) [acos s - s sqrt(1 - s^2)],  s = |nu| d,   times   exp(-pi^2 w^2 nu^2 / (4 ln 2)),

the optical transfer function of a circular zone plate of outermost zone width d (cut-off 1/d = 2 NA / lambda), and a
Gaussian of full width at half maximum w for scintillator and lens. The pixel's aperture is the exact mean of its fine
samples. It holds while the sample is thinner than the depth of field 4 d^2 / lambda and lit by a matched condenser;
phase fringes and stray light are not modelled.

The zone plate's line spread falls only as 2 d / (pi^3 z^2), so a slab of rows would need a halo of micrometres. The
point spread is therefore cut off along the rows at the halo's reach (`transfer_function`), and what it loses is spread
smoothly within the reach. The image of a row is then the same in every slab that holds its halo, to rounding.

References
----------
J. W. Goodman, "Introduction to Fourier Optics", 3rd ed., Roberts & Co. (2005), section 6.3 (incoherent OTF of a
circular pupil). D. Attwood, "Soft X-Rays and Extreme Ultraviolet Radiation", Cambridge (1999), chapter 9 (zone plates),
doi:10.1017/CBO9781139164429.
"""

from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from npsi_twin.errors import ParameterError
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.volumes import FloatArray

HC_KEV_NM = 1.239841984
"""Planck's constant times the speed of light, keV nm (CODATA 2018)."""

LARGEST_LOSS = 0.06
"""Largest share of the line spread that the halo may cut off before the transfer function is no longer the optics'."""

_LONG_ROWS = 2048  # rows of the grid the line spread is computed on: its own period is then 26 um and more
_CHUNK_BYTES = 32 * 2**20  # of padded float32 views transformed together; a constant, so results depend on nothing else


class OpticsRecipe(Recipe):
    """The objective."""

    outer_zone_width_nm: float = parameter(
        60.0,
        "outermost zone width of the zone plate; 0 stands for an objective without diffraction",
        unit="nm",
        source="stated (Zhao et al. 2018, section 2.4)",
        ge=0,
        le=1000,
    )


def depth_of_field_um(outer_zone_width_nm: float, energy_kev: float) -> float:
    """Return the depth of field 4 d^2 / lambda of a zone plate.

    Parameters
    ----------
    outer_zone_width_nm
        Outermost zone width d in nm.
    energy_kev
        Photon energy in keV.

    Returns
    -------
    float
        Depth of field in um.

    Examples
    --------
    >>> round(depth_of_field_um(60.0, 8.0), 1)
    92.9
    """
    return 4 * outer_zone_width_nm**2 * energy_kev / HC_KEV_NM / 1000


def zone_plate_otf(frequency_per_nm: NDArray[np.float64], outer_zone_width_nm: float) -> NDArray[np.float64]:
    """Return the incoherent optical transfer function of a zone plate with a matched condenser.

    Parameters
    ----------
    frequency_per_nm
        Spatial frequency in periods per nm, any shape.
    outer_zone_width_nm
        Outermost zone width in nm; 0 gives 1 everywhere.

    Returns
    -------
    numpy.ndarray
        Transfer, 1 at frequency 0, 0 beyond the cut-off.

    Examples
    --------
    >>> zone_plate_otf(1 / np.array([300.0, 120.0, 60.0]), 60.0).round(2)
    array([0.75, 0.39, 0.  ])
    """
    s = np.minimum(np.abs(frequency_per_nm) * outer_zone_width_nm, 1.0)
    return np.asarray((2 / np.pi) * (np.arccos(s) - s * np.sqrt(1 - s**2)), np.float64)


def gaussian_mtf(frequency_per_nm: NDArray[np.float64], fwhm_nm: float) -> NDArray[np.float64]:
    """Return the modulation transfer of a Gaussian blur.

    Parameters
    ----------
    frequency_per_nm
        Spatial frequency in periods per nm, any shape.
    fwhm_nm
        Full width at half maximum of the blur in nm; 0 gives 1 everywhere.

    Examples
    --------
    >>> gaussian_mtf(np.array([0.01]), 0.0)
    array([1.])
    """
    exponent = np.pi**2 / (4 * np.log(2)) * (np.asarray(frequency_per_nm) * fwhm_nm) ** 2
    return np.asarray(np.exp(-np.minimum(exponent, 700.0)), np.float64)  # 700: where a float64 ends


@lru_cache(maxsize=4)
def transfer_function(
    rows: int, columns: int, pitch_nm: float, reach: int, outer_zone_width_nm: float, blur_fwhm_nm: float
) -> FloatArray:
    """Return the blur's transfer function for a slab, with its point spread cut off along the rows.

    Parameters
    ----------
    rows, columns
        Size of the transformed slab, fine rows and columns; rows must hold 2 ``reach`` + 1.
    pitch_nm
        Fine sampling in nm.
    reach
        Rows that the point spread may reach to either side.
    outer_zone_width_nm
        Outermost zone width of the zone plate in nm.
    blur_fwhm_nm
        Full width at half maximum of the Gaussian blur in nm.

    Returns
    -------
    FloatArray
        Real transfer (row frequency, column frequency), for ``rfft`` along columns and ``fft`` along rows.

    Raises
    ------
    ParameterError
        If the cut loses more than `LARGEST_LOSS` of the line spread.

    Notes
    -----
    The line spread along the rows, one for every column frequency, is multiplied by a window that is 1 up to half of
    the reach and falls to 0 as a raised cosine. Where the transfer is smooth this changes nothing; its cusp at zero
    frequency loses the share of the spread that lies outside. That share is put back under the window, so that the
    transfer at zero row frequency is exact and the point spread stays positive; what is left is a difference of at
    most that share, at periods longer than the reach.
    """
    along = scipy.fft.fftfreq(_LONG_ROWS, pitch_nm)[:, None]
    across = scipy.fft.rfftfreq(columns, pitch_nm)[None, :]
    frequency = np.hypot(along, across)
    exact = zone_plate_otf(frequency, outer_zone_width_nm) * gaussian_mtf(frequency, blur_fwhm_nm)
    spread = scipy.fft.ifft(exact, axis=0).real
    distance = np.arange(reach + 1)
    flank = np.clip((distance - reach / 2) / (reach / 2 + 1), 0.0, 1.0)
    window = np.cos(np.pi / 2 * flank) ** 2
    half = spread[: reach + 1] * window[:, None]
    both_sides = np.where(distance == 0, 1.0, 2.0)
    lost = exact[0] - both_sides @ half
    if lost[0] > LARGEST_LOSS:
        raise ParameterError(
            f"microscope.halo_rows: the halo reaches {reach * pitch_nm:.0f} nm and cuts off {lost[0]:.1%} of the zone "
            f"plate's line spread; at most {LARGEST_LOSS:.0%} is allowed, else the image would be sharper than the "
            f"optics. Raise halo_rows (the loss falls as {_tail(outer_zone_width_nm):.0f} nm / reach)."
        )
    half += window[:, None] / (both_sides @ window) * lost
    kernel = np.zeros((rows, across.size))
    kernel[: reach + 1] = half
    kernel[rows - reach :] = half[:0:-1]
    double = scipy.fft.fft(kernel, axis=0).real
    double[np.abs(double) < 1e-9] = 0.0  # below float32's rounding of 1; keeps subnormal numbers out
    transfer: FloatArray = double.astype(np.float32)
    transfer.flags.writeable = False
    return transfer


def _tail(outer_zone_width_nm: float) -> float:
    """Length c such that the window, which ends at 3/4 of the reach on average, loses c / reach of the spread."""
    return 2 * 2 * outer_zone_width_nm / np.pi**3 / 0.75


def reach_of(halo_rows: int, supersampling: int, row_shift_px: NDArray[np.float64]) -> int:
    """Return how many fine rows the point spread may reach so that, shifted by run-out, it stays within the halo.

    Parameters
    ----------
    halo_rows
        Detector rows of halo.
    supersampling
        Fine rows a detector row.
    row_shift_px
        Shift along the rows of all views of the scan, in detector pixels.

    Raises
    ------
    ParameterError
        If the run-out alone exceeds the halo.
    """
    largest = float(np.abs(row_shift_px).max(initial=0.0))
    reach = halo_rows * supersampling - int(np.ceil(largest * supersampling))
    if reach < 0:
        raise ParameterError(
            f"microscope.halo_rows: got {halo_rows}, but run-out moves the image by up to {largest:.2f} rows; rows "
            f"from outside the slab would come into view. Give at least {int(np.ceil(largest))} rows or less run-out."
        )
    return reach


def form_image(
    transmission: FloatArray,
    optics: OpticsRecipe,
    *,
    pixel_nm: float,
    blur_fwhm_nm: float,
    supersampling: int,
    halo_rows: int,
    row_shift_px: NDArray[np.float64],
) -> FloatArray:
    """Image a slab of transmissions: blur, shift along the rows, average over pixels.

    Parameters
    ----------
    transmission
        exp(-line integral), float32 (fine row, view, fine column), halo included.
    optics
        The objective.
    pixel_nm
        Detector pixel at the sample in nm.
    blur_fwhm_nm
        Full width at half maximum of the scintillator's and lens's blur, at the sample, in nm.
    supersampling
        Fine samples along a pixel's edge.
    halo_rows
        Detector rows on either side that are only there to be blurred into the others.
    row_shift_px
        Shift of the image in every view towards higher rows, in detector pixels, (views,).

    Returns
    -------
    FloatArray
        float32 (view, row, column), without the halo.

    Raises
    ------
    ParameterError
        If the halo is too small for the optics or for the run-out.

    Examples
    --------
    >>> clear = np.ones((20, 1, 12), np.float32)
    >>> image = form_image(clear, OpticsRecipe(outer_zone_width_nm=0.0), pixel_nm=50.0, blur_fwhm_nm=60.0,
    ...     supersampling=2, halo_rows=4, row_shift_px=np.zeros(1))
    >>> image.shape, bool(np.allclose(image, 1))
    ((1, 2, 6), True)
    """
    reach = reach_of(halo_rows, supersampling, row_shift_px)
    fine_rows, views, fine_columns = transmission.shape
    pitch_nm = pixel_nm / supersampling
    inner = slice(halo_rows * supersampling, fine_rows - halo_rows * supersampling)
    if optics.outer_zone_width_nm == 0 and blur_fwhm_nm == 0 and not np.any(row_shift_px):
        return _average(transmission[inner].transpose(1, 0, 2), supersampling)
    # Rows may wrap, it spoils only the halo; columns are padded with their edge, clear field unless truncated.
    rows = scipy.fft.next_fast_len(max(fine_rows, 2 * reach + 1))
    columns = scipy.fft.next_fast_len(fine_columns + 2 * reach, real=True)
    left = (columns - fine_columns) // 2
    transfer = transfer_function(rows, columns, pitch_nm, reach, optics.outer_zone_width_nm, blur_fwhm_nm)
    phase = _shift_phase(row_shift_px * supersampling, rows)
    image = np.empty((views, (inner.stop - inner.start) // supersampling, fine_columns // supersampling), np.float32)
    chunk = max(1, _CHUNK_BYTES // (4 * rows * columns))
    for start in range(0, views, chunk):
        now = slice(start, min(start + chunk, views))
        padded = np.pad(
            transmission[:, now].transpose(1, 0, 2),
            ((0, 0), (0, rows - fine_rows), (left, columns - fine_columns - left)),
            mode="edge",
        )
        spectrum = scipy.fft.fft(scipy.fft.rfft(padded, axis=2), axis=1, overwrite_x=True)
        spectrum *= transfer
        if np.any(row_shift_px[now]):
            spectrum *= phase[now, :, None]
        blurred = scipy.fft.irfft(
            scipy.fft.ifft(spectrum, axis=1, overwrite_x=True)[:, inner], n=columns, axis=2, overwrite_x=True
        )
        image[now] = _average(blurred[:, :, left : left + fine_columns], supersampling)
    return image


def _shift_phase(shift: NDArray[np.float64], rows: int) -> NDArray[np.complex64]:
    """Fourier phases (view, row frequency) that shift rows; real at the highest frequency, so that images stay real."""
    phase = np.exp(-2j * np.pi * shift[:, None] * scipy.fft.fftfreq(rows)[None, :])
    if rows % 2 == 0:
        phase[:, rows // 2] = phase[:, rows // 2].real
    return np.asarray(phase, np.complex64)


def _average(fine: FloatArray, supersampling: int) -> FloatArray:
    """Average (view, fine row, fine column) over square pixels."""
    views, rows, columns = fine.shape
    n = supersampling
    blocks = fine.reshape(views, rows // n, n, columns // n, n)
    return np.asarray(blocks.mean(axis=(2, 4), dtype=np.float32), np.float32)
