"""The lenses: condenser and zone plate -> how much of each spatial frequency of the sample reaches the image.

Takes an `OpticsRecipe` and the photon energy -> gives the transfer of spatial frequencies, real, 1 at frequency 0. The
model is the transmission cross coefficient of a weak object (Hopkins, Streibl),

    T(v) = integral of S(p) P(p + v) P*(p) over the pupil / integral of S |P|^2,

S the condenser's aperture, of coherence factor sigma = NA(condenser) / NA(zone plate), P the zone plate's: 1 between
its central stop and its rim, times a Zernike ring's amplitude, times exp(-i pi z wavelength p^2) where the sample lies
z out of focus. Absorption is transferred by Re T, phase by -2 Im T. With one ratio delta / beta = R throughout the
sample its phase is R / 2 times the logarithm of the transmission t, and the image is one convolution of the
transmission,

    image = t convolved with h,    h the transform of H = Re T - R Im T.

That is exact for weak objects, and for any attenuation where Fresnel numbers are large (H = 1 + R pi z wavelength v^2,
the transport of intensity; Paganin). In focus with a matched condenser (sigma = 1) H is the incoherent OTF, for every
object, (2 / pi) [acos s - s sqrt(1 - s^2)] with s = v d, and phase leaves no trace. Defocus is averaged over the depth
of the sample, taken as evenly filled, and over the spectrum, since f ~ E; both averages of exp(-i pi z q) are closed
forms.

It holds for thin or weak samples; where depth is comparable with the depth of field 4 d^2 / wavelength the mean
transfer is right on average only, since the near and far side of a sample are blurred differently. Strong phase in
focus mixes frequencies, which no transfer function can say.

References
----------
N. Streibl, J. Opt. Soc. Am. A 2 (1985) 121-127, doi:10.1364/JOSAA.2.000121 (transfer of weak objects).
D. Paganin et al., J. Microsc. 206 (2002) 33-40, doi:10.1046/j.1365-2818.2002.01010.x (one ratio of delta to beta).
J. W. Goodman, "Introduction to Fourier Optics", 3rd ed., Roberts & Co. (2005), section 6.3 (incoherent OTF).
D. Attwood, "Soft X-Rays and Extreme Ultraviolet Radiation", Cambridge (1999), chapter 9, doi:10.1017/CBO9781139164429
(zone plates: NA, focal length, depth of field, chromatic aberration).
"""

from functools import lru_cache
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator
from scipy.interpolate import CubicSpline

from npsi_twin.errors import ParameterError
from npsi_twin.recipes import Recipe, parameter

HC_KEV_NM = 1.239841984
"""Planck's constant times the speed of light, keV nm (CODATA 2018)."""

_FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))
_TABLE = 512  # frequencies at which the transfer is integrated, up to the cut-off


