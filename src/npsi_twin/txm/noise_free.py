"""The scan that an endless exposure would average to: counts without photon noise, read noise, rounding and zingers.

Takes the noise-free transmission of an `Exposure` -> gives a `Scan` of the mean counts, for whoever asks what noise
alone does to a result. With n photons in the open beam, I the light, r the pixel's response, D its dark charge, g
electrons per absorbed photon and K camera units per electron,

    counts = min(K min(g n (I T + stray) r + D, full well) + offset, full scale).

What is the same in every frame stays: the beam's shape and drift, dead, hot and drifting pixels, gain errors. Holds as
the mean of `npsi_twin.txm.recording` where neither well nor converter is full; there the mean of a clipped noise
differs from the clipped mean.
"""

import numpy as np
from numba import njit

from npsi_twin.errors import IncompatibleError
from npsi_twin.scan import ParallelBeam, Scan
from npsi_twin.seeds import Seeds
from npsi_twin.txm.counting import Levels, Light, Pixels, add_structure
from npsi_twin.txm.microscope import MicroscopeRecipe, scan_light, stage_truth
from npsi_twin.txm.pixels import pixel_pattern
from npsi_twin.txm.recording import levels_of
from npsi_twin.volumes import FloatArray


def noise_free_scan(transmission: FloatArray, microscope: MicroscopeRecipe, rows: range, *, seeds: Seeds) -> Scan:
    """Return the mean counts of a scan of some detector rows.

    Parameters
    ----------
    transmission
        Noise-free transmission, float32 (view, row, column), as in `Exposure.transmission`.
    microscope
        The recipe that it was exposed with.
    rows
        Detector rows that it holds.
    seeds
        Root of the random numbers: the camera's fixed pattern and the beam's motion are those of the noisy scan.

    Returns
    -------
    Scan
        float32 counts; as many flats as were taken, and one dark.

    Raises
    ------
    IncompatibleError
        The transmission does not belong to these rows and views.

    Examples
    --------
    >>> from npsi_twin.txm.detector import DetectorRecipe
    >>> from npsi_twin.txm.stage import StageRecipe
    >>> microscope = MicroscopeRecipe(detector=DetectorRecipe(rows=1, columns=48), stage=StageRecipe(views=3))
    >>> scan = noise_free_scan(np.full((3, 1, 48), 0.5, np.float32), microscope, range(1), seeds=Seeds(1))
    >>> seen = (scan.projections - scan.darks) / (scan.flats[:1] - scan.darks)
    >>> bool(abs(np.median(seen) - 0.5) < 0.002)  # gains have changed by 0.003 between flats and projections
    True
    """
    detector = microscope.detector.at_energy(microscope.energy_kev)
    needed = (microscope.stage.views, len(rows), detector.columns)
    if transmission.shape != needed:
        raise IncompatibleError(
            f"noise_free_scan: transmission is {transmission.shape}; {needed} (view, row, column) are needed. Give "
            "that of the same microscope and rows."
        )
    pattern, light = pixel_pattern(detector, rows, seeds=seeds), scan_light(microscope, rows, seeds=seeds)
    levels, dark = levels_of(detector), pattern.dark_electrons.astype(np.float32)
    change = pattern.response_change.astype(np.float32)
    before, drifted = (
        Pixels((detector.electrons_per_photon * response).astype(np.float32), change, dark)
        for response in (pattern.response, pattern.drifted_response)
    )
    clear = np.ones(needed[1:], np.float32)
    flats = [
        _mean_counts(np.broadcast_to(clear, (part.intensity.size, *clear.shape)), part, pixels, levels)
        for part, pixels in ((light.flats, before), (light.later_flats, drifted))
    ]
    darks = levels.units_per_electron * np.minimum(dark, levels.full_well_electrons) + levels.offset_units
    return Scan(
        projections=_mean_counts(np.ascontiguousarray(transmission), light.views, drifted, levels),
        flats=np.concatenate(flats),
        darks=np.minimum(darks, levels.full_scale_units)[None].astype(np.float32),
        beam=ParallelBeam(stage_truth(microscope, seeds=seeds).told_angles_rad, detector.columns, detector.pixel_nm),
        energy_kev=microscope.energy_kev,
        first_row=rows.start,
        notes={"instrument": "virtual TXM (npsi-twin), mean counts"},
    )


@njit(cache=True, nogil=True)
def _mean_counts(seen: FloatArray, light: Light, pixels: Pixels, levels: Levels) -> FloatArray:
    """Return the mean counts of frames, float32 (frame, row, column)."""
    frames, rows, columns = seen.shape
    counts = np.empty(seen.shape, np.float32)
    lit = np.empty(columns)
    for frame in range(frames):
        open_beam = light.intensity[frame] * levels.photons
        for i in range(rows):
            lit[:] = 1.0
            if light.structure.size > 0:
                at_row, at_column = light.margin - light.shift_px[frame, 0], light.margin - light.shift_px[frame, 1]
                add_structure(light.structure, i + at_row, at_column, lit)
            for c in range(columns):
                photons = open_beam * (seen[frame, i, c] * (light.smooth[i, c] * lit[c]) + light.stray[i, c])
                yields = pixels.yields[i, c] * (1 + light.time[frame] * pixels.yields_change[i, c])
                electrons = min(photons * yields + pixels.dark_electrons[i, c], levels.full_well_electrons)
                level = levels.units_per_electron * electrons + levels.offset_units
                counts[frame, i, c] = min(level, levels.full_scale_units)
    return counts
