"""The normal operator W' H W as a convolution: an iteration that never leaves the slice.

Takes the geometry of a band-limited projector, gives `ToeplitzEquations`: the right side W' H p of a scan, and W' H W
applied to slices by two Fourier transforms of twice their width. H weighs the frequencies of the misfit: 1
(``"uniform"``, least squares), or the ramp with each view's share of the half turn (``"ramp"``, W' H being filtered
backprojection).

The model. A detector that sees all of every line samples a band-limited projection completely, so that, with d the
distance of two voxels and h the taps of H,

    (W' H W)(d) = pixel_um**2 sum over views of m_v (h * sinc)(d_x cos a_v - d_y sin a_v)      [h = delta: sinc]

depends on d alone: rotation axis and column shifts drop out, and a block Toeplitz matrix is the middle of a circulant
one of twice the width. The kernel is one backprojection of an impulse on the axis, kept for all iterations.

Holds where rows of W are weighed alike within a view (Landweber, conjugate gradients, total variation; not SIRT, whose
weights differ from ray to ray) and for samples inside the field. The detector's cut through the tails of a voxel's sinc
is left out: a few 1e-4 of the operator. Slices share no arithmetic, so cuts of a slab and threads leave no trace.
"""

from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from npsi_twin.errors import ParameterError
from npsi_twin.projectors.choice import BAND_LIMITED
from npsi_twin.projectors.contract import Projector, accepted_slab_slices_last, accepted_threads, for_each_slice
from npsi_twin.projectors.lane_fft import PAIR, plan_for, smooth_length
from npsi_twin.projectors.lanes import LANES, aligned
from npsi_twin.projectors.nufft import NufftProjector
from npsi_twin.reconstruction.filters import ramp_taps
from npsi_twin.reconstruction.normal_equations import Weighting, accepted_weighting, weights_of
from npsi_twin.reconstruction.slices import slices_last
from npsi_twin.reconstruction.toeplitz_kernels import convolve_lines, lines_to_rows, rows_to_lines
from npsi_twin.scan import ParallelBeam
from npsi_twin.volumes import FloatArray

#: Error of the kernel's own backprojection; single precision ends near it.
_KERNEL_ACCURACY = 1e-6
#: Columns of the detector on which the kernel is made, in widths of the slice: two voxels are at most 2.83 apart.
_KERNEL_WIDTHS = 3


class ToeplitzEquations:
    """The normal equations W' H W x = W' H p of a scan, W' H W by Fourier transforms.

    Parameters
    ----------
    projector
        A band-limited projector, ``"fourier"``, ``"nufft"`` or ``"cufinufft"``.
    weighting
        H: ``"uniform"`` or ``"ramp"``.
    threads
        Threads; every core this process may use when None.

    Attributes
    ----------
    projector, weighting
        As given.
    bound
        At least the largest eigenvalue of W' H W: the largest of the circulant that holds it.

    Raises
    ------
    ParameterError
        The projector is not band-limited, or the weighting unknown.

    References
    ----------
    F. Natterer, "The Mathematics of Computerized Tomography", SIAM (2001), doi:10.1137/1.9780898719284, section V.
    J. A. Fessler, S. Lee, V. T. Olafsson, H. R. Shi, D. C. Noll, "Toeplitz-based iterative image reconstruction for MRI
    with correction for magnetic field inhomogeneity", IEEE Trans. Signal Process. 53, 3393 (2005),
    doi:10.1109/TSP.2005.853152.

    Examples
    --------
    >>> from npsi_twin.projectors.fourier import FourierProjector
    >>> beam = ParallelBeam(np.pi * np.arange(40) / 40, columns=48, pixel_nm=1000.0, rotation_axis_px=23.5)
    >>> projector = FourierProjector(beam, 32)
    >>> slab = np.zeros((1, 32, 32), np.float32)
    >>> slab[0, 14:18, 12:20] = 1.0
    >>> there_and_back = projector.adjoint(projector.forward(slab))
    >>> applied = ToeplitzEquations(projector).apply(slab.transpose(1, 2, 0))[:, :, 0]
    >>> bool(np.abs(applied - there_and_back[0]).max() < 0.01 * np.abs(applied).max())
    True
    """

    def __init__(self, projector: Projector, weighting: Weighting = "uniform", *, threads: int | None = None) -> None:
        if projector.name not in BAND_LIMITED:
            raise ParameterError(
                f"Toeplitz: got projector {projector.name!r}; only {', '.join(BAND_LIMITED)} are band-limited, so that "
                "their normal operator is a convolution. Take one of them, or `ProjectedEquations`."
            )
        self.projector = projector
        self.weighting = accepted_weighting("Toeplitz", weighting)
        self._taps, self._shares = weights_of(projector.beam, weighting)
        spectrum = normal_spectrum(projector.beam, projector.width, self._taps is not None, self._shares)
        self.bound = float(spectrum.max())
        self._convolve = SliceConvolution(projector.width, spectrum, threads=threads)

    def right_side(self, sinograms: FloatArray) -> FloatArray:
        """Return W' H p, (y, x, z), of sinograms (z, view, column)."""
        if self._taps is None:
            return slices_last(self.projector.adjoint(sinograms))
        return slices_last(self.projector.filtered_adjoint(sinograms * self._shares[:, None], self._taps))

    def apply(self, slab: FloatArray) -> FloatArray:
        """Return W' H W x, (y, x, z), of slices x (y, x, z)."""
        return self._convolve(accepted_slab_slices_last("Toeplitz, apply", slab, self.projector.width))


