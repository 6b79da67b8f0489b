"""Find the current collector in a reconstruction without being told where it is.

Takes -> gives: an attenuation volume -> a `Collector`: the foil's voxels, its surface, its plateau and its tilt.

The model: copper is the brightest phase that fills a good part of the volume. Its plateau P is the fixed point of

    P = median of all voxels brighter than P / 2

and the foil is the largest connected body above P / 2. A symmetric blur leaves an edge where it is only at the level
half-way between the two sides, and above the foil lies silicon in one column (0.32 P) and void in the next. The height
of the surface is therefore taken where the column crosses (P + a) / 2, with a the attenuation three to five voxels
above the edge; at P / 2 it would read up to 0.6 standard deviations of the blur too high under solid silicon.

Holds for slices in which **the foil lies at the bottom, at large y**, and the layer on top of it, as everywhere in this
package (`npsi_twin.volumes`), with the foil's surface within 15 degrees of horizontal. Anything else is refused.
`segmentation` finds the silicon above it.
"""

from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from npsi_twin.errors import DataError
from npsi_twin.morphology.connectivity import body_sizes, face_connected
from npsi_twin.recipes import MadeBy
from npsi_twin.volumes import Volume

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.intp]
HeightMap = NDArray[np.float64]

#: The foil must fill this fraction of the volume; sparse brighter inclusions (residual bismuth) stay below it.
SMALLEST_FOIL_FRACTION = 0.01
#: And this fraction of the columns that it spans: a porous body does not, a foil does.
SMALLEST_FILL = 0.9
#: Steepest foil that the words "height above the foil" still describe.
LARGEST_TILT_DEG = 15.0
#: Voxels of which a first level is read off: of 10 000 in a hundredth, to a few percent of those.
_SAMPLES = 1 << 20


@dataclass(frozen=True)
class Collector:
    """The current collector as found in the data.

    Attributes
    ----------
    foil
        Voxels of the foil, bool (z, y, x).
    surface_nm
        Height of the foil's upper surface above the rotation axis (the electrode frame of `npsi_twin.volumes`), nm,
        shape (z, x); NaN where there is no foil, or no free surface of it, in the column.
    plane_nm
        The plane fitted to that surface, nm, shape (z, x), without NaN.
    attenuation_per_um
        The foil's plateau, 1/um.
    tilt_deg
        Angle between that plane and the horizontal, degrees.
    voxel_nm
        Edge of a voxel in nm.
    made_by
        Provenance.
    """

    foil: BoolArray
    surface_nm: HeightMap
    plane_nm: HeightMap
    attenuation_per_um: float
    tilt_deg: float
    voxel_nm: float
    made_by: MadeBy

    def __post_init__(self) -> None:
        for name in ("foil", "surface_nm", "plane_nm"):
            view: NDArray[Any] = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)


