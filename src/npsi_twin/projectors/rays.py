"""The package's own ray projector: Joseph's line integrals, their transpose and a pixel-driven backprojector.

Takes slices (z, y, x) in 1/um and gives sinograms (z, view, column), and the exact transpose. The slice axis may be
last instead, which saves the transposition: `RaysProjector.forward_slices_last`.

The model is Joseph's: a ray is followed along the axis it is closer to, and in every line of pixels across that axis it
meets the value interpolated between the two pixels it passes. With m = max(|cos a|, |sin a|) and p the place in columns
at which a pixel's centre falls on the detector,

    sinogram[v, c] = sum over pixels f * pixel_um * w(p - c),     w(d) = max(0, 1 - |d| / m) / m,

which reads both ways: `forward` interpolates along every ray, `adjoint` lets every pixel take from the two columns
about p, and the two are one matrix and its transpose. `backproject` takes w(d) = max(0, 1 - |d|) instead, linear
interpolation between columns: smoother, not the transpose, and what iterative methods mostly use on a GPU.

Holds for any angles, axis and shifts, objects up to the slice's corners and detectors narrower than the slice: a value
touches only the rays that pass it, so nothing is periodic and nothing rings. Interpolation blurs by a variance of up to
a sixth of a pixel squared. It costs as many steps as pixels times views; for scans of hundreds of views
`npsi_twin.projectors.fourier` is several times faster.

What makes it fast: indices and weights are computed once, for sixteen steps in a go, and applied to sixteen slices in
vector registers (`npsi_twin.projectors.lanes`), and slices are passed tile by tile, so that all views find their tile
in the cache. What makes it repeatable: a slice shares no arithmetic with its neighbours, and every sum runs in an order
that depends on the geometry alone; threads share out views, or tiles.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npsi_twin.projectors import rays_kernels as kernels
from npsi_twin.projectors.contract import (
    ColumnFilter,
    Reach,
    accepted_geometry,
    accepted_sinograms,
    accepted_sinograms_slices_last,
    accepted_slab,
    accepted_slab_slices_last,
    accepted_threads,
    for_each_part,
    for_each_slice,
)
from npsi_twin.projectors.lanes import LANES, IdleArrays, batches
from npsi_twin.scan import ParallelBeam
from npsi_twin.volumes import FloatArray

#: Columns of zeros before and after what the slice's corners reach: interpolation reads one, rounding may ask for one.
_MARGIN = 2


class RaysProjector:
    """Parallel-beam projector along rays, an implementation of `npsi_twin.projectors.contract.Projector`.

    Parameters
    ----------
    beam
        Geometry with a known rotation axis, any angles, any column shifts.
    width
        Voxels along a side of a slice; a voxel is ``beam.pixel_nm``.
    threads
        Threads that share out views and tiles; every core this process may use when None.

    Attributes
    ----------
    name
        ``"rays"``.
    beam, width, threads
        As given.

    Raises
    ------
    IncompatibleError
        The rotation axis is unknown.
    ParameterError
        A width or number of threads outside its range.

    References
    ----------
    P. M. Joseph, "An improved algorithm for reprojecting rays through pixel images", IEEE Trans. Med. Imaging 1 (1982)
    192, doi:10.1109/TMI.1982.4307572.
    F. Xu and K. Mueller, "A comparative study of popular interpolation and integration methods for use in computed
    tomography", ISBI (2006) 1252, doi:10.1109/ISBI.2006.1625152.

    Examples
    --------
    >>> angles = np.arange(12) * np.pi / 12
    >>> projector = RaysProjector(ParallelBeam(angles, columns=24, pixel_nm=50.0, rotation_axis_px=11.5), 16)
    >>> slab = np.zeros((1, 16, 16), np.float32)
    >>> slab[0, 6:10, 6:10] = 2.0
    >>> sinograms = projector.forward(slab)
    >>> sinograms.shape, round(float(sinograms[0, 0, 11]), 4)
    ((1, 12, 24), 0.4)
    """

    def __init__(self, beam: ParallelBeam, width: int, *, threads: int | None = None) -> None:
        where = "projector 'rays'"
        accepted_geometry(where, beam, width)
        self.name = "rays"
        self.beam = beam
        self.width = int(width)
        self.threads = accepted_threads(where, threads)
        self._reach = Reach.of(beam, self.width)
        self._voxel_um = np.float32(beam.pixel_nm / 1000)
        cosine, sine = np.cos(beam.angles_rad), np.sin(beam.angles_rad)
        self._steeper = np.maximum(np.abs(cosine), np.abs(sine))
        self._factors = (beam.pixel_nm / 1000 / self._steeper).astype(np.float32)
        self._rays = self._lines(cosine, sine)
        self._before = self._reach.before + _MARGIN
        self._pitch = self._before + beam.columns + self._reach.after + _MARGIN
        self._transposed = self._shadows(cosine, sine, 1 / self._steeper)
        self._interpolated = self._shadows(cosine, sine, np.ones(beam.views))
        self._idle = IdleArrays()

    def _lines(self, cosine: NDArray[np.float64], sine: NDArray[np.float64]) -> kernels.Rays:
        """Return every view's rays in places of the slice with its border."""
        last, pitch = self.width - 1, self.width + 2 * kernels.BORDER
        by_row = np.abs(sine) <= np.abs(cosine)
        axis = self.beam.known_axis_px() + np.asarray(self.beam.column_shift_px)
        # Rows y: x = (s + y sin) / cos. Columns x: y = (x cos - s) / sin. Both count from the slice's corner.
        along, across = np.where(by_row, cosine, -sine), np.where(by_row, sine, -cosine)
        per_column, per_line = 1 / along, across / along
        start = -axis / along - last / 2 * per_line + last / 2
        # Counted from the other end where the place falls from line to line.
        falls = per_line < 0
        start = np.where(falls, start + last * per_line, start)
        to_line, to_pixel = np.where(by_row, pitch, 1), np.where(by_row, 1, pitch)
        corner = kernels.BORDER * (pitch + 1)
        places = np.stack(
            [corner + np.where(falls, last * to_line, 0), np.where(falls, -to_line, to_line), to_pixel], 1
        )
        return kernels.Rays(start, per_column, np.maximum(np.abs(per_line), 1e-9), places * LANES)

    def _shadows(
        self, cosine: NDArray[np.float64], sine: NDArray[np.float64], most: NDArray[np.float64]
    ) -> kernels.Shadows:
        """Return where pixels fall on the detector, with weights max(0, most - most^2 |d|)."""
        axis = self.beam.known_axis_px() + np.asarray(self.beam.column_shift_px)
        start = axis + self._before - (self.width - 1) / 2 * (cosine - sine)
        rows = np.arange(self.beam.views)
        missing = -self.beam.views % kernels.TOGETHER
        # Views of zeros make the number up; they look where the first view does.
        rows = np.append(rows, np.zeros(missing, np.int64))
        weight = np.append(most, np.zeros(missing))
        return kernels.Shadows(
            rows * self._pitch * LANES,
            start[rows],
            cosine[rows],
            -sine[rows],
            weight.astype(np.float32),
            (weight**2).astype(np.float32),
        )

    def forward(self, slab: FloatArray) -> FloatArray:
        """Return line integrals (z, views, columns) of a slab (z, width, width) in 1/um; see `Projector.forward`."""
        slab = accepted_slab("projector 'rays', forward", slab, self.width)
        sinograms = np.empty((slab.shape[0], self.beam.views, self.beam.columns), np.float32)
        self._project(slab.transpose(1, 2, 0), sinograms.transpose(1, 2, 0))
        return sinograms

    def forward_slices_last(self, volume: FloatArray) -> FloatArray:
        """Return line integrals (views, columns, z) of a slab whose slice axis is last.

        Parameters
        ----------
        volume
            ``attenuation_per_um``, shape (width, width, z), finite, C-contiguous for speed.

        Returns
        -------
        FloatArray
            Dimensionless, shape (views, columns, z); the numbers that `forward` gives, bit by bit.
        """
        volume = accepted_slab_slices_last("projector 'rays', forward_slices_last", volume, self.width)
        sinograms = np.empty((self.beam.views, self.beam.columns, volume.shape[2]), np.float32)
        self._project(volume, sinograms)
        return sinograms

    def adjoint(self, sinograms: FloatArray) -> FloatArray:
        """Return the transpose of `forward`, (z, width, width), of sinograms (z, views, columns)."""
        sinograms = accepted_sinograms("projector 'rays', adjoint", sinograms, self.beam)
        return self._slices_first(sinograms, self._transposed, self._before)

    def adjoint_slices_last(self, sinograms: FloatArray) -> FloatArray:
        """Return the transpose of `forward_slices_last`.

        Parameters
        ----------
        sinograms
            Dimensionless, shape (views, columns, z), finite, C-contiguous for speed.

        Returns
        -------
        FloatArray
            Shape (width, width, z), um; the numbers that `adjoint` gives, bit by bit.
        """
        return self._slices_last("adjoint_slices_last", sinograms, self._transposed)

    def backproject(self, sinograms: FloatArray) -> FloatArray:
        """Return the sum over views of sinograms interpolated linearly at the place where each voxel falls.

        Parameters
        ----------
        sinograms
            Dimensionless, shape (z, views, columns), finite; converted to float32 where they are not. Beyond the
            detector they count as zero.

        Returns
        -------
        FloatArray
            Shape (z, width, width), um: the sum times the voxel in um, which stands for `adjoint` to about a per cent.

        Examples
        --------
        >>> beam = ParallelBeam(np.linspace(0, 3, 40), columns=24, pixel_nm=50.0, rotation_axis_px=11.5)
        >>> even = RaysProjector(beam, 16).backproject(np.ones((1, 40, 24), np.float32))
        >>> round(float(even[0, 8, 8]), 6)  # 40 views of 1, 0.05 um each
        2.0
        """
        sinograms = accepted_sinograms("projector 'rays', backproject", sinograms, self.beam)
        return self._slices_first(sinograms, self._interpolated, self._before)

    def backproject_slices_last(self, sinograms: FloatArray) -> FloatArray:
        """Return `backproject`'s numbers, bit by bit, (width, width, z), of sinograms (views, columns, z)."""
        return self._slices_last("backproject_slices_last", sinograms, self._interpolated)

    def filtered_adjoint(self, sinograms: FloatArray, taps: NDArray[np.floating[Any]]) -> FloatArray:
        """Return the transpose applied to sinograms convolved with ``taps``; see `Projector.filtered_adjoint`."""
        where = "projector 'rays', filtered_adjoint"
        convolve = ColumnFilter(where, taps, self.beam, self._reach.before, self._reach.after)
        sinograms = accepted_sinograms(where, sinograms, self.beam)
        slab = np.empty((sinograms.shape[0], self.width, self.width), np.float32)
        wide = np.empty((min(LANES, len(slab)), self.beam.views, self._pitch - 2 * _MARGIN), np.float32)
        for part in batches(len(slab)):
            given, made = sinograms[part], slab[part]

            def convolved(index: int, given: FloatArray = given) -> None:
                wide[index] = convolve(given[index])

            for_each_slice(convolved, len(given), self.threads)
            self._backproject(wide[: len(given)].transpose(1, 2, 0), made.transpose(1, 2, 0), self._transposed, _MARGIN)
        return slab

    def _slices_first(self, sinograms: FloatArray, shadows: kernels.Shadows, before: int) -> FloatArray:
        slab = np.empty((sinograms.shape[0], self.width, self.width), np.float32)
        self._backproject(sinograms.transpose(1, 2, 0), slab.transpose(1, 2, 0), shadows, before)
        return slab

    def _slices_last(self, verb: str, sinograms: FloatArray, shadows: kernels.Shadows) -> FloatArray:
        sinograms = accepted_sinograms_slices_last(f"projector 'rays', {verb}", sinograms, self.beam)
        slab = np.empty((self.width, self.width, sinograms.shape[2]), np.float32)
        self._backproject(sinograms, slab, shadows, self._before)
        return slab

    def _project(self, slab: FloatArray, sinograms: FloatArray) -> None:
        """Fill sinograms (view, column, z) from a slab (y, x, z), `LANES` slices at a time."""
        beam, rows = self.beam, self.width + 2 * kernels.BORDER
        with self._idle.lent(rows**2 * LANES) as pixels, self._idle.lent(beam.views * beam.columns * LANES) as views:
            for part in batches(slab.shape[2]):
                self._share(kernels.pixels_in, rows, slab[:, :, part], pixels)
                rays = (pixels, self.width, self._rays, beam.columns, views)
                self._share(self._with_scratch(kernels.pixels_to_views), beam.views, *rays)
                self._share(kernels.views_out, beam.views, views, self._factors, sinograms[:, :, part])

    def _backproject(self, sinograms: FloatArray, slab: FloatArray, shadows: kernels.Shadows, before: int) -> None:
        """Fill a slab (y, x, z) from sinograms (view, column, z), ``before`` columns of zeros before theirs."""
        tiles = (-(-self.width // kernels.PIXEL_TILE)) ** 2
        with self._idle.lent(self.beam.views * self._pitch * LANES) as views:
            for part in batches(slab.shape[2]):
                self._share(kernels.views_in, self.beam.views, sinograms[:, :, part], before, self._pitch, views)
                pixels = (views, shadows, self._voxel_um, slab[:, :, part])
                self._share(self._with_scratch(kernels.views_to_pixels), tiles, *pixels)

    def _with_scratch(self, kernel: Callable[..., None]) -> Callable[..., None]:
        """Return a kernel whose last argument, the scratch, is lent to every call."""

        def call(*arguments: Any) -> None:
            with self._idle.lent(kernels.SCRATCH_NUMBERS) as numbers:
                kernel(*arguments, kernels.scratch_in(numbers))

        return call

    def _share(self, kernel: Callable[..., None], count: int, *arguments: Any) -> None:
        """Run a kernel over ``range(count)``, cut into parts that threads take in turn."""
        for_each_part(lambda start, stop: kernel(start, stop, *arguments), count, self.threads)
