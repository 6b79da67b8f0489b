"""Rules that find a threshold in a histogram, by the names they have in ImageJ.

Takes -> gives: the greys of a layer -> the grey above which silicon begins.

The rules. "isodata" (Ridler and Calvard 1978), "otsu" (1979), "triangle" (Zack 1977), "yen" (1995), "minimum" (Prewitt
and Mendelsohn 1966) and "mean" are scikit-image's. Four are written here, since it lacks them, and one since its own
loops without end where single precision lets the last steps alternate:

* "default" is ImageJ's own variant of isodata. Where the fullest bin holds more than twice what the next one holds, it
  is cut to one and a half times that; the first and the last bin are emptied; then the lowest level L is taken that is
  no more than a bin below the middle between the mean of what lies at or under it and the mean of what lies above it.
* "huang" minimises the Shannon entropy S(m) of the membership m = 1 / (1 + |g - mean of g's class| / (range of g)).
* "moments" keeps mean, mean square and mean cube when every grey becomes one of two; the threshold is the quantile of
  the share that the darker one then has (Tsai 1985).
* "max-entropy" maximises the sum of the entropies of the two classes' histograms (Kapur 1985).
* "li" minimises the cross entropy of the greys and their class's mean: its threshold is the logarithmic mean of the
  two means, counted from the lowest grey (Li and Tam 1998). Bin by bin the iteration goes one way, and so ends.

Otsu's threshold is a fixed point of the isodata iteration, so that the two differ only where a histogram has several.

Histograms reach from the 0.1st to the 99.9th percentile. ImageJ's have 256 bins from the image's minimum to its
maximum; single hot voxels move those, and the threshold with them. Holds for greys of two phases; where one phase is
rare (below a few per cent) each rule has its own bias.

References
----------
T. W. Ridler and S. Calvard, IEEE Trans. Syst. Man Cybern. 8 (1978) 630, doi:10.1109/TSMC.1978.4310039.
N. Otsu, IEEE Trans. Syst. Man Cybern. 9 (1979) 62, doi:10.1109/TSMC.1979.4310076.
L.-K. Huang and M.-J. J. Wang, Pattern Recognit. 28 (1995) 41, doi:10.1016/0031-3203(94)E0043-K.
W.-H. Tsai, Comput. Vis. Graph. Image Process. 29 (1985) 377, doi:10.1016/0734-189X(85)90133-1.
J. N. Kapur, P. K. Sahoo and A. K. C. Wong, ibid. 29 (1985) 273, doi:10.1016/0734-189X(85)90125-2.
C. H. Li and P. K. S. Tam, Pattern Recognit. Lett. 19 (1998) 771, doi:10.1016/S0167-8655(98)00057-9.
G. Landini et al., Auto Threshold, https://imagej.net/plugins/auto-threshold (the rules' names in ImageJ).
"""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError

ThresholdRule = Literal[
    "isodata",
    "default",
    "otsu",
    "li",
    "triangle",
    "yen",
    "huang",
    "minimum",
    "moments",
    "mean",
    "max-entropy",
]
RULES: tuple[str, ...] = get_args(ThresholdRule)

Curve = NDArray[np.float64]


def threshold_by_rule(values: NDArray[Any], rule: ThresholdRule, *, bins: int = 1024) -> float:
    """Return the threshold that a rule finds in the greys of a layer.

    Parameters
    ----------
    values
        Greys, any shape and unit.
    rule
        Its name; see the head of this module.
    bins
        Bins of the histogram between the 0.1st and 99.9th percentile.

    Returns
    -------
    float
        The threshold, in the unit of the greys; what is above it is the brighter phase.

    Raises
    ------
    DataError
        One grey only, or a histogram in which the rule finds no threshold.

    Examples
    --------
    Two greys of equal spread and number: a rule worth its name cuts half-way.

    >>> rng = np.random.default_rng(1)
    >>> greys = np.concatenate([rng.normal(0, 1, 20000), rng.normal(8, 1, 20000)])
    >>> [round(threshold_by_rule(greys, rule)) for rule in ("isodata", "default", "otsu", "moments", "mean")]
    [4, 4, 4, 4, 4]
    """
    low = float(np.quantile(values, 0.001)) if values.size else 0.0
    high = float(np.quantile(values, 0.999)) if values.size else 0.0
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    if high <= low or np.count_nonzero(counts) < 2:
        raise DataError(
            "segment: the layer has one grey only, or none; two phases are needed to set a threshold by a rule. "
            'Give a fixed threshold_per_um, or threshold_over = "stack" if single slices hold no silicon.'
        )
    if rule in ("triangle", "mean"):
        return _of_greys(np.clip(values, low, high), rule, bins)
    middles = (edges[:-1] + edges[1:]) / 2
    if rule in _OWN:
        return float(_OWN[rule](counts.astype(np.float64), middles))
    from skimage import filters

    found = {
        "isodata": filters.threshold_isodata,
        "otsu": filters.threshold_otsu,
        "yen": filters.threshold_yen,
        "minimum": filters.threshold_minimum,
    }[rule]
    try:
        return float(found(hist=(counts, middles)))  # type: ignore[no-untyped-call]  # skimage
    except RuntimeError:
        raise DataError(
            f'segment: the rule "{rule}" finds no two maxima in the histogram of the layer; it needs greys of two '
            'phases that the noise leaves apart. Smooth more, or take another rule, such as "isodata".'
        ) from None


