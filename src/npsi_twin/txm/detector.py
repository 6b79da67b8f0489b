"""The camera as a recipe: scintillator, lens, sensor, its faults and its exposure.

A detector pixel is ``binning`` x ``binning`` camera pixels whose conversions are summed after digitisation, so full
well, offset and full scale are binning^2 times, and read noise ``binning`` times, those of one camera pixel. What a
camera makes of light is in `npsi_twin.txm.recording`, its fixed pattern in `npsi_twin.txm.pixels`.

Electrons per absorbed photon are the product of the light path's parts,

    g = light yield x energy x (1 - cos b) / 2 x lens x quantum efficiency,    sin b = NA / n,

the cone b that the lens takes out of the scintillator of refractive index n. With g well below 1 the electrons, not the
photons, carry most of the noise.

References
----------
A. Koch et al., J. Opt. Soc. Am. A 15 (1998) 1940-1951, doi:10.1364/JOSAA.15.001940 (scintillator and lens).
EMVA Standard 1288, release 4.0 (2021), section 2 (camera model).
"""

import math
from typing import Self

import numpy as np
from pydantic import model_validator

from npsi_twin.errors import ParameterError
from npsi_twin.recipes import Recipe, parameter

_IMX250 = "inferred: Sony IMX250 camera of 32-ID-C, figure from the sensor's EMVA data as remembered"


class ScintillatorRecipe(Recipe):
    """The way from an absorbed X-ray photon to electrons."""

    light_yield_per_kev: float = parameter(
        0.0,
        "visible photons for each keV; 0 takes detector.electrons_per_photon as it is given",
        unit="1/keV",
        source="assumed: off; LuAG:Ce gives 25",
        ge=0,
        le=200,
    )
    refractive_index: float = parameter(
        1.84, "refractive index of the scintillator", source="inferred: LuAG", ge=1, le=4
    )
    numerical_aperture: float = parameter(
        0.21, "numerical aperture of the lens", source="stated: 5x Mitutoyo Plan Apo HR (32-ID's documents)", gt=0, lt=1
    )
    lens_transmission: float = parameter(0.8, "light that lens and mirror let through", source="assumed", gt=0, le=1)
    quantum_efficiency: float = parameter(
        0.6, "electrons of the sensor for each visible photon", source=_IMX250, gt=0, le=1
    )

    def electrons_per_photon(self, energy_kev: float) -> float:
        """Return the electrons of an absorbed X-ray photon.

        Examples
        --------
        >>> round(ScintillatorRecipe(light_yield_per_kev=25.0).electrons_per_photon(8.0), 3)
        0.314
        """
        cone = (1 - math.sqrt(1 - (self.numerical_aperture / self.refractive_index) ** 2)) / 2
        light = self.light_yield_per_kev * energy_kev * cone
        return light * self.lens_transmission * self.quantum_efficiency


