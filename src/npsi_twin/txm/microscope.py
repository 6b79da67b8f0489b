"""The whole microscope: attenuation of a slab of rows -> the counts that a beamline would write.

Takes ``attenuation_per_um`` on the fine grid of `simulation_grid` -> gives an `Exposure`: a `Scan` without any hidden
knowledge, and the noise-free transmission beside it. The model is

    counts = camera( light x pixel( PSF * exp(-line integrals along the true views) ) ),

projection before blur, exponential before blur, motion sideways exactly in the projection and along the axis in the
blur; a view of a fly scan is the mean transmission of several projections. It holds while the sample is thinner than
the depth of field, and where the fine grid resolves what the optics pass (`OutOfRangeWarning` otherwise). The work is
split into slabs of detector rows; a slab needs `simulation_rows` of the fine grid, its halo included. To spare the halo
a second projection, `project` and `expose` do `acquire`'s halves. `npsi_twin.txm.truth` keeps what a scan does not
tell.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np
from pydantic import model_validator

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.projectors.choice import ProjectorName, choose_projector
from npsi_twin.projectors.contract import accepted_threads
from npsi_twin.recipes import MadeBy, Recipe, parameter
from npsi_twin.scan import ParallelBeam, Scan
from npsi_twin.seeds import Seeds
from npsi_twin.txm.beam import BeamRecipe, illuminate, light_of, schedule, stray_light
from npsi_twin.txm.counting import Light
from npsi_twin.txm.detector import DetectorRecipe
from npsi_twin.txm.objective import OpticsRecipe
from npsi_twin.txm.optics import Placement, form_image
from npsi_twin.txm.recording import record_darks, record_flats, record_projections
from npsi_twin.txm.stage import StageRecipe, StageTruth, move
from npsi_twin.txm.surroundings import SurroundingsRecipe, pedestal
from npsi_twin.txm.validity import check_slab, warn_if_saturated, warn_out_of_range
from npsi_twin.volumes import FloatArray, VoxelGrid


class MicroscopeRecipe(Recipe):
    """A transmission X-ray microscope and a scan with it; the default is a crop of 32-ID-C's field at 2 x 2 binning."""

    energy_kev: float = parameter(
        8.0, "photon energy", unit="keV", source="stated: 7.11 to 8 keV (Zhao et al. 2018)", ge=4, le=30
    )
    optics: OpticsRecipe = parameter(OpticsRecipe(), "condenser, zone plate and phase ring")
    beam: BeamRecipe = parameter(BeamRecipe(), "the illumination")
    detector: DetectorRecipe = parameter(DetectorRecipe(), "the camera")
    stage: StageRecipe = parameter(StageRecipe(), "the rotation stage")
    surroundings: SurroundingsRecipe = parameter(SurroundingsRecipe(), "what stands round the sample")
    supersampling: int = parameter(
        2, "fine voxels along a detector pixel's edge", source="assumed: fine grid resolves the zone plate", ge=1, le=8
    )
    halo_rows: int = parameter(
        12,
        "detector rows simulated on either side of a slab for blur and motion along the axis",
        unit="detector pixels",
        source="inferred: 0.6 um hold 98 % of the zone plate's line spread",
        ge=0,
        le=128,
    )
    allow_truncation: bool = parameter(
        False, "whether the sample may reach out of the field of view", source="assumed: the needle fits"
    )

    overhang_px: int = parameter(
        0,
        "detector pixels that the simulated slices reach beyond the field on every side",
        unit="detector pixels",
        source="assumed: the needle fits",
        ge=0,
        le=4096,
    )

    @model_validator(mode="after")
    def _axis_in_field(self) -> Self:
        if self.field_radius_px <= 0:
            raise ParameterError(
                f"microscope.stage.axis_offset_px: got {self.stage.axis_offset_px}; the rotation axis lies outside the "
                f"{self.detector.columns} detector columns and nothing would be seen from all sides. Bring it "
                "closer to 0."
            )
        return self

    @property
    def field_radius_px(self) -> float:
        """Radius in detector pixels of the circle round the rotation axis that stays in the field in every view."""
        return self.detector.columns / 2 - abs(self.stage.axis_offset_px)


