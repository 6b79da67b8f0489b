"""Score segmentations of simulated scans against their truth, and the scores against closed forms and other programs.

``--quick`` walks the smallest road in place of the default scan, to see that everything runs; its figures mean nothing,
and nothing is rendered.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))
from render import render
from walk import recovered_of, truth_of

from npsi_twin.comparison.boundaries import boundary_distances
from npsi_twin.comparison.fields_of_view import scatter_between_fields
from npsi_twin.comparison.label_scores import score_labels
from npsi_twin.comparison.segmentation_accuracy import score
from npsi_twin.electrode.build import ElectrodeRecipe, build_electrode
from npsi_twin.electrode.specimen import SpecimenRecipe
from npsi_twin.errors import DataError
from npsi_twin.morphology.forest_training import ForestRecipe, train_forest
from npsi_twin.morphology.measure import MeasurementRecipe, measure
from npsi_twin.morphology.segmentation import SegmentationRecipe, segment
from npsi_twin.morphology.thresholds import RULES
from npsi_twin.seeds import Seeds
from npsi_twin.specification import preset_specification
from npsi_twin.state_series import view_state
from npsi_twin.storage.volumes import read_volume
from npsi_twin.twin import run_twin
from npsi_twin.variations import with_values
from npsi_twin.volumes import Phase, Volume

#: Slices from the middle that methods are compared on.
SLICES = 48
METHODS = (
    *({"threshold_per_um": rule} for rule in RULES),
    *({"smoothing": name} for name in ("median", "mean", "gaussian-3d", "median-3d")),
    {"smoothing": "bilateral-3d", "smoothing_strength": 3.0},
    {"smoothing": "non-local-means-3d", "smoothing_strength": 0.5},
    *({"method": name} for name in ("multi-otsu", "hysteresis", "watershed", "random-walker")),
)
#: Heights, fractions and attenuation of truth that is cut into fields: a block's sides are true cuts.
FIELDS = MeasurementRecipe(edge_margin_nm=0.0, bodies=False, correlation_lag_nm=0.0, local_thickness_crop_nm=0.0)
NO_NOISE = "without noise (4000 times the dose, 14 bits)"
#: Changes of the detector, and the Dice coefficient between which the claim says that silicon in the layer lies.
DOSES = {
    "the default scan (8000 electrons a pixel)": ({}, 0.70, 0.88),
    "four times the dose": ({"flat_electrons": 32_000.0}, 0.87, 0.93),
    NO_NOISE: (
        {
            "flat_electrons": 3.2e7,
            "full_well_electrons": 1e7,
            "bit_depth": 14,
            "camera_units_per_electron": 0.002,
        },
        0.91,
        0.97,
    ),
}
#: A shorter and thinner specimen, on which one step of the road after the other is put in.
LADDER_BASE = {
    "electrode.specimen.width_um": 12.0,
    "electrode.specimen.length_um": 2.6,
    "microscope.detector.columns": 288,
    "microscope.detector.rows": 24,
}
NOISE_FREE = {f"microscope.detector.{name}": value for name, value in DOSES[NO_NOISE][0].items()}
SHARP = {"microscope.detector.blur_fwhm_px": 0.0, "microscope.optics.outer_zone_width_nm": 25.0}
FBP = {"reconstruction.algorithm": "fbp"}
LADDER = {
    "sharp optics and camera, no noise, FBP": NOISE_FREE | SHARP | FBP,
    "zone plate and camera as they are": NOISE_FREE | FBP,
    "SIRT-FBP in place of FBP": NOISE_FREE,
    "noise of four times the dose": {"microscope.detector.flat_electrons": 32_000.0},
    "noise of the default dose": {},
}
#: What a forest is trained on, and how finely it looks.
SEEDS_TO_LEARN_FROM = (11, 12, 13)
FOREST = ForestRecipe(widths_nm=(25.0, 50.0, 100.0, 200.0))
#: Fixed thresholds that are tried, 1/um; half of silicon's attenuation is 0.0075.
CUTS = (0.005, 0.0055, 0.006, 0.0065, 0.007, 0.0075)


def row(requirement, required, measured, passed=None):
    return {"requirement": requirement, "required": required, "measured": measured, "passed": passed}


def scanned(preset, changes, folder):
    """Walk the road with some of the detector changed; return truth, attenuation and what the paper's way found."""
    run_twin(with_values(preset_specification(preset), changes), folder)
    return (
        read_volume(folder / "truth.h5", "phase"),
        read_volume(folder / "reconstruction.h5"),
        read_volume(folder / "segmentation.h5"),
    )


