"""Image formation: line integrals on the fine grid -> transmission in detector pixels.

Takes line integrals at the fine sampling (fine row, view, fine column), with a halo of rows -> gives the mean
transmission (view, row, column). Intensities are blurred, not line integrals. The model is

    image = pixel mean of PSF * exp(-line integral),    transform of PSF = H(nu) exp(-pi^2 w^2 nu^2 / (4 ln 2)),

H what the lenses transfer (`npsi_twin.txm.objective`: absorption, and phase by one ratio of refraction to absorption)
and a Gaussian of full width at half maximum w for scintillator and lens. The pixel's aperture is the exact mean of its
fine samples. A rotation axis that leans by an angle turns every image by it: two shears, along the rows and along the
columns, exact to the angle squared.

The zone plate's line spread falls only as 2 d / (pi^3 z^2), so a slab of rows would need a halo of micrometres. The
point spread is therefore cut off along the rows at the halo's reach (`transfer_function`), and what it loses is spread
smoothly within the reach. The image of a row is then the same in every slab that holds its halo, to rounding. The
passes over the views are `npsi_twin.txm.image_kernels`'s.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from npsi_twin.errors import ParameterError
from npsi_twin.projectors.lane_fft import plan_for, smooth_length
from npsi_twin.projectors.lanes import LANES
from npsi_twin.txm.image_kernels import Blur, image_views, scratch_for
from npsi_twin.txm.objective import OpticsRecipe, objective_transfer
from npsi_twin.volumes import FloatArray

LARGEST_LOSS = 0.06
"""Largest share of the line spread that the halo may cut off before the transfer function is no longer the optics'."""

