"""A 3-D picture of an electrode: bodies in a voxel volume, seen by an orthographic camera.

`Bodies` (shares of silicon and foil, normalised attenuation) -> `Rendering`: what each sample of the picture shows,
how bright it is lit, and the attenuation that colours it; `npsi_twin.report.state_figures` turns it into colours.

The model: the surface is where the Gaussian-smoothed share of a body, interpolated linearly, crosses one half (or, with
``surface = "volume"``, where silicon crosses the share above which lies its volume), and its normal n is the gradient
there. With V = 1 where the way is free and 0 where a body stands in it, the light is

    light = a <V>_sky + (1 - a) mean over the lamp of max(n . l, 0) V,   <V>_sky = sum (n . d) V / sum (n . d),

Lambert's law under a lamp of finite size and a uniform sky that reaches a bounded distance. The colour is the
attenuation of the body itself, the least-squares mu of attenuation = mu * share near the surface, so that a voxel that
is only half silicon does not look half as dense.

Holds for bodies thicker than about two and a half standard deviations of the smoothing (thinner ones vanish, or swell
where the volume is kept), and for
a smoothing of at least 0.7 voxels (less leaves steps in the light). Nothing is random, and every sample of the picture
is computed alone, so the number of threads changes nothing.

References
----------
M. Levoy, IEEE Computer Graphics and Applications 8 (1988) 29-37, doi:10.1109/38.511 (surfaces from volumes; gradients
as normals).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from npsi_twin.errors import IncompatibleError
from npsi_twin.recipes import MadeBy, Recipe, parameter
from npsi_twin.report.ray_casting import BLOCK, Floats, View, Volumes, cast
from npsi_twin.volumes import FloatArray, Phase

#: Directions of the sky (a whole sphere; half of them lie above a surface) and of the lamp.
_SKY, _LAMP = 64, 7


class RenderingRecipe(Recipe):
    """Camera, light and surface of a 3-D picture."""

    azimuth_deg: float = parameter(
        30.0,
        "camera about the foil's normal; 0 looks along the rotation axis onto slice 0, 90 from large x",
        unit="deg", source="assumed: the paper prints no camera", ge=-360, le=360,
    )  # fmt: skip
    elevation_deg: float = parameter(20.0, "camera above the foil's plane", unit="deg", source="assumed", ge=-90, le=90)
    pixel_nm: float = parameter(50.0, "pixel of the picture", unit="nm", source="assumed", gt=0, le=1e5)
    samples_per_edge: int = parameter(
        2, "samples along a pixel's edge, against jagged edges", source="assumed", ge=1, le=8
    )
    smoothing_nm: float = parameter(
        60.0, "standard deviation of the smoothing of shares", unit="nm",
        source="inferred: the paper's resolution", gt=0, le=1e4,
    )  # fmt: skip
    surface: Literal["half", "volume"] = parameter(
        "half", "smoothed share at which silicon ends: one half, or the one above which lies silicon's own volume, for "
        "voxels as coarse as its ligaments", source="assumed",
    )  # fmt: skip
    lamp_azimuth_deg: float = parameter(
        -45.0, "lamp about the foil's normal, from the camera; negative is to the left", unit="deg",
        source="assumed", ge=-360, le=360,
    )  # fmt: skip
    lamp_elevation_deg: float = parameter(
        52.0, "lamp above the foil's plane", unit="deg", source="assumed", ge=-90, le=90
    )
    lamp_radius_deg: float = parameter(
        6.0, "half the angle that the lamp spans", unit="deg", source="assumed", ge=0, le=45
    )
    sky_share: float = parameter(0.5, "share of the light that comes from the sky", source="assumed", ge=0, le=1)
    sky_reach_nm: float = parameter(
        1500.0, "distance within which bodies hide the sky", unit="nm", source="assumed", ge=0, le=1e6
    )
    haze_per_um: float = parameter(
        0.0, "opacity of light solids (carbon, binder, SEI); 0 hides them", unit="1/um", source="assumed", ge=0, le=100
    )


class Composed(Protocol):
    """What `bodies` reads of a voxelised electrode: arrays (z, y, x)."""

    @property
    def phase(self) -> NDArray[np.uint8]:
        """`Phase` labels."""

    @property
    def silicon_fraction(self) -> FloatArray:
        """Volume fraction of silicon."""

    @property
    def bismuth_fraction(self) -> FloatArray:
        """Volume fraction of bismuth."""

    @property
    def current_collector_fraction(self) -> FloatArray:
        """Volume fraction of copper."""

    @property
    def void_fraction(self) -> FloatArray:
        """Volume fraction of void."""

    @property
    def voxel_nm(self) -> float:
        """Edge of a voxel, nm."""


@dataclass(frozen=True)
class Bodies:
    """What a camera sees; arrays are (z, y, x), float32, read-only, of one shape.

    Attributes
    ----------
    silicon
        Share of the voxel that belongs to silicon, 0 to 1; 1 where silicon and its pores are not resolved.
    foil
        Share of the voxel that is foil.
    light_solids
        Share of the voxel that is any other solid (carbon, binder, SEI).
    normalised_attenuation
        Attenuation, foil 1 and air 0.
    voxel_nm
        Edge of a voxel, nm.
    """

    silicon: FloatArray
    foil: FloatArray
    light_solids: FloatArray
    normalised_attenuation: FloatArray
    voxel_nm: float

    def __post_init__(self) -> None:
        names = ("silicon", "foil", "light_solids", "normalised_attenuation")
        shapes = {name: getattr(self, name).shape for name in names}
        if len(set(shapes.values())) != 1 or self.silicon.ndim != 3 or self.silicon.size == 0:
            raise IncompatibleError(
                f"bodies: got arrays of shapes {shapes}; all must have one shape (z, y, x) without a zero, because "
                "they describe the same voxels. Cut them alike."
            )
        for name in names:
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)


@dataclass(frozen=True)
class Rendering:
    """What a picture shows, before colours; arrays are (v, u), row 0 at the top.

    Attributes
    ----------
    body
        BACKGROUND, SILICON or FOIL, uint8.
    light
        Light that falls on it, 0 to 1; 0 on the background.
    normalised_attenuation
        Attenuation of the body near its surface; 0 on the background.
    haze
        Share of the light that light solids in front of it take, 0 to 1.
    left_nm, top_nm
        Upper left corner of the picture; the origin is where the middle of the volume appears.
    sample_nm
        Distance of two samples, nm, true along every line parallel to the picture.
    samples_per_edge
        Samples along the edge of one pixel; both dimensions are multiples of it.
    made_by
        Provenance.
    """

    body: NDArray[np.uint8]
    light: FloatArray
    normalised_attenuation: FloatArray
    haze: FloatArray
    left_nm: float
    top_nm: float
    sample_nm: float
    samples_per_edge: int
    made_by: MadeBy

    def __post_init__(self) -> None:
        for name in ("body", "light", "normalised_attenuation", "haze"):
            getattr(self, name).flags.writeable = False


def bodies(composition: Composed, normalised_attenuation: FloatArray) -> Bodies:
    """Tell from the truth of some voxels what a camera sees.

    Parameters
    ----------
    composition
        Voxelised electrode. Solids other than silicon, bismuth and copper are what the fractions leave to one.
    normalised_attenuation
        Attenuation on the same voxels, foil 1 and air 0, (z, y, x).

    Returns
    -------
    Bodies
        Voxels labelled UNRESOLVED_SILICON are drawn as bodies as large as their envelope.
    """
    solid = composition.silicon_fraction + composition.bismuth_fraction
    light = np.clip(1 - composition.void_fraction - solid - composition.current_collector_fraction, 0, 1)
    solid[composition.phase == Phase.UNRESOLVED_SILICON] = 1.0
    foil = composition.current_collector_fraction
    return Bodies(np.minimum(solid, np.float32(1)), foil, light, normalised_attenuation, composition.voxel_nm)


def render(bodies: Bodies, recipe: RenderingRecipe | None = None) -> Rendering:
    """Cast a ray through every sample of the picture and light what it meets.

    Parameters
    ----------
    bodies
        What there is; beyond its voxels there is nothing, so that its sides are drawn as cuts.
    recipe
        Camera, light and surface; the default recipe when None.

    Returns
    -------
    Rendering
        Just large enough for every voxel, whatever is in it.

    Examples
    --------
    >>> cube = np.zeros((12, 12, 12), np.float32)
    >>> cube[3:9, 3:9, 3:9] = 1
    >>> nothing = np.zeros_like(cube)
    >>> face = RenderingRecipe(azimuth_deg=0, elevation_deg=0, pixel_nm=100, samples_per_edge=1)
    >>> seen = render(Bodies(cube, nothing, nothing, 0.3 * cube, 100.0), face)
    >>> seen.body.shape, int(seen.body.sum()), round(float(seen.normalised_attenuation.max()), 3)
    ((12, 12), 36, 0.3)
    """
    recipe = RenderingRecipe() if recipe is None else recipe
    (seen,) = render_around(bodies, recipe, [recipe.azimuth_deg])
    return seen


def render_around(
    bodies: Bodies, recipe: RenderingRecipe, azimuths_deg: Sequence[float], *, sky: int = _SKY, lamp: int = _LAMP
) -> Iterator[Rendering]:
    """Render bodies from several sides, smoothing them once.

    Parameters
    ----------
    bodies, recipe
        As for `render`.
    azimuths_deg
        Azimuths of the camera in place of the recipe's.
    sky, lamp
        Directions from which light comes, at least one each: fewer are faster, and shade in coarser steps.

    Yields
    ------
    Rendering
        One for each azimuth, as `render` gives it.
    """
    volumes = _volumes(bodies, recipe)
    for azimuth_deg in azimuths_deg:
        here = recipe.model_copy(update={"azimuth_deg": float(azimuth_deg)})
        yield _seen(bodies, volumes, here, _sky(sky), _lamp(here, lamp))


def _seen(bodies: Bodies, volumes: Volumes, recipe: RenderingRecipe, sky: Floats, lamp: Floats) -> Rendering:
    """Cast the rays of one picture."""
    right, up, towards = _camera(recipe.azimuth_deg, recipe.elevation_deg)
    shape = np.array(bodies.silicon.shape)
    pixel = recipe.pixel_nm / bodies.voxel_nm
    # Half the extent of the voxels' block along both axes of the picture, in whole pixels.
    half = [math.ceil(float(np.abs(axis) @ shape) / 2 / pixel - 1e-9) for axis in (right, up)]
    columns, rows = (2 * h * recipe.samples_per_edge for h in half)
    view = View(
        right, up, towards, pixel / recipe.samples_per_edge, sky, lamp,
        recipe.sky_share, recipe.sky_reach_nm / bodies.voxel_nm, recipe.haze_per_um * bodies.voxel_nm / 1000,
    )  # fmt: skip
    body = np.zeros((rows, columns), np.uint8)
    light, attenuation, haze = (np.zeros((rows, columns), np.float32) for _ in range(3))
    cast(volumes, view, body, light, attenuation, haze)
    return Rendering(
        body, light, attenuation, haze, -half[0] * recipe.pixel_nm, half[1] * recipe.pixel_nm,
        recipe.pixel_nm / recipe.samples_per_edge, recipe.samples_per_edge, MadeBy("render", recipe.digest()),
    )  # fmt: skip


def picture_axes(recipe: RenderingRecipe) -> tuple[Floats, Floats]:
    """Return the unit vectors (z, y, x) along which the picture's columns increase and its rows decrease.

    Examples
    --------
    >>> right, up = picture_axes(RenderingRecipe(azimuth_deg=0, elevation_deg=0))
    >>> right.round(9).tolist(), (up + 0.0).round(9).tolist()
    ([0.0, 0.0, 1.0], [0.0, -1.0, 0.0])
    """
    return _camera(recipe.azimuth_deg, recipe.elevation_deg)[:2]


def _camera(azimuth_deg: float, elevation_deg: float) -> tuple[Floats, Floats, Floats]:
    """Return unit vectors (z, y, x): right and up in the picture, and from the scene towards the camera."""
    a, e = math.radians(azimuth_deg), math.radians(elevation_deg)
    right = np.array([math.sin(a), 0.0, math.cos(a)])
    level = np.array([-math.cos(a), 0.0, math.sin(a)])
    height = np.array([0.0, -1.0, 0.0])
    return right, math.cos(e) * height - math.sin(e) * level, math.cos(e) * level + math.sin(e) * height


def _sky(count: int = _SKY) -> Floats:
    """Spread directions evenly over the sphere (Fibonacci's lattice)."""
    k = np.arange(count) + 0.5
    height, angle = 1 - 2 * k / count, math.pi * (1 + math.sqrt(5)) * k
    across = np.sqrt(1 - height**2)
    return np.stack([across * np.cos(angle), height, across * np.sin(angle)], axis=1)


def _lamp(recipe: RenderingRecipe, count: int = _LAMP) -> Floats:
    """Return directions towards the middle of the lamp and around it."""
    right, up, middle = _camera(recipe.azimuth_deg + recipe.lamp_azimuth_deg, recipe.lamp_elevation_deg)
    tilt = math.radians(recipe.lamp_radius_deg) * math.sqrt(0.5)  # half the disk lies within
    around = [
        math.cos(tilt) * middle + math.sin(tilt) * (math.cos(turn) * right + math.sin(turn) * up)
        for turn in 2 * math.pi * np.arange(count - 1) / max(1, count - 1)
    ]
    return np.array([middle, *around])


def _volumes(bodies: Bodies, recipe: RenderingRecipe) -> Volumes:
    """Smooth the shares, in a rim of nothing that the smoothing and the sides of the block need."""
    sigma = recipe.smoothing_nm / bodies.voxel_nm
    rim = math.ceil(3 * sigma) + 2

    def smooth(values: FloatArray) -> Any:
        return ndimage.gaussian_filter(np.pad(values, rim), sigma, mode="constant", truncate=3.0)

    foil = smooth(bodies.foil)
    silicon = smooth(bodies.silicon)
    if recipe.surface == "volume":
        silicon *= 0.5 / _level_of_volume(silicon, float(bodies.silicon.sum(dtype=np.float64)))
    field = np.maximum(silicon, foil)
    # Copper's own part, known since its attenuation is 1, is taken out of voxels that silicon and foil share.
    weighted = smooth(bodies.silicon * (bodies.normalised_attenuation - bodies.foil))
    weight = smooth(bodies.silicon * bodies.silicon)
    haze = np.pad(bodies.light_solids, rim) if recipe.haze_per_um > 0 else np.zeros((1, 1, 1), np.float32)
    return Volumes(field, foil, weighted, weight, haze, _free_blocks(field))


def _level_of_volume(shares: FloatArray, volume: float) -> float:
    """Return the share above which as many voxels lie as ``volume`` says; one half where there is nothing."""
    above = round(volume)
    return float(np.partition(shares, -above, axis=None)[-above]) if above else 0.5


def _free_blocks(field: FloatArray) -> NDArray[np.uint8]:
    """Say for each block of voxels how far, in voxels, a ray may leap from anywhere in it without meeting a surface."""
    near = np.pad(field >= 0.5, [(0, -n % BLOCK) for n in field.shape])
    for axis in range(3):  # a point between two voxels reads both
        near |= np.roll(near, -1, axis)
    z, y, x = (n // BLOCK for n in near.shape)
    filled = near.reshape(z, BLOCK, y, BLOCK, x, BLOCK).any(axis=(1, 3, 5))
    if not filled.any():
        return np.full(filled.shape, 252, np.uint8)
    blocks = np.asarray(ndimage.distance_transform_cdt(~np.asarray(filled), metric="chessboard"))
    return np.asarray(np.clip(BLOCK * (blocks - 1), 0, 252), np.uint8)