def learned(changes):
    """Train a forest on three thinner specimens of other seeds, scanned at the same dose."""
    base = with_values(preset_specification("demo"), LADDER_BASE | changes)
    pairs = []
    for seed in SEEDS_TO_LEARN_FROM:
        specification = base.model_copy(update={"seed": seed})
        pairs.append((recovered_of(specification), truth_of(specification)[0]))
    return train_forest(*zip(*pairs, strict=True), FOREST, seeds=Seeds(SEEDS_TO_LEARN_FROM[0]))


def doses(preset, scratch):
    """Say how much of the silicon is found at each dose, by a forest that learnt from others and by the paper's way."""
    for number, (name, (detector, low, high)) in enumerate(DOSES.items()):
        changes = {f"microscope.detector.{field}": value for field, value in detector.items()}
        truth, attenuation, paper = scanned(preset, changes, scratch / f"dose-{number}")
        found = {
            "a forest trained on other specimens at this dose": segment(attenuation, method=learned(changes)).labels,
            "the paper's way": paper,
        }
        for way, labels in found.items():
            dice = score(truth, labels).dice_silicon_layer
            text = f"Dice of silicon in the layer, {name}: {way}"
            yield row(text, f"{low:.2f} to {high:.2f}", f"{dice:.3f}", low <= dice <= high)


def ladder(quick):
    """Say what each step costs: the best Dice that a fixed threshold reaches, and what the paper's way reaches."""
    specification = with_values(preset_specification("demo"), LADDER_BASE)
    truth, attenuation = truth_of(specification)
    yield _step("the truth's own attenuation", truth, attenuation)
    for name, values in list(LADDER.items())[: 1 if quick else None]:
        yield _step(f"then {name}", truth, recovered_of(with_values(specification, values)))


def _step(name, truth, attenuation):
    def dice(**changes):
        return score(truth, segment(attenuation, SegmentationRecipe(**changes)).labels).dice_silicon_layer

    best = max(dice(smoothing_sigma_voxels=0.0, threshold_per_um=cut) for cut in CUTS)
    told = f"{best:.3f} / {dice(smoothing_sigma_voxels=0.0):.3f} / {dice():.3f}"
    return row(f"Dice by the best fixed threshold / IsoData / IsoData after smoothing: {name}", "reported", told)


def methods(folder):
    """Compare what each method makes of the middle of the default scan's reconstruction."""
    truth, attenuation = read_volume(folder / "truth.h5", "phase"), read_volume(folder / "reconstruction.h5")
    first = max(0, (len(truth.values) - SLICES) // 2)
    part = slice(first, first + SLICES)
    truth, attenuation = (Volume(volume.values[part], volume.voxel_nm) for volume in (truth, attenuation))
    for changes in METHODS:
        name = ", ".join(f"{field} = {value}" for field, value in changes.items())
        try:
            start = time.perf_counter()
            found = segment(attenuation, SegmentationRecipe(**changes))
            seconds = time.perf_counter() - start
            accuracy = score(truth, found.labels)
            measured = f"{accuracy.dice_silicon_layer:.3f} ({seconds:.1f} s)"
        except DataError as error:
            measured = f"refused: {error}"
        yield row(f"Dice in the layer, middle {len(truth.values)} slices: {name}", "reported", measured)


def whole_table(folder):
    truth, found = read_volume(folder / "truth.h5", "phase"), read_volume(folder / "segmentation.h5")
    others = {name: read_volume(folder / "truth.h5", name) for name in ("silicon_fraction", "particle_id")}
    start = time.perf_counter()
    scores = score_labels(truth, found, **others)
    seconds = time.perf_counter() - start
    for name, entry in scores.quantities.items():
        measured = f"{entry.value:.4g} {entry.unit}".strip() if np.isfinite(entry.value) else entry.note
        yield row(f"the default scan: {name}", "reported", measured)
    millions = truth.values.size / 1e6
    yield row("time of all scores together", "reported", f"{seconds:.0f} s for {millions:.1f} million voxels")


def fields(edge_um):
    """Cut the truth of one electrode into fields of two sizes, and say how far their numbers scatter."""
    block = SpecimenRecipe(shape="block", width_um=edge_um, length_um=edge_um)
    electrode = build_electrode(ElectrodeRecipe(specimen=block), seeds=Seeds(2018))
    seen = view_state(electrode, 100.0, 8.0, FIELDS)
    phase, voxel_nm = seen.composition.phase, 1e3 * edge_um / len(seen.composition.phase)
    for parts in (6, 3):
        side = len(phase) // parts
        cuts = [
            (slice(z, z + side), slice(None), slice(x, x + side))
            for z in _starts(side, parts)
            for x in _starts(side, parts)
        ]
        measured = [
            measure(Volume(phase[cut], voxel_nm), Volume(seen.attenuation_per_um[cut], voxel_nm), FIELDS)
            for cut in cuts
        ]
        for name, found in scatter_between_fields(measured).items():
            if name in ("thickness_silicon_um", "porosity_layer", "normalised_attenuation_plateau"):
                text = f"{found.mean:.3g} +- {found.sd:.2g} {found.unit}".strip()
                text += f"; two fields differ by chance by up to {found.chance:.2g}; {found.fields_needed} for 10 %"
                yield row(
                    f"{len(cuts)} fields of {edge_um / parts:g} um of one true electrode: {name}", "reported", text
                )


def _starts(side, parts):
    return range(0, side * parts, side)


def blobs(number):
    rng = Seeds(2018).stream("blobs", number)
    field = ndimage.gaussian_filter(rng.standard_normal((48, 48, 48)), 2.0, mode="wrap")
    mask = field > 0
    for axis in range(3):
        mask[(slice(None),) * axis + (slice(0, 4),)] = mask[(slice(None),) * axis + (slice(-4, None),)] = False
    return mask


def largest_difference(pairs):
    return max(abs(ours - theirs) / max(abs(theirs), 1e-12) for ours, theirs in pairs)


def agreement():
    from skimage.metrics import variation_of_information

    truth, found = blobs(0), ndimage.binary_dilation(blobs(0)) & ~blobs(1)
    labels = [Volume(mask.astype(np.uint8) * np.uint8(Phase.SILICON), 50.0) for mask in (truth, found)]
    accuracy, between = score(*labels), boundary_distances(truth, found, 50.0)
    information = sum(variation_of_information(truth.astype(int), found.astype(int)))
    ours = accuracy.information_missed_bits + accuracy.information_invented_bits
    yield compared("scikit-image: variation of information", [(ours, information)])
    import SimpleITK as itk  # noqa: N813
    import surface_distance

    overlap = itk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*(itk.GetImageFromArray(mask.astype(np.uint8)) for mask in (truth, found)))
    pairs = [
        (accuracy.dice_silicon, overlap.GetDiceCoefficient(1)),
        (accuracy.iou_silicon, overlap.GetJaccardCoefficient(1)),
    ]
    yield compared("SimpleITK: Dice, Jaccard", pairs)
    distances = surface_distance.compute_surface_distances(truth, found, (50.0, 50.0, 50.0))
    means = surface_distance.compute_average_surface_distance(distances)
    pairs = [
        (between.from_truth_nm, means[0]),
        (between.from_recovered_nm, means[1]),
        (between.hausdorff_95_nm, surface_distance.compute_robust_hausdorff(distances, 95.0)),
        (between.hausdorff_nm, surface_distance.compute_robust_hausdorff(distances, 100.0)),
        (between.surface_dice, surface_distance.compute_surface_dice_at_tolerance(distances, 50.0)),
    ]
    yield compared("surface-distance: mean distances, 95 %, largest, surface Dice at one voxel", pairs)


