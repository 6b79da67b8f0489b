"""A random forest that calls voxels silicon, trained on phantoms whose truth is known.

Takes -> gives: attenuation volumes and their labels -> a `Forest`, which is a method of `segmentation`; a `Forest` ->
a plain .npz of its trees, without any code in it.

The model. Each of T trees is grown on a bootstrap sample of the training voxels, drawn from the layer alone; at every
node a random part of the features of `voxel_features` is tried (Breiman 2001). A voxel is silicon where the mean over
the trees of the share of silicon in the leaf that it falls into exceeds a half. Voxels are drawn as they come, not
balanced, so that this is the most likely phase in a layer like those it was trained on.

Training needs scikit-learn (the extra ``learn``); using a forest does not: its trees are walked by a compiled function
that agrees with scikit-learn's to rounding. Holds for scans like those of the training: dose, blur and contrast to the
foil; another voxel size is met by widths in nm.

References
----------
L. Breiman, Mach. Learn. 45 (2001) 5, doi:10.1023/A:1010933404324.
"""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from npsi_twin.errors import DataError, IncompatibleError, MissingBackendError, OutOfRangeWarning, ParameterError
from npsi_twin.morphology.collector import BoolArray, find_collector
from npsi_twin.morphology.layer_view import LayerView
from npsi_twin.morphology.segmentation_recipe import SegmentationRecipe
from npsi_twin.morphology.thickness import SILICON
from npsi_twin.morphology.voxel_features import feature_count, reach_voxels, voxel_features
from npsi_twin.numpy_files import read_npz
from npsi_twin.recipes import MadeBy, Recipe, parameter
from npsi_twin.seeds import Seeds
from npsi_twin.volumes import FloatArray, Volume

_FORMAT = "npsi-twin forest 1"
_FEATURES_AT_ONCE = 1 << 25
_ARRAYS = {
    "roots": np.int64,
    "left": np.int32,
    "right": np.int32,
    "feature": np.int32,
    "cut": np.float64,
    "share": np.float64,
}
_STORED = (*_ARRAYS, "format", "widths_nm", "recipe_digest", "root_seed")


def _positive(widths: tuple[float, ...]) -> tuple[float, ...]:
    if not widths or not all(0 < width <= 1e5 for width in widths):
        raise ValueError(f"one or more widths above 0 and up to 100 um are needed; got {widths}")
    return widths


class ForestRecipe(Recipe):
    """How to train a random forest."""

    widths_nm: Annotated[tuple[float, ...], Field(strict=False), AfterValidator(_positive)] = parameter(
        (40.0, 80.0, 160.0),
        "standard deviations of the Gaussians of the features",
        unit="nm",
        source="assumed (one to three voxels of 50 nm, up to half the mean pore)",
    )
    trees: int = parameter(64, "number of trees", source="assumed", ge=1, le=10_000)
    depth: int = parameter(16, "nodes from the root to a leaf at most", source="assumed", ge=1, le=64)
    leaf_voxels: int = parameter(
        8, "training voxels in a leaf at least", unit="voxels", source="assumed", ge=1, le=1_000_000
    )
    voxels_per_volume: int = parameter(
        50_000,
        "training voxels drawn from the layer of each volume, all where it has fewer",
        unit="voxels",
        source="assumed",
        ge=100,
        le=100_000_000,
    )
    foil_guard_nm: float = parameter(
        150.0,
        "width of the band at the foil's surface from which no voxel is drawn",
        unit="nm",
        source="assumed (as in SegmentationRecipe)",
        ge=0.0,
        le=5000.0,
    )


