"""Filters for filtered backprojection: the band-limited ramp and SIRT-FBP.

Takes a geometry, gives taps in real space, 1/um**2, to be convolved with sinograms before `Projector.filtered_adjoint`.

The ramp |sigma| cut at the pixel's Nyquist frequency is, in real space (pixel d),

    h[0] = 1 / (4 d**2),   h[n] = -1 / (pi n d)**2 for odd n,   0 for even n,

exact at frequency zero where a sampled ramp is not. SIRT-FBP replaces n Landweber (SIRT) iterations
x <- x + alpha W'(p - W x) by one filtered backprojection: the impulse response of its operator

    u = alpha sum_{k < n} (1 - alpha W' W)**k e = f(W' W) e,   f(q) = (1 - (1 - alpha q)**n) / q,

with alpha = 1 / (views columns d**2), projected, is a filter for every view (Pelt and Batenburg 2015). The impulse
stands in the middle of the field, so that its response ends at half the field's width, and bends before; the tails that
are missing leave a constant offset, which grows with the share of the field that is filled
(``validation/05_reconstruction``). At low frequencies nu (cycles a pixel), which are what is left far from the middle,
views are dense, W' W is a convolution with views / (pi |nu|), and the filter has a closed form,

    (pi / views) |nu| (1 - (1 - g)**n),   g = min(1 / (pi columns |nu|), 1),

whose taps take over there: from a tenth to three tenths of the width, with their sum kept, to which alone a constant is
due. f is smooth: a polynomial of degree 3 sqrt(n) or so is as good in single precision, and that many projections and
backprojections are needed, not n. Holds as far as W' W is shift-invariant, that is inside the field. Filters depend on
angles, columns and n only, so they are kept on disk.
"""

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import ParameterError
from npsi_twin.projectors.choice import ProjectorName, choose_projector
from npsi_twin.scan import ParallelBeam
from npsi_twin.volumes import FloatArray

#: Part of every cache key; raised when the definition of a SIRT-FBP filter changes.
_DEFINITION = 3
#: alpha times the largest eigenvalue stays below this: no ray is longer than the diagonal, 1.42 widths.
_LARGEST = 1.5
#: Distances, in widths of the field, between which the closed form takes over from the impulse response.
_TAKES_OVER = (0.1, 0.3)
#: Transform of the closed form, in widths: its own tails fall off as the square of the distance.
_LONG = 16
#: From this many steps on, (1 - s)**n is taken as 0 beyond s = 1; fewer steps are a short polynomial as they are.
_MANY_STEPS = 10
#: Coefficients of the polynomial below this share of the largest are rounding.
_NEGLIGIBLE = 1e-6


def ramp_taps(columns: int, pixel_nm: float) -> NDArray[np.float64]:
    """Return the band-limited ramp in real space.

    Parameters
    ----------
    columns
        Detector columns; the taps reach from one end of the detector to the other.
    pixel_nm
        Detector pixel in nm.

    Returns
    -------
    NDArray[numpy.float64]
        2 * columns - 1 taps in 1/um**2, the middle one for distance zero.

    References
    ----------
    G. N. Ramachandran, A. V. Lakshminarayanan, Proc. Natl Acad. Sci. USA 68, 2236 (1971), doi:10.1073/pnas.68.9.2236;
    A. C. Kak, M. Slaney, "Principles of Computerized Tomographic Imaging" (1988), chapter 3, eq. 61.

    Examples
    --------
    >>> ramp_taps(2, 1000.0).round(4)
    array([-0.1013,  0.25  , -0.1013])
    """
    pixel_um = pixel_nm / 1000
    distance = np.arange(1 - columns, columns)
    odd = distance % 2 == 1
    taps = np.zeros(distance.size)
    taps[columns - 1] = 1 / 4
    taps[odd] = -1 / (np.pi * distance[odd]) ** 2
    return np.asarray(taps / pixel_um**2, np.float64)


