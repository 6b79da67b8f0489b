"""The normal equations W' H W x = W' H p: what iterations on slices need to know of a scan.

Takes a `Projector`, gives `ProjectedEquations`: the right side of a scan, and the operator applied to slices by
projecting there and back. `toeplitz` has the same equations for band-limited projectors without leaving the slice.

The model: least squares in the norm of H, a convolution of every view along its columns and a weight for the view,

    minimise <p - W x, H (p - W x)>,     H = 1 (``"uniform"``)  or  H = w_v ramp (``"ramp"``).

Uniform is maximum likelihood for noise that is the same everywhere; its eigenvalues fall as 1 / frequency, so that
plain steps take long to reach fine detail. The ramp makes W' H filtered backprojection and W' H W nearly the identity
inside the field: the preconditioned variant, which reaches every frequency at once, and its noise with it. Arrays have
the slice axis last, (y, x, z) and (view, column, z), as the fast projectors do.
"""

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import ParameterError
from npsi_twin.projectors.contract import ColumnFilter, Projector, accepted_sinograms
from npsi_twin.reconstruction.algorithms import angular_weights_rad
from npsi_twin.reconstruction.filters import ramp_taps
from npsi_twin.reconstruction.slices import slice_dots, slices_last
from npsi_twin.scan import ParallelBeam
from npsi_twin.volumes import FloatArray

Weighting = Literal["uniform", "ramp"]

#: Power iterations for the largest eigenvalue, and what the estimate is raised by; steps stay stable up to twice it.
_POWER_ITERATIONS, _POWER_MARGIN = 10, 1.05


class NormalEquations(Protocol):
    """W' H W x = W' H p for one geometry; slices never meet."""

    @property
    def projector(self) -> Projector:
        """W."""

    @property
    def weighting(self) -> Weighting:
        """H."""

    @property
    def bound(self) -> float:
        """The largest eigenvalue of W' H W, or a little more."""

    def right_side(self, sinograms: FloatArray) -> FloatArray:
        """Return W' H p, (y, x, z), of sinograms (z, view, column)."""

    def apply(self, slab: FloatArray) -> FloatArray:
        """Return W' H W x, (y, x, z), of slices (y, x, z)."""


class ProjectedEquations:
    """The normal equations through any projector, forward and back.

    Parameters
    ----------
    projector
        W.
    weighting
        H: ``"uniform"`` or ``"ramp"``.

    Examples
    --------
    >>> from npsi_twin.projectors.choice import choose_projector
    >>> beam = ParallelBeam(np.pi * np.arange(20) / 20, columns=16, pixel_nm=1000.0, rotation_axis_px=7.5)
    >>> equations = ProjectedEquations(choose_projector("fourier", beam, 16))
    >>> equations.apply(np.ones((16, 16, 2), np.float32)).shape
    (16, 16, 2)
    """

    def __init__(self, projector: Projector, weighting: Weighting = "uniform") -> None:
        self.projector = projector
        self.weighting = accepted_weighting("normal equations", weighting)
        self._taps, self._shares = weights_of(projector.beam, weighting)
        self._bound: float | None = None

    @property
    def bound(self) -> float:
        """The largest eigenvalue by power iterations from a slice of ones, five hundredths added."""
        if self._bound is None:
            slab = np.ones((self.projector.width, self.projector.width, 1), np.float32)
            for _ in range(_POWER_ITERATIONS):
                slab /= np.float32(np.sqrt(slice_dots(slab, slab)[0]))
                slab = self.apply(slab)
            self._bound = _POWER_MARGIN * float(np.sqrt(slice_dots(slab, slab)[0]))
        return self._bound

    def right_side(self, sinograms: FloatArray) -> FloatArray:
        """Return W' H p, (y, x, z), of sinograms (z, view, column)."""
        if self._taps is None:
            return slices_last(self.projector.adjoint(sinograms))
        return slices_last(self.projector.filtered_adjoint(sinograms * self._shares[:, None], self._taps))

    def apply(self, slab: FloatArray) -> FloatArray:
        """Return W' H W x, (y, x, z), of slices (y, x, z)."""
        return self.right_side(self.projector.forward(slab.transpose(2, 0, 1)))


def accepted_weighting(where: str, weighting: Weighting) -> Weighting:
    """Return the weighting after checking that it is known."""
    if weighting not in ("uniform", "ramp"):
        raise ParameterError(f"{where}: got weighting {weighting!r}; 'uniform' and 'ramp' are known.")
    return weighting


def weights_of(beam: ParallelBeam, weighting: Weighting) -> tuple[NDArray[np.float64] | None, FloatArray]:
    """Return the taps of H, 1/um**2, None where it is 1, and what it multiplies each view by, (views,)."""
    if weighting == "uniform":
        return None, np.ones(beam.views, np.float32)
    return ramp_taps(beam.columns, beam.pixel_nm), angular_weights_rad(beam.angles_rad).astype(np.float32)


def finest_eigenvalue(beam: ParallelBeam, weighting: Weighting) -> float:
    """Return the eigenvalue of W' H W at half a cycle a pixel for views spread evenly over half a turn.

    A view's line through the frequency plane meets frequency nu, in cycles a pixel, with density 1 / (pi nu).

    Examples
    --------
    >>> beam = ParallelBeam(np.arange(10.0), columns=16, pixel_nm=1000.0)
    >>> round(finest_eigenvalue(beam, "uniform") * np.pi, 6), finest_eigenvalue(beam, "ramp")
    (20.0, 1.0)
    """
    return 1.0 if weighting == "ramp" else 2 * beam.views * (beam.pixel_nm / 1000) ** 2 / np.pi


def data_norms(line_integrals: FloatArray, beam: ParallelBeam, weighting: Weighting) -> NDArray[np.float64]:
    """Return <p, H p> of every slice, (z,)."""
    sinograms = accepted_sinograms("normal equations", line_integrals, beam)
    taps, shares = weights_of(beam, weighting)
    convolve = None if taps is None else ColumnFilter("normal equations", taps, beam, 0, 0)
    norms = np.empty(len(sinograms))
    for z, sinogram in enumerate(sinograms):
        weighed = sinogram if convolve is None else convolve(sinogram) * shares[:, None]
        norms[z] = slice_dots(sinogram[:, :, None], weighed[:, :, None])[0]
    return norms