def find_collector(attenuation: Volume) -> Collector:
    """Find the copper foil: its voxels, its surface with sub-voxel heights, its plateau and its tilt.

    Parameters
    ----------
    attenuation
        Attenuation in 1/um, (z, y, x), the foil at the bottom (large y).

    Returns
    -------
    Collector
        See there.

    Raises
    ------
    DataError
        The volume holds numbers that are not finite, no foil, or a foil that does not lie below its layer.

    Notes
    -----
    The volume is smoothed by a Gaussian of one voxel before the half level is sought, which takes noise of a tenth of
    the plateau out of the surface and moves a flat edge nowhere; it rounds a roughness finer than about three voxels.

    Examples
    --------
    A slab of copper under void, its surface half-way between the centres of rows 11 and 12:

    >>> import numpy as np
    >>> values = np.zeros((8, 24, 16), np.float32)
    >>> values[:, 12:] = 0.047
    >>> collector = find_collector(Volume(values, 50.0))
    >>> bool(np.allclose(collector.surface_nm, 0.0, atol=0.1)), round(collector.attenuation_per_um, 4)
    (True, 0.047)
    """
    values = np.asarray(attenuation.values)
    if not all(np.isfinite(image).all() for image in values):
        raise DataError(
            "find_collector: the attenuation holds NaN or infinite voxels; every voxel must be finite. "
            "Mask or replace them before (a reconstruction of this package holds none)."
        )
    smooth = ndimage.gaussian_filter(np.asarray(values, np.float32), 1.0, mode="nearest")
    plateau = _plateau(smooth)
    foil = _largest_body(smooth > plateau / 2)
    top, length = longest_runs(foil)
    _refuse_what_is_no_foil(foil, length)
    _refuse_a_foil_that_is_not_below(values, foil, attenuation.voxel_nm)
    surface = _half_level_heights(smooth, top, length, plateau, attenuation.voxel_nm)
    del smooth  # as large as the volume itself
    rows = (values.shape[1] - 1) / 2 - surface / attenuation.voxel_nm
    for body, row in zip(foil, rows, strict=True):
        body &= ~(np.arange(values.shape[1])[:, None] < row)  # a column without a surface keeps its foil
    surface, plane, tilt_deg = level_surface(surface, attenuation.voxel_nm)
    if not np.isfinite(tilt_deg) or tilt_deg > LARGEST_TILT_DEG:
        raise DataError(
            f"find_collector: the foil's surface is tilted by {tilt_deg:.1f} degrees; at most "
            f"{LARGEST_TILT_DEG:g} degrees from "
            "horizontal is allowed, since heights are counted along y. Rotate the slices so that the foil lies "
            "at the bottom."
        )
    rows = occupied_rows(foil)
    near = slice(max(0, rows.start - 1), rows.stop + 1)  # what lies beyond erodes nothing more
    inside = np.zeros(foil.shape, np.bool_)
    inside[:, near] = ndimage.binary_erosion(foil[:, near], iterations=3, border_value=1)
    level = float(np.median(values[inside] if inside.any() else values[foil]))
    return Collector(foil, surface, plane, level, tilt_deg, attenuation.voxel_nm, MadeBy("find_collector", ""))


def longest_runs(mask: BoolArray) -> tuple[IntArray, IntArray]:
    """Return start and length, in voxels, of the longest vertical run of True in every column; arrays (z, x).

    Of two equally long runs the lower one, at larger y, is taken. An empty column has length 0.
    """
    nz, ny, nx = mask.shape
    current = np.zeros((nz, nx), np.intp)
    length = np.zeros((nz, nx), np.intp)
    start = np.zeros((nz, nx), np.intp)
    for y in range(ny):
        current = np.where(mask[:, y], current + 1, 0)
        better = (current >= length) & (current > 0)
        length = np.where(better, current, length)
        start = np.where(better, y + 1 - current, start)
    return start, length


def occupied_rows(mask: BoolArray) -> slice:
    """Return the rows (y) from the first to the last that hold any True; none of an empty mask."""
    held = np.flatnonzero(mask.any(axis=(0, 2)))
    return slice(int(held[0]), int(held[-1]) + 1) if held.size else slice(0, 0)


