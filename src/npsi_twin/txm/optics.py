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
smoothly within the reach. The image of a row is then the same in every slab that holds its halo, to rounding.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from numba import njit
from numpy.typing import NDArray

from npsi_twin.errors import ParameterError
from npsi_twin.txm.objective import OpticsRecipe, objective_transfer
from npsi_twin.volumes import FloatArray

LARGEST_LOSS = 0.06
"""Largest share of the line spread that the halo may cut off before the transfer function is no longer the optics'."""

_LONG_ROWS = 2048  # rows of the grid the line spread is computed on: its own period is then 26 um and more
_CHUNK_BYTES = 2 * 2**20  # of padded float32 views that a thread transforms together, so that they stay in its cache


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
    reach = reach_of(halo_rows, supersampling, placement.largest_row_shift_px(fine_columns // supersampling))
    inner = slice(halo_rows * supersampling, fine_rows - halo_rows * supersampling)
    image = np.empty((views, (inner.stop - inner.start) // supersampling, fine_columns // supersampling), np.float32)
    sharp = optics.outer_zone_width_nm == 0 and blur_fwhm_nm == 0 and not placement.moves
    # Rows may wrap, it spoils only the halo; columns are padded with their edge, clear field unless truncated.
    n = supersampling
    rows = n * scipy.fft.next_fast_len(-(-max(fine_rows, 2 * reach + 1) // n))
    columns = n * scipy.fft.next_fast_len(-(-(fine_columns + 2 * reach) // n), real=True)
    left = (columns - fine_columns) // 2 // n * n
    turn = _Turn.of(placement, n, halo_rows, (rows, columns), left)
    factor = np.zeros((0, 0), np.complex64)
    if not sharp:
        transfer = transfer_function(rows, columns, pixel_nm / n, reach, optics, energy_kev, blur_fwhm_nm)
        pixel = _pixel(rows, rows, n)[:, None] * _pixel(columns, columns // 2 + 1, n)
        factor = (transfer * pixel).astype(np.complex64)

    def work(start: int) -> None:
        now = slice(start, min(start + chunk, views))
        with np.errstate(under="ignore"):  # an opaque ray transmits 0
            padded = np.empty((now.stop - now.start, rows, columns), np.float32)
            seen = padded[:, :fine_rows, left : left + fine_columns]
            np.negative(line_integrals[:, now].transpose(1, 0, 2), out=seen)
            np.exp(seen, out=seen)
            if sharp:
                image[now] = _average(seen[:, inner], n)
                return
            padded[:, :fine_rows, :left] = seen[:, :, :1]
            padded[:, :fine_rows, left + fine_columns :] = seen[:, :, -1:]
            padded[:, fine_rows:] = padded[:, fine_rows - 1 : fine_rows]
            spectrum = scipy.fft.fft(turn.columns_to_frequency(padded), axis=1, overwrite_x=True)
            coarse = np.empty((len(padded), rows // n, columns // 2 + 1), np.complex64)
            _fold_rows(spectrum, factor, turn.row_phase[now], coarse)
            coarse = scipy.fft.ifft(coarse, axis=1, overwrite_x=True)[:, halo_rows : halo_rows + image.shape[1]]
            narrow = np.empty((*coarse.shape[:2], columns // n // 2 + 1), np.complex64)
            _fold_columns(coarse, columns, columns // n, narrow)
            blurred = scipy.fft.irfft(narrow, n=columns // n, axis=2, overwrite_x=True)
            # Rounding of the transform in the deepest shadow, and phase that a linear model would take below nothing.
            np.maximum(blurred[:, :, left // n : left // n + image.shape[2]], 0, out=image[now])

    chunk = max(1, _CHUNK_BYTES // (4 * rows * columns))
    starts = range(0, views, chunk)
    if threads == 1 or len(starts) == 1:
        for start in starts:
            work(start)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, starts))
    return image


@dataclass(frozen=True)
class _Turn:
    """Motion of the image as factors of its transforms; shears are None where the axis does not lean.

    Attributes
    ----------
    row_phase
        Shift along the rows, (view, row frequency).
    shear_rows
        Shift along the rows in proportion to the column, (row frequency, column).
    shear_columns
        Shift along the columns in proportion to the row, (row, column frequency).
    """

    row_phase: NDArray[np.complex64]
    shear_rows: NDArray[np.complex64] | None
    shear_columns: NDArray[np.complex64] | None

    @classmethod
    def of(cls, placement: Placement, n: int, halo_rows: int, padded: tuple[int, int], left: int) -> "_Turn":
        """Return the factors for slabs padded to (rows, columns) fine samples, ``left`` of them before the first."""
        rows, columns = padded
        row_phase = _shift_phase(placement.row_shift_px * n, rows, scipy.fft.fftfreq(rows))
        if placement.axis_tilt_rad == 0:
            return cls(row_phase, None, None)
        slope = np.tan(placement.axis_tilt_rad)
        along = np.arange(rows) + 0.5 + (placement.row_from_middle_px - halo_rows) * n
        across = np.arange(columns) - left + 0.5 - (placement.axis_column_px + 0.5) * n
        across = np.clip(across, across[left], across[columns - 1 - left])  # the padding repeats the edge
        shear_rows = _shift_phase(-slope * across, rows, scipy.fft.rfftfreq(rows)).T
        return cls(row_phase, shear_rows, _shift_phase(slope * along, columns, scipy.fft.rfftfreq(columns)))

    def columns_to_frequency(self, padded: FloatArray) -> NDArray[np.complex64]:
        """Transform (view, row, column) along the columns, sheared where the axis leans."""
        if self.shear_rows is None or self.shear_columns is None:
            return np.asarray(scipy.fft.rfft(padded, axis=2), np.complex64)
        along = scipy.fft.rfft(padded, axis=1)
        along *= self.shear_rows
        sheared = scipy.fft.irfft(along, n=padded.shape[1], axis=1, overwrite_x=True)
        spectrum: NDArray[np.complex64] = scipy.fft.rfft(sheared, axis=2)
        spectrum *= self.shear_columns
        return spectrum


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


@njit(cache=True, nogil=True, error_model="numpy")
def _fold_rows(
    spectrum: NDArray[np.complex64],
    factor: NDArray[np.complex64],
    row_phase: NDArray[np.complex64],
    coarse: NDArray[np.complex64],
) -> None:
    """Multiply by factor and phase, and keep every n-th row of the image by folding its frequencies."""
    views, kept, frequencies = coarse.shape
    folds = spectrum.shape[1] // kept
    for view in range(views):
        for row in range(kept):
            for fold in range(folds):
                fine = row + fold * kept
                phase = row_phase[view, fine] / np.float32(folds)
                for k in range(frequencies):
                    term = spectrum[view, fine, k] * (factor[fine, k] * phase)
                    coarse[view, row, k] = term if fold == 0 else coarse[view, row, k] + term


@njit(cache=True, nogil=True, error_model="numpy")
def _fold_columns(coarse: NDArray[np.complex64], columns: int, length: int, narrow: NDArray[np.complex64]) -> None:
    """Keep ``length`` of the ``columns`` of the real image, every n-th one, by folding its half spectrum."""
    views, rows, frequencies = narrow.shape
    kept = columns // 2 + 1
    folds = columns // length
    for view in range(views):
        for row in range(rows):
            for k in range(frequencies):
                total = coarse[view, row, k]
                for fold in range(1, folds):
                    at = k + fold * length
                    total += coarse[view, row, at] if at < kept else np.conj(coarse[view, row, columns - at])
                narrow[view, row, k] = total / np.float32(folds)


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