def compared(name, pairs):
    off = largest_difference(pairs)
    return row(f"agreement with {name}", "within 1e-6", f"{off:.1e}", bool(off <= 1e-6))


def closed_forms():
    plane = np.zeros((24, 24, 24), bool)
    plane[:, 12:] = True
    moved = plane & np.roll(plane, 1, axis=1)
    between = boundary_distances(plane, moved, 50.0)
    exact = between.mean_nm == between.hausdorff_nm == 50.0 and between.surface_dice == 1.0
    yield row("a plane moved by one voxel of 50 nm: mean distance", "50 nm", f"{between.mean_nm:g} nm", exact)
    z = np.arange(48) - 23.5
    balls = [z[:, None, None] ** 2 + z[:, None] ** 2 + (z - c) ** 2 < 16**2 for c in (0.0, 1.0)]
    labels = [Volume(ball.astype(np.uint8), 50.0) for ball in balls]
    # two balls of radius R whose centres are d apart share 1 - 3 d / 4 R + d^3 / 16 R^3 of their volume
    dice, truth = score(*labels).dice_silicon, 1 - 3 / 64 + 1 / 16**4
    yield row(
        "a ball of 16 voxels moved by one: Dice",
        f"{truth:.4f} +- 0.002",
        f"{dice:.4f}",
        bool(abs(dice - truth) < 0.002),
    )
    between = boundary_distances(*balls, 50.0)
    # |cos| of the angle to the shift: a half in the mean
    yield row("a ball of 16 voxels moved by one: mean distance (exact 25 nm)", "reported", f"{between.mean_nm:.1f} nm")


def main():
    quick = "--quick" in sys.argv
    rows = [*closed_forms(), *agreement(), *fields(6.0 if quick else 24.0), *ladder(quick)]
    with tempfile.TemporaryDirectory() as name:
        rows += doses("tiny" if quick else "demo", Path(name))
        rows += [*whole_table(Path(name) / "dose-0"), *methods(Path(name) / "dose-0")]
    if not quick:
        render(Path(__file__).parent, rows)
    for entry in rows:
        print(entry["passed"], entry["requirement"], entry["measured"])


if __name__ == "__main__":
    main()
