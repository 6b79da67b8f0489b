"""How to measure: every length in nm, so that truth on finer voxels is measured alike."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from npsi_twin.recipes import Recipe, parameter


def _ascending(band: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= band[0] < band[1]:
        raise ValueError(f"a band reaches from a smaller to a larger distance of at least 0; got {band}")
    return band


Band = Annotated[tuple[float, float], Field(strict=False), AfterValidator(_ascending)]


class MeasurementRecipe(Recipe):
    """How to measure. Lengths are in nm, so that truth on finer voxels is measured alike."""

    edge_margin_nm: float = parameter(
        1000.0,
        "columns closer than this to the lateral end of the foil, where the needle was cut, are left out",
        unit="nm",
        source="assumed (half a layer's thickness)",
        ge=0.0,
        le=1e5,
    )
    minimum_run_nm: float = parameter(
        100.0, "a shorter vertical run of the layer's phase is no surface", unit="nm", source="assumed", ge=0.0, le=1e4
    )
    closing_radius_nm: float = parameter(
        200.0,
        "radius of the ball that closes the silicon into particles",
        unit="nm",
        source="inferred (half the stated mean pore; wider balls fill gaps between particles)",
        ge=0.0,
        le=1e7,
    )
    foil_guard_nm: float = parameter(
        150.0,
        "width of the band at the foil whose attenuation is not trusted",
        unit="nm",
        source="assumed (2.5 standard deviations of the blur at 50 nm voxels)",
        ge=0.0,
        le=5000.0,
    )
    foil_band_nm: Band = parameter(
        (300.0, 2000.0),
        "depths below the foil's surface between which the foil's attenuation is taken",
        unit="nm",
        source="assumed (below the blur, above where beam hardening or truncation would bend the level)",
    )
    plateau_band_nm: Band = parameter(
        (300.0, 1100.0),
        "distances from the foil over which the normalised attenuation's plateau is averaged",
        unit="nm",
        source="inferred (Zhao 2018: layer 2.0 +- 0.5 um; up to two standard deviations below its top)",
    )
    air_gap_nm: float = parameter(
        500.0,
        "distance from the layer's top to the voxels that are taken for air",
        unit="nm",
        source="assumed",
        ge=0.0,
        le=1e5,
    )
    crofton_directions: Literal[3, 13] = parameter(
        13, "directions in which the surface is counted", source="inferred (unbiased to 1-2 %)"
    )
    blocks: int = parameter(8, "blocks of slices that give a ratio its spread", source="assumed", ge=2, le=1000)
    local_thickness_crop_nm: float = parameter(
        1e8,
        "edge of the central crop of the layer in which local thickness is mapped; 0 leaves it out",
        unit="nm",
        source="assumed (10 cm, the whole of any specimen)",
        ge=0.0,
        le=1e8,
    )
    correlation_lag_nm: float = parameter(
        1500.0,
        "longest lag of the two-point correlation; 0 leaves it out",
        unit="nm",
        source="inferred (four of the stated mean pores of 400 nm)",
        ge=0.0,
        le=1e8,
    )
    bodies: bool = parameter(True, "whether particles and agglomerates are sought", source="assumed")
    split_ratio: float = parameter(
        0.8,
        "a neck of at least this share of the narrower body's depth does not part two particles",
        source="assumed (two balls that overlap by two fifths of a radius are still two)",
        gt=0.0,
        le=1.0,
    )
    contact_share: float = parameter(
        0.2,
        "share of two particles' border on which silicon must meet silicon for one agglomerate",
        source="inferred (half of what a cut through np-Si of 60 % porosity has)",
        ge=0.0,
        le=1.0,
    )
    smallest_body_nm: float = parameter(
        500.0,
        "diameter of the ball of a body's volume below which it is no particle",
        unit="nm",
        source="assumed (ten voxels of 50 nm)",
        ge=0.0,
        le=1e5,
    )
    texture_window_nm: float = parameter(
        150.0,
        "edge of the cubes in which the attenuation's local standard deviation is taken; at least two voxels",
        unit="nm",
        source="assumed (three voxels of 50 nm, narrower than the stated mean ligament)",
        ge=0.0,
        le=1e5,
    )
    silicon_over_foil: float = parameter(
        0.3206,
        "attenuation of dense silicon over that of the foil, from which lithium is inferred",
        source="stated (xraydb's tables, silicon 2.329 and copper 8.96 g/cm3 at 8 keV)",
        gt=0.0,
        le=10.0,
    )
    volume_per_lithium: float = parameter(
        0.738,
        "growth of the silicon's volume for one lithium per silicon",
        source="stated (8.9 of 12.06 cm3/mol; Obrovac et al. 2007)",
        gt=0.0,
        le=2.0,
    )
    tortuosity: bool = parameter(
        False, "whether the tortuosity factors of pores and silicon are solved for", source="assumed (minutes)"
    )
