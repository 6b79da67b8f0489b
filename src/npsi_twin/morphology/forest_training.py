"""Train a random forest on phantoms whose truth is known; `npsi_twin.morphology.forest` says what it is and does.

Takes -> gives: attenuation volumes and their labels, `ForestRecipe` -> a `Forest`. It needs scikit-learn (the extra
``learn``).

Voxels are drawn from the layer alone, as they come. Volumes that do not show their layer are left out and named.
"""

import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from npsi_twin.errors import DataError, IncompatibleError, MissingBackendError, OutOfRangeWarning
from npsi_twin.morphology.collector import BoolArray, find_collector
from npsi_twin.morphology.forest import Forest, accepted_widths, feature_slabs
from npsi_twin.morphology.forest_walk import linear_share
from npsi_twin.morphology.layer_view import LayerView
from npsi_twin.morphology.thickness import SILICON
from npsi_twin.recipes import MadeBy, Recipe, parameter
from npsi_twin.seeds import Seeds
from npsi_twin.threads import threads
from npsi_twin.volumes import FloatArray, Volume


class ForestRecipe(Recipe):
    """How to train a random forest."""

    widths_nm: Annotated[tuple[float, ...], Field(strict=False), AfterValidator(accepted_widths)] = parameter(
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
    weights = _fitted(features, silicon)
    features = np.column_stack([features, linear_share(features, weights)])
    own = int(seeds.stream("train_forest_trees").integers(1 << 31))
    grown = RandomForestClassifier(
        n_estimators=recipe.trees,
        max_depth=recipe.depth,
        min_samples_leaf=recipe.leaf_voxels,
        max_features="sqrt",
        random_state=own,
        n_jobs=threads(),  # a tree a thread; each draws from its own seed
    ).fit(features, silicon)
    return _flattened(grown.estimators_, weights, recipe, seeds.root)


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
    for slab, seen in feature_slabs(view, recipe.widths_nm):
        of_slab = chosen[(chosen >= slab.start * a_slice) & (chosen < slab.stop * a_slice)] - slab.start * a_slice
        features.append(seen.reshape(-1, seen.shape[-1])[of_slab])
    silicon = np.isin(np.asarray(truth.values)[:, view.rows].ravel()[chosen], SILICON)
    return np.concatenate(features), silicon


def _fitted(features: FloatArray, silicon: BoolArray) -> NDArray[np.float64]:
    """Fit silicon by least squares: offset, and weight of every feature.

    Features that tell nothing of their own have no weight, or share one: the shortest solution. The sums are numpy's
    own, and not BLAS's, whose order depends on its threads.
    """
    mean, spread = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    spread[spread == 0] = 1.0
    unit = (features - mean) / spread
    gram = np.einsum("vi,vj->ij", unit, unit, optimize=False)
    weights = np.linalg.lstsq(gram, np.einsum("vi,v->i", unit, silicon - silicon.mean(), optimize=False))[0] / spread
    return np.concatenate([[silicon.mean() - mean @ weights], weights])


def _flattened(trees: Sequence[Any], weights: NDArray[np.float64], recipe: ForestRecipe, root_seed: int) -> Forest:
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
        weights,
        roots,
        left,
        right,
        np.concatenate([part.feature for part in parts]).astype(np.int32),
        np.concatenate([part.threshold for part in parts]).astype(np.float64),
        votes[:, 1] / votes.sum(axis=1),
        recipe.widths_nm,
        MadeBy("train_forest", recipe.digest(), root_seed, backend="scikit-learn"),
    )