def sirt_fbp_taps(
    beam: ParallelBeam,
    iterations: int,
    *,
    projector: ProjectorName = "nufft",
    cache: Path | None = None,
    threads: int | None = None,
) -> FloatArray:
    """Return the SIRT-FBP filters of a geometry, from the cache where they are there.

    Parameters
    ----------
    beam
        Geometry; neither its axis nor its pixel matters, only angles and columns.
    iterations
        Landweber steps n, at least 1; published work at 32-ID uses 50 to 200.
    projector
        Name of the projector to compute them with.
    cache
        Folder that keeps computed filters; see `default_cache` when None. One that cannot be written is passed over,
        a damaged file is computed again.
    threads
        Threads for the projector; all when None.

    Returns
    -------
    FloatArray
        (views, 2 columns - 1), 1/um**2, read-only.

    Raises
    ------
    ParameterError
        Fewer than 1 iteration.

    Notes
    -----
    In frequency the filter is close to ramp * (1 - (1 - g)**n) with g = 1 / (pi columns |nu|), nu in cycles a pixel:
    the wider the detector, the fewer of its fine frequencies n iterations reach.

    References
    ----------
    D. M. Pelt, K. J. Batenburg, "Accurately approximating algebraic tomographic reconstruction by filtered
    backprojection", Proc. Fully3D (2015). D. M. Pelt, V. De Andrade, "Improved tomographic reconstruction of
    large-scale real-world data by filter optimization", Adv. Struct. Chem. Imaging 2, 17 (2016),
    doi:10.1186/s40679-016-0033-y.

    Examples
    --------
    >>> import numpy as np
    >>> beam = ParallelBeam(np.pi * np.arange(24) / 24, columns=16, pixel_nm=1000.0)
    >>> taps = sirt_fbp_taps(beam, 10, cache=Path("/nowhere"))
    >>> taps.shape, bool(np.all(taps.argmax(axis=1) == 15))
    ((24, 31), True)
    """
    if iterations < 1:
        raise ParameterError(f"SIRT-FBP: got {iterations} iterations; at least 1 is needed.")
    width = 2 * beam.columns - 1
    key = _key(beam, width, iterations, projector)
    path = (cache or default_cache()) / f"sirt-fbp-{key[:32]}.npz"
    unit_taps = _load(path, key, (beam.views, width))
    if unit_taps is None:
        unit_taps = _joined_taps(_impulse_taps(beam, iterations, projector, threads), beam, iterations)
        _store(path, key, unit_taps)
    pixel_um = beam.pixel_nm / 1000
    taps = np.asarray(unit_taps / np.float32(pixel_um**2), np.float32)
    taps.flags.writeable = False
    return taps


def default_cache() -> Path:
    """Return the folder that keeps filters: ``NPSI_TWIN_CACHE``, or the platform's place for a user's caches.

    Examples
    --------
    >>> isinstance(default_cache(), Path)
    True
    """
    told = os.environ.get("NPSI_TWIN_CACHE")
    if told:
        return Path(told)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "npsi-twin" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "npsi-twin"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "npsi-twin"


def closed_form_taps(columns: int, views: int, iterations: int) -> NDArray[np.float64]:
    """Return the SIRT-FBP filter of views that are dense everywhere, for a pixel of one micrometre.

    Parameters
    ----------
    columns
        Detector columns.
    views
        Number of views, evenly spread.
    iterations
        Landweber steps n.

    Returns
    -------
    NDArray[numpy.float64]
        (2 * columns - 1,), 1/um**2; the ramp less what n steps do not reach, which is smooth at frequency zero.

    Examples
    --------
    >>> far = closed_form_taps(64, 100, 10**6) / (np.pi / 100)
    >>> bool(np.allclose(far, ramp_taps(64, 1000.0)))
    True
    """
    period = _LONG * columns
    nu = np.fft.rfftfreq(period)
    gain = np.minimum(1 / (np.pi * columns * np.maximum(nu, 1 / period)), 1)
    unreached = np.fft.irfft(nu * (1 - gain) ** iterations, period)
    return np.asarray(
        np.pi / views * (ramp_taps(columns, 1000.0) - unreached[np.arange(1 - columns, columns)]), np.float64
    )