def level_surface(surface_nm: HeightMap, voxel_nm: float) -> tuple[HeightMap, HeightMap, float]:
    """Fit a plane to a surface and drop the columns that do not belong to it.

    Where a needle was cut from foil and layer, the outermost columns show the needle's flank in place of the foil's
    free surface. They lie far below the plane through the rest: farther than four (robust) standard deviations plus two
    voxels, which keeps all of a normally distributed roughness but 1 in 30 000 columns.

    Parameters
    ----------
    surface_nm
        Heights in nm, (z, x), NaN where there are none.
    voxel_nm
        Edge of a voxel (and distance of two columns), nm.

    Returns
    -------
    tuple
        The surface with dropped columns NaN; the fitted plane (z, x); the plane's tilt in degrees (NaN when fewer than
        three columns are left).
    """
    nz, nx = surface_nm.shape
    z, x = np.meshgrid(np.arange(nz) * voxel_nm, np.arange(nx) * voxel_nm, indexing="ij")
    z, x = z - z.mean(), x - x.mean()
    kept = np.isfinite(surface_nm)
    plane, tilt_deg = np.full_like(surface_nm, np.nan), float("nan")
    for _ in range(8):
        if np.count_nonzero(kept) < 3:
            return np.full_like(surface_nm, np.nan), np.full_like(surface_nm, np.nan), float("nan")
        offset, along, across = _plane(z[kept], x[kept], surface_nm[kept])
        plane = offset + along * z + across * x
        tilt_deg = float(np.degrees(np.arctan(np.hypot(along, across))))
        residual = surface_nm - plane
        spread = 1.4826 * float(np.nanmedian(np.abs(residual[kept] - np.median(residual[kept]))))
        now = np.isfinite(surface_nm) & (np.abs(residual - np.median(residual[kept])) <= 4 * spread + 2 * voxel_nm)
        if np.array_equal(now, kept):
            break
        kept = now
    return np.where(kept, surface_nm, np.nan), plane, tilt_deg


def _plane(z: HeightMap, x: HeightMap, height: HeightMap) -> tuple[float, float, float]:
    """Fit height = offset + along z + across x; the smallest slopes where the columns lie on one line.

    The sums run in fixed order, so that the result does not depend on the number of threads.
    """
    basis = [np.ones_like(z), z, x]
    gram = np.array([[np.sum(a * b) for b in basis] for a in basis])
    right = np.array([np.sum(a * height) for a in basis])
    scale = np.sqrt(np.diag(gram))
    scale[scale == 0] = 1.0  # a single slice, or a single column across
    inverse = np.linalg.pinv(gram / np.outer(scale, scale), rcond=1e-10, hermitian=True)
    offset, along, across = np.sum(inverse * (right / scale), axis=1) / scale
    return float(offset), float(along), float(across)


def _plateau(smooth: NDArray[np.float32]) -> float:
    """Iterate P = median(values > P / 2), from about the level that the brightest hundredth of the volume exceeds."""
    values = smooth.ravel()
    step = 1 + values.size // _SAMPLES
    while gcd(step, values.size) > 1:  # or the samples might all lie in a few columns
        step += 1
    plateau = float(np.quantile(values[::step], 1 - SMALLEST_FOIL_FRACTION))
    held, above = values, -np.inf  # all values above a level: of few are later passes made
    for _ in range(50):
        if plateau / 2 < above:
            held, above = values, -np.inf
        if above < plateau / 4:
            held, above = held[held > plateau / 4], plateau / 4
        bright = held[held > plateau / 2]
        if plateau <= 0 or bright.size == 0:
            raise DataError(
                "find_collector: no voxel of the brightest hundredth of the volume attenuates; a copper foil of about "
                "0.047/um (8 keV) is needed at the bottom of the slices. Give an attenuation volume that "
                "contains the foil."
            )
        updated = float(np.median(bright, overwrite_input=True))
        if abs(updated - plateau) <= 1e-6 * plateau:
            break
        plateau = updated
    return plateau


def _largest_body(mask: BoolArray) -> BoolArray:
    found = np.zeros(mask.shape, np.bool_)
    rows = occupied_rows(mask)
    bodies = face_connected(mask[:, rows])
    sizes = body_sizes(bodies)
    if sizes.size > 1:
        found[:, rows] = bodies == 1 + int(np.argmax(sizes[1:]))
    return found


