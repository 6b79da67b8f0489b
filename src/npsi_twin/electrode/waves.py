"""Random fields as sums of plane waves: exact at any point, at any resolution, and summed in one fixed order.

A generator and a spectrum -> a `WaveField`; a `WaveField` and the axes of a lattice -> its values there. The model:

    f(x) = sqrt(2 / N) sum_w cos(q_w . x + phi_w),   <f> = 0, <f^2> = 1,

Gaussian in the limit of many waves. On a lattice the waves are separable, so that a row along x costs two
multiplications a sample and wave. The mean of f over a cubic voxel is exact too: every wave shrinks by the sinc of
its phase across the voxel's edges. Sums run wave by wave in single precision, never through BLAS: no bit depends on
slabs or threads.

Used by `bicontinuous` (a shell of wave numbers: the pore network), `surfaces` (height maps) and `binder`.

References
----------
J. W. Cahn, "Phase separation by spinodal decomposition in isotropic systems", J. Chem. Phys. 42 (1965) 93-99,
doi:10.1063/1.1695731.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


@dataclass(frozen=True)
class WaveField:
    """A zero-mean, unit-variance random field.

    Attributes
    ----------
    wavevectors_per_nm
        (waves, 3), rad/nm, along (along, height, across).
    phases_rad
        (waves,), rad.
    """

    wavevectors_per_nm: Floats
    phases_rad: Floats

    def __post_init__(self) -> None:
        for array in (self.wavevectors_per_nm, self.phases_rad):
            array.flags.writeable = False

    def at(self, points_nm: Floats) -> Floats:
        """Return the field at points (n, 3) in nm."""
        phase = self._phase(points_nm)
        return np.asarray(np.sqrt(2 / self.phases_rad.size) * np.cos(phase).sum(axis=1))

    def gradient_at(self, points_nm: Floats) -> Floats:
        """Return the gradient (n, 3) in 1/nm at points (n, 3) in nm."""
        weight = -np.sqrt(2 / self.phases_rad.size) * np.sin(self._phase(points_nm))
        return np.stack([(weight * self.wavevectors_per_nm[:, axis]).sum(axis=1) for axis in range(3)], axis=1)

    def amplitudes(self, cell_nm: tuple[float, float, float]) -> Floats:
        """Return the waves' amplitudes (waves,) in the mean of the field over a box of the given edges, nm."""
        half_phase = self.wavevectors_per_nm * np.asarray(cell_nm) / (2 * np.pi)
        return np.asarray(np.sqrt(2 / self.phases_rad.size) * np.prod(np.sinc(half_phase), axis=1))

    def _phase(self, points_nm: Floats) -> Floats:
        q, x = self.wavevectors_per_nm, points_nm
        phase = x[:, :1] * q[:, 0] + x[:, 1:2] * q[:, 1] + x[:, 2:] * q[:, 2]
        return np.asarray(phase + self.phases_rad)


def shell_waves(rng: np.random.Generator, count: int, wavelength_nm: float, spread: float) -> WaveField:
    """Draw waves of nearly one wavelength in directions uniform on the sphere.

    Parameters
    ----------
    rng
        Source of directions, wave numbers and phases.
    count
        Number of waves.
    wavelength_nm
        2 pi over the mean wave number, nm.
    spread
        Standard deviation of the wave number over its mean.
    """
    directions = rng.normal(size=(count, 3))
    directions /= np.sqrt((directions**2).sum(axis=1, keepdims=True))
    numbers = 2 * np.pi / wavelength_nm * (1 + spread * rng.normal(size=count))
    return WaveField(directions * numbers[:, None], rng.uniform(0, 2 * np.pi, count))


def smooth_waves(
    rng: np.random.Generator, count: int, correlation_length_nm: float, axes: tuple[int, ...] = (0, 1, 2)
) -> WaveField:
    """Draw waves of a field with the correlation exp(-(r / correlation length)^2) along the given axes.

    Axes that are left out have wave number zero: the field does not change along them.
    """
    wavevectors = np.zeros((count, 3))
    wavevectors[:, list(axes)] = rng.normal(scale=np.sqrt(2) / correlation_length_nm, size=(count, len(axes)))
    return WaveField(wavevectors, rng.uniform(0, 2 * np.pi, count))


