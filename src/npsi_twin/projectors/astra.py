"""The ray road, through the ASTRA toolbox, on the CPU or on an NVIDIA GPU; this package's only door to ASTRA.

Takes slices (z, y, x) in 1/um and gives sinograms (z, view, column), and the transpose.

The model is a sum of voxel values along each ray, weighted by ASTRA's kernel:

* ``"linear"`` (Joseph): linear interpolation between the two nearest voxels of every image row or column;
* ``"line"``: the length of the ray within each voxel; a ray along a column of voxels sees that column only, so that
  views within one voxel a field of 0 or 90 degrees are up to half a pixel off;
* ``"strip"``: the area that each voxel shares with the strip behind a detector pixel, divided by the pixel.

Rotation axis and column shifts enter exactly, as one vector (ray, detector centre, detector step) a view in ASTRA's
``parallel_vec`` geometry. ASTRA's own y points up where this package's points down, which is why its angle has the sign
of `npsi_twin.scan`. On the CPU the backprojection uses the projection's own weights and is its exact transpose.

It costs several hundred times what `npsi_twin.projectors.fourier` does, and stands here as an independent second road
and as the way to a GPU. The CUDA backprojection interpolates the sinogram at every voxel: it approximates the transpose
and does not equal it. Work on the CPU is bit-identical for any number of threads.
"""

from collections.abc import Callable
from typing import Any, Literal

import astra
import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import MissingBackendError, ParameterError
from npsi_twin.projectors.contract import (
    ColumnFilter,
    Reach,
    accepted_geometry,
    accepted_sinograms,
    accepted_slab,
    accepted_threads,
    for_each_slice,
)
from npsi_twin.scan import ParallelBeam
from npsi_twin.volumes import FloatArray

Kernel = Literal["linear", "strip", "line"]


