"""Where the microscope's model ends: slabs that are refused, and results that come with an `OutOfRangeWarning`.

Takes what is about to be projected, imaged or was recorded -> gives nothing, raises or warns. Refused is what cannot
be: wrong shapes, attenuation that is negative or not finite, a sample that leaves the field without being allowed to.
Warned of is what the model leaves out: blur that differs along the beam, strong phase under a Zernike ring, a grid
coarser than the optics, saturated counts.
"""

from warnings import warn

import numpy as np

from npsi_twin.errors import IncompatibleError, OutOfRangeWarning, ParameterError
from npsi_twin.seeds import Seeds
from npsi_twin.txm.counting import Counts
from npsi_twin.txm.detector import DetectorRecipe
from npsi_twin.txm.objective import OpticsRecipe, coherence_factor, depth_of_field_um
from npsi_twin.txm.pixels import pixel_pattern
from npsi_twin.txm.recording import saturation_units
from npsi_twin.volumes import FloatArray

#: Share of saturated counts that dust and zingers explain.
SATURATED_SHARE = 1e-3


def check_slab(
    attenuation_per_um: FloatArray, width: int, supersampling: int, field_radius_px: float | None, pixel_nm: float
) -> None:
    """Refuse a slab of the wrong width, impossible values, and a sample that leaves the field.

    Parameters
    ----------
    attenuation_per_um
        Linear attenuation per um, (fine row, y, x).
    width
        Fine voxels along a slice's side that the microscope simulates.
    supersampling
        Fine voxels along a detector pixel's edge.
    field_radius_px
        Radius that the sample may reach, in detector pixels; None where it may leave the field.
    pixel_nm
        Detector pixel at the sample in nm.

    Raises
    ------
    IncompatibleError
        If slices have another width, or the sample leaves the field.
    ParameterError
        If attenuation is negative or not finite.

    Examples
    --------
    >>> check_slab(np.full((1, 4, 4), 0.01, np.float32), 4, 2, None, 50.0)
    """
    if attenuation_per_um.shape[1:] != (width, width):
        raise IncompatibleError(
            f"project: slices are {attenuation_per_um.shape[1:]}; ({width}, {width}) are needed, the detector's "
            f"columns and the overhang on either side, each cut into {supersampling}. Voxelise on `simulation_grid`."
        )
    lowest, highest = attenuation_per_um.min(axis=0), attenuation_per_um.max(axis=0)
    if not (np.all(lowest >= 0) and np.all(np.isfinite(highest))):
        raise ParameterError(
            f"attenuation_per_um: values reach from {lowest.min()} to {highest.max()} per um; finite values from 0 "
            "are needed, matter does not amplify X-rays. Check the composition's fractions."
        )
    if field_radius_px is None:
        return
    place = np.arange(width) - (width - 1) / 2
    radius = np.hypot(place[:, None], place[None, :])[highest > 0].max(initial=0.0) / supersampling
    if radius > field_radius_px:
        pixel_um = pixel_nm / 1000
        raise IncompatibleError(
            f"acquire: the sample reaches {radius * pixel_um:.2f} um from the rotation axis; the field holds "
            f"{field_radius_px * pixel_um:.2f} um in every view (detector.columns, less twice stage.axis_offset_px). "
            "What leaves the field falsifies the reconstruction. Use a thinner needle or more columns, or set "
            "microscope.allow_truncation."
        )


def warn_out_of_range(
    optics: OpticsRecipe, energy_kev: float, field_um: float, pitch_nm: float, line_integrals: FloatArray
) -> None:
    """Warn where projection through a sharp sample, linear transfer or the fine sampling no longer holds.

    Parameters
    ----------
    optics
        The lenses.
    energy_kev
        Photon energy in keV.
    field_um
        Diameter of the field that a sample may fill.
    pitch_nm
        Fine sampling in nm.
    line_integrals
        What is about to be imaged, dimensionless.

    Warns
    -----
    OutOfRangeWarning
        One for each limit that is passed.

    Examples
    --------
    >>> warn_out_of_range(OpticsRecipe(), 8.0, 20.0, 25.4, np.zeros((1, 1, 1), np.float32))
    """
    width_nm = optics.outer_zone_width_nm
    if width_nm == 0:
        return
    depth_um = depth_of_field_um(width_nm, energy_kev)
    if optics.depth_um == 0 and field_um > depth_um:
        _warn(
            f"microscope: the depth of field 4 d^2 / lambda is {depth_um:.1f} um, the field {field_um:.1f} um; a "
            "sample that fills it is out of focus at its rim, which the projection model leaves out. Give "
            "optics.depth_um for the mean blur."
        )
    if optics.depth_um > depth_um:
        _warn(
            f"microscope.optics.depth_um: the sample is {optics.depth_um:.1f} um deep, the depth of field "
            f"{depth_um:.1f} um; its near and far side are blurred differently, of which this is the mean."
        )
    phase = float(line_integrals.max(initial=0.0)) * optics.delta_over_beta / 2 if optics.has_ring else 0.0
    if phase > 1:
        _warn(
            f"microscope.optics.zernike_phase_deg: the sample's phase reaches {phase:.1f} rad; linear transfer holds "
            "for phases well below 1, beyond which Zernike contrast turns round. Give a thinner sample."
        )
    passed_nm = 2 * width_nm / (1 + min(coherence_factor(optics, energy_kev), 1.0))
    if 2 * pitch_nm > passed_nm:
        _warn(
            f"microscope.supersampling: fine samples of {pitch_nm:.1f} nm carry periods from {2 * pitch_nm:.1f} nm, "
            f"the zone plate passes periods from {passed_nm:.1f} nm; raise supersampling."
        )


def warn_if_saturated(projections: Counts, detector: DetectorRecipe, rows: range, *, seeds: Seeds) -> None:
    """Warn where full wells or the converter's end cut more counts than faults of single pixels explain.

    Parameters
    ----------
    projections
        Counts (view, row, column).
    detector
        The camera.
    rows
        Detector rows held.
    seeds
        Root of the random numbers of the scan, which tell the hot pixels.

    Warns
    -----
    OutOfRangeWarning
        If more than `SATURATED_SHARE` of the counts are saturated, hot pixels and zingers left out.

    Examples
    --------
    >>> camera = DetectorRecipe(rows=1, columns=4)
    >>> warn_if_saturated(np.full((2, 1, 4), 800, np.uint16), camera, range(1), seeds=Seeds(1))
    """
    cool = ~pixel_pattern(detector, rows, seeds=seeds).hot
    full = np.count_nonzero(projections >= saturation_units(detector), axis=0)
    share = float(full[cool].sum() / max(projections.shape[0] * np.count_nonzero(cool), 1))
    if share > SATURATED_SHARE + detector.zinger_fraction:
        _warn(
            f"microscope.detector: {share:.1%} of the projections' counts are saturated, full well or end of the "
            f"converter; more than {SATURATED_SHARE:.1%} cannot be single faults, and the variance law does not hold "
            "for them. Lower flat_electrons, or bright structure, stray light and fringes."
        )


def _warn(message: str) -> None:
    warn(message, OutOfRangeWarning, stacklevel=4)
