"""Find the needle that was cut from foil and layer, without being told where it is.

Takes -> gives: the foil that was found -> a `Needle`: the circle in which every slice's matter lies; None where the
foil leaves the volume, as in a block.

The model. A needle is a round rod along the rotation axis. Where it cuts the foil, the ends of the foil's rows lie on
the circle

    x^2 + y^2 = 2 xc x + 2 yc y + c,    radius^2 = c + xc^2 + yc^2,

which is linear in (xc, yc, c): least squares over the ends of all rows and slices, repeated without those that lie off
by more than four (robust) standard deviations plus one voxel. The ends are found at half the foil's plateau, where a
symmetric blur leaves an edge.

Holds for needles that do not taper by more than a voxel over the slices, whose flanks cut the foil in at least
`_FEWEST_ENDS` rows. An outline that fits no circle within `LARGEST_RESIDUAL_VOXELS` is no needle.

References
----------
I. Kasa, IEEE Trans. Instrum. Meas. 25 (1976) 8, doi:10.1109/TIM.1976.6312298 (the linear fit).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npsi_twin.morphology.collector import BoolArray, Collector
from npsi_twin.recipes import MadeBy

#: Larger root-mean-square distances of the foil's ends from the circle mean that there is no needle.
LARGEST_RESIDUAL_VOXELS = 1.5
_FEWEST_ENDS = 16

Ends = NDArray[np.float64]


@dataclass(frozen=True)
class Needle:
    """The needle's outline, the same in every slice.

    Attributes
    ----------
    row, column
        Its centre, voxel coordinates.
    radius_nm
        Its radius, nm.
    residual_nm
        Root-mean-square distance of the foil's ends from it, nm.
    voxel_nm
        Edge of a voxel, nm.
    made_by
        Provenance.
    """

    row: float
    column: float
    radius_nm: float
    residual_nm: float
    voxel_nm: float
    made_by: MadeBy

    def inside(self, shape: tuple[int, int]) -> BoolArray:
        """Tell which voxels of a slice have their centre in the needle, bool (y, x)."""
        y, x = np.arange(shape[0])[:, None] - self.row, np.arange(shape[1])[None, :] - self.column
        return np.asarray(y**2 + x**2 <= (self.radius_nm / self.voxel_nm) ** 2)


def find_needle(collector: Collector) -> Needle | None:
    """Find the circle on which the foil ends.

    Parameters
    ----------
    collector
        The foil, from `find_collector`.

    Returns
    -------
    Needle or None
        None where the foil leaves the volume on both sides, or ends on no circle.

    Examples
    --------
    >>> from npsi_twin.morphology.collector import find_collector
    >>> from npsi_twin.volumes import Volume
    >>> y, x = np.arange(96)[:, None] - 47.5, np.arange(96)[None, :] - 45.0
    >>> copper = (y**2 + x**2 <= 40**2) & (y > 3)
    >>> needle = find_needle(find_collector(Volume(np.repeat(copper[None] * np.float32(0.047), 4, axis=0), 50.0)))
    >>> round(needle.row - 47.5), round(needle.column), round(needle.radius_nm / 50)
    (0, 45, 40)
    """
    y, x = _ends(collector.foil)
    voxel = collector.voxel_nm
    kept = np.ones(y.shape, np.bool_)
    for _ in range(8):
        if np.count_nonzero(kept) < _FEWEST_ENDS:
            return None
        fitted = _circle(y[kept], x[kept])
        if fitted is None:
            return None
        row, column, radius = fitted
        residual = np.hypot(y - row, x - column) - radius
        spread = 1.4826 * float(np.median(np.abs(residual[kept])))
        now = np.abs(residual) <= 4 * spread + 1
        if np.array_equal(now, kept):
            break
        kept = now
    off = float(np.sqrt(np.mean(residual[kept] ** 2)))
    width = max(collector.foil.shape[1:])
    if off > LARGEST_RESIDUAL_VOXELS or radius > width or np.count_nonzero(kept) < kept.size / 2:
        return None
    return Needle(row, column, radius * voxel, off * voxel, voxel, MadeBy("find_needle", ""))


def _ends(foil: BoolArray) -> tuple[Ends, Ends]:
    """Return row and column of both ends of the foil in every row that has some, but for those at the volume's face."""
    covered = foil.any(axis=2)
    first = np.argmax(foil, axis=2)
    last = foil.shape[2] - 1 - np.argmax(foil[:, :, ::-1], axis=2)
    row = np.broadcast_to(np.arange(foil.shape[1], dtype=np.float64), covered.shape)
    left, right = covered & (first > 0), covered & (last < foil.shape[2] - 1)
    return (
        np.concatenate([row[left], row[right]]),
        np.concatenate([first[left] - 0.5, last[right] + 0.5]),
    )


def _circle(y: Ends, x: Ends) -> tuple[float, float, float] | None:
    """Fit a circle; its centre and radius, None where the points lie on a line. The sums run in fixed order."""
    middle_y, middle_x = float(y.mean()), float(x.mean())
    v, u = y - middle_y, x - middle_x
    basis = (2 * v, 2 * u, np.ones_like(v))
    gram = np.array([[np.sum(a * b) for b in basis] for a in basis])
    right = np.array([np.sum(a * (u**2 + v**2)) for a in basis])
    if np.linalg.cond(gram) > 1e12:
        return None
    row, column, c = (float(value) for value in np.linalg.solve(gram, right))
    return row + middle_y, column + middle_x, float(np.sqrt(c + row**2 + column**2))
