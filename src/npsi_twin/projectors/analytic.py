"""The oracle: shapes whose line integrals, averaged over a detector bin, and whose voxel averages are closed forms.

Takes shapes and a geometry, gives sinograms without any discretisation (`line_integrals`) and the exact average of
every voxel (`rasterise`); a projector turns the second into the first up to its own error, which is what tests measure.

The model: a shape is an ellipse or a disk cut by a horizontal band, of uniform attenuation, or a Gaussian; shapes add
where they overlap. With A(s) the area of the shape on the side n . p <= s of a line with normal n, the average over a
bin from s1 to s2 of the line integrals across n is attenuation * (A(s2) - A(s1)) / (s2 - s1). The area of a unit disk
cut by two half-planes n1 . p <= s and n2 . p <= t follows from Green's theorem over its boundary,

    A = (arc + s * chord1 + t * chord2) / 2,

with the arc's angle left on the circle and the lengths of the chords left on the two lines. An ellipse is a disk in
stretched coordinates, which keep half-planes half-planes. Nothing is sampled and no quadrature is made.

Frame of `npsi_twin.scan`, in nm: x along the columns of a slice, y along its rows (downwards on a screen), origin on
the rotation axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special
from numpy.typing import ArrayLike, NDArray

from npsi_twin.errors import ParameterError
from npsi_twin.scan import ParallelBeam
from npsi_twin.volumes import FloatArray

Area = NDArray[np.float64]

#: Lines whose directions differ by less than this (radians) are taken as parallel.
_PARALLEL_RAD = 1e-12


@dataclass(frozen=True)
class Ellipse:
    """An ellipse of uniform attenuation.

    Parameters
    ----------
    centre_nm
        Centre (x, y) in nm.
    semi_axes_nm
        Semi-axes in nm, both positive.
    attenuation_per_um
        Linear attenuation coefficient in 1/um; negative to cut a hole into another shape.
    rotation_rad
        Angle from x towards y at which the first semi-axis points.

    Examples
    --------
    >>> beam = ParallelBeam(np.array([0.0]), columns=3, pixel_nm=100.0, rotation_axis_px=1.0)
    >>> line_integrals([Ellipse((0.0, 0.0), (1e6, 1000.0), 0.5)], beam).round(4)
    array([[1., 1., 1.]])
    """

    centre_nm: tuple[float, float]
    semi_axes_nm: tuple[float, float]
    attenuation_per_um: float
    rotation_rad: float = 0.0

    def __post_init__(self) -> None:
        _check_finite("ellipse", *self.centre_nm, *self.semi_axes_nm, self.attenuation_per_um, self.rotation_rad)
        if min(self.semi_axes_nm) <= 0:
            raise ParameterError(f"ellipse: got semi-axes {self.semi_axes_nm} nm; both must be positive.")

    @property
    def area_nm2(self) -> float:
        """Area in nm^2."""
        return float(np.pi * self.semi_axes_nm[0] * self.semi_axes_nm[1])

    def area_below(self, angle_rad: ArrayLike, offset_nm: ArrayLike) -> Area:
        """Return the area in nm^2 where x cos(angle) - y sin(angle) <= offset; arguments broadcast."""
        x, y = self.centre_nm
        angle = np.asarray(angle_rad, np.float64)
        offset = np.asarray(offset_nm) - x * np.cos(angle) + y * np.sin(angle)
        return self._cut(angle, offset, 0.0, np.inf)

    def area_up_to(self, x_nm: ArrayLike, y_nm: ArrayLike) -> Area:
        """Return the area in nm^2 where x <= x_nm and y <= y_nm; arguments broadcast."""
        return self._cut(0.0, np.asarray(x_nm) - self.centre_nm[0], -np.pi / 2, np.asarray(y_nm) - self.centre_nm[1])

    def _cut(self, angle1: ArrayLike, offset1: ArrayLike, angle2: ArrayLike, offset2: ArrayLike) -> Area:
        first, reach1 = self._stretched(angle1)
        second, reach2 = self._stretched(angle2)
        unit = disk_cut_by_two_lines(first, np.asarray(offset1) / reach1, second, np.asarray(offset2) / reach2)
        return unit * (self.semi_axes_nm[0] * self.semi_axes_nm[1])

    def _stretched(self, angle_rad: ArrayLike) -> tuple[Area, Area]:
        """Return a normal's direction where the ellipse is the unit disk, and how far the ellipse reaches along it."""
        angle = np.asarray(angle_rad, np.float64) + self.rotation_rad
        a, b = self.semi_axes_nm
        along, across = a * np.cos(angle), -b * np.sin(angle)
        return np.arctan2(across, along), np.hypot(along, across)


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid of uniform attenuation, one axis of which is parallel to the rotation axis.

    Parameters
    ----------
    centre_nm
        Centre (x, y, z) in nm; z along the rotation axis.
    semi_axes_nm
        Semi-axes (in the slice, in the slice, along z) in nm.
    attenuation_per_um
        Linear attenuation coefficient in 1/um.
    rotation_rad
        Angle from x towards y at which the first semi-axis points.

    Examples
    --------
    >>> Ellipsoid((0.0, 0.0, 10.0), (50.0, 40.0, 100.0), 0.1).section(70.0)
    Ellipse(centre_nm=(0.0, 0.0), semi_axes_nm=(40.0, 32.0), attenuation_per_um=0.1, rotation_rad=0.0)
    """

    centre_nm: tuple[float, float, float]
    semi_axes_nm: tuple[float, float, float]
    attenuation_per_um: float
    rotation_rad: float = 0.0

    def __post_init__(self) -> None:
        _check_finite("ellipsoid", *self.centre_nm, *self.semi_axes_nm, self.attenuation_per_um, self.rotation_rad)
        if min(self.semi_axes_nm) <= 0:
            raise ParameterError(f"ellipsoid: got semi-axes {self.semi_axes_nm} nm; all must be positive.")

    def section(self, z_nm: float) -> Ellipse | None:
        """Return the ellipse in which the plane at z_nm cuts the ellipsoid, None where it misses it."""
        x, y, z = self.centre_nm
        a, b, c = self.semi_axes_nm
        squared = 1 - ((z_nm - z) / c) ** 2
        if squared <= 0:
            return None
        scale = float(np.sqrt(squared))
        return Ellipse((x, y), (a * scale, b * scale), self.attenuation_per_um, self.rotation_rad)


@dataclass(frozen=True)
class DiskBand:
    """The part of a disk between two horizontal lines: a foil or a layer inside a needle, seen along the needle.

    Parameters
    ----------
    centre_nm
        Centre (x, y) of the disk in nm.
    radius_nm
        Radius of the disk in nm.
    band_nm
        The band's limits (smaller y, larger y) in nm in the slice's frame, not the disk's; either may be infinite.
    attenuation_per_um
        Linear attenuation coefficient in 1/um.

    Examples
    --------
    A 2 um layer on a copper foil, both 40 um wide where the needle is widest:

    >>> needle = dict(centre_nm=(0.0, 0.0), radius_nm=20000.0)
    >>> foil = DiskBand(**needle, band_nm=(0.0, float("inf")), attenuation_per_um=0.4)
    >>> layer = DiskBand(**needle, band_nm=(-2000.0, 0.0), attenuation_per_um=0.05)
    >>> beam = ParallelBeam(np.array([0.0]), columns=1, pixel_nm=10.0, rotation_axis_px=0.0)
    >>> float(line_integrals([foil, layer], beam)[0, 0].round(6))
    8.1
    """

    centre_nm: tuple[float, float]
    radius_nm: float
    band_nm: tuple[float, float]
    attenuation_per_um: float

    def __post_init__(self) -> None:
        _check_finite("disk band", *self.centre_nm, self.radius_nm, self.attenuation_per_um)
        if self.radius_nm <= 0:
            raise ParameterError(f"disk band: got radius {self.radius_nm} nm; it must be positive.")
        if not self.band_nm[0] < self.band_nm[1]:
            raise ParameterError(f"disk band: got band {self.band_nm} nm; the first limit must be below the second.")

    def area_below(self, angle_rad: ArrayLike, offset_nm: ArrayLike) -> Area:
        """Return the area in nm^2 where x cos(angle) - y sin(angle) <= offset; arguments broadcast."""
        angle = np.asarray(angle_rad, np.float64)
        x, y = self.centre_nm
        offset = (np.asarray(offset_nm) - x * np.cos(angle) + y * np.sin(angle)) / self.radius_nm
        low, high = ((limit - y) / self.radius_nm for limit in self.band_nm)
        cut = disk_cut_by_two_lines
        unit = cut(angle, offset, -np.pi / 2, high) - cut(angle, offset, -np.pi / 2, low)
        return unit * self.radius_nm**2

    def area_up_to(self, x_nm: ArrayLike, y_nm: ArrayLike) -> Area:
        """Return the area in nm^2 where x <= x_nm and y <= y_nm; arguments broadcast."""
        x = (np.asarray(x_nm) - self.centre_nm[0]) / self.radius_nm
        low, high = self.band_nm
        y = (np.clip(y_nm, low, high) - self.centre_nm[1]) / self.radius_nm
        below = (low - self.centre_nm[1]) / self.radius_nm
        cut = disk_cut_by_two_lines
        return (cut(0.0, x, -np.pi / 2, y) - cut(0.0, x, -np.pi / 2, below)) * self.radius_nm**2


@dataclass(frozen=True)
class Gaussian:
    """A round Gaussian of attenuation, the smooth shape on which a projector shows its order of convergence.

    Parameters
    ----------
    centre_nm
        Centre (x, y) in nm.
    sigma_nm
        Standard deviation in nm.
    attenuation_per_um
        Linear attenuation coefficient at the centre in 1/um.

    Examples
    --------
    >>> round(float(Gaussian((0.0, 0.0), 10.0, 1.0).area_below(0.3, 0.0) / (np.pi * 100.0)), 9)
    1.0
    """

    centre_nm: tuple[float, float]
    sigma_nm: float
    attenuation_per_um: float

    def __post_init__(self) -> None:
        _check_finite("gaussian", *self.centre_nm, self.sigma_nm, self.attenuation_per_um)
        if self.sigma_nm <= 0:
            raise ParameterError(f"gaussian: got standard deviation {self.sigma_nm} nm; it must be positive.")

    def area_below(self, angle_rad: ArrayLike, offset_nm: ArrayLike) -> Area:
        """Return the integral of the profile, peak 1, in nm^2 where x cos(angle) - y sin(angle) <= offset."""
        x, y = self.centre_nm
        offset = np.asarray(offset_nm) - x * np.cos(angle_rad) + y * np.sin(angle_rad)
        area: Area = 2 * np.pi * self.sigma_nm**2 * scipy.special.ndtr(offset / self.sigma_nm)
        return area

    def area_up_to(self, x_nm: ArrayLike, y_nm: ArrayLike) -> Area:
        """Return the integral of the profile, peak 1, in nm^2 where x <= x_nm and y <= y_nm."""
        (x, y), sigma = self.centre_nm, self.sigma_nm
        along = scipy.special.ndtr((np.asarray(x_nm) - x) / sigma)
        area: Area = 2 * np.pi * sigma**2 * along * scipy.special.ndtr((np.asarray(y_nm) - y) / sigma)
        return area


Shape = Ellipse | DiskBand | Gaussian


def line_integrals(shapes: Sequence[Shape], beam: ParallelBeam) -> NDArray[np.float64]:
    """Return the exact line integrals of shapes, averaged over every detector bin.

    Parameters
    ----------
    shapes
        Shapes in the frame of the slice; their attenuations add.
    beam
        Geometry with a known rotation axis.

    Returns
    -------
    NDArray
        Dimensionless, shape (views, columns).

    Raises
    ------
    IncompatibleError
        The rotation axis is unknown.

    References
    ----------
    A. C. Kak and M. Slaney, "Principles of Computerized Tomographic Imaging", SIAM (2001), section 3.1,
    doi:10.1137/1.9780898719277 (projections of ellipses, there for a ray and not for a bin).

    Examples
    --------
    The sum over a detector that sees all of a disk is its area times its attenuation, in every view:

    >>> beam = ParallelBeam(np.array([0.0, 1.0]), columns=40, pixel_nm=100.0, rotation_axis_px=20.3)
    >>> disk = Ellipse((300.0, -200.0), (1000.0, 1000.0), 0.1)
    >>> (line_integrals([disk], beam).sum(axis=1) * 0.1 / (0.1 * np.pi)).round(12)
    array([1., 1.])
    """
    place = beam.known_axis_px() + np.asarray(beam.column_shift_px)[:, None]
    edges_nm = (np.arange(beam.columns + 1) - 0.5 - place) * beam.pixel_nm
    angles = beam.angles_rad[:, None]
    integrals = np.zeros((beam.views, beam.columns))
    for shape in shapes:
        mean_chord_nm = np.diff(shape.area_below(angles, edges_nm), axis=1) / beam.pixel_nm
        integrals += shape.attenuation_per_um * mean_chord_nm / 1000
    return integrals


def rasterise(shapes: Sequence[Shape], width: int, voxel_nm: float) -> FloatArray:
    """Return the attenuation of a slice, every voxel holding its exact average.

    Parameters
    ----------
    shapes
        Shapes in the frame of the slice; their attenuations add.
    width
        Voxels along a side, at least 1; the slice is centred on the rotation axis.
    voxel_nm
        Edge of a voxel in nm.

    Returns
    -------
    FloatArray
        ``attenuation_per_um``, shape (width, width), float32.

    Raises
    ------
    ParameterError
        A width or voxel that is not positive.

    Examples
    --------
    >>> slice_ = rasterise([Ellipse((0.0, 0.0), (100.0, 100.0), 1.0)], width=4, voxel_nm=100.0)
    >>> bool(np.isclose(slice_.sum(), np.pi)), float(slice_[0, 0])
    (True, 0.0)
    """
    if width < 1 or not (np.isfinite(voxel_nm) and voxel_nm > 0):
        raise ParameterError(f"rasterise: got {width} voxels of {voxel_nm} nm; both must be positive.")
    edges_nm = (np.arange(width + 1) - width / 2) * voxel_nm
    attenuation = np.zeros((width, width))
    for shape in shapes:
        cumulative = shape.area_up_to(edges_nm[None, :], edges_nm[:, None])
        fraction = np.diff(np.diff(cumulative, axis=0), axis=1) / voxel_nm**2
        # The differences leave rounding of 1e-16 of the shape's area where a voxel is empty or full.
        fraction[np.abs(fraction) < 1e-9] = 0
        attenuation += shape.attenuation_per_um * fraction
    return attenuation.astype(np.float32)


def disk_cut_by_two_lines(angle1: ArrayLike, offset1: ArrayLike, angle2: ArrayLike, offset2: ArrayLike) -> Area:
    """Return the area of the unit disk within two half-planes.

    A half-plane is x cos(angle) - y sin(angle) <= offset; offsets may be infinite. Arguments broadcast.

    Parameters
    ----------
    angle1, angle2
        Directions of the two normals in radians.
    offset1, offset2
        Distances of the two lines from the disk's centre, in radii.

    Returns
    -------
    NDArray
        Areas between 0 and pi.

    Examples
    --------
    A quarter of the disk, and an eighth:

    >>> (disk_cut_by_two_lines([0.0, np.pi / 4], [0.0, 0.0], -np.pi / 2, 0.0) / np.pi).round(6)
    array([0.25 , 0.125])
    """
    between = np.asarray(angle2, np.float64) - np.asarray(angle1, np.float64)
    s, t = (np.clip(np.asarray(offset, np.float64), -1.0, 1.0) for offset in (offset1, offset2))
    between, s, t = np.broadcast_arrays(between, s, t)
    between = np.abs((between + np.pi) % (2 * np.pi) - np.pi)  # mirror symmetry: only the size of the angle counts
    cut1, cut2 = np.arccos(s), np.arccos(t)  # half of the arc that each line cuts away
    overlap = _arc_overlap(cut1, cut2, between) + _arc_overlap(cut1, cut2, between - 2 * np.pi)
    arc = 2 * np.pi - 2 * cut1 - 2 * cut2 + overlap
    chord1 = _chord_left(s, t, between, counts_tie=True)
    chord2 = _chord_left(t, s, between, counts_tie=False)
    area: Area = np.maximum((arc + s * chord1 + t * chord2) / 2, 0.0)
    return area


def _arc_overlap(half1: Area, half2: Area, apart: Area) -> Area:
    """Return the overlap of two arcs on a line, of given half-widths with their middles ``apart``."""
    overlap: Area = np.maximum(np.minimum(half1, apart + half2) - np.maximum(-half1, apart - half2), 0.0)
    return overlap


def _chord_left(s: Area, t: Area, between: Area, *, counts_tie: bool) -> Area:
    """Return the length of the line at s that lies in the unit disk and in the half-plane at t.

    Along the line, at the distance u from the foot of its normal, the second half-plane is s cos + u sin <= t with the
    angle between the normals. Where the normals are parallel all of the chord or none of it is left. Of two lines that
    coincide the one with ``counts_tie`` keeps its chord where the half-planes are one, none where they are opposite.
    """
    half = np.sqrt(1.0 - s**2)
    cosine, sine = np.cos(between), np.sin(between)
    parallel = sine < _PARALLEL_RAD
    limit = (t - s * cosine) / np.where(parallel, 1.0, sine)
    room = t - np.sign(cosine) * s
    all_or_none = np.where((room > 0) | (counts_tie & (room == 0) & (cosine > 0)), half, -half)
    upper = np.where(parallel, all_or_none, np.clip(limit, -half, half))
    length: Area = half + upper
    return length


def _check_finite(what: str, *numbers: float) -> None:
    if not np.all(np.isfinite(numbers)):
        raise ParameterError(f"{what}: got {numbers}; every number must be finite.")