def on_rows(field: WaveField, along_nm: Floats, across_nm: Floats, cell_nm: float) -> NDArray[np.float64]:
    """Return the mean of a field over square cells at height 0, shape (along, across).

    Each row is a sum over waves in fixed order, so that it has the same bits in whatever slab it is asked.
    """
    q = field.wavevectors_per_nm
    amplitude = field.amplitudes((cell_nm, 0.0, cell_nm))
    cos_x, sin_x = np.cos(across_nm * q[:, 2:]), np.sin(across_nm * q[:, 2:])
    rows = np.empty((along_nm.size, across_nm.size))
    for row, z in enumerate(along_nm):
        phase = q[:, 0] * z + field.phases_rad
        _sum_waves_double(amplitude * np.cos(phase), amplitude * np.sin(phase), cos_x, sin_x, rows[row])
    return rows


def on_lattice(field: WaveField, along_nm: Floats, height_nm: Floats, across_nm: Floats) -> Singles:
    """Return the field at the points of a lattice, float32 (along, height, across); zero without waves.

    The number of waves is a multiple of four (`sum_waves`).
    """
    out = np.zeros((along_nm.size, height_nm.size, across_nm.size), np.float32)
    if field.phases_rad.size:
        _fill_lattice(field.wavevectors_per_nm, field.phases_rad, along_nm, height_nm, across_nm, out)
    return out


@njit(cache=True, parallel=True)
def _fill_lattice(
    wavevectors: Floats, phases: Floats, along: Floats, height: Floats, across: Floats, out: Singles
) -> None:
    waves = phases.size
    cos_x, sin_x = across_tables(wavevectors, across)
    for z in prange(along.size):
        c, s = np.empty(waves, np.float32), np.empty(waves, np.float32)
        for y in range(height.size):
            fill_row_weights(wavevectors, phases, along[z], height[y], c, s)
            sum_waves(c, s, cos_x, sin_x, 0, across.size, out[z, y])


@njit(cache=True)
def across_tables(wavevectors: Floats, across: Floats) -> tuple[Singles, Singles]:
    """Return cosines and sines of the waves' phases along a row, (waves, across)."""
    cos_x = np.empty((wavevectors.shape[0], across.size), np.float32)
    sin_x = np.empty((wavevectors.shape[0], across.size), np.float32)
    for w in range(wavevectors.shape[0]):
        for x in range(across.size):
            phase = wavevectors[w, 2] * across[x]
            cos_x[w, x], sin_x[w, x] = np.cos(phase), np.sin(phase)
    return cos_x, sin_x


@njit(cache=True)
def fill_row_weights(wavevectors: Floats, phases: Floats, along: float, height: float, c: Singles, s: Singles) -> None:
    """Fill the weights of `sum_waves` for the row at (along, height)."""
    scale = np.sqrt(2.0 / max(phases.size, 1))
    for w in range(phases.size):
        phase = wavevectors[w, 0] * along + wavevectors[w, 1] * height + phases[w]
        c[w], s[w] = scale * np.cos(phase), scale * np.sin(phase)


@njit(cache=True)
def _sum_waves_double(c: Floats, s: Floats, cos_x: Floats, sin_x: Floats, out: Floats) -> None:
    out[:] = 0.0
    for w in range(c.size):
        for x in range(out.size):
            out[x] += c[w] * cos_x[w, x] - s[w] * sin_x[w, x]


@njit(cache=True)
def sum_waves(c: Singles, s: Singles, cos_x: Singles, sin_x: Singles, start: int, stop: int, out: Singles) -> None:
    """Add up one row: out[x] = sum_w c[w] cos_x[w, x] - s[w] sin_x[w, x] for start <= x < stop.

    Four waves a pass save three of four trips of the sums to memory (``c.size`` is a multiple of four); one-dimensional
    slices let the compiler see that no index is negative, without which the loop is not vectorised.
    """
    row = out[start:stop]
    row[:] = np.float32(0.0)
    for w in range(0, c.size, 4):
        c0, c1, c2, c3 = c[w], c[w + 1], c[w + 2], c[w + 3]
        s0, s1, s2, s3 = s[w], s[w + 1], s[w + 2], s[w + 3]
        cos0, cos1 = cos_x[w, start:stop], cos_x[w + 1, start:stop]
        cos2, cos3 = cos_x[w + 2, start:stop], cos_x[w + 3, start:stop]
        sin0, sin1 = sin_x[w, start:stop], sin_x[w + 1, start:stop]
        sin2, sin3 = sin_x[w + 2, start:stop], sin_x[w + 3, start:stop]
        for x in range(row.size):
            row[x] += ((c0 * cos0[x] - s0 * sin0[x]) + (c1 * cos1[x] - s1 * sin1[x])) + (
                (c2 * cos2[x] - s2 * sin2[x]) + (c3 * cos3[x] - s3 * sin3[x])
            )
