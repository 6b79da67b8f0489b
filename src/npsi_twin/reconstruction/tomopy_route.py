"""The only door to TomoPy: the call sequence that the experiment's beamline used, its output checked.

Takes counts and an axis, gives `attenuation_per_um`, (row, y, x). The sequence is TomoPy's own: `normalize`,
`minus_log`, `remove_stripe_fw` (combined wavelet-Fourier, db5, sigma 1, padded), `recon`. SIRT-FBP is what 32-ID's
scripts make of it there: gridrec with a filter of its own for every view, here ours,

    custom2d(view, j) = 2 views / pi  pixel**2  sum over taps t of h_view(t) cos(2 pi j t / N),   j < N / 2,

N the next power of two above the number of columns, the factor that which turns the taps of the plain ramp into
gridrec's own. TomoPy is not on PyPI; it comes from conda-forge (``environment.yml``).

TomoPy's answers are per pixel and may come back not finite, or empty where a call failed in one of its processes; both
are found out here. Slices are oriented as those of `npsi_twin.scan`, and TomoPy's axis is our column coordinate; but it
puts the axis half a voxel beyond our middle along x and before it along y. gridrec's absolute level is known to be off
by a factor of 1.1 to 1.8, so quantities should be taken from our own routes.
"""

import importlib.util
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError, MissingBackendError
from npsi_twin.recipes import MadeBy
from npsi_twin.reconstruction.filters import sirt_fbp_taps
from npsi_twin.reconstruction.rings import default_levels
from npsi_twin.scan import Scan
from npsi_twin.volumes import FloatArray, Volume

#: Share of a slice that may be exactly zero before it counts as not reconstructed: outside of a disk it may be.
_EMPTY = 0.9
#: Transmission that the rest is raised to before the logarithm.
_LEAST = 1e-6


@dataclass(frozen=True)
class MadeByTomopy:
    """What TomoPy made of some rows.

    Attributes
    ----------
    volume
        ``attenuation_per_um``, (row, y, x).
    clipped
        Transmissions that were not positive, and were set to a millionth.
    removed_rms, removed_mean
        What its stripe removal took from the line integrals: root mean square, (row,), and mean over the views,
        (row, column).
    made_by
        Provenance; the backend is ``tomopy`` and its version.
    """

    volume: Volume
    clipped: int
    removed_rms: NDArray[np.float64]
    removed_mean: FloatArray
    made_by: MadeBy


def has_tomopy() -> bool:
    """Tell whether TomoPy can be imported here.

    Examples
    --------
    >>> has_tomopy() in (True, False)
    True
    """
    return importlib.util.find_spec("tomopy") is not None


def require_tomopy() -> None:
    """Refuse where TomoPy cannot be imported.

    Raises
    ------
    MissingBackendError
        TomoPy is not installed.
    """
    if not has_tomopy():
        raise MissingBackendError(
            "route 'tomopy' needs TomoPy, which is not on PyPI: install it from conda-forge "
            "(conda env create -f environment.yml). Use route 'fourier' or 'astra' without it."
        )