class OpticsRecipe(Recipe):
    """Condenser, zone plate and phase ring."""

    outer_zone_width_nm: float = parameter(
        60.0,
        "outermost zone width of the zone plate; 0 stands for an objective without diffraction",
        unit="nm",
        source="stated (Zhao et al. 2018, section 2.4)",
        ge=0,
        le=1000,
    )
    zone_plate_diameter_um: float = parameter(
        180.0,
        "diameter of the zone plate; with the zone width it gives the focal length, for the bandwidth's blur",
        unit="um",
        source="inferred: 32-ID's documents list 180 um for 50 nm zones",
        gt=0,
        le=10_000,
    )
    central_stop_fraction: float = parameter(
        0.0, "diameter of the zone plate's central stop over its own", source="assumed: none", ge=0, le=0.95
    )
    condenser_na_mrad: float = parameter(
        0.0,
        "numerical aperture of the condenser, half its full angle; 0 matches the zone plate (incoherent)",
        unit="mrad",
        source="assumed: matched; 32-ID's long condenser has 1.2 against 1.29",
        ge=0,
        le=100,
    )
    condenser_inner_fraction: float = parameter(
        0.0,
        "inner over outer angle of the condenser's hollow cone",
        source="assumed: a full cone; beam stops shade 0.3 to 0.5",
        ge=0,
        le=0.99,
    )
    defocus_um: float = parameter(
        0.0,
        "distance of the focused plane downstream of the rotation axis",
        unit="um",
        source="assumed: focused on the axis",
        ge=-10_000,
        le=10_000,
    )
    depth_um: float = parameter(
        0.0,
        "depth of the sample along the beam over which defocus is averaged; 0 stands for a thin one",
        unit="um",
        source="assumed: within the depth of field",
        ge=0,
        le=10_000,
    )
    relative_bandwidth: float = parameter(
        0.0,
        "full width at half maximum of the spectrum over the energy",
        source="assumed: monochromatic; a silicon crystal passes 1e-4",
        ge=0,
        le=0.1,
    )
    delta_over_beta: float = parameter(
        0.0,
        "ratio of refraction to absorption that turns attenuation into phase; 0 leaves phase out",
        source="assumed: off; silicon and copper have 43 at 8 keV",
        ge=0,
        le=10_000,
    )
    zernike_phase_deg: float = parameter(
        0.0,
        "phase that a Zernike ring, as large as the condenser's cone, gives the direct light; 90 makes matter darker",
        unit="degrees",
        source="stated: not used (Zhao et al. 2018 image in absorption)",
        ge=-180,
        le=180,
    )
    zernike_transmission: float = parameter(
        1.0, "intensity that the Zernike ring lets through", source="assumed: a clear ring", gt=0, le=1
    )
    stray_fraction: float = parameter(
        0.0,
        "undiffracted and other stray light on the field's middle, over the open beam",
        source="assumed: none; 0.02 to 0.1 are seen",
        ge=0,
        le=1,
    )
    stray_fwhm_um: float = parameter(
        40.0,
        "full width at half maximum of the stray light on the field",
        unit="um",
        source="assumed: a broad patch",
        gt=0,
        le=10_000,
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.has_ring and self.condenser_inner_fraction == 0:
            raise ParameterError(
                "optics.zernike_phase_deg: a Zernike ring stands where the condenser's hollow cone meets the pupil, "
                "and condenser_inner_fraction is 0; a ring without a hole would treat all light alike. Give, for "
                "example, condenser_inner_fraction = 0.8."
            )
        if self.outer_zone_width_nm == 0 and self.shapes_transfer:
            raise ParameterError(
                "optics.outer_zone_width_nm: got 0, an objective without diffraction, together with a central stop, "
                "condenser, defocus, depth, bandwidth or Zernike ring, which act by diffraction. Give a zone width."
            )
        return self

    @property
    def has_ring(self) -> bool:
        """Whether a Zernike ring does anything."""
        return self.zernike_phase_deg != 0 or self.zernike_transmission != 1

    @property
    def shapes_transfer(self) -> bool:
        """Whether the transfer is another than that of a matched condenser in focus."""
        return self.has_ring or any(
            (
                self.central_stop_fraction,
                self.condenser_na_mrad,
                self.condenser_inner_fraction,
                self.defocus_um,
                self.depth_um,
                self.relative_bandwidth,
            )
        )


def depth_of_field_um(outer_zone_width_nm: float, energy_kev: float) -> float:
    """Return the depth of field 4 d^2 / wavelength of a zone plate.

    Parameters
    ----------
    outer_zone_width_nm
        Outermost zone width d in nm.
    energy_kev
        Photon energy in keV.

    Returns
    -------
    float
        Depth of field in um.

    Examples
    --------
    >>> round(depth_of_field_um(60.0, 8.0), 1)
    92.9
    """
    return 4 * outer_zone_width_nm**2 * energy_kev / HC_KEV_NM / 1000


def focal_length_mm(outer_zone_width_nm: float, diameter_um: float, energy_kev: float) -> float:
    """Return the focal length D d / wavelength of a zone plate in mm.

    Examples
    --------
    >>> round(focal_length_mm(60.0, 180.0, 8.0), 1)
    69.7
    """
    return diameter_um * outer_zone_width_nm * energy_kev / HC_KEV_NM / 1000


def coherence_factor(optics: OpticsRecipe, energy_kev: float) -> float:
    """Return the condenser's numerical aperture over the zone plate's, wavelength / (2 d).

    Examples
    --------
    >>> round(coherence_factor(OpticsRecipe(condenser_na_mrad=1.2015), 8.0), 2)
    0.93
    """
    if optics.condenser_na_mrad == 0:
        return 1.0
    return optics.condenser_na_mrad * 1e-3 * 2 * optics.outer_zone_width_nm * energy_kev / HC_KEV_NM


def zone_plate_otf(frequency_per_nm: NDArray[np.float64], outer_zone_width_nm: float) -> NDArray[np.float64]:
    """Return the incoherent optical transfer function of a zone plate with a matched condenser.

    Parameters
    ----------
    frequency_per_nm
        Spatial frequency in periods per nm, any shape.
    outer_zone_width_nm
        Outermost zone width in nm; 0 gives 1 everywhere.

    Returns
    -------
    numpy.ndarray
        Transfer, 1 at frequency 0, 0 beyond the cut-off.

    Examples
    --------
    >>> zone_plate_otf(1 / np.array([300.0, 120.0, 60.0]), 60.0).round(2)
    array([0.75, 0.39, 0.  ])
    """
    s = np.minimum(np.abs(frequency_per_nm) * outer_zone_width_nm, 1.0)
    return np.asarray((2 / np.pi) * (np.arccos(s) - s * np.sqrt(1 - s**2)), np.float64)


def objective_transfer(
    frequency_per_nm: NDArray[np.float64], optics: OpticsRecipe, energy_kev: float
) -> NDArray[np.float64]:
    """Return what the lenses leave of each spatial frequency of the transmission, H = Re T - R Im T.

    Parameters
    ----------
    frequency_per_nm
        Spatial frequency in periods per nm, not negative, any shape.
    optics
        Condenser, zone plate and ring.
    energy_kev
        Photon energy in keV.

    Returns
    -------
    numpy.ndarray
        Transfer, 1 at frequency 0; above 1 where defocus raises edges, below 0 where contrast is reversed.

    Examples
    --------
    An edge of silicon a depth of field downstream of the focus is raised where the light is coherent:

    >>> coherent = OpticsRecipe(condenser_na_mrad=0.13, defocus_um=93.0, delta_over_beta=43.0)
    >>> objective_transfer(np.array([1 / 1000.0]), coherent, 8.0).round(1)
    array([2.9])
    """
    if not optics.shapes_transfer:
        return zone_plate_otf(frequency_per_nm, optics.outer_zone_width_nm)
    cut_off, absorption, phase = _tabulated(optics, energy_kev)
    place = np.asarray(frequency_per_nm) * 2 * optics.outer_zone_width_nm
    inside = np.minimum(place, cut_off)
    transfer = absorption(inside) - optics.delta_over_beta * phase(inside)
    return np.where(place < cut_off, transfer, 0.0)


@lru_cache(maxsize=8)
def _tabulated(optics: OpticsRecipe, energy_kev: float) -> tuple[float, CubicSpline, CubicSpline]:
    """Return the cut-off in units of the zone plate's NA / wavelength, and Re T and Im T between 0 and it."""
    cut_off = 1 + min(coherence_factor(optics, energy_kev), 1.0)
    places = np.linspace(0.0, cut_off, _TABLE)
    values = weak_object_transfer(places, optics, energy_kev)
    return cut_off, CubicSpline(places, values.real), CubicSpline(places, values.imag)


def weak_object_transfer(
    frequency: NDArray[np.float64], optics: OpticsRecipe, energy_kev: float
) -> NDArray[np.complex128]:
    """Integrate the transmission cross coefficient T(v) of a weak object.

    Parameters
    ----------
    frequency
        Spatial frequency v in units of the zone plate's NA / wavelength = 1 / (2 d), (frequencies,).
    optics
        Condenser, zone plate and ring.
    energy_kev
        Photon energy in keV.

    Returns
    -------
    numpy.ndarray
        Complex (frequencies,); 1 at frequency 0.

    Raises
    ------
    ParameterError
        If the zone plate's stop takes all of the condenser's light.

    Notes
    -----
    In polar coordinates (r, a) of the source point p round the direction of v, the pupil's edges as seen from p + v are
    angles in closed form, so that every integrand between them is smooth: Gauss-Legendre between the edges, with
    r = middle - half cos(pi u), which takes up the square roots at the ends. Accurate to about 1e-6.

    Examples
    --------
    >>> hollow = OpticsRecipe(central_stop_fraction=0.5)
    >>> weak_object_transfer(np.array([0.0, 0.5]), hollow, 8.0).round(3)
    array([1.   +0.j, 0.377+0.j])
    """
    sigma = coherence_factor(optics, energy_kev)
    inner, outer = optics.condenser_inner_fraction * sigma, sigma
    edges, amplitudes = _pupil(optics, inner, outer)
    low, high = max(inner, edges[0]), min(outer, edges[-1])
    if low >= high:
        raise ParameterError(
            f"optics.central_stop_fraction: the stop reaches to {edges[0]:.2f} of the pupil, the condenser's cone to "
            f"{outer:.2f}; no direct light passes (dark field, which has no transfer function). Give a smaller stop or "
            "a larger condenser_na_mrad."
        )
    depth_um = depth_of_field_um(optics.outer_zone_width_nm, energy_kev)
    focus = optics.defocus_um / depth_um
    focal_um = 1000 * focal_length_mm(optics.outer_zone_width_nm, optics.zone_plate_diameter_um, energy_kev)
    spread = focal_um * optics.relative_bandwidth / _FWHM_PER_SIGMA / depth_um
    nodes = 16 + int(6 * (abs(focus) + optics.depth_um / depth_um + 3 * spread))
    u, weights = np.polynomial.legendre.leggauss(nodes)
    u, weights = (u + 1) / 2, weights / 2
    v = np.maximum(np.asarray(frequency, np.float64), 1e-9)[:, None, None]
    breaks = np.concatenate([np.abs(edges[:, None] - v[:, 0, 0]), edges[:, None] + v[:, 0, 0]])
    breaks = np.concatenate([breaks, np.repeat(edges[:, None], v.size, 1), np.full((2, v.size), [[low], [high]])])
    breaks = np.sort(np.clip(breaks, low, high), axis=0)
    total = np.zeros(v.size, np.complex128)
    for start, stop in pairwise(breaks):
        if not np.any(stop > start):
            continue
        width = (stop - start)[:, None, None]
        r = np.maximum(start[:, None, None] + width * ((1 - np.cos(np.pi * u)) / 2)[None, :, None], 1e-12)
        measure = r * width * (np.pi / 2 * np.sin(np.pi * u) * weights)[None, :, None]
        here = np.conj(amplitudes[np.clip(np.searchsorted(edges, r[..., 0]) - 1, 0, amplitudes.size - 1)])
        angles = [np.arccos(np.clip((edge**2 - r**2 - v**2) / (2 * r * v), -1, 1)) for edge in edges]
        for amplitude, first, last in zip(amplitudes, angles[1:], angles[:-1], strict=True):
            a = first + (last - first) * u
            q = v**2 + 2 * r * v * np.cos(a)
            wave = np.exp(-1j * np.pi * focus * q - (np.pi * spread * q) ** 2 / 2)
            wave *= np.sinc(q * optics.depth_um / (2 * depth_um))
            arc = (wave @ weights) * (last - first)[..., 0]
            total += 2 * amplitude * np.sum(here * measure[..., 0] * arc, axis=1)
    bounds = np.clip(edges, low, high)
    return np.asarray(total / np.sum(np.abs(amplitudes) ** 2 * np.pi * np.diff(bounds**2)), np.complex128)


def _pupil(optics: OpticsRecipe, inner: float, outer: float) -> tuple[NDArray[np.float64], NDArray[np.complex128]]:
    """Return the radii between which the zone plate's amplitude is constant, and these amplitudes."""
    stop = optics.central_stop_fraction
    ring = [radius for radius in (inner, outer) if optics.has_ring and stop < radius < 1]
    edges = np.array([stop, *ring, 1.0])
    middle = (edges[1:] + edges[:-1]) / 2
    on_ring = np.sqrt(optics.zernike_transmission) * np.exp(1j * np.deg2rad(optics.zernike_phase_deg))
    inside = optics.has_ring & (middle > inner) & (middle < outer)
    return edges, np.where(inside, on_ring, 1.0 + 0j)