class AstraProjector:
    """Parallel-beam projector through ASTRA, an implementation of `npsi_twin.projectors.contract.Projector`.

    Parameters
    ----------
    beam
        Geometry with a known rotation axis, any angles, any column shifts.
    width
        Voxels along a side of a slice; a voxel is ``beam.pixel_nm``.
    kernel
        How a ray weighs voxels (see the module); a GPU knows ``"linear"`` only.
    device
        ``"cpu"`` or ``"cuda"``.
    threads
        Slices worked on at once on the CPU; every core this process may use when None. A GPU takes them in turn.

    Attributes
    ----------
    name
        ``"astra-cpu"`` or ``"astra-cuda"``.
    beam, width, kernel, threads
        As given.

    Raises
    ------
    IncompatibleError
        The rotation axis is unknown.
    MissingBackendError
        ``device="cuda"`` where ASTRA finds no NVIDIA GPU.
    ParameterError
        An unknown kernel or device, a kernel the device lacks, or a number outside its range.

    References
    ----------
    W. van Aarle et al., "Fast and flexible X-ray tomography using the ASTRA toolbox", Opt. Express 24 (2016) 25129,
    doi:10.1364/OE.24.025129.
    P. M. Joseph, "An improved algorithm for reprojecting rays through pixel images", IEEE Trans. Med. Imaging 1 (1982)
    192, doi:10.1109/TMI.1982.4307572.

    Examples
    --------
    >>> angles = np.arange(12) * np.pi / 12
    >>> beam = ParallelBeam(angles, columns=24, pixel_nm=50.0, rotation_axis_px=11.5)
    >>> slab = np.zeros((1, 16, 16), np.float32)
    >>> slab[0, 6:10, 6:10] = 2.0
    >>> round(float(AstraProjector(beam, 16).forward(slab)[0, 0, 11]), 4)
    0.4
    """

    def __init__(
        self,
        beam: ParallelBeam,
        width: int,
        *,
        kernel: Kernel = "linear",
        device: Literal["cpu", "cuda"] = "cpu",
        threads: int | None = None,
    ) -> None:
        if device not in ("cpu", "cuda"):
            raise ParameterError(f"projector 'astra': got device {device!r}; 'cpu' and 'cuda' are known.")
        self.name = f"astra-{device}"
        where = f"projector '{self.name}'"
        if kernel not in ("linear", "strip", "line") or (device == "cuda" and kernel != "linear"):
            raise ParameterError(
                f"{where}: got kernel {kernel!r}; 'linear' works everywhere, 'strip' and 'line' on the CPU only, "
                "because ASTRA has no others. Use 'linear'."
            )
        accepted_geometry(where, beam, width)
        if device == "cuda" and not astra.use_cuda():
            raise MissingBackendError(
                f"Projector 'astra-cuda' needs an NVIDIA GPU; found astra {astra.__version__} and no GPU. "
                "Use 'fourier' (CPU) or 'astra-cpu'."
            )
        self.beam = beam
        self.width = int(width)
        self.kernel: Kernel = kernel
        self.threads = accepted_threads(where, threads) if device == "cpu" else 1
        self._voxel_um = np.float32(beam.pixel_nm / 1000)
        self._reach = Reach.of(beam, self.width)

    def forward(self, slab: FloatArray) -> FloatArray:
        """Return line integrals (z, views, columns) of a slab (z, width, width) in 1/um; see `Projector.forward`."""
        slab = accepted_slab(f"projector '{self.name}', forward", slab, self.width)
        sinograms = np.zeros((slab.shape[0], self.beam.views, self.beam.columns), np.float32)

        def project(index: int) -> None:
            self._apply("FP", slab[index].copy(), sinograms[index], before=0)

        for_each_slice(project, slab.shape[0], self.threads)
        sinograms *= self._voxel_um
        return sinograms

    def adjoint(self, sinograms: FloatArray) -> FloatArray:
        """Return the transpose of `forward`, (z, width, width), of sinograms (z, views, columns)."""
        return self._backproject("adjoint", sinograms, None)

    def filtered_adjoint(self, sinograms: FloatArray, taps: NDArray[np.floating[Any]]) -> FloatArray:
        """Return the transpose applied to sinograms convolved with ``taps``; see `Projector.filtered_adjoint`."""
        where = f"projector '{self.name}', filtered_adjoint"
        convolve = ColumnFilter(where, taps, self.beam, self._reach.before, self._reach.after)
        return self._backproject("filtered_adjoint", sinograms, convolve)

    def _backproject(
        self, verb: str, sinograms: FloatArray, convolve: Callable[[FloatArray], FloatArray] | None
    ) -> FloatArray:
        sinograms = accepted_sinograms(f"projector '{self.name}', {verb}", sinograms, self.beam)
        slab = np.zeros((sinograms.shape[0], self.width, self.width), np.float32)

        def backproject(index: int) -> None:
            if convolve is None:
                self._apply("BP", slab[index], sinograms[index].copy(), before=0)
            else:
                self._apply("BP", slab[index], convolve(sinograms[index]), before=self._reach.before)

        for_each_slice(backproject, sinograms.shape[0], self.threads)
        slab *= self._voxel_um
        return slab

    def _apply(self, verb: Literal["FP", "BP"], image: FloatArray, sinogram: FloatArray, *, before: int) -> None:
        """Run one ASTRA algorithm between a slice and a sinogram that starts ``before`` columns left of the detector.

        Both arrays are contiguous and writeable; ASTRA works in their memory and lets other threads run meanwhile.
        """
        volume = astra.create_vol_geom(self.width, self.width)
        rays = astra.create_proj_geom("parallel_vec", sinogram.shape[1], self._vectors(sinogram.shape[1], before))
        made: list[tuple[Callable[[int], None], int]] = []
        try:
            image_id = astra.data2d.link("-vol", volume, image)
            made.append((astra.data2d.delete, image_id))
            sinogram_id = astra.data2d.link("-sino", rays, sinogram)
            made.append((astra.data2d.delete, sinogram_id))
            task = astra.astra_dict(verb if self.name == "astra-cpu" else f"{verb}_CUDA")
            if self.name == "astra-cpu":
                task["ProjectorId"] = astra.create_projector(self.kernel, rays, volume)
                made.append((astra.projector.delete, task["ProjectorId"]))
            task["ProjectionDataId"] = sinogram_id
            task["VolumeDataId" if verb == "FP" else "ReconstructionDataId"] = image_id
            algorithm = astra.algorithm.create(task)
            made.append((astra.algorithm.delete, algorithm))
            astra.algorithm.run(algorithm)
        finally:
            for delete, identity in reversed(made):
                delete(identity)

    def _vectors(self, columns: int, before: int) -> NDArray[np.float64]:
        """Return ray direction, detector centre and column step of every view in ASTRA's frame (y up), (views, 6)."""
        cosine, sine = np.cos(self.beam.angles_rad), np.sin(self.beam.angles_rad)
        axis = self.beam.known_axis_px() + np.asarray(self.beam.column_shift_px) + before
        centre = (columns - 1) / 2 - axis
        return np.stack([sine, -cosine, centre * cosine, centre * sine, cosine, sine], axis=1)
