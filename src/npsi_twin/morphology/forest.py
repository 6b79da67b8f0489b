"""A random forest that calls voxels silicon, trained on phantoms whose truth is known.

Takes -> gives: a `Forest` (from `npsi_twin.morphology.forest_training`) is a method of `segmentation`, and is kept as a
plain .npz of its trees, without any code in it.

The model. Each of T trees is grown on a bootstrap sample of the training voxels, drawn from the layer alone; at every
node a random part of the features of `voxel_features` is tried (Breiman 2001). They are taken in units of the threshold
that IsoData finds in the layer after the narrowest of their Gaussians, so that lithium, which thins silicon, and
another energy change little. One more feature is the linear combination of all of them that fits silicon (1) and what
is none (0) best by least squares. It undoes blur as far as noise allows, which a tree, that asks for one feature after
the other, cannot. The mean over the trees of the share of silicon in the leaf that a voxel falls into is its
chance p to be silicon; voxels are drawn as they come, not balanced. Silicon is what has p >= c, with the cut c at which
the Dice coefficient that the chances let expect in the layer is largest,

    D(c) = 2 sum_{p >= c} p / (number of p >= c + sum p).

Where noise leaves no voxel certain, a cut at one half would call next to nothing silicon; this one is half of the
largest D (Lipton et al. 2014).

Training needs scikit-learn (the extra ``learn``); using a forest does not: its trees are walked by a compiled function
that agrees with scikit-learn's to rounding. Holds for scans like those of the training: dose and blur; another voxel
size is met by widths in nm.

References
----------
L. Breiman, Mach. Learn. 45 (2001) 5, doi:10.1023/A:1010933404324.
Z. C. Lipton, C. Elkan and B. Naryanaswamy, Proc. ECML PKDD (2014) 225, doi:10.1007/978-3-662-44851-9_15.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from npsi_twin.errors import DataError, ParameterError
from npsi_twin.morphology.collector import BoolArray
from npsi_twin.morphology.layer_view import LayerView
from npsi_twin.morphology.segmentation_recipe import SegmentationRecipe
from npsi_twin.morphology.thresholds import threshold_by_rule
from npsi_twin.morphology.voxel_features import feature_count, reach_voxels, voxel_features
from npsi_twin.numpy_files import read_npz
from npsi_twin.recipes import MadeBy
from npsi_twin.volumes import FloatArray

_FORMAT = "npsi-twin forest 3"
_FEATURES_AT_ONCE = 1 << 25
_UNIT_BINS, _CUTS = 1024, 1000
_ARRAYS = {
    "weights": np.float64,
    "roots": np.int64,
    "left": np.int32,
    "right": np.int32,
    "feature": np.int32,
    "cut": np.float64,
    "share": np.float64,
}
_STORED = (*_ARRAYS, "format", "widths_nm", "recipe_digest", "root_seed")


def accepted_widths(widths: tuple[float, ...]) -> tuple[float, ...]:
    """Return widths of features, or refuse them with a ValueError."""
    if not widths or not all(0 < width <= 1e5 for width in widths):
        raise ValueError(f"one or more widths above 0 and up to 100 um are needed; got {widths}")
    return widths


@dataclass(frozen=True)
class Forest:
    """Trees, one after the other in the same arrays.

    Attributes
    ----------
    weights
        Offset, and weight of each of the features of `voxel_features`, of the linear one, which is the last.
    roots
        Number of each tree's first node.
    left, right
        Number of the nodes that a node leads to where its feature is at most its cut, and where it exceeds it; -1 in
        leaves.
    feature, cut
        Which feature a node asks for, and the value that it compares with.
    share
        Share of silicon among the training voxels of a node.
    widths_nm
        Widths of the features, nm.
    made_by
        Provenance.
    """

    weights: NDArray[np.float64]
    roots: NDArray[np.int64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    feature: NDArray[np.int32]
    cut: NDArray[np.float64]
    share: NDArray[np.float64]
    widths_nm: tuple[float, ...]
    made_by: MadeBy

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            view: NDArray[Any] = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    @property
    def name(self) -> str:
        """Name that tells this forest from any other: ``forest`` and its `digest`."""
        return f"forest {self.digest}"

    @property
    def digest(self) -> str:
        """First 16 digits of the SHA-256 of widths, weights and trees."""
        digest = hashlib.sha256(repr(self.widths_nm).encode())
        for name in _ARRAYS:
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return digest.hexdigest()[:16]

    def silicon_share(self, view: LayerView) -> Iterator[tuple[slice, FloatArray]]:
        """Yield slabs of slices with the mean share of silicon of every voxel between air and foil, (z, row, x)."""
        from npsi_twin.morphology.forest_walk import mean_share

        for slab, features in feature_slabs(view, self.widths_nm):
            flat = features.reshape(-1, features.shape[-1])
            found = mean_share(flat, *(getattr(self, name) for name in _ARRAYS))
            yield slab, found.reshape(features.shape[:3])

    def __call__(self, view: LayerView, recipe: SegmentationRecipe) -> tuple[BoolArray, NDArray[np.float64]]:
        """Call bright what is silicon at the cut of the largest Dice to be expected; there is no threshold of grey."""
        bright = np.zeros(view.smooth.shape, np.bool_)
        shares = np.zeros(bright[:, view.rows].shape, np.float32)
        for slab, share in self.silicon_share(view):
            shares[slab] = share
        reach, _ = view.reach
        inside = (share[view.inside(z, reach)[view.rows]] for z, share in enumerate(shares))
        bright[:, view.rows] = shares >= best_cut(inside)
        return bright, np.full(len(bright), np.nan)


def best_cut(shares: Iterable[FloatArray]) -> float:
    """Return the cut of chances at which the Dice coefficient that they let expect is largest.

    Parameters
    ----------
    shares
        Chances to be silicon, 0 to 1, in parts of any shape (n,).

    Returns
    -------
    float
        0 to 1, in steps of a thousandth; 1 where nothing has a chance.

    Examples
    --------
    Two voxels are likely silicon and two are not; nothing is sure:

    >>> best_cut([np.array([0.8, 0.7, 0.1, 0.1], np.float32)])
    0.7
    """
    # In steps of a thousandth, and from the top down: what is not below a step is kept.
    number, total = np.zeros(_CUTS + 1), np.zeros(_CUTS + 1)
    for part in shares:
        step = np.minimum((part * _CUTS + 1e-3).astype(np.intp), _CUTS)
        number += np.bincount(step, minlength=_CUTS + 1)
        total += np.bincount(step, part, minlength=_CUTS + 1)
    kept, hit = np.cumsum(number[::-1]), np.cumsum(total[::-1])
    expected = 2 * hit / np.maximum(kept + hit[-1], 1e-300)
    return float((_CUTS - int(np.argmax(expected))) / _CUTS)


def feature_slabs(view: LayerView, widths_nm: tuple[float, ...]) -> Iterator[tuple[slice, FloatArray]]:
    """Yield the features of a slab of slices at a time, (z, row between air and foil, x, feature).

    The slabs keep memory small and change nothing: each is given the slices that its features see. The grey that they
    are counted in is the whole volume's, which is smoothed for it once, 4 bytes a voxel.
    """
    unit = _unit_per_um(view, widths_nm)
    values, voxel_nm = view.attenuation.values[:, view.rows], view.attenuation.voxel_nm
    halo = reach_voxels(widths_nm, voxel_nm)
    height = max(1, _FEATURES_AT_ONCE // (values.shape[1] * values.shape[2] * feature_count(widths_nm)))
    for start in range(0, len(values), height):
        stop, first = min(start + height, len(values)), max(0, start - halo)
        seen = np.asarray(values[first : stop + halo], np.float32) / np.float32(unit)
        yield slice(start, stop), voxel_features(seen, widths_nm, voxel_nm)[start - first : stop - first]


def _unit_per_um(view: LayerView, widths_nm: tuple[float, ...]) -> float:
    """Return the grey that features are counted in: the layer's threshold after the narrowest of their Gaussians."""
    sigma = min(widths_nm) / view.attenuation.voxel_nm
    smooth = ndimage.gaussian_filter(np.asarray(view.attenuation.values, np.float32), sigma, mode="nearest")
    samples = np.concatenate(list(replace(view, smooth=smooth).samples()))
    return threshold_by_rule(samples, "isodata", bins=_UNIT_BINS)