_LONG_ROWS = 2048  # rows of the grid the line spread is computed on: its own period is then 26 um and more


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
    rows: int, columns: int, pitch_nm: float, reach: int, optics: OpticsRecipe, energy_kev: float, blur_fwhm_nm: float
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
    optics
        The lenses.
    energy_kev
        Photon energy in keV.
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
    exact = objective_transfer(frequency, optics, energy_kev) * gaussian_mtf(frequency, blur_fwhm_nm)
    spread = scipy.fft.ifft(exact, axis=0).real
    distance = np.arange(reach + 1)
    flank = np.clip((distance - reach / 2) / (reach / 2 + 1), 0.0, 1.0)
    window = np.cos(np.pi / 2 * flank) ** 2
    half = spread[: reach + 1] * window[:, None]
    both_sides = np.where(distance == 0, 1.0, 2.0)
    lost = exact[0] - both_sides @ half
    if abs(lost[0]) > LARGEST_LOSS:
        raise ParameterError(
            f"microscope.halo_rows: the halo reaches {reach * pitch_nm:.0f} nm and cuts off {lost[0]:.1%} of the zone "
            f"plate's line spread; at most {LARGEST_LOSS:.0%} is allowed, else the image would not be the optics'. "
            f"Raise halo_rows (in focus the loss falls as {_tail(optics.outer_zone_width_nm):.0f} nm / reach)."
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


@dataclass(frozen=True)
class Placement:
    """Where the image of a slab falls on the detector.

    Attributes
    ----------
    row_shift_px
        Shift of the image in every view towards higher rows, in detector pixels, (views,).
    axis_tilt_rad
        Angle by which the rotation axis leans towards higher columns at higher rows.
    row_from_middle_px
        Distance of the slab's first recorded row from the middle of the detector, in rows.
    axis_column_px
        Column round which a leaning axis turns the image, at the detector's middle row.
    """

    row_shift_px: NDArray[np.float64]
    axis_tilt_rad: float = 0.0
    row_from_middle_px: float = 0.0
    axis_column_px: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether anything is not where it would be at rest."""
        return bool(np.any(self.row_shift_px)) or self.axis_tilt_rad != 0

    def largest_row_shift_px(self, columns: int) -> float:
        """Return how far rows move at most, in detector pixels."""
        lever = max(self.axis_column_px, columns - 1 - self.axis_column_px)
        return float(np.abs(self.row_shift_px).max(initial=0.0) + abs(np.tan(self.axis_tilt_rad)) * lever)


def reach_of(halo_rows: int, supersampling: int, largest_row_shift_px: float) -> int:
    """Return how many fine rows the point spread may reach so that, shifted, it stays within the halo.

    Parameters
    ----------
    halo_rows
        Detector rows of halo.
    supersampling
        Fine rows a detector row.
    largest_row_shift_px
        Largest shift along the rows in any view of the scan, in detector pixels.

    Raises
    ------
    ParameterError
        If the shift alone exceeds the halo.
    """
    reach = halo_rows * supersampling - int(np.ceil(largest_row_shift_px * supersampling))
    if reach < 0:
        raise ParameterError(
            f"microscope.halo_rows: got {halo_rows}, but run-out, drift and tilt move the image by up to "
            f"{largest_row_shift_px:.2f} rows; rows from outside the slab would come into view. Give at least "
            f"{int(np.ceil(largest_row_shift_px))} rows or less motion."
        )
    return reach


def form_image(
    line_integrals: FloatArray,
    optics: OpticsRecipe,
    *,
    energy_kev: float,
    pixel_nm: float,
    blur_fwhm_nm: float,
    supersampling: int,
    halo_rows: int,
    placement: Placement,
    threads: int = 1,
) -> FloatArray:
    """Image a slab of line integrals: attenuate, blur, shift, average over pixels.

    Parameters
    ----------
    line_integrals
        Float32 (fine row, view, fine column), halo included.
    optics
        The lenses.
    energy_kev
        Photon energy in keV.
    pixel_nm
        Detector pixel at the sample in nm.
    blur_fwhm_nm
        Full width at half maximum of the scintillator's and lens's blur, at the sample, in nm.
    supersampling
        Fine samples along a pixel's edge.
    halo_rows
        Detector rows on either side that are only there to be blurred into the others.
    placement
        Where the image falls.
    threads
        Threads to use; they change no bit.

    Returns
    -------
    FloatArray
        Mean transmission, float32 (view, row, column), without the halo; not negative.

    Raises
    ------
    ParameterError
        If the halo is too small for the optics or for the motion.

    Examples
    --------
    >>> clear = np.zeros((20, 1, 12), np.float32)
    >>> image = form_image(clear, OpticsRecipe(outer_zone_width_nm=0.0), energy_kev=8.0, pixel_nm=50.0,
    ...     blur_fwhm_nm=60.0, supersampling=2, halo_rows=4, placement=Placement(np.zeros(1)))
    >>> image.shape, bool(np.allclose(image, 1))
    ((1, 2, 6), True)
    """
    fine_rows, views, fine_columns = line_integrals.shape
    n = supersampling
    reach = reach_of(halo_rows, n, placement.largest_row_shift_px(fine_columns // n))
    image = np.empty((views, fine_rows // n - 2 * halo_rows, fine_columns // n), np.float32)
    if optics.outer_zone_width_nm == 0 and blur_fwhm_nm == 0 and not placement.moves:
        for row in range(image.shape[1]):
            first = (halo_rows + row) * n
            with np.errstate(under="ignore"):  # an opaque ray transmits 0
                fine = np.exp(-line_integrals[first : first + n].transpose(1, 0, 2))
            image[:, row : row + 1] = _average(fine, n)
        return image
    # Rows may wrap, it spoils only the halo; columns are padded with their edge, clear field unless truncated.
    rows, columns = (
        n * smooth_length(-(-least // n), multiple_of=2)
        for least in (max(fine_rows, 2 * reach + 1), fine_columns + 2 * reach)
    )
    transfer = transfer_function(rows, columns, pixel_nm / n, reach, optics, energy_kev, blur_fwhm_nm)
    left = (columns - fine_columns) // 2 // n * n
    blur = _blur_of(transfer, placement, n, halo_rows, (rows, columns), left)
    shift = np.zeros(-(-views // LANES) * LANES)
    shift[:views] = placement.row_shift_px * n
    phases = _shift_phase(shift, rows, scipy.fft.fftfreq(rows)).reshape(-1, LANES, rows)
    phases_last = np.stack([phases.real, phases.imag], axis=1).transpose(0, 3, 1, 2).reshape(len(phases), -1)
    phases_last = np.ascontiguousarray(phases_last)
    lines, ones = np.ascontiguousarray(line_integrals), np.ones(fine_columns, np.float32)
    workers = min(threads, len(phases_last))

    def work(first: int) -> None:
        image_views(first, workers, lines, phases_last, blur, ones, scratch_for(blur, image.shape[1]), image)

    if workers == 1:
        work(0)
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, range(workers)))
    return image


def _blur_of(
    transfer: FloatArray, placement: Placement, n: int, halo_rows: int, padded: tuple[int, int], left: int
) -> Blur:
    """Return what the kernels multiply by, for slabs padded to (rows, columns), ``left`` of these before the first."""
    rows, columns = padded
    pixel = _pixel(rows, rows, n)[:, None] * _pixel(columns, columns // 2 + 1, n)
    # Transforms are not normalised, and two rows that part come out twice.
    factor = (transfer * pixel / (2 * rows * columns)).T
    passed = int(np.flatnonzero(np.any(factor, axis=1))[-1]) + 1
    lean_rows, lean_columns = np.empty((0, 1), np.complex64), np.empty((0, 1), np.complex64)
    if placement.axis_tilt_rad != 0:
        slope = np.tan(placement.axis_tilt_rad)
        along = np.arange(rows) + 0.5 + (placement.row_from_middle_px - halo_rows) * n
        across = np.arange(columns) - left + 0.5 - (placement.axis_column_px + 0.5) * n
        across = np.clip(across, across[left], across[columns - 1 - left])  # the padding repeats the edge
        lean_rows = _shift_phase(-slope * across, rows, scipy.fft.rfftfreq(rows)) / np.float32(2 * rows)
        lean_columns = _shift_phase(slope * along, columns, scipy.fft.rfftfreq(columns))
    return Blur(
        n,
        left,
        halo_rows,
        plan_for(rows),
        plan_for(columns),
        plan_for(rows // n),
        plan_for(columns // n),
        _parts(factor[:passed]),
        _parts(lean_rows),
        _parts(lean_columns),
    )


def _parts(numbers: NDArray[Any]) -> FloatArray:
    """Return complex numbers as float32, real and imaginary parts along a last axis."""
    return np.ascontiguousarray(np.stack([numbers.real, numbers.imag], axis=-1), np.float32)


def _shift_phase(shift: NDArray[np.float64], length: int, frequency: NDArray[np.float64]) -> NDArray[np.complex64]:
    """Fourier phases (shift, frequency); real at the highest frequency, so that images stay real."""
    phase = np.exp(-2j * np.pi * shift[:, None] * frequency[None, :])
    if length % 2 == 0:
        phase[:, length // 2] = phase[:, length // 2].real
    return np.asarray(phase, np.complex64)


def _pixel(length: int, count: int, n: int) -> NDArray[np.complex128]:
    """Return the transform of a mean over n samples from each sample on, at the first frequencies of a length."""
    phase = 2 * np.pi * np.arange(count) / length
    return np.asarray(sum(np.exp(1j * phase * sample) for sample in range(n)) / n, np.complex128)


def _average(fine: FloatArray, supersampling: int) -> FloatArray:
    """Average (view, fine row, fine column) over square pixels; whole slices add up faster than `numpy.mean` does."""
    n = supersampling
    across = fine[:, :, 0::n].copy()
    for place in range(1, n):
        across += fine[:, :, place::n]
    pixels = across[:, 0::n].copy()
    for place in range(1, n):
        pixels += across[:, place::n]
    pixels /= np.float32(n**2)
    return pixels
