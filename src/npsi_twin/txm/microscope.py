"""The whole microscope: attenuation of a slab of rows -> the counts that a beamline would write.

Takes ``attenuation_per_um`` on the fine grid of `simulation_grid` -> gives an `Exposure`: a `Scan` without any hidden
knowledge, and the noise-free transmission beside it. The model is

    counts = camera( illumination x pixel( PSF * exp(-line integrals along the true views) ) ),

projection before blur, exponential before blur, run-out sideways exactly in the projection and along the axis in the
blur. It holds while the sample is thinner than the depth of field, and where the fine grid resolves what the optics
pass (`OutOfRangeWarning` otherwise). The work is split into slabs of detector rows; a slab needs `simulation_rows` of
the fine grid, its halo included. To spare the halo a second projection, `project` and `expose` do `acquire`'s halves.
"""

from dataclasses import dataclass
from typing import Self
from warnings import warn

import numpy as np
from pydantic import model_validator

from npsi_twin.errors import IncompatibleError, OutOfRangeWarning, ParameterError
from npsi_twin.projectors.choice import ProjectorName, choose_projector
from npsi_twin.recipes import MadeBy, Recipe, parameter
from npsi_twin.scan import ParallelBeam, Scan
from npsi_twin.seeds import Seeds
from npsi_twin.txm.beam import BeamRecipe, illuminate
from npsi_twin.txm.detector import DetectorRecipe, record_darks, record_flats, record_projections
from npsi_twin.txm.optics import OpticsRecipe, depth_of_field_um, form_image
from npsi_twin.txm.stage import StageRecipe, StageTruth, move
from npsi_twin.volumes import FloatArray, VoxelGrid