@dataclass(frozen=True)
class Exposure:
    """What `acquire` makes of some detector rows.

    Attributes
    ----------
    scan
        The counts and what a beamline's file tells about them.
    transmission
        Truth: noise-free transmission after optics and run-out, float32 (view, row, column).
    made_by
        Where it came from; ``backend`` names the projector.
    """

    scan: Scan
    transmission: FloatArray
    made_by: MadeBy

    def __post_init__(self) -> None:
        frozen = self.transmission.view()
        frozen.flags.writeable = False
        object.__setattr__(self, "transmission", frozen)


def stage_truth(microscope: MicroscopeRecipe, *, seeds: Seeds) -> StageTruth:
    """Return what the stage really did: angles, shifts and rotation axis, in detector pixels.

    Examples
    --------
    >>> stage_truth(MicroscopeRecipe(), seeds=Seeds(1)).rotation_axis_px
    202.8
    """
    return move(microscope.stage, microscope.detector.columns, microscope.detector.pixel_nm, seeds=seeds)


def simulation_grid(microscope: MicroscopeRecipe) -> VoxelGrid:
    """Return the fine grid that the sample is voxelised on: all detector rows and the halo, and the full field.

    Examples
    --------
    >>> simulation_grid(MicroscopeRecipe())
    VoxelGrid(shape=(368, 800, 800), voxel_nm=25.4)
    """
    n, detector = microscope.supersampling, microscope.detector
    width = (detector.columns + 2 * microscope.overhang_px) * n
    return VoxelGrid(((detector.rows + 2 * microscope.halo_rows) * n, width, width), detector.pixel_nm / n)


def simulation_rows(microscope: MicroscopeRecipe, rows: range) -> range:
    """Return the rows of `simulation_grid`, halo included, that an exposure of the detector rows ``rows`` needs.

    Examples
    --------
    >>> simulation_rows(MicroscopeRecipe(), range(0, 16))
    range(0, 80)
    """
    if rows.step != 1 or len(rows) == 0 or rows.start < 0 or rows.stop > microscope.detector.rows:
        raise ParameterError(
            f"simulation_rows: got {rows}; a non-empty range of step 1 within the {microscope.detector.rows} detector "
            "rows is needed."
        )
    n = microscope.supersampling
    return range(rows.start * n, (rows.stop + 2 * microscope.halo_rows) * n)


def project(
    attenuation_per_um: FloatArray,
    microscope: MicroscopeRecipe,
    *,
    seeds: Seeds,
    projector: ProjectorName = "auto",
    threads: int | None = None,
) -> tuple[FloatArray, str]:
    """Project fine rows along the true views.

    Parameters
    ----------
    attenuation_per_um
        Linear attenuation per um of any fine rows, float32 (fine row, y, x).
    microscope
        The recipe.
    seeds
        Root of the random numbers (stage).
    projector
        Name of a projector, or ``"auto"``.
    threads
        Threads to use; all when None. The result does not depend on them.

    Returns
    -------
    tuple
        Line integrals, float32 (fine row, view, fine column), and the name of the projector taken.

    Raises
    ------
    IncompatibleError
        If the slab has the wrong width, or the sample reaches out of the field and that is not allowed.
    """
    check_slab(
        attenuation_per_um,
        simulation_grid(microscope).shape[1],
        microscope.supersampling,
        None if microscope.allow_truncation else microscope.field_radius_px,
        microscope.detector.pixel_nm,
    )
    beam = _turning_beam(microscope, seeds=seeds)
    chosen = choose_projector(projector, beam, attenuation_per_um.shape[-1], threads=threads)
    line_integrals = chosen.forward(attenuation_per_um)
    surroundings = _pedestal(microscope, seeds=seeds)
    if surroundings is not None:
        line_integrals += surroundings
    if microscope.stage.fly_scan_fraction:
        rows, _, columns = line_integrals.shape
        turning = line_integrals.reshape(rows, microscope.stage.views, -1, columns)
        with np.errstate(under="ignore"):  # an opaque ray transmits 0
            seen = np.exp(np.negative(turning, out=turning), out=turning).mean(axis=2, dtype=np.float32)
        line_integrals = -np.log(np.maximum(seen, np.finfo(np.float32).tiny))
    return line_integrals, chosen.name


