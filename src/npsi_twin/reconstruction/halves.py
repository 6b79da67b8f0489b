"""Two reconstructions of one scan, from every other view: what noise there is, and where.

Takes a `Scan` and the `Plan` of the whole, gives the `Reconstruction` of either half and a `NoiseMap`. The halves share
sample, axis, flats and detector, but no photon: with a and b the two, their mean is nearly the reconstruction of all
views and

    noise(x) = sqrt(mean over a neighbourhood of x of ((a - b) / 2)**2)

is the standard deviation of its photon noise. What the halves share, rings and errors of the flats, cancels and does
not count; streaks of too few views do not cancel and do. `npsi_twin.comparison.resolution` correlates the halves.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from npsi_twin.errors import DataError, IncompatibleError
from npsi_twin.recipes import MadeBy
from npsi_twin.reconstruction.filters import sirt_fbp_taps
from npsi_twin.reconstruction.illumination import Illumination
from npsi_twin.reconstruction.route import Plan, Reconstruction, ReconstructionRecipe, reconstruct
from npsi_twin.scan import Scan
from npsi_twin.volumes import Volume


@dataclass(frozen=True)
class NoiseMap:
    """Standard deviation of the noise of a reconstruction.

    Attributes
    ----------
    sigma
        ``attenuation_per_um``, (row, y, x).
    neighbourhood_px
        Standard deviation of the Gaussian over which squares were averaged, pixels.
    made_by
        Provenance.
    """

    sigma: Volume
    neighbourhood_px: float
    made_by: MadeBy


def half_scan(scan: Scan, half: int) -> Scan:
    """Return every other view of a scan, from the first (0) or the second (1).

    Parameters
    ----------
    scan
        At least 4 views.
    half
        0 or 1.

    Raises
    ------
    DataError
        Too few views.

    Examples
    --------
    >>> from npsi_twin.scan import ParallelBeam
    >>> beam = ParallelBeam(np.arange(5.0), columns=2, pixel_nm=50.0)
    >>> scan = Scan(np.ones((5, 1, 2)), np.ones((1, 1, 2)), np.zeros((1, 1, 2)), beam)
    >>> half_scan(scan, 1).beam.angles_rad
    array([1., 3.])
    """
    if scan.beam.views < 4:
        raise DataError(f"half_scan: got {scan.beam.views} views; at least 4 are needed to split them.")
    views = np.arange(half, scan.beam.views, 2)
    angles, shift = scan.beam.angles_rad[views], np.asarray(scan.beam.column_shift_px)[views]
    return replace(
        scan,
        projections=scan.projections[views],
        beam=replace(scan.beam, angles_rad=angles, column_shift_px=shift),
        flat_views=None if scan.flat_views is None else np.searchsorted(views, scan.flat_views),
        view_current_ma=None if scan.view_current_ma is None else scan.view_current_ma[views],
    )


def reconstruct_halves(
    scan: Scan, recipe: ReconstructionRecipe, plan: Plan, *, cache: Path | None = None, threads: int | None = None
) -> tuple[Reconstruction, Reconstruction]:
    """Reconstruct either half of a scan's views, with what was found for all of them.

    Parameters
    ----------
    scan
        Any rows.
    recipe, plan
        As for `npsi_twin.reconstruction.route.reconstruct` of the whole scan.
    cache
        Folder for SIRT-FBP filters.
    threads
        Threads; all when None. The result does not depend on them.

    Returns
    -------
    tuple[Reconstruction, Reconstruction]
        From the even views and from the odd ones.

    Examples
    --------
    >>> from npsi_twin.reconstruction.route import prepare
    >>> from npsi_twin.scan import ParallelBeam
    >>> beam = ParallelBeam(np.pi * np.arange(60) / 60, columns=33, pixel_nm=50.0)
    >>> line = np.exp(-(((np.arange(33) - 16 - 5 * np.cos(beam.angles_rad[:, None])) / 3) ** 2))[:, None]
    >>> counts = np.random.default_rng(0).poisson(1e4 * np.exp(-line))
    >>> scan = Scan(counts, np.full((1, 1, 33), 1e4), np.zeros((1, 1, 33)), beam)
    >>> recipe = ReconstructionRecipe(algorithm="fbp")
    >>> halves = reconstruct_halves(scan, recipe, prepare(scan, recipe, axis=16.0))
    >>> noise_map(*halves).sigma.values.shape
    (1, 33, 33)
    """
    first, second = (half_scan(scan, half) for half in (0, 1))
    made = []
    for half, part in enumerate((first, second)):
        views = slice(half, None, 2)
        illumination, alignment, taps = plan.illumination, plan.alignment, plan.taps
        if illumination is not None:
            illumination = Illumination(illumination.shares[views], illumination.brightness[views])
        if alignment is not None:
            shifts = alignment.column_shift_px[views], alignment.row_shift_px[views]
            alignment = replace(alignment, column_shift_px=shifts[0], row_shift_px=shifts[1])
        if taps is not None:
            taps = sirt_fbp_taps(part.beam, recipe.sirt_iterations, cache=cache, threads=threads)
        of_half = replace(plan, taps=taps, illumination=illumination, alignment=alignment)
        made.append(reconstruct(part, recipe, plan=of_half, threads=threads))
    return made[0], made[1]


def noise_map(first: Reconstruction, second: Reconstruction, *, neighbourhood_px: float = 4.0) -> NoiseMap:
    """Estimate the noise of the mean of two halves, voxel by voxel.

    Parameters
    ----------
    first, second
        From `reconstruct_halves`.
    neighbourhood_px
        Standard deviation of the Gaussian over which squares are averaged within a slice, pixels: s pixels average
        about 4 pi s**2 voxels, which leaves the estimate 1 / sqrt(8 pi s**2) of noise for white noise.

    Returns
    -------
    NoiseMap
        1/um.

    Raises
    ------
    IncompatibleError
        The halves differ in shape.
    """
    if first.volume.values.shape != second.volume.values.shape:
        raise IncompatibleError(
            f"noise_map: got {first.volume.values.shape} and {second.volume.values.shape} voxels; halves of one scan "
            "are needed. Take them from reconstruct_halves."
        )
    half = (first.volume.values.astype(np.float64) - second.volume.values.astype(np.float64)) / 2
    variance = gaussian_filter(half**2, (0, neighbourhood_px, neighbourhood_px), mode="nearest")
    sigma = np.sqrt(np.maximum(variance, 0)).astype(np.float32)
    made_by = MadeBy("noise_map", first.made_by.recipe_digest, backend=first.made_by.backend)
    return NoiseMap(Volume(sigma, first.volume.voxel_nm), neighbourhood_px, made_by)
