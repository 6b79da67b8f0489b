"""The package's own fast projector: central slices of the Fourier transform, sixteen slices of a slab at a time.

Takes slices (z, y, x) in 1/um and gives sinograms (z, view, column), and the exact transpose. The slice axis may be
last instead, which saves the transposition: `FourierProjector.forward_slices_last`.

The model is that of `npsi_twin.projectors.nufft`, the Fourier-slice theorem for point masses at voxel centres,

    P(v, w_k) = sum over voxels f(x, y) exp(-i w_k (x cos a_v - y sin a_v)),     w_k = 2 pi k / M,  |k| <= M / 2
    sinogram[v, c] = pixel_um / M * sum over k of P(v, w_k) exp(i w_k (c - axis - shift_v)),

where the two ends k = +-M / 2 of an even M count half each. It holds where that one does: any angles, axis and shifts,
objects up to the slice's corners. P is evaluated by gridding: divide f by the window's own transform, transform it on a
grid of G > width cells, and sum the grid over a window of a few cells about each sample. The window is the exponential
of a semicircle (Barnett et al. 2019),

    psi(u) = exp(beta (sqrt(1 - (2 u / span)^2) - 1)),   |u| < span / 2,

as a polynomial between any two cells; the transform it is divided by is that of these polynomials, by Gauss-Legendre
quadrature. Span and G / width are the cheapest that meet the asked accuracy, in root mean square over the slice.

What makes it fast: all slices share the geometry, so a window's weights are computed once and applied to sixteen slices
in vector registers, and a transform of sixteen lines side by side needs no shuffling and stays in the cache
(`npsi_twin.projectors.lane_fft`). Fewer than sixteen slices cost as much as sixteen.

What makes it repeatable: a slice shares no arithmetic with its neighbours, so any cut of a slab into smaller ones gives
the same bytes. Threads share out rows, columns and views, none of which meets another; the transpose adds samples to
the grid by strips of rows that depend on the geometry alone, each worked on by one thread, first every second strip and
then the others, so that no two that touch are ever worked on at once. Any number of threads gives the same bytes.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import ParameterError
from npsi_twin.projectors import fourier_kernels as kernels
from npsi_twin.projectors.contract import (
    Reach,
    accepted_geometry,
    accepted_sinograms,
    accepted_sinograms_slices_last,
    accepted_slab,
    accepted_slab_slices_last,
    accepted_taps,
    accepted_threads,
    for_each_part,
)
from npsi_twin.projectors.gridding_window import WINDOWS, window_polynomials, window_transform
from npsi_twin.projectors.lane_fft import PAIR, plan_for, smooth_length
from npsi_twin.projectors.lanes import LANES, IdleArrays, batches
from npsi_twin.scan import ParallelBeam
from npsi_twin.volumes import FloatArray

#: Columns between a wrapped copy of the object and the detector: a few lobes of the sinc that a point projects to.
_GAP_PX = 8

#: Memory that the grid may take. A larger one exists in bands, one after the other, and its rows are transformed anew
#: for each: slices of 2448 voxels, a full detector's, need one band, and the same at half the voxel three.
GRID_BYTES = 1 << 30

#: Rows of a strip of the grid, at least: few enough for the strip to stay in the cache while all views meet it.
_STRIP_ROWS = 24


class FourierProjector:
    """Parallel-beam projector by Fourier gridding, an implementation of `npsi_twin.projectors.contract.Projector`.

    Parameters
    ----------
    beam
        Geometry with a known rotation axis, any angles, any column shifts.
    width
        Voxels along a side of a slice; a voxel is ``beam.pixel_nm``.
    accuracy
        Error of the gridding allowed, relative to the values' root mean square for a slice that is white noise up to
        its corners, 2.1e-6 to 1e-2.
    threads
        Threads that share out rows and views; every core this process may use when None.

    Attributes
    ----------
    name
        ``"fourier"``.
    beam, width, accuracy, threads
        As given.

    Raises
    ------
    IncompatibleError
        The rotation axis is unknown.
    ParameterError
        A width, accuracy or number of threads outside its range.

    References
    ----------
    A. H. Barnett, J. Magland and L. af Klinteberg, "A parallel nonuniform fast Fourier transform library based on an
    'exponential of semicircle' kernel", SIAM J. Sci. Comput. 41 (2019) C479, doi:10.1137/18M120885X (the window).
    F. Natterer, "The Mathematics of Computerized Tomography", SIAM (2001), doi:10.1137/1.9780898719284, section V.2.
    J. D. O'Sullivan, "A fast sinc function gridding algorithm for Fourier inversion in computer tomography", IEEE
    Trans. Med. Imaging 4 (1985) 200, doi:10.1109/TMI.1985.4307723.

    Examples
    --------
    >>> angles = np.arange(12) * np.pi / 12
    >>> projector = FourierProjector(ParallelBeam(angles, columns=24, pixel_nm=50.0, rotation_axis_px=11.5), 16)
    >>> slab = np.zeros((1, 16, 16), np.float32)
    >>> slab[0, 6:10, 6:10] = 2.0
    >>> sinograms = projector.forward(slab)
    >>> sinograms.shape, round(float(sinograms[0, 0, 11]), 4)
    ((1, 12, 24), 0.4)
    """

    def __init__(self, beam: ParallelBeam, width: int, *, accuracy: float = 1e-4, threads: int | None = None) -> None:
        where = "projector 'fourier'"
        accepted_geometry(where, beam, width)
        if not WINDOWS[-1][2] <= accuracy <= 1e-2:
            raise ParameterError(
                f"{where}: got accuracy {accuracy!r}; 2.1e-6 to 1e-2 is possible, since single precision ends near "
                "1e-6 and a coarser gridding is worse than the voxels' own discretisation. Leave it out for 1e-4."
            )
        self.name = "fourier"
        self.beam = beam
        self.width = int(width)
        self.accuracy = float(accuracy)
        self.threads = accepted_threads(where, threads)
        self._reach = Reach.of(beam, self.width)
        self._span, oversampling, _ = next(window for window in WINDOWS if window[2] <= accuracy)
        self._halo = self._span // 2 + 1
        # The two halos of the half-plane must not meet.
        self._size = smooth_length(max(math.ceil(oversampling * self.width), 6 * self._span), multiple_of=2)
        self._across = plan_for(self._size)
        clear = math.ceil(max(self._reach.radius_px + self._reach.farthest_px, self._extended_columns)) + _GAP_PX
        self._along = plan_for(smooth_length(clear))
        pieces = window_polynomials(self._span, oversampling)
        places = np.arange(-(self.width // 2), self.width - self.width // 2)
        self._deapodise = (1 / window_transform(pieces, places / self._size)).astype(np.float32)
        self._window = _window_registers(pieces)
        self._views = self._sampling()
        self._edges = self._strip_edges()
        samples = self._views.phases.shape[1]
        self._bands = [
            (
                edge,
                beyond - edge,
                kernels.samples_of_strips(self._views.steps, samples, self._span, self._edges, edge, beyond),
            )
            for edge, beyond in itertools.pairwise(self._band_edges())
        ]
        self._ones = np.ones(beam.columns, np.float32)
        self._longest = max(self._size, self._along.length, self._filter_length(2 * beam.columns - 1))
        self._idle = IdleArrays()

    @property
    def lengths(self) -> tuple[int, int]:
        """Lengths of the transforms of the slice's grid and of a view."""
        return self._size, self._along.length

    @property
    def _extended_columns(self) -> int:
        return self._reach.before + self.beam.columns + self._reach.after

    def _sampling(self) -> kernels.Views:
        """Return where the views sample the plane and with which phases."""
        beam, length = self.beam, self._along.length
        cosine, sine = np.cos(beam.angles_rad), np.sin(beam.angles_rad)
        # The grid holds kx >= 0; a sample on the other side is the conjugate of the one opposite.
        flips = np.where(cosine < 0, -1.0, 1.0)
        steps = np.stack([cosine * flips, -sine * flips], axis=1) * (self._size / length)
        # The grid counts voxels from width // 2; for an even width the slice's centre lies half a voxel before that.
        half_voxel = self.width // 2 - (self.width - 1) / 2
        place = beam.known_axis_px() + np.asarray(beam.column_shift_px) + half_voxel * (cosine - sine)
        turns = np.outer(place, np.arange(length // 2 + 1)) % length / length * (2 * np.pi)
        phases = np.stack([np.cos(turns), -np.sin(turns)], axis=2) * (beam.pixel_nm / 1000 / length)
        return kernels.Views(steps, flips.astype(np.float32), phases.astype(np.float32))

    def _strip_edges(self) -> NDArray[np.int64]:
        """Return the ky at which strips of grid rows begin; a strip is as high as a window or higher."""
        rows = self._size + 2 * self._halo
        strips = max(1, rows // _STRIP_ROWS)
        return np.linspace(-(rows // 2), rows // 2, strips + 1).astype(np.int64)

    def _band_edges(self) -> list[int]:
        """Return the kx at which bands of the grid begin, and where the last one ends."""
        columns = self._size // 2 + 1
        held = (self._size + 2 * self._halo) * columns * 4 * PAIR
        return [int(edge) for edge in np.linspace(0, columns, -(-held // GRID_BYTES) + 1)]

    def forward(self, slab: FloatArray) -> FloatArray:
        """Return line integrals (z, views, columns) of a slab (z, width, width) in 1/um; see `Projector.forward`."""
        slab = accepted_slab("projector 'fourier', forward", slab, self.width)
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

        Examples
        --------
        >>> beam = ParallelBeam(np.array([0.0, 1.0]), columns=10, pixel_nm=100.0, rotation_axis_px=4.5)
        >>> projector = FourierProjector(beam, 10)
        >>> volume = np.random.default_rng(0).random((10, 10, 3), np.float32)
        >>> last, first = projector.forward_slices_last(volume), projector.forward(volume.transpose(2, 0, 1))
        >>> last.shape, bool(np.all(last == first.transpose(1, 2, 0)))
        ((2, 10, 3), True)
        """
        volume = accepted_slab_slices_last("projector 'fourier', forward_slices_last", volume, self.width)
        sinograms = np.empty((self.beam.views, self.beam.columns, volume.shape[2]), np.float32)
        self._project(volume, sinograms)
        return sinograms

    def adjoint(self, sinograms: FloatArray) -> FloatArray:
        """Return the transpose of `forward`, (z, width, width), of sinograms (z, views, columns)."""
        sinograms = accepted_sinograms("projector 'fourier', adjoint", sinograms, self.beam)
        return self._backproject_slices_first(sinograms, None)

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
        where = "projector 'fourier', adjoint_slices_last"
        sinograms = accepted_sinograms_slices_last(where, sinograms, self.beam)
        slab = np.empty((self.width, self.width, sinograms.shape[2]), np.float32)
        self._backproject(sinograms, slab, None)
        return slab

    def filtered_adjoint(self, sinograms: FloatArray, taps: NDArray[np.floating[Any]]) -> FloatArray:
        """Return the transpose applied to sinograms convolved with ``taps``; see `Projector.filtered_adjoint`."""
        where = "projector 'fourier', filtered_adjoint"
        filters = accepted_taps(where, taps, self.beam)
        sinograms = accepted_sinograms(where, sinograms, self.beam)
        return self._backproject_slices_first(sinograms, filters)

    def _backproject_slices_first(self, sinograms: FloatArray, filters: NDArray[np.float64] | None) -> FloatArray:
        slab = np.empty((sinograms.shape[0], self.width, self.width), np.float32)
        self._backproject(sinograms.transpose(1, 2, 0), slab.transpose(1, 2, 0), filters)
        return slab

    def _project(self, slab: FloatArray, sinograms: FloatArray) -> None:
        """Fill sinograms (view, column, z) from a slab (y, x, z), `LANES` slices at a time."""
        pairs_of_rows, pairs_of_views = (self.width + 1) // 2, (self.beam.views + 1) // 2
        with self._idle.lent(self._grid_numbers) as cells, self._idle.lent(self._views.phases.size * LANES) as spectra:
            for part in batches(slab.shape[2]):
                given, made = slab[:, :, part], sinograms[:, :, part]
                for first, columns, members in self._bands:
                    grid = self._grid(cells, first, columns)
                    self._share(kernels.rows_to_grid, pairs_of_rows, given, grid, self._across)
                    self._share(kernels.columns_to_frequency, grid.beyond - grid.lowest, grid, self._across)
                    samples = (grid, self._views, members, spectra)
                    self._share(kernels.frequency_to_spectra, self._edges.size - 1, *samples)
                self._share(kernels.spectra_to_views, pairs_of_views, spectra, self._along, made, self._ones)

    def _backproject(self, sinograms: FloatArray, slab: FloatArray, taps: NDArray[np.float64] | None) -> None:
        """Fill a slab (y, x, z) from sinograms (view, column, z), `LANES` slices at a time."""
        convolve = self._filter(taps)
        pairs_of_rows, pairs_of_views = (self.width + 1) // 2, (self.beam.views + 1) // 2
        strips = self._edges.size - 1
        with self._idle.lent(self._grid_numbers) as cells, self._idle.lent(self._views.phases.size * LANES) as spectra:
            for part in batches(slab.shape[2]):
                given, made = sinograms[:, :, part], slab[:, :, part]
                views = (given, self._ones, convolve, self._views, self._along, spectra)
                self._share(kernels.views_to_spectra, pairs_of_views, *views)
                for first, columns, members in self._bands:
                    grid = self._grid(cells, first, columns)
                    for odd in (0, 1):
                        spread = (odd, self._edges, spectra, self._views, members, grid)
                        self._share(kernels.spectra_to_frequency, (strips + 1 - odd) // 2, *spread)
                    self._share(kernels.frequency_to_columns, grid.beyond - grid.lowest, grid, self._across)
                    self._share(kernels.grid_to_rows, pairs_of_rows, grid, self._across, made)

    def _grid(self, cells: FloatArray, first: int, columns: int) -> kernels.Grid:
        half, halo = self._size // 2 + 1, self._halo
        held = max(0, first - halo), min(half, first + columns + halo)
        return kernels.Grid(cells, self._size, first, columns, halo, *held, self._span, self._window, self._deapodise)

    @property
    def _grid_numbers(self) -> int:
        return (self._size + 2 * self._halo) * (max(band[1] for band in self._bands) + 2 * self._halo) * PAIR

    def _filter_length(self, taps: int) -> int:
        """Return a length at which no wrapped product touches a kept column; see `ColumnFilter`."""
        return smooth_length(max(taps, taps // 2 + self.beam.columns + max(self._reach.before, self._reach.after)))

    def _filter(self, taps: NDArray[np.float64] | None) -> kernels.Filter:
        if taps is None:
            return kernels.Filter(np.empty((0, 0, 0), np.float32), plan_for(1), 0, 0)
        count = taps.shape[1]
        length = self._filter_length(count)
        padded = np.zeros((taps.shape[0], length))
        padded[:, : count // 2 + 1] = taps[:, count // 2 :]
        padded[:, length - count // 2 :] = taps[:, : count // 2]
        # The transforms there and back multiply by the length, taking a pair of views apart by two.
        spectra = np.fft.rfft(padded, axis=1) / (2 * length)
        parts = np.stack([spectra.real, spectra.imag], axis=2).astype(np.float32)
        return kernels.Filter(parts, plan_for(length), self._reach.before, self._reach.after)

    def _share(self, kernel: Callable[..., None], count: int, *arguments: Any) -> None:
        """Run a kernel over ``range(count)``, cut into parts that threads take in turn."""
        longest = self._longest * PAIR

        def work(start: int, stop: int) -> None:
            with self._idle.lent(2 * longest + LANES) as numbers:
                scratch = kernels.Scratch(numbers[:longest], numbers[longest : 2 * longest], numbers[2 * longest :])
                kernel(start, stop, *arguments, scratch)

        for_each_part(work, count, self.threads)  # the second half of a single strip is nobody's


def _window_registers(pieces: NDArray[np.float64]) -> FloatArray:
    """Return `Grid.window` of the kernels."""
    span, terms = pieces.shape
    rows = np.zeros((terms + 2, 2, kernels.WIDEST), np.float32)
    rows[0, 0] = rows[1, 1] = 1
    rows[2:, :, :span] = pieces[:, ::-1].T[:, None, :]
    return rows.ravel()
