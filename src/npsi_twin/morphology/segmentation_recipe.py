"""How to segment: the recipe, the Protocol that every method follows, and the names of methods.

Takes -> gives: settings -> a `SegmentationRecipe`. Methods of one's own get a name by `register_segmentation`; those of
the package are in `layer_methods`, and `segmentation` calls them. Settings that only some methods read say which.
"""

from typing import Annotated, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from npsi_twin.errors import ParameterError
from npsi_twin.morphology.collector import BoolArray
from npsi_twin.morphology.layer_view import LayerView
from npsi_twin.morphology.smoothing import Smoothing
from npsi_twin.morphology.thresholds import ThresholdRule
from npsi_twin.recipes import Recipe, parameter

#: Methods that come with the package.
BUILT_IN = ("smooth-threshold", "multi-otsu", "hysteresis", "watershed", "random-walker", "forest")


class SegmentationMethod(Protocol):
    """A way to find what is bright in a layer whose foil is already found."""

    def __call__(self, view: LayerView, recipe: "SegmentationRecipe") -> tuple[BoolArray, NDArray[np.float64]]:
        """Return the bright voxels, bool (z, y, x), and the threshold of every slice, 1/um, (z,); NaN without one."""
        ...


_REGISTERED: dict[str, SegmentationMethod] = {}


def segmentation_methods() -> tuple[str, ...]:
    """Return the names of all methods, those of one's own last."""
    return (*BUILT_IN, *_REGISTERED)


def registered_method(name: str) -> SegmentationMethod:
    """Return a method of one's own by its name."""
    return _REGISTERED[name]


def _known_method(name: str) -> str:
    if name not in segmentation_methods():
        raise ValueError(
            f"no segmentation method has this name; known are {', '.join(segmentation_methods())}; others are "
            "given one by register_segmentation"
        )
    return name


class SegmentationRecipe(Recipe):
    """How to call voxels silicon."""

    method: Annotated[str, AfterValidator(_known_method)] = parameter(
        "smooth-threshold",
        "way to find the silicon: smooth-threshold, multi-otsu, hysteresis, watershed, random-walker, forest (a "
        "trained one), or a name that was registered",
        source="stated (Zhao 2018, section 2.4)",
    )
    smoothing: Smoothing = parameter(
        "gaussian",
        "filter before the method, slice by slice unless its name ends in -3d",
        source="inferred (the paper: 2D smoothing)",
    )
    smoothing_sigma_voxels: float = parameter(
        1.0,
        "standard deviation of the Gaussians and of the bilateral window; 0 leaves them out",
        unit="voxels",
        source="assumed (the paper names neither filter nor kernel)",
        ge=0.0,
        le=20.0,
    )
    smoothing_radius_voxels: float = parameter(
        1.0,
        "radius of median and mean as ImageJ counts it, 1 for 3 x 3; 0 leaves them out",
        unit="voxels",
        source="assumed (ImageJ's Smooth and Despeckle are 3 x 3)",
        ge=0.0,
        le=20.0,
    )
    smoothing_strength: float = parameter(
        1.0,
        "difference of grey that bilateral and non-local means even out",
        unit="standard deviations of the noise",
        source="inferred (Buades 2005: about 1 where the noise is subtracted)",
        gt=0.0,
        le=100.0,
    )
    threshold_per_um: ThresholdRule | Annotated[float, Field(gt=0.0, le=10.0)] = parameter(
        "isodata",
        'rule that finds the threshold, by its name in ImageJ ("isodata", its "default", "otsu", "li", "triangle", '
        '"yen", "huang", "minimum", "moments", "mean", "max-entropy"), or a fixed threshold',
        unit="1/um",
        source="inferred (ImageJ's default rule)",
    )
    threshold_over: Literal["stack", "slice"] = parameter(
        "stack", "histogram that the rule sees: of the whole stack, or of each slice", source="assumed"
    )
    histogram_bins: int = parameter(
        1024,
        "bins of the histogram that the rule sees; ImageJ has 256",
        unit="bins",
        source="assumed",
        ge=16,
        le=65_536,
    )
    multi_otsu_classes: Literal[3, 4, 5] = parameter(
        3, "classes of multi-otsu: void, silicon, copper, and greys between them", source="assumed"
    )
    sure_margin_fraction: float = parameter(
        0.3,
        "how far from the threshold a voxel is sure, in the distance of its phase's mean grey, for hysteresis, "
        "watershed and random-walker",
        source="assumed",
        ge=0.0,
        le=1.0,
    )
    random_walker_beta: float = parameter(
        130.0,
        "how much a random walker shuns a difference of grey",
        source="inferred (scikit-image's default)",
        gt=0.0,
        le=1e6,
    )
    forest_file: str = parameter(
        "",
        "file of the trained forest (.npz) for forest, as seen from where the command runs",
        source="assumed: none",
        max_length=4096,
    )
    forest_digest: str = parameter(
        "",
        "the 16 digits in the name of that forest, so that another file of the same name is not taken for it",
        source="assumed: none",
        pattern="^([0-9a-f]{16})?$",
    )
    outside_needle: Literal["kept", "void"] = parameter(
        "kept",
        "silicon outside of the needle whose outline the foil shows: kept, or called void where there is a needle",
        source="assumed",
    )
    foil_guard_nm: float = parameter(
        150.0,
        "width of the band at the foil's surface in which the grey is not trusted",
        unit="nm",
        source="assumed (2.5 standard deviations of optics, voxel and smoothing together, 60 nm at 50 nm voxels)",
        ge=0.0,
        le=5000.0,
    )
    minimum_component_voxels: int = parameter(
        27,
        "silicon bodies of fewer face-connected voxels are taken for noise",
        unit="voxels",
        source="assumed (a cube of three voxels)",
        ge=1,
        le=1_000_000,
    )

    @model_validator(mode="after")
    def _forest_is_named(self) -> Self:
        named = bool(self.forest_file and self.forest_digest)
        if (self.method == "forest") != named or bool(self.forest_file) != bool(self.forest_digest):
            raise ValueError(
                f"method = {self.method!r}, forest_file = {self.forest_file!r}, forest_digest = "
                f"{self.forest_digest!r}: the method forest needs both, file and digest, and no other method reads "
                "them, since a file alone would not say which forest it holds. The digest is in the forest's name, "
                "which `npsi-twin segment VOLUME --forest FILE` prints as its method"
            )
        return self


def register_segmentation(name: str, method: SegmentationMethod) -> None:
    """Give a segmentation method of one's own a name that recipes and specifications can say.

    Parameters
    ----------
    name
        Its name; a name is given once in a process.
    method
        A function, or a `Forest`, that follows `SegmentationMethod`. Settings of its own are fields of a subclass of
        `SegmentationRecipe`, which it is given as it stands.

    Raises
    ------
    ParameterError
        The name is taken, or empty.

    Examples
    --------
    >>> def above_a_fifth_of_copper(view, recipe):
    ...     cut = view.collector.attenuation_per_um / 5
    ...     return view.smooth > cut, np.full(len(view.smooth), cut)
    >>> register_segmentation("fifth-of-copper", above_a_fifth_of_copper)
    >>> SegmentationRecipe(method="fifth-of-copper").method
    'fifth-of-copper'
    """
    if not name.strip() or name in segmentation_methods():
        raise ParameterError(
            f"register_segmentation: got the name {name!r}; taken are {', '.join(segmentation_methods())}, and "
            "a name means one method, so that results can be told apart. Give another name."
        )
    _REGISTERED[name] = method