class SliceConvolution:
    """Convolution of slices with an even kernel, zeros around them, sixteen slices at a time.

    Parameters
    ----------
    width
        Voxels along a side of a slice.
    spectrum
        The kernel's real spectrum (kx >= 0, ky) on a period of `period_of` voxels a side.
    threads
        Threads; every core this process may use when None.

    Examples
    --------
    >>> doubled = SliceConvolution(5, np.full((period_of(5) // 2 + 1, period_of(5)), 2.0))
    >>> slab = np.arange(50, dtype=np.float32).reshape(5, 5, 2)
    >>> bool(np.allclose(doubled(slab), 2 * slab, atol=1e-4))
    True
    """

    def __init__(self, width: int, spectrum: NDArray[np.float64], *, threads: int | None = None) -> None:
        self._threads = accepted_threads("Toeplitz", threads)
        self._width, self._size = width, period_of(width)
        self._plan = plan_for(self._size)
        # The transforms multiply by their lengths.
        self._spectrum = np.ascontiguousarray(spectrum / self._size**2, np.float32)

    def __call__(self, slab: FloatArray) -> FloatArray:
        """Return the convolved slices (y, x, z)."""
        made = np.empty_like(slab)
        lines, pairs = self._size // 2 + 1, (self._width + 1) // 2
        cells = aligned(lines * self._width * PAIR)
        for start in range(0, slab.shape[2], LANES):
            part = slice(start, start + LANES)
            self._share(rows_to_lines, pairs, slab[:, :, part], cells)
            self._share(convolve_lines, lines, self._width, cells, self._spectrum)
            self._share(lines_to_rows, pairs, cells, made[:, :, part])
        return made

    def _share(self, kernel: Any, count: int, *arguments: Any) -> None:
        parts = min(count, 8 * self._threads)

        def work(index: int) -> None:
            buffers = (aligned(self._size * PAIR), aligned(self._size * PAIR))
            kernel(index * count // parts, (index + 1) * count // parts, *arguments, self._plan, *buffers)

        for_each_slice(work, parts, self._threads)


def period_of(width: int) -> int:
    """Return the period, in voxels, at which no two voxels of a slice meet around the end.

    Examples
    --------
    >>> period_of(512)
    1024
    """
    return smooth_length(2 * width - 1, multiple_of=2)


def normal_spectrum(beam: ParallelBeam, width: int, ramp: bool, shares: FloatArray) -> NDArray[np.float64]:
    """Return the real spectrum (kx >= 0, ky) of the kernel of W' H W, for slices of a width, on their period.

    Parameters
    ----------
    beam
        Geometry; axis and shifts do not matter.
    width
        Voxels along a side of a slice.
    ramp
        Whether H is the ramp.
    shares
        What H multiplies each view by, (views,).

    Examples
    --------
    >>> beam = ParallelBeam(np.pi * np.arange(10) / 10, columns=8, pixel_nm=1000.0)
    >>> spectrum = normal_spectrum(beam, 8, False, np.ones(10, np.float32))
    >>> spectrum.shape, int(spectrum.argmax())
    ((9, 16), 0)
    """
    # Distances within a slice reach 2 width - 1 voxels; the impulse lies on the axis, at the centre of that square.
    columns = (_KERNEL_WIDTHS * width) | 1
    wide_beam = ParallelBeam(beam.angles_rad, columns, beam.pixel_nm, columns // 2)
    wide = NufftProjector(wide_beam, 2 * width - 1, accuracy=_KERNEL_ACCURACY, threads=1)
    impulse = np.zeros((1, beam.views, columns), np.float32)
    impulse[0, :, columns // 2] = shares * (beam.pixel_nm / 1000)
    taps = ramp_taps(columns, beam.pixel_nm) if ramp else np.ones(1)
    kernel = wide.filtered_adjoint(impulse, taps)[0]
    # It is even but for rounding; made so exactly, its spectrum is real.
    kernel = (kernel.astype(np.float64) + kernel[::-1, ::-1]) / 2
    size = period_of(width)
    periodic = np.zeros((size, size))
    periodic[: 2 * width - 1, : 2 * width - 1] = kernel
    periodic = np.roll(periodic, (1 - width, 1 - width), axis=(0, 1))
    return np.asarray(scipy.fft.rfft2(periodic).real.T, np.float64)