@dataclass(frozen=True)
class Forest:
    """Trees, one after the other in the same arrays.

    Attributes
    ----------
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
        """First 16 digits of the SHA-256 of widths and trees."""
        digest = hashlib.sha256(repr(self.widths_nm).encode())
        for name in _ARRAYS:
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return digest.hexdigest()[:16]

    def silicon_share(self, view: LayerView) -> Iterator[tuple[slice, FloatArray]]:
        """Yield slabs of slices with the mean share of silicon of every voxel between air and foil, (z, row, x)."""
        from npsi_twin.morphology.forest_walk import mean_share

        for slab, features in _feature_slabs(view, self.widths_nm):
            flat = features.reshape(-1, features.shape[-1])
            found = mean_share(flat, self.roots, self.left, self.right, self.feature, self.cut, self.share)
            yield slab, found.reshape(features.shape[:3])

    def __call__(self, view: LayerView, recipe: SegmentationRecipe) -> tuple[BoolArray, NDArray[np.float64]]:
        """Call bright what more than half of the trees' votes call silicon; there is no threshold."""
        bright = np.zeros(view.smooth.shape, np.bool_)
        for slab, share in self.silicon_share(view):
            bright[slab, view.rows] = share > 0.5
        return bright, np.full(len(bright), np.nan)


def train_forest(
    volumes: Sequence[Volume], labels: Sequence[Volume], recipe: ForestRecipe | None = None, *, seeds: Seeds
) -> Forest:
    """Train a forest on volumes whose truth is known.

    Parameters
    ----------
    volumes
        Attenuation, 1/um, each with the foil at the bottom.
    labels
        Phases on the same voxels.
    recipe
        How to train; the default recipe when None.
    seeds
        Source of the draws: which voxels, and the forest's own.

    Returns
    -------
    Forest
        See there; the same for any number of threads.

    Warns
    -----
    OutOfRangeWarning
        Volumes whose foil or layer does not stand out of the noise are left out; it names them.

    Raises
    ------
    IncompatibleError
        Volumes and labels that do not belong together.
    DataError
        No volume shows its layer, or the training voxels are of one phase only.
    MissingBackendError
        scikit-learn is not installed.
    """
    recipe = ForestRecipe() if recipe is None else recipe
    if not volumes or len(volumes) != len(labels):
        raise IncompatibleError(
            f"train_forest: got {len(volumes)} volumes and {len(labels)} label volumes; each of at least one volume "
            "needs its own truth. Give both in the same order."
        )
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError:
        raise MissingBackendError(
            "train_forest needs the package scikit-learn. Install it with: pip install 'npsi-twin[learn]', or load a "
            "forest that is trained already with load_forest, which does not need it."
        ) from None
    drawn = _drawn(volumes, labels, recipe, seeds)
    features = np.concatenate([part for part, _ in drawn])
    silicon = np.concatenate([part for _, part in drawn])
    if silicon.all() or not silicon.any():
        raise DataError(
            f"train_forest: all {silicon.size} training voxels are {'silicon' if silicon.any() else 'no silicon'}; "
            "both are needed to tell them apart. Give volumes whose layer has silicon and pores."
        )
    own = int(seeds.stream("train_forest_trees").integers(1 << 31))
    grown = RandomForestClassifier(
        n_estimators=recipe.trees,
        max_depth=recipe.depth,
        min_samples_leaf=recipe.leaf_voxels,
        max_features="sqrt",
        random_state=own,
    ).fit(features, silicon)
    return _flattened(grown.estimators_, recipe, seeds.root)


def _drawn(
    volumes: Sequence[Volume], labels: Sequence[Volume], recipe: ForestRecipe, seeds: Seeds
) -> list[tuple[FloatArray, BoolArray]]:
    """Draw voxels of every volume that shows its layer, and tell which do not."""
    drawn, drowned = [], {}
    for number, (volume, truth) in enumerate(zip(volumes, labels, strict=True)):
        try:
            drawn.append(_training_voxels(volume, truth, recipe, seeds.stream("train_forest", number)))
        except DataError as error:
            drowned[number] = error
    if not drowned:
        return drawn
    which = f"{', '.join(map(str, drowned))} (counted from 0) of {len(volumes)}"
    first = next(iter(drowned.values()))
    if not drawn:
        raise DataError(f"train_forest: no volume shows its layer; of the first: {first}")
    warnings.warn(
        f"train_forest: the volumes {which} are left out, because they do not show their layer; of the first: {first}",
        OutOfRangeWarning,
        stacklevel=3,
    )
    return drawn


