"""Fourier shell correlation: up to which frequency two volumes tell the same.

Takes -> gives: two volumes of the same sample on the same voxels -> `ShellCorrelation`. With F and G their transforms,

    FSC(k) = sum over shell k of Re(F conj G) / sqrt(sum |F|**2  sum |G|**2),

shells being one step of frequency thick. Between a reconstruction and the truth it counts everything that differs;
between two half scans (`npsi_twin.reconstruction.halves`) only what differs between them: rings and flats that they
share look like signal. The resolution is half the period at which the curve first falls below a criterion, 1/2 or the
half-bit curve, the correlation at which a shell of n samples holds half a bit of information each. A single slice gives
the ring correlation.

Holds for volumes with little at their edges; a window takes what is there, one twentieth of the width, to the mean.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from npsi_twin.errors import IncompatibleError
from npsi_twin.recipes import MadeBy
from npsi_twin.volumes import Volume

Criterion = Literal["half-bit", "half"]

#: Share of a side over which the window falls, at either end.
_EDGE = 0.05


@dataclass(frozen=True)
class ShellCorrelation:
    """Correlation by frequency.

    Attributes
    ----------
    frequency_per_um
        Middle of every shell, cycles/um, from one cycle a width up to half a cycle a voxel.
    correlation
        -1 to 1, one a shell; NaN where a shell of either volume is empty.
    samples
        Fourier samples in the shell.
    made_by
        Provenance.
    """

    frequency_per_um: NDArray[np.float64]
    correlation: NDArray[np.float64]
    samples: NDArray[np.int64]
    made_by: MadeBy

    def __post_init__(self) -> None:
        for name in ("frequency_per_um", "correlation", "samples"):
            frozen = getattr(self, name).view()
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)

    def criterion(self, name: Criterion) -> NDArray[np.float64]:
        """Return the correlation that each shell has to reach.

        References
        ----------
        M. van Heel, M. Schatz, "Fourier shell correlation threshold criteria", J. Struct. Biol. 151, 250 (2005),
        doi:10.1016/j.jsb.2005.05.009, eq. 17.
        """
        if name == "half":
            return np.full(self.samples.size, 0.5)
        # Of a real volume's samples half are each other's conjugates.
        root = 1 / np.sqrt(np.maximum(self.samples / 2, 1))
        return np.asarray(np.minimum((0.2071 + 1.9102 * root) / (1.2071 + 0.9102 * root), 1.0), np.float64)

    def resolution_nm(self, criterion: Criterion = "half-bit") -> float:
        """Return half the period, nm, at which the curve first falls below a criterion, linear between shells.

        Parameters
        ----------
        criterion
            ``"half-bit"`` or ``"half"``.

        Returns
        -------
        float
            The voxel, when the curve never falls below; infinity, when it is never above.
        """
        above = np.nan_to_num(self.correlation, nan=-1.0) - self.criterion(criterion)
        below = np.flatnonzero(above < 0)
        if below.size == 0:
            return float(500 / self.frequency_per_um[-1])
        first = int(below[0])
        if first == 0:
            return float("inf")
        share = above[first - 1] / (above[first - 1] - above[first])
        frequency = (1 - share) * self.frequency_per_um[first - 1] + share * self.frequency_per_um[first]
        return float(500 / frequency)

    def mean(self, up_to_per_um: float) -> float:
        """Return the mean correlation of the samples up to a frequency, cycles/um."""
        used = (self.frequency_per_um <= up_to_per_um) & np.isfinite(self.correlation)
        return float(np.average(self.correlation[used], weights=self.samples[used]))


def shell_correlation(first: Volume, second: Volume) -> ShellCorrelation:
    """Correlate two volumes shell by shell of frequency.

    Parameters
    ----------
    first, second
        The same sample, (z, y, x), on the same voxels.

    Returns
    -------
    ShellCorrelation
        Up to half a cycle a voxel.

    Raises
    ------
    IncompatibleError
        Shapes or voxel sizes differ, or a volume is narrower than 8 voxels.

    References
    ----------
    G. Harauz, M. van Heel, "Exact filters for general geometry three dimensional reconstruction", Optik 73, 146 (1986).

    Examples
    --------
    >>> noise = np.random.default_rng(0).standard_normal((2, 8, 32, 32)).astype(np.float32)
    >>> same = shell_correlation(Volume(noise[0], 50.0), Volume(noise[0], 50.0))
    >>> bool(np.allclose(same.correlation, 1)), same.resolution_nm() < 52
    (True, True)
    >>> shell_correlation(Volume(noise[0], 50.0), Volume(noise[1], 50.0)).resolution_nm() > 200
    True
    """
    if first.values.shape != second.values.shape or first.voxel_nm != second.voxel_nm:
        raise IncompatibleError(
            f"shell_correlation: got {first.values.shape} voxels of {first.voxel_nm} nm and {second.values.shape} of "
            f"{second.voxel_nm} nm; both volumes must lie on the same voxels. Resample one of them."
        )
    shape = first.values.shape
    if max(shape) < 8:
        raise IncompatibleError(f"shell_correlation: got {shape} voxels; at least 8 a side are needed for shells.")
    one, other = (_transform(volume) for volume in (first, second))
    axes = [np.fft.fftfreq(n) for n in shape[:2]] + [np.fft.rfftfreq(shape[2])]
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True)))
    steps = max(shape)
    shell = np.rint(radius * steps).astype(np.intp).ravel()
    # kx > 0 stands for -kx as well, but for the highest of an even number.
    twice = np.broadcast_to(np.where((axes[2] == 0) | (axes[2] == 0.5), 1, 2), one.shape).ravel()
    shells = slice(1, steps // 2 + 1)

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(shell, (values.ravel() * twice), steps)[shells], np.float64)

    power = np.sqrt(total(np.abs(one) ** 2) * total(np.abs(other) ** 2))
    both = total((one * other.conj()).real)
    correlation = np.divide(both, power, out=np.full_like(both, np.nan), where=power > 0)
    frequency = np.arange(1, steps // 2 + 1) / steps / (first.voxel_nm / 1000)
    samples = np.bincount(shell, twice, steps)[shells].astype(np.int64)
    return ShellCorrelation(frequency, correlation, samples, MadeBy("shell_correlation", ""))


def _transform(volume: Volume) -> NDArray[np.complex128]:
    values = volume.values.astype(np.float64)
    values -= values.mean()
    for axis, n in enumerate(values.shape):
        edge = max(1, int(_EDGE * n)) if n > 1 else 0
        window = np.ones(n)
        rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / max(edge, 1))
        window[:edge], window[n - edge :] = rise, rise[::-1]
        values *= window.reshape([-1 if a == axis else 1 for a in range(3)])
    return np.asarray(scipy.fft.rfftn(values), np.complex128)
