"""A flat field where none was taken: what the air beside the sample shows.

Takes a `Scan` without usable flats, gives it with one flat,

    flat(row, c) = dark + light of the air columns at either edge, mean over the views, linear in c between them,

which `illumination` then scales view by view with the same air. It holds the beam's slope and no fine structure: the
pixels' gains stay in the data as stripes. Holds where the outermost columns show air in every view; columns with sample
in them cannot be told from a dimmer beam.
"""

from dataclasses import replace

import numpy as np

from npsi_twin.errors import DataError, ParameterError
from npsi_twin.scan import Scan


def with_flats_from_air(scan: Scan, columns: int) -> Scan:
    """Return the scan with one flat made from its outermost columns.

    Parameters
    ----------
    scan
        Counts; its own flats are not used. Any rows: each is made from itself.
    columns
        Columns at either edge that show air.

    Returns
    -------
    Scan
        The same counts, one flat.

    Raises
    ------
    ParameterError
        No columns are given, or more than the detector has.
    DataError
        The air is dark.

    Examples
    --------
    >>> from npsi_twin.scan import ParallelBeam
    >>> beam = ParallelBeam(np.array([0.0]), columns=4, pixel_nm=50.0)
    >>> scan = Scan(np.array([[[100.0, 5.0, 5.0, 400.0]]]), np.empty((0, 1, 4)), np.zeros((1, 1, 4)), beam)
    >>> with_flats_from_air(scan, 1).flats.tolist()
    [[[100.0, 200.0, 300.0, 400.0]]]
    """
    width = scan.beam.columns
    if not 0 < columns <= width // 2:
        raise ParameterError(
            f"flat_field = 'air': got air_columns_px = {columns} of {width} columns; at least 1 and at most half of "
            "the detector at either edge must show air in every view. Give --flat-from-air with their number."
        )
    dark = scan.darks.mean(axis=0, dtype=np.float64) if len(scan.darks) else np.zeros(scan.projections.shape[1:])
    outermost = [slice(0, columns), slice(width - columns, width)]
    places = [(edge.start + edge.stop - 1) / 2 for edge in outermost]
    flat = np.empty(dark.shape)
    for row in range(scan.rows):
        # The median over columns passes dead and hot pixels by.
        light = [
            float(np.nanmedian(scan.projections[:, row, edge].mean(axis=0, dtype=np.float64) - dark[row, edge]))
            for edge in outermost
        ]
        if not min(light) > 0:
            raise DataError(
                f"air: the outermost {columns} columns of row {scan.first_row + row} hold {min(light):.3g} counts "
                "above the dark level; there is no beam. Take other rows, or give flats."
            )
        slope = (light[1] - light[0]) / (places[1] - places[0])
        flat[row] = dark[row] + light[0] + slope * (np.arange(width) - places[0])
    return replace(scan, flats=flat[None], flat_views=None, flat_current_ma=None)