class MicroscopeRecipe(Recipe):
    """A transmission X-ray microscope and a scan with it; the default is a crop of 32-ID-C's field at 2 x 2 binning."""

    energy_kev: float = parameter(
        8.0, "photon energy", unit="keV", source="stated: 7.11 to 8 keV (Zhao et al. 2018)", ge=4, le=30
    )
    optics: OpticsRecipe = parameter(OpticsRecipe(), "the objective")
    beam: BeamRecipe = parameter(BeamRecipe(), "the illumination")
    detector: DetectorRecipe = parameter(DetectorRecipe(), "the camera")
    stage: StageRecipe = parameter(StageRecipe(), "the rotation stage")
    supersampling: int = parameter(
        2, "fine voxels along a detector pixel's edge", source="assumed: fine grid resolves the zone plate", ge=1, le=8
    )
    halo_rows: int = parameter(
        12,
        "detector rows simulated on either side of a slab for blur and run-out",
        unit="detector pixels",
        source="inferred: 0.6 um hold 98 % of the zone plate's line spread",
        ge=0,
        le=128,
    )
    allow_truncation: bool = parameter(
        False, "whether the sample may reach out of the field of view", source="assumed: the needle fits"
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


def aps_32_id_c_2018(energy_kev: float = 8.0) -> MicroscopeRecipe:
    """Return the instrument of Zhao et al. 2018: full frame, unbinned, 1201 views over 180 degrees.

    Parameters
    ----------
    energy_kev
        Photon energy in keV; pixel and electrons per photon are proportional to it (25.4 nm and 0.31 at 8 keV).

    Returns
    -------
    MicroscopeRecipe
        2048 rows and 2448 columns of 25.4 nm at 8 keV.

    References
    ----------
    C. Zhao et al., Nano Energy 52 (2018) 381-390, section 2.4.

    Examples
    --------
    >>> microscope = aps_32_id_c_2018()
    >>> microscope.stage.views, round(microscope.detector.columns * microscope.detector.pixel_nm / 1000)
    (1201, 62)
    """
    return MicroscopeRecipe(
        energy_kev=energy_kev,
        detector=DetectorRecipe(
            rows=2048,
            columns=2448,
            camera_pixel_nm=25.4 * energy_kev / 8,
            binning=1,
            flat_electrons=4000.0,
            electrons_per_photon=0.31 * energy_kev / 8,
        ),
        stage=StageRecipe(views=1201, axis_offset_px=13.2),
        halo_rows=16,
    )


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
    width = detector.columns * n
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
    _check_slab(attenuation_per_um, microscope)
    truth = stage_truth(microscope, seeds=seeds)
    beam = _beam(microscope, truth).refined(microscope.supersampling)
    chosen = choose_projector(projector, beam, attenuation_per_um.shape[-1], threads=threads)
    return chosen.forward(attenuation_per_um), chosen.name


def expose(
    line_integrals: FloatArray, microscope: MicroscopeRecipe, rows: range, *, seeds: Seeds, projector: str
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
    detector = microscope.detector
    fine = simulation_rows(microscope, rows)
    needed = (len(fine), microscope.stage.views, detector.columns * microscope.supersampling)
    if line_integrals.shape != needed:
        raise IncompatibleError(
            f"expose: line integrals are {line_integrals.shape}; detector rows {rows.start} to {rows.stop - 1} need "
            f"{needed} (fine row with halo, view, fine column). Give those of `simulation_rows`."
        )
    _warn_out_of_range(microscope)
    truth = stage_truth(microscope, seeds=seeds)
    with np.errstate(under="ignore"):  # an opaque ray transmits 0
        fine_transmission = np.negative(line_integrals, dtype=np.float32)
        np.exp(fine_transmission, out=fine_transmission)
        transmission = form_image(
            fine_transmission,
            microscope.optics,
            pixel_nm=detector.pixel_nm,
            blur_fwhm_nm=detector.blur_fwhm_px * detector.camera_pixel_nm,
            supersampling=microscope.supersampling,
            halo_rows=microscope.halo_rows,
            row_shift_px=truth.row_shift_px,
        )
    np.maximum(transmission, 0, out=transmission)  # rounding of the Fourier transform in the deepest shadow
    lit = illuminate(microscope.beam, (detector.rows, detector.columns), detector.pixel_nm)[rows.start : rows.stop]
    scan = Scan(
        projections=record_projections(transmission, lit, detector, rows, seeds=seeds),
        flats=record_flats(lit, detector, rows, seeds=seeds),
        darks=record_darks(detector, rows, seeds=seeds),
        beam=ParallelBeam(truth.angles_rad, detector.columns, detector.pixel_nm),
        energy_kev=microscope.energy_kev,
        first_row=rows.start,
        notes={"instrument": "virtual TXM (npsi-twin)"},
    )
    return Exposure(scan, transmission, MadeBy("acquire", microscope.digest(), seeds.root, projector))


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
        If the field is deeper than the depth of field, or the fine grid too coarse for the optics.

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


def _beam(microscope: MicroscopeRecipe, truth: StageTruth) -> ParallelBeam:
    """Return the geometry as it really was."""
    detector = microscope.detector
    return ParallelBeam(
        truth.angles_rad, detector.columns, detector.pixel_nm, truth.rotation_axis_px, truth.column_shift_px
    )


def _check_slab(attenuation_per_um: FloatArray, microscope: MicroscopeRecipe) -> None:
    """Refuse a slab of the wrong width, impossible values, and a sample that leaves the field."""
    n = microscope.supersampling
    width = microscope.detector.columns * n
    if attenuation_per_um.shape[1:] != (width, width):
        raise IncompatibleError(
            f"project: slices are {attenuation_per_um.shape[1:]}; ({width}, {width}) are needed, the detector's "
            f"{microscope.detector.columns} columns cut into {n}. Voxelise on `simulation_grid`."
        )
    lowest, highest = attenuation_per_um.min(axis=0), attenuation_per_um.max(axis=0)
    if not (np.all(lowest >= 0) and np.all(np.isfinite(highest))):
        raise ParameterError(
            f"attenuation_per_um: values reach from {lowest.min()} to {highest.max()} per um; finite values from 0 "
            "are needed, matter does not amplify X-rays. Check the composition's fractions."
        )
    if microscope.allow_truncation:
        return
    place = np.arange(width) - (width - 1) / 2
    radius = np.hypot(place[:, None], place[None, :])[highest > 0].max(initial=0.0) / n
    if radius > microscope.field_radius_px:
        pixel_um = microscope.detector.pixel_nm / 1000
        raise IncompatibleError(
            f"acquire: the sample reaches {radius * pixel_um:.2f} um from the rotation axis; the field holds "
            f"{microscope.field_radius_px * pixel_um:.2f} um in every view ({microscope.detector.columns} columns, "
            f"axis {microscope.stage.axis_offset_px:+.1f} px off the middle). What leaves the field falsifies the "
            "reconstruction. Use a thinner needle or more columns, or set microscope.allow_truncation."
        )


def _warn_out_of_range(microscope: MicroscopeRecipe) -> None:
    """Warn where projection through a sharp sample, or the fine sampling, no longer holds."""
    width_nm = microscope.optics.outer_zone_width_nm
    if width_nm == 0:
        return
    depth_um = depth_of_field_um(width_nm, microscope.energy_kev)
    field_um = 2 * microscope.field_radius_px * microscope.detector.pixel_nm / 1000
    if field_um > depth_um:
        warn(
            f"microscope: the depth of field 4 d^2 / lambda is {depth_um:.1f} um, the field {field_um:.1f} um; a "
            "sample that fills it is out of focus at its rim, which the projection model leaves out.",
            OutOfRangeWarning,
            stacklevel=3,
        )
    pitch_nm = microscope.detector.pixel_nm / microscope.supersampling
    if 2 * pitch_nm > width_nm:
        warn(
            f"microscope.supersampling: fine samples of {pitch_nm:.1f} nm carry periods from {2 * pitch_nm:.1f} nm, "
            f"the zone plate passes periods from {width_nm:.1f} nm; raise supersampling.",
            OutOfRangeWarning,
            stacklevel=3,
        )
