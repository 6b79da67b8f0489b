"""The window of the Fourier projector: its polynomials, its own transform, and the error it leaves.

Takes a span in grid cells and the grid's cells a voxel, gives what `npsi_twin.projectors.fourier` interpolates with and
divides by. The model is the exponential of a semicircle,

    psi(u) = exp(beta (sqrt(1 - (2 u / span)^2) - 1)),   |u| < span / 2,

a polynomial between any two cells. What the grid's copies of the slice leave, in root mean square, is `window_error`;
`WINDOWS` lists the cheapest window for every error.

References
----------
A. H. Barnett, J. Magland and L. af Klinteberg, "A parallel nonuniform fast Fourier transform library based on an
'exponential of semicircle' kernel", SIAM J. Sci. Comput. 41 (2019) C479, doi:10.1137/18M120885X.
"""

import numpy as np
from numpy.typing import NDArray

#: Cells a window spans, grid cells a voxel, and the error of a slice of white noise, in root mean square: the cheapest
#: first. The errors are what `window_error` computes; a test holds them against it.
WINDOWS = (
    (4, 1.35, 7.7e-3),
    (5, 1.25, 3.2e-3),
    (6, 1.25, 6.6e-4),
    (6, 1.35, 2.4e-4),
    (7, 1.35, 4.1e-5),
    (8, 1.35, 8.5e-6),
    (8, 1.5, 2.1e-6),
)


def window_polynomials(span: int, oversampling: float) -> NDArray[np.float64]:
    """Return the window as polynomials, one for each of its cells.

    Parameters
    ----------
    span
        Cells of the window.
    oversampling
        Grid cells a voxel.

    Returns
    -------
    NDArray
        Coefficients, lowest first, shape (span, span + 4). Polynomial j is the weight of the window's cell j as the
        point it surrounds moves by one cell, counted from -1 to 1.
    """
    # A little below the exponent at which the window's first zero would meet the slice's first copy: Barnett et al.
    beta = 0.976 * np.pi * span * (1 - 1 / (2 * oversampling))
    nodes = np.polynomial.chebyshev.chebpts1(span + 4)
    pieces = []
    for j in range(span):
        u = j + 1 - span / 2 - (nodes + 1) / 2
        value = np.exp(beta * (np.sqrt(1 - (2 * u / span) ** 2) - 1))
        pieces.append(np.polynomial.chebyshev.cheb2poly(np.polynomial.chebyshev.chebfit(nodes, value, span + 3)))
    return np.array(pieces)


def window_transform(pieces: NDArray[np.float64], frequency: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Fourier transform of the window, exact to rounding, at frequencies up to 8 cycles a cell.

    Gauss-Legendre quadrature with 48 nodes a cell: exact up to degree 95, of which the polynomial takes at most 11 and
    8 cycles of a cosine the rest, to 1e-16.
    """
    node, weight = np.polynomial.legendre.leggauss(48)
    total = np.zeros(frequency.shape)
    for j, piece in enumerate(pieces):
        u = j + 1 - len(pieces) / 2 - (node + 1) / 2
        share = np.polynomial.polynomial.polyval(node, piece) * weight / 2
        total += np.cos(2 * np.pi * frequency[..., None] * u) @ share
    return total


def window_error(span: int, oversampling: float) -> float:
    """Return the error of gridding for a slice of white noise, relative, in root mean square.

    A voxel at n grid units is seen with the window's copies at n + l G, l other than 0: their transform over that at n
    is the error in one direction. Both directions add in squares.

    Examples
    --------
    >>> f"{window_error(7, 1.35):.0e}"
    '4e-05'
    """
    pieces = window_polynomials(span, oversampling)
    place = (np.arange(64) + 0.5) / 64 * 0.5 / oversampling
    copies = np.concatenate([np.arange(-7, 0), np.arange(1, 8)])
    squares = (window_transform(pieces, place[:, None] + copies) ** 2).sum(axis=1)
    return float(np.sqrt(2 * np.mean(squares / window_transform(pieces, place) ** 2)))
