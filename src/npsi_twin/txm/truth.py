"""The truth of a scan: all that the microscope did and a scan file does not tell.

Takes a microscope and detector rows -> gives a `ScanTruth`, made from the same streams as the counts, so that it is the
very truth of a scan that was recorded elsewhere or will be. It holds no transmission unless it is handed one:
noise-free transmission is as large as the scan.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import IncompatibleError
from npsi_twin.recipes import MadeBy
from npsi_twin.seeds import Seeds
from npsi_twin.txm.counting import Light, Zingers
from npsi_twin.txm.microscope import MicroscopeRecipe, scan_light, stage_truth
from npsi_twin.txm.pixels import pixel_pattern, zingers_of
from npsi_twin.volumes import FloatArray

#: What of a scan's truth its Data Exchange file tells; everything else is hidden from the reconstruction.
TOLD = ("told_angles_rad",)


@dataclass(frozen=True)
class ScanTruth:
    """What really happened on some detector rows; arrays are read-only.

    Attributes
    ----------
    first_row
        Detector row of the first row held.
    angles_rad, told_angles_rad
        True angle of every view, and the one that the scan file tells, in radians, (views,).
    column_shift_px, row_shift_px
        Shift of the image in every view towards higher columns and rows, in detector pixels, (views,).
    rotation_axis_px, axis_tilt_rad
        Column of the rotation axis at the detector's middle row, and its lean towards higher columns at higher rows.
    blocked
        Whether the beam was blocked, (views,).
    illumination
        Light that does not move, relative to the beam's centre, (row, column).
    stray_light
        Light that is added whatever the sample does, on the same scale, (row, column).
    structure, structure_margin_px
        Relative fine structure at rest on the rows and a margin all round; of no size where there is none.
    structure_shift_px, flat_structure_shift_px
        Where it lay in every view and every flat, rows and columns, (frames, 2).
    intensity, flat_intensity
        Current of the ring in every view and every flat over that in the first frame, (frames,).
    response, flat_response
        Pixels' relative response at the first view, and in the flats before it, (row, column).
    response_change
        What it changes by until the last view, relative, (row, column).
    dark_electrons
        Mean dark charge of an exposure, (row, column).
    dead, hot, drifting
        Masks of the pixels that see nothing, glow or drift, (row, column).
    zingers, flat_zingers
        Frame, detector row and column of every zinger in projections and flats, (zingers, 3).
    zinger_electrons, flat_zinger_electrons
        Their charge.
    transmission
        Noise-free transmission (view, row, column), or None.
    told
        Names of the fields that the scan file tells the reconstruction; no other is told.
    made_by
        Where it came from.
    """

    first_row: int
    angles_rad: NDArray[np.float64]
    told_angles_rad: NDArray[np.float64]
    column_shift_px: NDArray[np.float64]
    row_shift_px: NDArray[np.float64]
    rotation_axis_px: float
    axis_tilt_rad: float
    blocked: NDArray[np.bool_]
    illumination: FloatArray
    stray_light: FloatArray
    structure: FloatArray
    structure_margin_px: int
    structure_shift_px: NDArray[np.float64]
    flat_structure_shift_px: NDArray[np.float64]
    intensity: NDArray[np.float64]
    flat_intensity: NDArray[np.float64]
    response: NDArray[np.float64]
    flat_response: NDArray[np.float64]
    response_change: NDArray[np.float64]
    dark_electrons: NDArray[np.float64]
    dead: NDArray[np.bool_]
    hot: NDArray[np.bool_]
    drifting: NDArray[np.bool_]
    zingers: NDArray[np.int64]
    zinger_electrons: NDArray[np.float64]
    flat_zingers: NDArray[np.int64]
    flat_zinger_electrons: NDArray[np.float64]
    transmission: FloatArray | None
    told: tuple[str, ...]
    made_by: MadeBy

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                frozen = value.view()
                frozen.flags.writeable = False
                object.__setattr__(self, field.name, frozen)

    def light(self, view: int) -> NDArray[np.float64]:
        """Return all light on the rows in a view without the sample, (row, column), stray light included."""
        rows, columns = self.illumination.shape
        lit = np.asarray(self.illumination, np.float64)
        if self.structure.size:
            row, column = self.structure_margin_px - self.structure_shift_px[view]
            r, c = int(np.floor(row)), int(np.floor(column))
            corner = [self.structure[r + i : r + i + rows, c + j : c + j + columns] for i in (0, 1) for j in (0, 1)]
            down, right = row - r, column - c
            above = corner[0] + right * (corner[1] - corner[0])
            lit = lit * (1 + above + down * (corner[2] + right * (corner[3] - corner[2]) - above))
        return np.asarray(self.intensity[view] * (lit + self.stray_light), np.float64)


def scan_truth(
    microscope: MicroscopeRecipe, rows: range, *, seeds: Seeds, transmission: FloatArray | None = None
) -> ScanTruth:
    """Return what really happened on some detector rows of a scan.

    Parameters
    ----------
    microscope
        The recipe of the scan.
    rows
        Detector rows.
    seeds
        Root of the random numbers of the scan.
    transmission
        Noise-free transmission of these rows where it is to be kept, `Exposure.transmission`.

    Returns
    -------
    ScanTruth
        Everything that the scan file does not tell, and the angles it does.

    Raises
    ------
    IncompatibleError
        If the transmission is not that of the rows.

    Examples
    --------
    >>> truth = scan_truth(MicroscopeRecipe(), range(4), seeds=Seeds(1))
    >>> truth.response.shape, truth.rotation_axis_px, truth.told
    ((4, 400), 202.8, ('told_angles_rad',))
    """
    detector, stage = microscope.detector, stage_truth(microscope, seeds=seeds)
    shape = (stage.angles_rad.size, len(rows), detector.columns)
    if transmission is not None and transmission.shape != shape:
        raise IncompatibleError(
            f"scan_truth: transmission is {transmission.shape}; rows {rows.start} to {rows.stop - 1} have {shape} "
            "(view, row, column). Give `Exposure.transmission` of the same rows."
        )
    light = scan_light(microscope, rows, seeds=seeds)
    pattern = pixel_pattern(detector, rows, seeds=seeds)
    hits = zingers_of(detector, rows, shape[0], "projections", seeds=seeds)
    before = zingers_of(detector, rows, light.flats.intensity.size, "flats", seeds=seeds)
    later = zingers_of(detector, rows, light.later_flats.intensity.size, "later flats", seeds=seeds)
    places = _places(hits, rows, detector.columns)
    flat_places = [_places(before, rows, detector.columns), _places(later, rows, detector.columns)]
    flat_places[1][:, 0] += light.flats.intensity.size
    return ScanTruth(
        first_row=rows.start,
        angles_rad=stage.angles_rad,
        told_angles_rad=stage.told_angles_rad,
        column_shift_px=stage.column_shift_px,
        row_shift_px=stage.row_shift_px,
        rotation_axis_px=stage.rotation_axis_px,
        axis_tilt_rad=stage.axis_tilt_rad,
        blocked=stage.blocked,
        illumination=light.views.smooth,
        stray_light=light.views.stray,
        structure=light.views.structure,
        structure_margin_px=light.views.margin,
        structure_shift_px=light.views.shift_px,
        flat_structure_shift_px=_joined(light.flats, light.later_flats, "shift_px"),
        intensity=light.views.intensity,
        flat_intensity=_joined(light.flats, light.later_flats, "intensity"),
        response=pattern.drifted_response,
        flat_response=pattern.response,
        response_change=pattern.response_change,
        dark_electrons=pattern.dark_electrons,
        dead=pattern.dead,
        hot=pattern.hot,
        drifting=pattern.drifting,
        zingers=places,
        zinger_electrons=hits.electrons,
        flat_zingers=np.concatenate(flat_places),
        flat_zinger_electrons=np.concatenate([before.electrons, later.electrons]),
        transmission=transmission,
        told=TOLD,
        made_by=MadeBy("scan_truth", microscope.digest(), seeds.root),
    )


def _joined(flats: Light, later: Light, name: str) -> NDArray[np.float64]:
    return np.concatenate([getattr(flats, name), getattr(later, name)])


def _places(zingers: Zingers, rows: range, columns: int) -> NDArray[np.int64]:
    """Return (frame, detector row, column) of every zinger, (zingers, 3)."""
    row = rows.start + np.repeat(np.arange(len(rows)), np.diff(zingers.first))
    return np.stack([zingers.place // columns, row, zingers.place % columns], axis=1)
