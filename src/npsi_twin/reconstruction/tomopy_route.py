"""The only door to TomoPy: the call sequence that the experiment's beamline used, its output checked.

Takes counts and an axis, gives `attenuation_per_um`, (row, y, x). The sequence is TomoPy's own: `normalize`,
`minus_log`, `remove_stripe_fw` (combined wavelet-Fourier, level 7 at this width, db5, sigma 1, padded), `recon`. TomoPy
is not on PyPI; it comes from conda-forge (``environment.yml``).

TomoPy's answers are per pixel and may come back not finite, or empty where a call failed in one of its processes; both
are found out here. Slices have TomoPy's orientation turned into that of `npsi_twin.scan`. Its axis is our column
coordinate; gridrec's absolute level is known to be off by a factor of 1.1 to 1.8, so ``"fbp"``-like quantities should
be taken from our own routes.
"""

import importlib.util
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError, MissingBackendError
from npsi_twin.recipes import MadeBy
from npsi_twin.reconstruction.rings import default_levels
from npsi_twin.scan import Scan
from npsi_twin.volumes import Volume

#: Share of a slice that may be exactly zero before it counts as not reconstructed: outside of a disk it may be.
_EMPTY = 0.9


def has_tomopy() -> bool:
    """Tell whether TomoPy can be imported here.

    Examples
    --------
    >>> has_tomopy() in (True, False)
    True
    """
    return importlib.util.find_spec("tomopy") is not None


def reconstruct_by_tomopy(
    scan: Scan, axis_px: float, algorithm: Literal["gridrec", "sirt"] = "gridrec", *, iterations: int = 50
) -> tuple[Volume, MadeBy]:
    """Reconstruct the rows of a scan as the published pipeline does.

    Parameters
    ----------
    scan
        Counts, with flats and darks.
    axis_px
        Rotation axis, column.
    algorithm
        ``"gridrec"`` or ``"sirt"``.
    iterations
        Of SIRT.

    Returns
    -------
    volume : Volume
        ``attenuation_per_um``, (row, y, x).
    made_by : MadeBy
        Provenance; the backend is ``tomopy`` and its version.

    Raises
    ------
    MissingBackendError
        TomoPy is not installed.
    DataError
        The scan has no flats or darks, or TomoPy's answer is not finite, empty, or of another shape.
    """
    if not has_tomopy():
        raise MissingBackendError(
            "route 'tomopy' needs TomoPy, which is not on PyPI: install it from conda-forge "
            "(conda env create -f environment.yml). Use route 'fourier' or 'astra' without it."
        )
    if scan.normalised or scan.flats.shape[0] == 0 or scan.darks.shape[0] == 0:
        raise DataError("route 'tomopy': flats and darks are needed for its normalisation. Use route 'fourier'.")
    import tomopy

    angles = np.asarray(scan.beam.angles_rad)
    lines = tomopy.normalize(np.array(scan.projections, np.float32), np.array(scan.flats), np.array(scan.darks))
    lines = tomopy.minus_log(np.clip(lines, 1e-6, None))
    levels = default_levels(scan.beam.columns)
    lines = tomopy.remove_stripe_fw(lines, level=levels, wname="db5", sigma=1, pad=True)
    words: dict[str, Any] = {"num_iter": iterations} if algorithm == "sirt" else {}
    slices = tomopy.recon(lines, angles, center=float(axis_px), algorithm=algorithm, sinogram_order=False, **words)
    values = _checked(np.asarray(slices), (scan.rows, scan.beam.columns, scan.beam.columns))
    per_um = values / np.float32(scan.beam.pixel_nm / 1000)
    return Volume(per_um, scan.beam.pixel_nm), MadeBy("tomopy", algorithm, backend=f"tomopy {tomopy.__version__}")


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