def _training_voxels(
    volume: Volume, truth: Volume, recipe: ForestRecipe, rng: np.random.Generator
) -> tuple[FloatArray, BoolArray]:
    """Draw voxels of the layer: their features (voxel, feature), and whether they are silicon (voxel,)."""
    if volume.grid != truth.grid:
        raise IncompatibleError(
            f"train_forest: a volume of {volume.values.shape} voxels of {volume.voxel_nm:g} nm has labels of "
            f"{truth.values.shape} voxels of {truth.voxel_nm:g} nm; both must lie on the same voxels. Voxelise the "
            "truth on the reconstruction's grid."
        )
    collector = find_collector(volume)
    values = np.asarray(volume.values, np.float32)
    view = LayerView(volume, values, collector, recipe.foil_guard_nm / volume.voxel_nm)
    reach, _ = view.reach
    inside = np.stack([view.inside(z, reach) for z in range(len(values))])[:, view.rows]
    places = np.flatnonzero(inside)
    chosen = np.sort(rng.choice(places, min(recipe.voxels_per_volume, places.size), replace=False))
    a_slice = inside[0].size
    features = []
    for slab, seen in _feature_slabs(view, recipe.widths_nm):
        of_slab = chosen[(chosen >= slab.start * a_slice) & (chosen < slab.stop * a_slice)] - slab.start * a_slice
        features.append(seen.reshape(-1, seen.shape[-1])[of_slab])
    silicon = np.isin(np.asarray(truth.values)[:, view.rows].ravel()[chosen], SILICON)
    return np.concatenate(features), silicon


def _feature_slabs(view: LayerView, widths_nm: tuple[float, ...]) -> Iterator[tuple[slice, FloatArray]]:
    """Yield the features of a slab of slices at a time, (z, row between air and foil, x, feature).

    The slabs keep memory small and change nothing: each is given the slices that its features see.
    """
    values, voxel_nm = view.attenuation.values[:, view.rows], view.attenuation.voxel_nm
    halo = reach_voxels(widths_nm, voxel_nm)
    height = max(1, _FEATURES_AT_ONCE // (values.shape[1] * values.shape[2] * feature_count(widths_nm)))
    for start in range(0, len(values), height):
        stop, first = min(start + height, len(values)), max(0, start - halo)
        seen = np.asarray(values[first : stop + halo], np.float32) / np.float32(view.collector.attenuation_per_um)
        yield slice(start, stop), voxel_features(seen, widths_nm, voxel_nm)[start - first : stop - first]


def _flattened(trees: Sequence[Any], recipe: ForestRecipe, root_seed: int) -> Forest:
    """Lay scikit-learn's trees one after the other."""
    parts = [tree.tree_ for tree in trees]
    roots = np.concatenate([[0], np.cumsum([part.node_count for part in parts])[:-1]]).astype(np.int64)
    shift = np.repeat(roots, [part.node_count for part in parts])
    children = {
        side: np.concatenate([getattr(part, f"children_{side}") for part in parts]) for side in ("left", "right")
    }
    left, right = (np.where(nodes < 0, -1, nodes + shift).astype(np.int32) for nodes in children.values())
    votes = np.concatenate([part.value[:, 0] for part in parts])
    return Forest(
        roots,
        left,
        right,
        np.concatenate([part.feature for part in parts]).astype(np.int32),
        np.concatenate([part.threshold for part in parts]).astype(np.float64),
        votes[:, 1] / votes.sum(axis=1),
        recipe.widths_nm,
        MadeBy("train_forest", recipe.digest(), root_seed, backend="scikit-learn"),
    )


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
        _positive(widths)
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
    lengths = {len(arrays[name]) for name in _ARRAYS if name != "roots"}
    inner = arrays["left"] >= 0
    own = np.arange(nodes)
    sound = (
        lengths == {nodes}
        and arrays["roots"].size > 0
        and bool(np.all((arrays["roots"] >= 0) & (arrays["roots"] < nodes)))
        and bool(np.array_equal(inner, arrays["right"] >= 0))
        # children come after their parents, so that no walk goes in circles
        and all(bool(np.all((arrays[s][inner] > own[inner]) & (arrays[s][inner] < nodes))) for s in ("left", "right"))
        and bool(np.all((arrays["feature"][inner] >= 0) & (arrays["feature"][inner] < features)))
        and bool(np.all((arrays["share"] >= 0) & (arrays["share"] <= 1)))
    )
    if not sound:
        raise ValueError("its nodes make no trees")
