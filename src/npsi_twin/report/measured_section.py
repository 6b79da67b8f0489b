"""The pictures of a page that show what was measured: heights, profiles, structure, and where a segmentation errs.

`Measurements` of truth and recovered, and what ``comparison.json`` holds -> `Picture`s, as many as there are data for.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from npsi_twin.comparison.published import zhao2018
from npsi_twin.morphology.measure import Measurements
from npsi_twin.report.curve_figures import LEAST_SHARE, draw_accuracy, draw_profiles, draw_structure, profiles
from npsi_twin.report.figures import draw_thickness
from npsi_twin.report.page import Picture


def measurement_pictures(
    figures: Path,
    measured: Mapping[str, Measurements],
    comparison: Mapping[str, Any],
    pixel_nm: float,
    *,
    pristine: bool,
    by_slice: bool,
) -> list[Picture]:
    """Draw what was measured, for the pristine electrode with what the paper prints of it.

    Parameters
    ----------
    figures
        Folder of the pictures.
    measured
        ``recovered``, and ``truth`` where there is one.
    comparison
        What ``comparison.json`` holds.
    pixel_nm
        Edge of a voxel, nm.
    pristine
        Whether the electrode is the pristine one.
    by_slice
        Whether every slice was smoothed by itself before it was segmented.
    """
    found = []
    scores = comparison.get("label_scores")  # runs of older versions have none
    if scores is not None and scores["curves"]["by_distance"] is not None:
        draw_accuracy(figures / "accuracy.png", curves=scores["curves"])
        found.append(
            Picture(
                figures / "accuracy.png",
                "Where the segmentation errs",
                "Left: share of the layer's voxels that are labelled right, in classes of one voxel of their distance "
                "to the true interface; the outermost points hold all that lies farther. Right: share of the true "
                "silicon and of the true void that was found, by local thickness in the layer's middle. Half a voxel "
                "on either side of an interface no labels can be sure of.",
            )
        )
    return [
        *found,
        *_profile(figures, measured, pristine=pristine),
        *_heights(figures, measured, pixel_nm, pristine=pristine, by_slice=by_slice),
        *_structure(figures, measured),
    ]


def _profile(figures: Path, measured: Mapping[str, Measurements], *, pristine: bool) -> list[Picture]:
    plateau = zhao2018()["grey_pristine_plateau"]
    curves = profiles(measured)
    if not curves:
        return []
    draw_profiles(
        figures / "profile.png",
        curves=curves,
        published=(f"published pristine plateau {plateau.number():g}", plateau.number()) if pristine else None,
    )
    return [
        Picture(
            figures / "profile.png",
            "Attenuation against height above the foil",
            "Foil 1, air 0. Heights count from the foil's own surface under each column (left) or from the plane "
            "through it, as a flat section would (right), where a rough foil mixes copper into the lowest heights. "
            "Bands are the standard deviation over blocks of slices. Heights that less than "
            f"{100 * LEAST_SHARE:.0f} % of the columns reach are left out. Within a resolution element of the foil "
            "the recovered curve is the blur of the copper.",
        )
    ]


def _heights(
    figures: Path, measured: Mapping[str, Measurements], pixel_nm: float, *, pristine: bool, by_slice: bool
) -> list[Picture]:
    thickness = zhao2018()["pristine_thickness"]
    streaks = (
        " Streaks across in the recovered map are slices that were smoothed and segmented each by itself: noise that "
        "neighbouring slices do not share moves the top of a slice."
    )
    draw_thickness(
        figures / "thickness.png",
        maps_um={name: values.thickness_map_nm / 1000 for name, values in measured.items()},
        pixel_nm=pixel_nm,
        published_um=(thickness.number(), thickness.spread or 0.0) if pristine else None,
    )
    return [
        Picture(
            figures / "thickness.png",
            "Thickness of the layer",
            "Top of the silicon above the local foil surface, seen from above; grey where there is no silicon, or "
            f"where the needle's flank is too near.{streaks if by_slice else ''}",
        )
    ]


def _structure(figures: Path, measured: Mapping[str, Measurements]) -> list[Picture]:
    if not draw_structure(figures / "structure.png", measured=measured):
        return []
    return [
        Picture(
            figures / "structure.png",
            "Structure: two-point correlation and local thickness",
            "S2 is the probability that two voxels of the layer a lag apart are both silicon: the share of silicon at "
            "lag 0, its square (thin line) where places no longer know of each other; the steeper the start, the more "
            "surface. Local thickness is the diameter of the largest ball that fits in and covers a voxel, in classes "
            "of one voxel.",
        )
    ]
