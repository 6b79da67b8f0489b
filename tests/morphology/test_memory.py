"""How many bytes a voxel segmenting, measuring and scoring take, and that work by slabs adds up to the whole."""

import tracemalloc
from functools import partial

import numpy as np
import pytest

from npsi_twin.comparison.label_scores import score_labels
from npsi_twin.comparison.segmentation_accuracy import score
from npsi_twin.morphology.attenuation_state import _local_variances
from npsi_twin.morphology.connectivity import body_sizes, face_connected, kept_bodies
from npsi_twin.morphology.measure import measure
from npsi_twin.morphology.pore_space import count_crossings
from npsi_twin.morphology.segmentation import segment
from npsi_twin.morphology.thickness import SILICON, above_foil, foil_surface, is_one_of, layer_voxels, top_rows
from npsi_twin.morphology.topology import count_euler
from npsi_twin.plan import plan_twin
from npsi_twin.specification import preset_specification
from npsi_twin.volumes import Phase, Volume

_SHAPE = (32, 240, 240)


def traced_peak(work, *held):
    """Return the most bytes that arrays take while some work is done, those that it is given included."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] + sum(volume.values.nbytes for volume in held)
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def seen(build_needle):
    return build_needle(_SHAPE)


def test_peaks_are_those_that_the_plan_tells(seen):
    demo = preset_specification("demo")
    specimen = demo.electrode.specimen.model_copy(update={"width_um": 0.94 * 240 * 0.0508, "foil_surface_height_um": 0})
    detector = demo.microscope.detector.model_copy(update={"rows": _SHAPE[0], "columns": _SHAPE[1]})
    assert detector.pixel_nm == seen.labels.voxel_nm
    specification = demo.model_copy(
        update={
            "electrode": demo.electrode.model_copy(update={"specimen": specimen}),
            "microscope": demo.microscope.model_copy(update={"detector": detector}),
        }
    )
    planned = {cost.stage: cost.memory_bytes for cost in plan_twin(specification).stages}
    interpreter = planned["electrode"]  # which has no volume
    labels, attenuation = seen.labels, seen.attenuation
    specks = np.array(labels.values)
    specks[:, 1:7, ::40] = Phase.SILICON  # what is foreseen: false silicon up to the rim of the field
    speckled = Volume(specks, labels.voxel_nm)
    work = {
        "segment": (segment, attenuation),
        "measure": (measure, speckled, attenuation),
        # No fractions, but as large as they would be.
        "compare": (lambda part, *_: score_labels(part, part, particle_id=part), labels, labels, attenuation),
    }
    for stage, (do, *held) in work.items():
        do(*(Volume(volume.values[:4], volume.voxel_nm) for volume in held))  # compiles, and imports what is heavy
        peak = traced_peak(partial(do, *held), *held)
        assert 1 / 1.3 < (planned[stage] - interpreter) / peak < 1.3, stage


def test_counts_of_slabs_add_up_to_those_of_the_whole(seen):
    solid, region = np.isin(seen.labels.values, SILICON), layer_voxels(seen.labels, foil_surface(seen.labels))
    whole, euler = count_crossings(solid, region, 50.8), count_euler(solid, region, 50.8)
    for first, beyond in ((0, 7), (7, 20), (20, 32)):
        part = slice(first, min(beyond + 1, 32))  # what belongs to a slice reaches into the next one
        slab, own = count_crossings(solid[part], region[part], 50.8), slice(0, beyond - first)
        assert np.array_equal(slab.crossed[:, own], whole.crossed[:, first:beyond])
        assert np.array_equal(slab.pairs[:, own], whole.pairs[:, first:beyond])
        cells = count_euler(solid[part], region[part], 50.8)
        assert np.array_equal(cells.sixteenfold[own], euler.sixteenfold[first:beyond])
        assert np.array_equal(cells.cells[own], euler.cells[first:beyond])


def test_what_is_done_by_slice_equals_what_would_be_done_at_once(seen):
    rng = np.random.default_rng(7)
    values = seen.labels.values
    foil = foil_surface(seen.labels)
    top, y = top_rows(seen.labels, SILICON, foil), np.arange(_SHAPE[1])[None, :, None]
    layer = (y >= top[:, None]) & (y < foil.row[:, None]) & foil.valid[:, None]
    assert np.array_equal(above_foil(foil, slice(30, 150), top), layer[:, 30:150])
    assert np.array_equal(is_one_of(values, SILICON), np.isin(values, SILICON))

    found = np.where(rng.random(values.shape) < 0.1, Phase.SILICON, values).astype(np.uint8)
    scored = score(seen.labels, Volume(found, 50.8))
    pairs = len(Phase) * values.astype(int) + found
    for counted, inside in ((scored.confusion, np.ones_like(layer)), (scored.confusion_layer, layer)):
        assert np.array_equal(counted.ravel(), np.bincount(pairs[inside], minlength=counted.size))

    bodies = face_connected(layer & (values == 0))
    sizes = np.bincount(bodies.ravel())
    assert np.array_equal(body_sizes(bodies), sizes)
    assert np.array_equal(kept_bodies(bodies, sizes > 9), (sizes > 9)[bodies])

    air, grey = values[:7, :90] == Phase.VOID, seen.attenuation.values[:7, :90]
    corners = 3 * np.array(list(np.ndindex(2, 30, 80)))
    cubes = [np.s_[z : z + 3, y : y + 3, x : x + 3] for z, y, x in corners]
    expected = np.array([grey[cube].astype(float).var(ddof=1) for cube in cubes if air[cube].all()])
    assert np.array_equal(_local_variances(grey, air, 3), expected)  # by layers of cubes, in the same order