def reconstruct_by_tomopy(
    scan: Scan, axis_px: float, algorithm: Literal["gridrec", "sirt-fbp", "sirt"] = "gridrec", *, iterations: int = 100
) -> MadeByTomopy:
    """Reconstruct the rows of a scan as the published pipeline does.

    Parameters
    ----------
    scan
        Counts, with flats and darks.
    axis_px
        Rotation axis, column.
    algorithm
        ``"gridrec"``, ``"sirt-fbp"`` (gridrec with SIRT's filters) or ``"sirt"``.
    iterations
        Of SIRT, or those that its filters stand for.

    Returns
    -------
    MadeByTomopy
        The slices, and what was done to the counts on the way.

    Raises
    ------
    MissingBackendError
        TomoPy is not installed.
    DataError
        The scan has no flats or darks, or holds values that are not finite; TomoPy's answer is not finite, empty, or
        of another shape.
    """
    require_tomopy()
    if scan.normalised or scan.flats.shape[0] == 0 or scan.darks.shape[0] == 0:
        raise DataError("route 'tomopy': flats and darks are needed for its normalisation. Use route 'fourier'.")
    if not np.isfinite(np.asarray(scan.projections, np.float32)).all():
        raise DataError(
            "route 'tomopy': the projections hold values that are not finite, which would spread over whole slices, "
            "and TomoPy's sequence mends none. Use route 'fourier' with corrections.not_finite = 'replace'."
        )
    with warnings.catch_warnings():
        # A build without OpenCV lacks accelerated algorithms, which are not used here.
        warnings.simplefilter("ignore", ImportWarning)
        import tomopy

    angles = np.asarray(scan.beam.angles_rad)
    lines = tomopy.normalize(np.array(scan.projections, np.float32), np.array(scan.flats), np.array(scan.darks))
    clipped = int(np.count_nonzero(lines < _LEAST))
    striped = tomopy.minus_log(np.clip(lines, _LEAST, None))
    levels = default_levels(scan.beam.columns)
    # It works in place.
    lines = tomopy.remove_stripe_fw(striped.copy(), level=levels, wname="db5", sigma=1, pad=True)
    removed = striped - lines
    words: dict[str, Any] = {"algorithm": "gridrec"}
    if algorithm == "sirt":
        words = {"algorithm": "sirt", "num_iter": iterations}
    elif algorithm == "sirt-fbp":
        words |= {"filter_name": "custom2d", "filter_par": gridrec_filter(sirt_fbp_taps(scan.beam, iterations), scan)}
    slices = tomopy.recon(lines, angles, center=float(axis_px), sinogram_order=False, **words)
    values = _checked(np.asarray(slices), (scan.rows, scan.beam.columns, scan.beam.columns))
    per_um = values / np.float32(scan.beam.pixel_nm / 1000)
    return MadeByTomopy(
        Volume(per_um, scan.beam.pixel_nm),
        clipped,
        np.sqrt(np.mean(np.square(removed, dtype=np.float64), axis=(0, 2))),
        removed.mean(axis=0),
        MadeBy("tomopy", algorithm, backend=f"tomopy {tomopy.__version__}"),
    )


def gridrec_filter(taps: FloatArray, scan: Scan) -> NDArray[np.float32]:
    """Return filters as gridrec's ``custom2d`` takes them.

    Parameters
    ----------
    taps
        (views, 2 columns - 1), 1/um**2, the middle one for distance zero.
    scan
        Its geometry: views, columns and pixel.

    Returns
    -------
    NDArray[numpy.float32]
        (views * N / 2,), N the next power of two at or above the number of columns, at least 16.

    Examples
    --------
    The ramp becomes twice the frequency, as gridrec's own:

    >>> from npsi_twin.reconstruction.filters import ramp_taps
    >>> from npsi_twin.scan import ParallelBeam
    >>> beam = ParallelBeam(np.pi * np.arange(3) / 3, columns=64, pixel_nm=50.0)
    >>> scan = Scan(np.ones((3, 1, 64)), np.ones((1, 1, 64)), np.zeros((1, 1, 64)), beam)
    >>> taps = np.repeat(ramp_taps(64, 50.0)[None] * np.pi / 3, 3, axis=0)
    >>> np.round(gridrec_filter(taps, scan)[:32][[8, 16, 24]], 2)
    array([0.25, 0.5 , 0.75], dtype=float32)
    """
    beam = scan.beam
    length = max(16, 1 << (beam.columns - 1).bit_length())
    distance = np.arange(taps.shape[1]) - taps.shape[1] // 2
    near = np.abs(distance) <= length // 2
    wrapped = np.zeros((beam.views, length))
    for place, tap in zip(distance[near] % length, taps[:, near].T, strict=True):
        wrapped[:, place] += tap
    spectrum = np.fft.rfft(wrapped, axis=1).real[:, : length // 2]
    scale = 2 * beam.views / np.pi * (beam.pixel_nm / 1000) ** 2
    return np.asarray(scale * spectrum, np.float32).ravel()


def _checked(slices: NDArray[Any], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return slices that can be what they should be, or say why not."""
    if slices.shape != shape:
        raise DataError(
            f"route 'tomopy': it returned {slices.shape}, not {shape}. Its version may order rows otherwise."
        )
    unusable = int(np.count_nonzero(~np.isfinite(slices)))
    if unusable:
        raise DataError(
            f"route 'tomopy': {unusable} of {slices.size} voxels came back NaN or infinite; counts below the dark "
            "level do that. Use route 'fourier', which raises them to one count."
        )
    empty = [row for row, values in enumerate(slices) if np.mean(values == 0) > _EMPTY]
    if empty:
        raise DataError(
            f"route 'tomopy': rows {empty} came back empty; a call failed in one of its processes, which it does not "
            "tell. Try fewer rows, or route 'fourier'."
        )
    return np.ascontiguousarray(slices, np.float32)
