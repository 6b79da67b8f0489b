"""Microscopes by name, each number with its source.

Takes a name -> gives a `Preset`: the recipe, where the instrument is described, and for every number in which it
departs from the default camera's crop whether it is stated there, inferred, or assumed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from npsi_twin.errors import ParameterError
from npsi_twin.txm.beam import BeamRecipe
from npsi_twin.txm.detector import DetectorRecipe, ScintillatorRecipe
from npsi_twin.txm.microscope import MicroscopeRecipe
from npsi_twin.txm.objective import OpticsRecipe
from npsi_twin.txm.stage import StageRecipe

_ZHAO = "C. Zhao et al., Nano Energy 52 (2018) 381-390"
_DOCS = "32-ID's documents (xray-imaging/32id-docs)"
_TKACHUK = "A. Tkachuk et al., Z. Kristallogr. 222 (2007) 650-655, doi:10.1524/zkri.2007.222.11.650"


@dataclass(frozen=True)
class Preset:
    """A microscope by name.

    Attributes
    ----------
    name
        The name.
    reference
        Where the instrument is described.
    recipe
        The microscope.
    sources
        Path of every number that differs from `MicroscopeRecipe`'s default -> its source.
    """

    name: str
    reference: str
    recipe: MicroscopeRecipe
    sources: Mapping[str, str]


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


_APS_SOURCES = {
    "detector.rows": f"inferred: 52 um printed by {_ZHAO} are 2048 pixels",
    "detector.columns": f"inferred: 62 um printed by {_ZHAO} are 2448 pixels",
    "detector.binning": "assumed: the printed field is the unbinned frame",
    "detector.flat_electrons": "assumed: middle of 2000 to 8000",
    "stage.axis_offset_px": "assumed: 32-ID sets of TomoBank have their axis within 48 of 2448 columns",
    "halo_rows": "inferred: 0.4 um hold 97 % of the zone plate's line spread",
}


def _aps_16_nm() -> Preset:
    """Return 32-ID-C with its finest zone plate, whose depth of field is a few micrometres."""
    recipe = MicroscopeRecipe(
        optics=OpticsRecipe(
            outer_zone_width_nm=16.0,
            zone_plate_diameter_um=150.0,
            condenser_na_mrad=3.9,
            condenser_inner_fraction=0.4,
            depth_um=10.0,
            relative_bandwidth=1e-4,
            delta_over_beta=43.0,
            stray_fraction=0.05,
            stray_fwhm_um=10.0,
        ),
        beam=BeamRecipe(fwhm_um=16.0, centre_column_um=0.8, centre_row_um=-0.4, structure_contrast=0.03),
        detector=DetectorRecipe(rows=1024, columns=1224, camera_pixel_nm=5.5),
        stage=StageRecipe(run_out_across_nm=8.0, run_out_along_nm=8.0),
        halo_rows=16,
    )
    sources = {
        "optics.outer_zone_width_nm": f"stated ({_DOCS}: zone plates of 50, 40 and 16 nm)",
        "optics.zone_plate_diameter_um": f"stated ({_DOCS})",
        "optics.condenser_na_mrad": f"inferred: half of the 7.83 mrad of the short condenser ({_DOCS})",
        "optics.condenser_inner_fraction": "assumed: beam stop of 0.3 to 0.5",
        "optics.depth_um": "assumed: a needle that fits into the field",
        "optics.relative_bandwidth": f"stated ({_DOCS}: dE/E 1e-4)",
        "optics.delta_over_beta": "inferred: silicon and copper at 8 keV (xraydb)",
        "optics.stray_fraction": "assumed: 0.02 to 0.1 of the flat",
        "optics.stray_fwhm_um": "assumed: as broad as the field",
        "beam.fwhm_um": "assumed: the field is lit to its edges",
        "beam.centre_column_um": "assumed",
        "beam.centre_row_um": "assumed",
        "beam.structure_contrast": "assumed: some per cent remain of the condenser's structure",
        "detector.rows": "inferred: 2048 camera pixels, binned",
        "detector.columns": "inferred: 2448 camera pixels, binned",
        "detector.camera_pixel_nm": f"inferred: 1.17 um over a magnification of 212 at 3.3 m ({_DOCS})",
        "stage.run_out_across_nm": "assumed: half of the best stage's 15 nm, else no image of 16 nm could be claimed",
        "stage.run_out_along_nm": "assumed: as sideways",
        "halo_rows": "inferred: 0.18 um hold the zone plate's line spread at a defocus of 5 um",
    }
    return Preset("aps-32-id-c-16nm", _DOCS, recipe, MappingProxyType(sources))


def _laboratory() -> Preset:
    """Return a laboratory microscope on a copper anode, of the class of Xradia's nanoXCT and Zeiss' Ultra."""
    recipe = MicroscopeRecipe(
        energy_kev=8.048,
        optics=OpticsRecipe(
            outer_zone_width_nm=45.0,
            zone_plate_diameter_um=80.0,
            depth_um=16.0,
            relative_bandwidth=2.5e-3,
            delta_over_beta=43.0,
            stray_fraction=0.05,
            stray_fwhm_um=20.0,
        ),
        beam=BeamRecipe(fwhm_um=20.0, centre_column_um=0.5, centre_row_um=0.5),
        detector=DetectorRecipe(
            rows=1024,
            columns=1024,
            camera_pixel_nm=16.0,
            binning=1,
            blur_fwhm_px=1.5,
            flat_electrons=3000.0,
            scintillator=ScintillatorRecipe(light_yield_per_kev=54.0, refractive_index=1.79, numerical_aperture=0.45),
            camera_units_per_electron=1.0,
            read_noise_electrons=5.0,
            dark_electrons=1.0,
            offset_units=100.0,
            full_well_electrons=60_000.0,
            bit_depth=16,
            zinger_fraction=1e-5,
            flat_frames=10,
            dark_frames=10,
        ),
        stage=StageRecipe(
            views=901,
            run_out_across_nm=20.0,
            run_out_along_nm=20.0,
            drift_across_nm=300.0,
            drift_along_nm=300.0,
            drift_settling=0.3,
        ),
        halo_rows=40,
    )
    sources = {
        "energy_kev": f"stated ({_TKACHUK}: copper anode, K alpha)",
        "optics.outer_zone_width_nm": f"inferred: 50 nm resolution ({_TKACHUK})",
        "optics.zone_plate_diameter_um": "assumed: 440 zones, as many as the line's width allows",
        "optics.depth_um": "inferred: a sample that fills the field",
        "optics.relative_bandwidth": "inferred: distance of K alpha 1 and 2, 20 eV",
        "optics.delta_over_beta": "inferred: silicon and copper at 8 keV (xraydb)",
        "optics.stray_fraction": "assumed",
        "optics.stray_fwhm_um": "assumed: as broad as the field",
        "beam.fwhm_um": "assumed: the field is lit to its edges",
        "beam.centre_column_um": "assumed",
        "beam.centre_row_um": "assumed",
        "detector.rows": "inferred: 16 um field of 16 nm",
        "detector.columns": "inferred: 16 um field of 16 nm",
        "detector.camera_pixel_nm": "inferred: makers' figure for the high-resolution mode",
        "detector.binning": "assumed: unbinned",
        "detector.blur_fwhm_px": "assumed",
        "detector.flat_electrons": "assumed: a minute on a laboratory source",
        "detector.scintillator.light_yield_per_kev": "assumed: CsI(Tl)",
        "detector.scintillator.refractive_index": "assumed: CsI(Tl)",
        "detector.scintillator.numerical_aperture": "assumed: a 20x objective",
        "detector.camera_units_per_electron": "assumed: cooled CCD",
        "detector.read_noise_electrons": "assumed: cooled CCD",
        "detector.dark_electrons": "assumed: cooled CCD",
        "detector.offset_units": "assumed: cooled CCD",
        "detector.full_well_electrons": "assumed: cooled CCD",
        "detector.bit_depth": "assumed: cooled CCD",
        "detector.zinger_fraction": "assumed: exposures of a minute",
        "detector.flat_frames": "assumed",
        "detector.dark_frames": "assumed",
        "stage.views": "assumed: 0.2 degrees",
        "stage.run_out_across_nm": "assumed",
        "stage.run_out_along_nm": "assumed",
        "stage.drift_across_nm": "assumed: scans of a day",
        "stage.drift_along_nm": "assumed: scans of a day",
        "stage.drift_settling": "assumed: the cabinet warms up",
        "halo_rows": "inferred: 0.6 um hold the line spread and the drift",
    }
    return Preset("laboratory-8kev", _TKACHUK, recipe, MappingProxyType(sources))


def _presets() -> dict[str, Preset]:
    paper = Preset("aps-32-id-c-2018", _ZHAO, aps_32_id_c_2018(), MappingProxyType(_APS_SOURCES))
    return {preset.name: preset for preset in (paper, _aps_16_nm(), _laboratory())}


#: Microscopes shipped by name.
MICROSCOPES: Mapping[str, Preset] = MappingProxyType(_presets())


def microscope_preset(name: str) -> Preset:
    """Return a microscope shipped by name.

    Parameters
    ----------
    name
        ``"aps-32-id-c-2018"``: the paper's instrument, full frame; ``"aps-32-id-c-16nm"``: the same beamline with a
        zone plate of 16 nm, whose depth of field a needle exceeds; ``"laboratory-8kev"``: a laboratory microscope on a
        copper anode, with few photons and a drift that settles over the scan.

    Returns
    -------
    Preset
        Recipe, reference and the source of every number.

    Raises
    ------
    ParameterError
        For any other name.

    Examples
    --------
    >>> preset = microscope_preset("aps-32-id-c-16nm")
    >>> preset.recipe.optics.outer_zone_width_nm, preset.sources["optics.depth_um"]
    (16.0, 'assumed: a needle that fits into the field')
    """
    if name not in MICROSCOPES:
        raise ParameterError(
            f"microscope: got {name!r}; shipped are {', '.join(MICROSCOPES)}. Describe another one as a "
            "`MicroscopeRecipe`."
        )
    return MICROSCOPES[name]
