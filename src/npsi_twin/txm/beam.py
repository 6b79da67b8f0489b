"""The illumination: how the X-ray beam falls off over the field.

Takes a `BeamRecipe` and the detector's frame -> gives the relative illumination of every pixel, 1 at the beam's centre.
The model is a Gaussian profile, I = exp(-4 ln 2 r^2 / w^2) with full width at half maximum w, r measured in the sample
plane from the beam's centre. It stands for a condenser's smooth field; its fine structure and its drift are not
modelled.
"""

import numpy as np
from numpy.typing import NDArray

from npsi_twin.recipes import Recipe, parameter


class BeamRecipe(Recipe):
    """How the field is lit."""

    fwhm_um: float = parameter(
        80.0,
        "full width at half maximum of the illumination, at the sample",
        unit="um",
        source="assumed: the 62 um field is lit to its edges",
        gt=0,
        le=10_000,
    )
    centre_column_um: float = parameter(
        4.0,
        "distance of the beam's centre from the middle of the detector, towards higher columns",
        unit="um",
        source="assumed",
        ge=-1000,
        le=1000,
    )
    centre_row_um: float = parameter(
        -2.0,
        "distance of the beam's centre from the middle of the detector, towards higher rows",
        unit="um",
        source="assumed",
        ge=-1000,
        le=1000,
    )


def illuminate(beam: BeamRecipe, shape: tuple[int, int], pixel_nm: float) -> NDArray[np.float64]:
    """Return the relative illumination of the whole detector.

    Parameters
    ----------
    beam
        The recipe.
    shape
        (rows, columns) of the detector.
    pixel_nm
        Detector pixel at the sample in nm.

    Returns
    -------
    numpy.ndarray
        float64 (row, column), at most 1.

    Examples
    --------
    >>> lit = illuminate(BeamRecipe(fwhm_um=10.0, centre_column_um=0.0, centre_row_um=0.0), (1, 201), 50.0)
    >>> [float(i) for i in lit[0, [0, 100, 200]].round(3)]
    [0.5, 1.0, 0.5]
    """
    rows_um, columns_um = ((np.arange(n) - (n - 1) / 2) * pixel_nm / 1000 for n in shape)
    scale = 4 * np.log(2) / beam.fwhm_um**2
    # 300: a darkness of 1e-130 is dark enough, and the product of two stays a normal number.
    across = np.exp(-np.minimum(scale * (columns_um - beam.centre_column_um) ** 2, 300.0))
    along = np.exp(-np.minimum(scale * (rows_um - beam.centre_row_um) ** 2, 300.0))
    return np.asarray(along[:, None] * across[None, :], np.float64)