def _refuse_what_is_no_foil(foil: BoolArray, length: IntArray) -> None:
    covered = foil.any(axis=1)
    first = np.argmax(foil, axis=1)
    last = foil.shape[1] - 1 - np.argmax(foil[:, ::-1], axis=1)
    fill = float(length[covered].sum() / (last - first + 1)[covered].sum())
    fraction = float(foil.mean())
    if fraction < SMALLEST_FOIL_FRACTION or fill < SMALLEST_FILL:
        raise DataError(
            f"find_collector: the brightest body fills {100 * fraction:.2f} % of the volume and "
            f"{100 * fill:.0f} % of the columns that it "
            f"spans; a foil fills at least {100 * SMALLEST_FOIL_FRACTION:g} % and {100 * SMALLEST_FILL:g} %, so "
            f"there is none in view or noise "
            "hides it. Choose rows and columns that contain the copper foil, or reconstruct with a smoother filter."
        )


def _refuse_a_foil_that_is_not_below(values: NDArray[Any], foil: BoolArray, voxel_nm: float) -> None:
    """Compare what lies 0.25 to 1 um beyond the four sides of the foil: the layer must be the upper one."""
    step = max(1, foil.shape[0] // 16)
    body, grey = foil[::step], values[::step]
    near, far = max(3, round(250 / voxel_nm)), max(4, round(1000 / voxel_nm))
    # Where a flank runs out slowly, what is far off sideways lies right below the foil, in its blur.
    clear = ~ndimage.maximum_filter(body, (1, 2 * near + 1, 2 * near + 1))
    signals: dict[str, float] = {}
    counts: dict[str, int] = {}
    for side, axis, sign in (("above", 1, -1), ("below", 1, 1), ("left of", 2, -1), ("right of", 2, 1)):
        body_at, clear_at, grey_at = (np.moveaxis(array, axis, 0) for array in (body, clear, grey))
        if sign < 0:
            body_at, clear_at, grey_at = body_at[::-1], clear_at[::-1], grey_at[::-1]
        edge = body_at[:-1] & ~body_at[1:]
        reach = range(near, min(far, edge.shape[0] - 1) + 1)
        samples = [grey_at[1 + k :][edge[: edge.shape[0] - k] & clear_at[1 + k :]] for k in reach]
        found = np.concatenate(samples) if samples else np.empty(0)
        signals[side], counts[side] = (float(found.mean()) if found.size >= 16 else 0.0), found.size
    # A layer lies along one of the long sides; beside a short flank, what has come off a bare foil may lie.
    long = [side for side, count in counts.items() if 2 * count >= max(counts.values())]
    brightest = max(long, key=lambda side: signals[side])
    plateau = float(np.median(values[foil]))
    # np-Si is 0.13 of copper; a twentieth of copper more than above the foil is a layer on the wrong side, not noise
    if signals[brightest] > signals["above"] + 0.05 * plateau:
        raise DataError(
            f"find_collector: the attenuating layer lies {brightest} the foil; it must lie above it, with the "
            f"foil at the bottom of the "
            "slices (large y), since heights are counted upwards. Flip or rotate the slices."
        )


def _half_level_heights(
    smooth: NDArray[np.float32], top: IntArray, length: IntArray, plateau: float, voxel_nm: float
) -> HeightMap:
    """Interpolate where each column crosses from what lies above into its foil, nm; NaN without a free surface."""
    last = smooth.shape[1] - 1

    def at(rows: IntArray) -> HeightMap:
        found = np.take_along_axis(smooth, np.clip(rows, 0, last)[:, None, :], axis=1)[:, 0]
        return np.asarray(found, np.float64)

    above = sum(np.clip(at(top - k), 0.0, plateau / 2) for k in (3, 4, 5)) / 3
    level = (plateau + above) / 2
    row = np.where(length > 0, top - 0.5, np.nan)  # the voxel's face, where a touching inclusion hides the crossing
    for k in (2, 1, 0):  # the uppermost crossing is written last
        outer, inner = at(top + k - 1), at(top + k)
        crossing = (outer < level) & (inner >= level)
        step = np.where(crossing, inner - outer, 1.0)
        row = np.where(crossing, top + k - 1 + (level - outer) / step, row)
    return np.where((length > 0) & (top > 0), (last / 2 - row) * voxel_nm, np.nan)