def expose(
    line_integrals: FloatArray,
    microscope: MicroscopeRecipe,
    rows: range,
    *,
    seeds: Seeds,
    projector: str,
    threads: int | None = None,
) -> Exposure:
    """Image and record the line integrals of some detector rows.

    Parameters
    ----------
    line_integrals
        Of the fine rows `simulation_rows`, float32 (fine row, view, fine column).
    microscope
        The recipe.
    rows
        Detector rows to record.
    seeds
        Root of the random numbers.
    projector
        Name of the projector that made the line integrals, for the record.
    threads
        Threads to use; all when None. They change no bit.

    Returns
    -------
    Exposure
        Counts and noise-free transmission of those rows.

    Raises
    ------
    IncompatibleError
        If the line integrals are not those of the rows.
    ParameterError
        If the halo is too small.
    """
    detector = microscope.detector.at_energy(microscope.energy_kev)
    fine = simulation_rows(microscope, rows)
    needed = (len(fine), microscope.stage.views, detector.columns * microscope.supersampling)
    if line_integrals.shape != needed:
        raise IncompatibleError(
            f"expose: line integrals are {line_integrals.shape}; detector rows {rows.start} to {rows.stop - 1} need "
            f"{needed} (fine row with halo, view, fine column). Give those of `simulation_rows`."
        )
    field_um = 2 * microscope.field_radius_px * detector.pixel_nm / 1000
    warn_out_of_range(
        microscope.optics, microscope.energy_kev, field_um, detector.pixel_nm / microscope.supersampling, line_integrals
    )
    truth = stage_truth(microscope, seeds=seeds)
    transmission = form_image(
        line_integrals,
        microscope.optics,
        energy_kev=microscope.energy_kev,
        pixel_nm=detector.pixel_nm,
        blur_fwhm_nm=detector.blur_fwhm_px * detector.camera_pixel_nm,
        supersampling=microscope.supersampling,
        halo_rows=microscope.halo_rows,
        placement=Placement(
            truth.row_shift_px,
            truth.axis_tilt_rad,
            rows.start - (detector.rows - 1) / 2,
            truth.rotation_axis_px,
        ),
        threads=accepted_threads("expose", threads),
    )
    transmission[truth.blocked] = 0
    light = scan_light(microscope, rows, seeds=seeds)
    projections = record_projections(transmission, light.views, detector, rows, seeds=seeds, threads=threads)
    warn_if_saturated(projections, detector, rows, seeds=seeds)
    scan = Scan(
        projections=projections,
        flats=record_flats(light.flats, light.later_flats, detector, rows, seeds=seeds, threads=threads),
        darks=record_darks(detector, rows, seeds=seeds, threads=threads),
        beam=told_beam(microscope, seeds=seeds),
        energy_kev=microscope.energy_kev,
        first_row=rows.start,
        notes={"instrument": "virtual TXM (npsi-twin)"},
    )
    return Exposure(scan, transmission, MadeBy("acquire", microscope.digest(), seeds.root, projector))


def told_beam(microscope: MicroscopeRecipe, *, seeds: Seeds) -> ParallelBeam:
    """Return the geometry that a beamline's file would tell: commanded angles and the pixel, but no axis.

    Examples
    --------
    >>> told_beam(MicroscopeRecipe(), seeds=Seeds(1)).columns
    400
    """
    detector = microscope.detector.at_energy(microscope.energy_kev)
    return ParallelBeam(stage_truth(microscope, seeds=seeds).told_angles_rad, detector.columns, detector.pixel_nm)


class ScanLight(NamedTuple):
    """The light of a whole scan on some detector rows: views, flats before them, and flats between and after them."""

    views: Light
    flats: Light
    later_flats: Light