class DetectorRecipe(Recipe):
    """The camera and its exposure."""

    rows: int = parameter(
        160,
        "recorded detector rows, after binning",
        unit="detector pixels",
        source="assumed: a quick crop",
        ge=1,
        le=65_536,
    )
    columns: int = parameter(
        400,
        "recorded detector columns, after binning",
        unit="detector pixels",
        source="assumed: a quick crop",
        ge=2,
        le=65_536,
    )
    camera_pixel_nm: float = parameter(
        25.4,
        "camera pixel demagnified to the sample, before binning; proportional to the energy at a fixed camera distance",
        unit="nm",
        source="inferred: the stated 52 x 62 um field is 2048 x 2448 pixels",
        gt=0,
        le=10_000,
    )
    binning: int = parameter(
        2,
        "camera pixels summed along each edge of a detector pixel, after digitisation",
        source="assumed: 2 x 2, as TomoBank advises for this microscope",
        ge=1,
        le=8,
    )
    blur_fwhm_px: float = parameter(
        1.2,
        "blur of scintillator and lens, full width at half maximum of a Gaussian",
        unit="camera pixels",
        source="inferred: 1.3 um resolving power of the 5x lens at 1.17 um pixels",
        ge=0,
        le=20,
    )
    flat_electrons: float = parameter(
        8000.0,
        "mean electrons in a detector pixel at the centre of the open beam",
        unit="electrons",
        source="assumed: 2000 in a camera pixel",
        gt=0,
        le=1e8,
    )
    electrons_per_photon: float = parameter(
        0.31,
        "electrons per absorbed X-ray photon; proportional to the energy",
        source="inferred: LuAG scintillator, NA 0.21, 8 keV",
        gt=0,
        le=1000,
    )
    scintillator: ScintillatorRecipe = parameter(
        ScintillatorRecipe(), "the light path that electrons_per_photon follows from, where it is given"
    )
    camera_units_per_electron: float = parameter(
        0.1,
        "gain of the camera",
        unit="camera units per electron",
        source="inferred: full well over 10 bits",
        gt=0,
        le=100,
    )
    read_noise_electrons: float = parameter(
        2.3, "read noise of a camera pixel, root mean square", unit="electrons", source=_IMX250, ge=0, le=1000
    )
    dark_electrons: float = parameter(
        2.0,
        "dark signal of a camera pixel in one exposure",
        unit="electrons",
        source="assumed: exposures of about a second",
        ge=0,
        le=1e6,
    )
    offset_units: float = parameter(
        8.0, "black level of a camera pixel", unit="camera units", source="assumed", ge=0, le=10_000
    )
    full_well_electrons: float = parameter(
        10_400.0, "full well of a camera pixel", unit="electrons", source=_IMX250, gt=0, le=1e7
    )
    bit_depth: int = parameter(
        10, "bits of the camera's converter", unit="bits", source="stated (documentation of 32-ID)", ge=4, le=16
    )
    photo_response_spread: float = parameter(
        0.01,
        "fixed spread of the pixels' response, the same in flats and projections, relative standard deviation",
        source="assumed: of the order of CMOS sensors",
        ge=0,
        le=0.2,
    )
    gain_drift_spread: float = parameter(
        0.003,
        "spread of the change of the pixels' response between flats and projections (the source of rings), relative",
        source="assumed: 0.1 to 1 %",
        ge=0,
        le=0.2,
    )
    dead_pixel_fraction: float = parameter(
        1e-4, "share of detector pixels that see no light", source="assumed", ge=0, le=0.05
    )
    hot_pixel_fraction: float = parameter(
        1e-4, "share of detector pixels with a large dark signal", source="assumed", ge=0, le=0.05
    )
    hot_pixel_electrons: float = parameter(
        4000.0,
        "additional dark signal of a hot detector pixel in one exposure",
        unit="electrons",
        source="assumed",
        ge=0,
        le=1e8,
    )
    drifting_pixel_fraction: float = parameter(
        0.0, "share of detector pixels whose response drifts during the scan", source="assumed: none", ge=0, le=0.5
    )
    drifting_pixel_change: float = parameter(
        0.05,
        "change of a drifting pixel's response from the first view to the last, upwards or downwards, relative",
        source="assumed",
        ge=0,
        le=0.9,
    )
    zinger_fraction: float = parameter(
        0.0,
        "share of pixels of projections and flats that a zinger hits, a stray particle in the sensor",
        source="assumed: none; 1e-5 to 1e-4 are seen",
        ge=0,
        le=0.01,
    )
    zinger_electrons: float = parameter(
        5000.0, "mean charge of a zinger, exponentially distributed", unit="electrons", source="assumed", ge=0, le=1e8
    )
    flat_frames: int = parameter(
        20,
        "frames taken with the beam on and the sample out, before the first view and at every stop between views",
        source="stated (10 to 20, TomoBank)",
        ge=1,
        le=1000,
    )
    flat_sets_between: int = parameter(
        0, "stops between views at which flats are taken, evenly spread", source="assumed: none", ge=0, le=1000
    )
    flat_frames_after: int = parameter(
        0, "flats taken after the last view", source="assumed: none; 32-ID may take as many as before", ge=0, le=1000
    )
    dark_frames: int = parameter(
        20, "frames taken with the beam off", source="assumed: as many as flats", ge=1, le=1000
    )

    @property
    def flats_in_all(self) -> int:
        """Flats of the whole scan."""
        return self.flat_frames * (1 + self.flat_sets_between) + self.flat_frames_after

    @property
    def pixel_nm(self) -> float:
        """Detector pixel at the sample in nm, after binning."""
        return self.camera_pixel_nm * self.binning

    @property
    def full_scale_units(self) -> int:
        """Largest count of a detector pixel."""
        return int(self.binning**2 * (2**self.bit_depth - 1))

    def at_energy(self, energy_kev: float) -> "DetectorRecipe":
        """Return the camera with the electrons per photon that its scintillator's light path gives, where it has one.

        Examples
        --------
        >>> camera = DetectorRecipe(scintillator=ScintillatorRecipe(light_yield_per_kev=25.0))
        >>> round(camera.at_energy(8.0).electrons_per_photon, 2)
        0.31
        """
        if self.scintillator.light_yield_per_kev == 0:
            return self
        return self.model_copy(update={"electrons_per_photon": self.scintillator.electrons_per_photon(energy_kev)})

    @model_validator(mode="after")
    def _open_beam_fits(self) -> Self:
        camera_pixels = self.binning**2
        electrons = self.flat_electrons + camera_pixels * self.dark_electrons
        if electrons > camera_pixels * self.full_well_electrons:
            raise ParameterError(
                f"detector.flat_electrons: got {self.flat_electrons:g} electrons, {electrons:g} with the dark signal; "
                f"at most {camera_pixels * self.full_well_electrons:g} fit into the full wells of {camera_pixels} "
                "camera pixel(s). The open beam would saturate every flat. Lower flat_electrons or bin more."
            )
        level = self.camera_units_per_electron * electrons + camera_pixels * self.offset_units
        if level > self.full_scale_units:
            raise ParameterError(
                f"detector.flat_electrons: the open beam gives {level:.0f} camera units; at most "
                f"{self.full_scale_units} can be written ({camera_pixels} camera pixel(s) of {self.bit_depth} bits). "
                "Lower flat_electrons, camera_units_per_electron or offset_units, or raise bit_depth."
            )
        if self.full_scale_units > np.iinfo(np.uint16).max:
            raise ParameterError(
                f"detector.bit_depth: {self.bit_depth} bits summed over {camera_pixels} camera pixel(s) reach "
                f"{self.full_scale_units}; scan files hold 16 bits (65535). Lower bit_depth or binning."
            )
        return self