def save_forest(path: Path, forest: Forest) -> None:
    """Write a forest as plain arrays; reading it back runs no code.

    Parameters
    ----------
    path
        A new file whose name ends in .npz.
    forest
        What to write.

    Raises
    ------
    ParameterError
        Another suffix.
    DataError
        There is such a file.
    """
    if path.suffix != ".npz":
        raise ParameterError(f"save_forest: got {path.name}; forests are arrays. Give a name that ends in .npz.")
    if path.exists() or path.is_symlink():
        raise DataError(f"{path}: exists. Give another name, or remove it first.")
    arrays: dict[str, Any] = {name: getattr(forest, name) for name in _ARRAYS}
    arrays["widths_nm"] = np.array(forest.widths_nm)
    arrays["format"] = np.array(_FORMAT)
    arrays["recipe_digest"] = np.array(forest.made_by.recipe_digest)
    arrays["root_seed"] = np.array(-1 if forest.made_by.root_seed is None else forest.made_by.root_seed)
    np.savez_compressed(path, **arrays)


def load_forest(path: Path, *, digest: str | None = None) -> Forest:
    """Read a forest, and check that every walk through it ends.

    Parameters
    ----------
    path
        From `save_forest`.
    digest
        What `Forest.digest` must be; any when None.

    Raises
    ------
    DataError
        What is there is no forest, one that was tampered with, or another one than is asked for.
    """
    try:
        file = read_npz(path, _STORED)
        if str(file["format"]) != _FORMAT:
            raise ValueError(f"format {file['format']!s}, not {_FORMAT}")
        arrays = {name: np.asarray(file[name], kind) for name, kind in _ARRAYS.items()}
        widths = tuple(float(width) for width in file["widths_nm"])
        root = int(file["root_seed"])
        made_by = MadeBy("train_forest", str(file["recipe_digest"]), None if root < 0 else root, "scikit-learn")
        accepted_widths(widths)
        _refuse_what_is_no_tree(arrays, feature_count(widths))
    except (DataError, ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{path}: holds no forest ({error}). Give a file that save_forest wrote.") from None
    forest = Forest(**arrays, widths_nm=widths, made_by=made_by)
    if digest is not None and forest.digest != digest:
        raise DataError(
            f"{path}: holds the forest {forest.digest}, where {digest} is asked for; another forest gives other "
            f'labels. Give the file of that forest, or forest_digest = "{forest.digest}" for this one.'
        )
    return forest


def _refuse_what_is_no_tree(arrays: dict[str, NDArray[Any]], features: int) -> None:
    nodes = len(arrays["left"])
    lengths = {len(arrays[name]) for name in _ARRAYS if name not in ("weights", "roots")}
    inner = arrays["left"] >= 0
    own = np.arange(nodes)
    sound = (
        lengths == {nodes}
        and arrays["weights"].shape == (1 + features,)
        and bool(np.isfinite(arrays["weights"]).all())
        and arrays["roots"].size > 0
        and bool(np.all((arrays["roots"] >= 0) & (arrays["roots"] < nodes)))
        and bool(np.array_equal(inner, arrays["right"] >= 0))
        # children come after their parents, so that no walk goes in circles
        and all(bool(np.all((arrays[s][inner] > own[inner]) & (arrays[s][inner] < nodes))) for s in ("left", "right"))
        and bool(np.all((arrays["feature"][inner] >= 0) & (arrays["feature"][inner] <= features)))
        and bool(np.all((arrays["share"] >= 0) & (arrays["share"] <= 1)))
    )
    if not sound:
        raise ValueError("its nodes make no trees")