def _of_greys(values: NDArray[Any], rule: str, bins: int) -> float:
    """Apply a rule that scikit-image offers for images, not for histograms."""
    from skimage import filters

    if rule == "mean":
        return float(values.mean(dtype=np.float64))
    return float(filters.threshold_triangle(values, nbins=bins))  # type: ignore[no-untyped-call]  # skimage


def _imagej_default(counts: Curve, middles: Curve) -> float:
    tamed = counts.copy()
    fullest = int(np.argmax(tamed))
    second = float(np.delete(tamed, fullest).max())
    if tamed[fullest] > 2 * second > 0:
        tamed[fullest] = np.floor(1.5 * second)
    tamed[[0, -1]] = 0.0
    filled = np.flatnonzero(tamed)
    if filled.size < 2:
        return float(middles[len(middles) // 2])
    first, last = int(filled[0]), int(filled[-1])
    level = np.arange(len(tamed))
    number, moment = np.cumsum(tamed), np.cumsum(tamed * level)
    below = np.arange(first, last)  # the level is never the last bin, so that both classes hold something
    means = (moment[below] / number[below] + (moment[-1] - moment[below]) / (number[-1] - number[below])) / 2
    # ImageJ's loop looks one bin ahead, and ends one bin before the last at the latest
    stops = np.flatnonzero((below + 2 > means) | (below >= last - 2))
    # its thresholds are the last grey of the darker class: the cut is at that bin's upper end
    return float(np.interp(np.floor(means[stops[0]] + 0.5) + 0.5, level, middles))


def _huang(counts: Curve, middles: Curve) -> float:
    filled = np.flatnonzero(counts)
    counts, middles = counts[filled[0] : filled[-1] + 1], middles[filled[0] : filled[-1] + 1]
    level = np.arange(len(counts), dtype=np.float64)
    number, moment = np.cumsum(counts), np.cumsum(counts * level)
    fuzziness = np.full(len(counts) - 1, np.inf)
    for cut in range(len(counts) - 1):
        darker = moment[cut] / number[cut]
        brighter = (moment[-1] - moment[cut]) / (number[-1] - number[cut])
        far = np.abs(level - np.where(level <= cut, darker, brighter))
        member = 1 / (1 + far / level[-1])
        other = np.maximum(1 - member, np.finfo(np.float64).tiny)  # x log x ends at 0
        fuzziness[cut] = -np.sum(counts * (member * np.log(member) + other * np.log(other)))
    return _upper_end(middles, int(np.argmin(fuzziness)))


def _moments(counts: Curve, middles: Curve) -> float:
    share = counts / counts.sum()
    level = np.arange(len(counts), dtype=np.float64) / len(counts)
    first, second, third = (float(np.sum(share * level**power)) for power in (1, 2, 3))
    # the two greys are the roots of z^2 + b z + c, whose moments are those of the histogram
    spread = second - first**2
    c = (first * third - second**2) / spread
    b = (first * second - third) / spread
    root = np.sqrt(max(b**2 - 4 * c, 0.0))
    dark, bright = (-b - root) / 2, (-b + root) / 2
    darker = (bright - first) / (bright - dark)
    return _upper_end(middles, int(np.argmin(np.abs(np.cumsum(share) - darker))))


def _max_entropy(counts: Curve, middles: Curve) -> float:
    share = counts / counts.sum()
    below = np.cumsum(share)
    information = np.cumsum(-share * np.log(np.where(share > 0, share, 1.0)))
    inside = np.flatnonzero((below > 0) & (below < 1 - 1e-12))
    dark, rest = below[inside], 1 - below[inside]
    entropy = information[inside] / dark + np.log(dark) + (information[-1] - information[inside]) / rest + np.log(rest)
    return _upper_end(middles, int(inside[np.argmax(entropy)]))


def _li(counts: Curve, middles: Curve) -> float:
    grey = np.arange(len(counts)) + 0.5  # from the lowest one, in bins
    filled = np.flatnonzero(counts)
    number, moment = np.cumsum(counts), np.cumsum(counts * grey)
    level = moment[-1] / number[-1]
    for _ in counts:
        cut = min(max(int(np.searchsorted(grey, level, "right")) - 1, filled[0]), filled[-1] - 1)
        dark, bright = moment[cut] / number[cut], (moment[-1] - moment[cut]) / (number[-1] - number[cut])
        before, level = level, (bright - dark) / np.log(bright / dark)
        if np.searchsorted(grey, level, "right") == np.searchsorted(grey, before, "right"):
            break
    return float(middles[0] + (level - grey[0]) * (middles[1] - middles[0]))


def _upper_end(middles: Curve, level: int) -> float:
    """Return the grey between a bin, the last of the darker class, and the next one."""
    return float(middles[level] + (middles[1] - middles[0]) / 2)


_OWN = {"default": _imagej_default, "huang": _huang, "moments": _moments, "max-entropy": _max_entropy, "li": _li}