def scan_light(microscope: MicroscopeRecipe, rows: range, *, seeds: Seeds) -> ScanLight:
    """Return the light on some detector rows in every frame of a scan.

    Examples
    --------
    >>> light = scan_light(MicroscopeRecipe(), range(2), seeds=Seeds(1))
    >>> light.views.intensity.size, light.flats.intensity.size, light.later_flats.intensity.size
    (1201, 20, 0)
    """
    detector, optics, beam = microscope.detector, microscope.optics, microscope.beam
    shape, pixel_nm, here = (detector.rows, detector.columns), detector.pixel_nm, slice(rows.start, rows.stop)
    smooth = illuminate(beam, shape, pixel_nm)[here].astype(np.float32)
    stray = stray_light(optics.stray_fraction, optics.stray_fwhm_um, shape, pixel_nm)[here].astype(np.float32)
    frames = schedule(
        microscope.stage.views, detector.flat_frames, detector.flat_sets_between, detector.flat_frames_after
    )
    views, flats, later = (
        light_of(beam, part, frames.progress(part), smooth, stray, rows, shape, pixel_nm, seeds=seeds)
        for part in (frames.views, frames.before, frames.later)
    )
    return ScanLight(views, flats, later)


def acquire(
    attenuation_per_um: FloatArray,
    microscope: MicroscopeRecipe,
    rows: range,
    *,
    seeds: Seeds,
    projector: ProjectorName = "auto",
) -> Exposure:
    """Scan a slab of the sample.

    Parameters
    ----------
    attenuation_per_um
        Linear attenuation per um of the fine rows `simulation_rows`, float32 (fine row, y, x).
    microscope
        The recipe.
    rows
        Detector rows to record.
    seeds
        Root of the random numbers.
    projector
        Name of a projector, or ``"auto"``.

    Returns
    -------
    Exposure
        Counts and noise-free transmission of those rows.

    Raises
    ------
    IncompatibleError
        If the slab has the wrong shape, or the sample reaches out of the field and that is not allowed.
    ParameterError
        If attenuation is negative or not finite, or the halo too small.

    Warns
    -----
    OutOfRangeWarning
        If the field is deeper than the depth of field, the fine grid too coarse for the optics, the phase too strong
        for a Zernike ring's linear transfer, or more than a thousandth of the pixels saturated.

    Notes
    -----
    The scan tells neither the rotation axis nor the run-out; both are in `stage_truth`.

    Examples
    --------
    >>> microscope = MicroscopeRecipe(detector=DetectorRecipe(rows=2, columns=48), stage=StageRecipe(views=8))
    >>> needle = np.zeros((52, 96, 96), np.float32)
    >>> needle[:, 40:56, 40:56] = 0.0471  # copper, per um
    >>> exposure = acquire(needle, microscope, range(2), seeds=Seeds(1))
    >>> exposure.scan.projections.shape, exposure.scan.beam.rotation_axis_px
    ((8, 2, 48), None)
    """
    fine = simulation_rows(microscope, rows)
    if attenuation_per_um.ndim != 3 or attenuation_per_um.shape[0] != len(fine):
        raise IncompatibleError(
            f"acquire: attenuation is {attenuation_per_um.shape}; detector rows {rows.start} to {rows.stop - 1} need "
            f"{len(fine)} fine rows, halo included. Voxelise the rows of `simulation_rows`."
        )
    line_integrals, taken = project(attenuation_per_um, microscope, seeds=seeds, projector=projector)
    return expose(line_integrals, microscope, rows, seeds=seeds, projector=taken)


def _turning_beam(microscope: MicroscopeRecipe, *, seeds: Seeds) -> ParallelBeam:
    """Return the geometry as it really was, with fine columns; a view of a fly scan is several, one after the other."""
    detector, stage, truth = microscope.detector, microscope.stage, stage_truth(microscope, seeds=seeds)
    angles, shift = truth.angles_rad, truth.column_shift_px
    if stage.fly_scan_fraction:
        n = stage.fly_scan_samples
        gaps = stage.views - 1 if stage.include_last else stage.views
        exposed = stage.fly_scan_fraction * np.deg2rad(stage.angle_range_deg) / max(gaps, 1)
        angles = (angles[:, None] + exposed * ((np.arange(n) + 0.5) / n - 0.5)).ravel()
        shift = np.repeat(shift, n)
    beam = ParallelBeam(angles, detector.columns, detector.pixel_nm, truth.rotation_axis_px, shift)
    return beam.refined(microscope.supersampling)


@lru_cache(maxsize=1)  # the same for every row of a scan
def _pedestal(microscope: MicroscopeRecipe, *, seeds: Seeds) -> FloatArray | None:
    return pedestal(microscope.surroundings, _turning_beam(microscope, seeds=seeds))