def _joined_taps(central: FloatArray, beam: ParallelBeam, iterations: int) -> FloatArray:
    """Return the impulse response, (views, taps), with the tails and the sum of the closed form."""
    columns, half = beam.columns, min(central.shape[1] // 2, beam.columns - 1)
    middle = central.shape[1] // 2
    tails = closed_form_taps(columns, beam.views, iterations)
    distance = np.abs(np.arange(1 - columns, columns)) / columns
    near, far = _TAKES_OVER
    weight = 0.5 + 0.5 * np.cos(np.pi * np.clip((distance - near) / (far - near), 0, 1))
    joined = np.zeros((beam.views, tails.size))
    joined[:, columns - 1 - half : columns + half] = central[:, middle - half : middle + half + 1]
    joined = weight * joined + (1 - weight) * tails
    lack = tails.sum() - joined.sum(axis=1, keepdims=True)
    return np.asarray(joined + lack * weight / weight.sum(), np.float32)


def _impulse_taps(beam: ParallelBeam, iterations: int, projector: ProjectorName, threads: int | None) -> FloatArray:
    """Return the filters of an impulse in the middle of the field, for a pixel of one micrometre."""
    width = beam.columns | 1
    unit_beam = ParallelBeam(beam.angles_rad, width, 1000.0, (width - 1) / 2)
    operator = choose_projector(projector, unit_beam, width, threads=threads)
    alpha = 1 / (beam.views * width)

    def applied(estimate: FloatArray) -> FloatArray:
        """Return the normal operator, its spectrum laid onto -1 to 1, applied to an estimate."""
        scaled = operator.adjoint(operator.forward(estimate))
        scaled *= np.float32(2 * alpha / _LARGEST)
        scaled -= estimate
        return scaled

    coefficients = response_polynomial(iterations).astype(np.float32)
    before = np.zeros((1, width, width), np.float32)
    before[0, width // 2, width // 2] = 1
    total = coefficients[0] * before
    if coefficients.size > 1:
        now = applied(before)
        total += coefficients[1] * now
        for coefficient in coefficients[2:]:
            # Chebyshev's recurrence T_k+1 = 2 y T_k - T_k-1.
            after = applied(now)
            after *= 2
            after -= before
            before, now = now, after
            total += coefficient * now
    return np.asarray(np.float32(alpha) * operator.forward(total)[0], np.float32)


def response_polynomial(iterations: int) -> NDArray[np.float64]:
    """Return (1 - (1 - s)**n) / s, for 0 <= s <= 1.5, as Chebyshev's series in 2 s / 1.5 - 1, lowest first.

    Parameters
    ----------
    iterations
        n, at least 1.

    Examples
    --------
    >>> coefficients = response_polynomial(200)
    >>> s = np.array([0.0, 0.01, 0.5])
    >>> np.polynomial.chebyshev.chebval(2 * s / 1.5 - 1, coefficients).round(1)
    array([200. ,  86.6,   2. ])
    >>> 40 < coefficients.size < 90
    True
    """

    def response(place: NDArray[np.float64]) -> NDArray[np.float64]:
        s = np.maximum((place + 1) / 2 * _LARGEST, 1e-12)
        if iterations < _MANY_STEPS:
            return np.asarray((1 - (1 - s) ** iterations) / s, np.float64)
        return np.asarray(-np.expm1(iterations * np.log1p(-np.minimum(s, 1 - 1e-15))) / s, np.float64)

    degree = 16 + int(20 * np.sqrt(iterations))
    nodes = np.polynomial.chebyshev.chebpts1(degree + 1)
    coefficients = np.polynomial.chebyshev.chebfit(nodes, response(nodes), degree)
    needed = np.flatnonzero(np.abs(coefficients) > _NEGLIGIBLE * np.abs(coefficients).max())
    return np.asarray(coefficients[: needed[-1] + 1], np.float64)


def _key(beam: ParallelBeam, width: int, iterations: int, projector: ProjectorName) -> str:
    words = json.dumps([_DEFINITION, width, iterations, projector]).encode()
    return hashlib.sha256(words + np.ascontiguousarray(beam.angles_rad, "<f8").tobytes()).hexdigest()


def _load(path: Path, key: str, shape: tuple[int, int]) -> FloatArray | None:
    """Return the filters of a cache file, or None where it is missing, damaged or made for something else."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            stored_key, digest, taps = str(file["key"]), str(file["sha256"]), np.asarray(file["taps"], np.float32)
    except Exception:
        # A damaged zip raises almost anything; whatever it is, the answer is to compute again.
        return None
    whole = taps.shape == shape and digest == hashlib.sha256(taps.tobytes()).hexdigest()
    return taps if whole and stored_key == key else None


def _store(path: Path, key: str, taps: FloatArray) -> None:
    """Write a cache file whole and rename it into place; a folder that cannot be written is no error."""
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
            partial = Path(file.name)
            np.savez(file, key=key, sha256=hashlib.sha256(taps.tobytes()).hexdigest(), taps=taps)
        partial.replace(path)
    except OSError:
        if partial is not None:
            partial.unlink(missing_ok=True)
