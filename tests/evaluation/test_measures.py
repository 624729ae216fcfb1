"""Measures of fidelity, gain and convergence on cases whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from controlmill.evaluation import metrics
from controlmill.evaluation.convergence import Estimate, benefit, condition_gain, find_convergence, fraction
from controlmill.schemas.conditions import CONDITIONS
from recipes.tiny_base.scenes import caption_words, draw_scene
from recipes.tiny_base.tokens import byte_symbols, learn_merges, make_tokenizer

STEPS = list(range(0, 2001, 100))


def curve(name: str) -> list[float]:
    x = np.array(STEPS)
    rng = np.random.default_rng(0)
    return {
        "step": np.where(x < 1000, 0.02, 0.95),
        "ramp": x / 2000,
        "flat": np.full(len(x), 0.05),
        "noisy flat": 0.1 + 0.1 * rng.standard_normal(len(x)),
        "noisy step": np.where(x < 1000, 0.05, 0.9) + 0.05 * rng.standard_normal(len(x)),
        "spike": np.where(x == 500, 0.9, 0.0),
        "low plateau": np.where(x < 1000, 0.0, 0.6),
        "spike before a ramp": np.where(x == 100, 0.95, x / 2000),
    }[name].tolist()


CLEAR = [0.5] * len(STEPS), [0.1] * len(STEPS)  # a gain that leaves no doubt, and its error


@pytest.mark.parametrize(
    ("name", "step", "rise"),
    [
        ("step", 1000, (908, 991)),
        ("ramp", 1000, (150, 1350)),
        ("flat", None, None),
        ("noisy flat", None, None),
        ("noisy step", 1000, (910, 990)),
        ("spike", None, None),
        ("low plateau", 1000, (910, 990)),
        ("spike before a ramp", 1000, (8, 1350)),
    ],
)
def test_convergence_is_found_where_it_is_with_what_was_measured(
    name: str, step: int | None, rise: tuple[int, int] | None
) -> None:
    found = find_convergence(STEPS, curve(name), *CLEAR)
    assert (found.step if found else None) == step
    if rise:
        assert found.rise == pytest.approx(rise, abs=5)


def test_a_rise_is_the_same_whenever_it_comes() -> None:
    for onset in (200, 500, 900, 1500):
        f = 1 / (1 + np.exp(-(np.array(STEPS) - onset) / 40))
        low, high = find_convergence(STEPS, f, *CLEAR).rise
        assert 150 < high - low < 220  # 176 of the curve itself


def test_fidelity_that_rises_without_gain_is_no_convergence() -> None:
    """Real photographs on a base of shapes: it learns to draw edges, which agree by chance with any map."""
    f = [0, 0.45, 0.58, 0.68, 0.58, 0.66]
    gain, error = [0, 0, 0.001, 0.009, 0.016, 0.018], [0.001, 0.001, 0.001, 0.003, 0.004, 0.004]
    steps = [0, 25, 75, 150, 210, 280]
    assert find_convergence(steps, f, gain, error).step == 210  # at 150 the gain is three errors and no more
    assert find_convergence(steps[:5], f[:5], gain[:5], error[:5]) is None
    assert find_convergence(steps, f, gain, [np.nan] * 6) is None
    assert find_convergence(steps, f, [-1.0] * 6, error) is None


def test_gain_and_benefit_are_relative_to_the_base_at_each_time() -> None:
    base = np.array([[1.0, 0.01]] * 4)
    true, shuffled = base * 0.9, base * 1.2
    gain, helped = condition_gain(shuffled, true, base), benefit(true, base)
    assert gain.mean == pytest.approx(0.3)
    assert helped.mean == pytest.approx(0.1)
    assert gain.error == pytest.approx(0)
    assert isinstance(gain, Estimate)


def test_fraction_works_in_both_directions() -> None:
    assert fraction(0.5, 0.2, 0.8) == pytest.approx(0.5)
    assert fraction(30.0, 40.0, 20.0, lower_is_better=True) == pytest.approx(0.5)


def test_fraction_is_not_known_where_the_ceiling_is_no_better_than_the_floor() -> None:
    for floor, ceiling, lower in ((0.5, 0.45, False), (20.0, 40.0, True), (0.5, 0.5, False), (0.5, 0.5, True)):
        assert np.isnan(fraction(0.2, floor, ceiling, lower))


def test_convergence_leaves_out_what_is_not_known() -> None:
    holes = [np.nan if i % 3 == 1 else f for i, f in enumerate(curve("step"))]
    assert find_convergence(STEPS, holes, *CLEAR).step == 1100  # 1000 is a hole
    assert find_convergence(STEPS, [np.nan] * len(STEPS), *CLEAR) is None


def test_a_measures_direction_is_right_for_the_same_and_for_other_maps() -> None:
    rng = np.random.default_rng(0)
    for name, measure in metrics.MEASURES.items():
        if measure.column:
            continue
        a, b = (rng.integers(0, 2, (16, 16, 3) if name == "mean-angle" else (16, 16)).astype(np.uint8) for _ in "ab")
        a, b = (a * 255, b * 255) if name != "miou" else (a, b)
        same, other = measure.score(a, a), measure.score(np.zeros_like(a) if name == "stroke-recall" else b, a)
        assert same < other if measure.lower_is_better else same > other, name


def test_edges_a_pixel_off_are_forgiven_only_with_tolerance() -> None:
    edges = np.zeros((512, 512), np.uint8)
    edges[100:400, 100] = 255
    moved = np.roll(edges, 2, axis=1)
    assert metrics.edge_f1(edges, edges) == metrics.tolerant_f1(edges, moved) == 1.0
    assert metrics.edge_f1(edges, moved) == 0.0
    assert metrics.tolerant_f1(edges, np.roll(edges, 3, axis=1)) == 0.0
    assert metrics.edge_f1(edges * 0, edges * 0) == 1.0
    assert metrics.edge_f1(edges, edges * 0) == 0.0


def test_strokes_may_be_more_but_not_fewer() -> None:
    strokes = np.zeros((64, 64), np.uint8)
    strokes[10, 10:50] = 255
    more = strokes.copy()
    more[40] = 255
    assert metrics.stroke_recall(more, strokes) == 1.0
    assert metrics.stroke_recall(strokes * 0, strokes) == 0.0


def test_ssim_is_that_of_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.image")
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (64, 64)).astype(np.uint8)
    b = (0.7 * a + 0.3 * rng.integers(0, 256, (64, 64))).astype(np.uint8)
    tensors = [torch.from_numpy(x.astype(np.float64))[None, None] for x in (a, b)]
    expected = float(functional.structural_similarity_index_measure(*tensors, data_range=255.0))
    assert metrics.ssim(a, b) == pytest.approx(expected, abs=0.01)
    assert metrics.ssim(a, a) == pytest.approx(1)


def test_the_other_measures_on_known_cases() -> None:
    labels = np.repeat(np.array([[0, 0, 1, 1]], np.uint8), 4, axis=0)
    assert metrics.miou(labels, labels) == 1.0
    assert metrics.miou(labels * 0, labels) == pytest.approx(0.25)
    assert metrics.miou(labels + 1, labels) == pytest.approx((0 + 0) / 2)
    void = np.full_like(labels, 255)
    half = np.where(np.arange(labels.shape[1]) % 2, labels, void)
    assert metrics.miou(labels, half) == 1.0, "void is no class, and what was found there counts for nothing"
    assert metrics.miou(labels, void) == 1.0
    assert metrics.miou(labels[:, ::-1] * 7, labels) == 0.0  # labels that are not in the true map count for nothing
    depth = np.arange(16, dtype=np.uint16).reshape(4, 4)
    assert metrics.rmse(depth * 3 + 7, depth) == pytest.approx(0)  # relative depth has no scale and no zero
    assert metrics.rmse(depth * 0, depth) == pytest.approx(255 * np.sqrt(np.mean(np.linspace(0, 1, 16) ** 2)))
    assert metrics.rmse(depth[::-1, ::-1], depth) > metrics.rmse(depth * 0, depth)
    up, right = np.zeros((2, 2, 3), np.uint8) + 127, np.zeros((2, 2, 3), np.uint8) + 127
    up[..., 2], right[..., 0] = 255, 255
    assert metrics.mean_angle(up, right) == pytest.approx(90, abs=1)
    assert metrics.mean_angle(up, up) == pytest.approx(0, abs=0.1)
    half = np.concatenate([up, right])
    assert metrics.mean_angle(half, np.concatenate([up, up])) == pytest.approx(45, abs=1)


def test_every_fidelity_has_a_measure() -> None:
    assert [c.name for c in CONDITIONS.values() if c.fidelity and metrics.measure_of(c) is None] == []
    assert [c.name for c in CONDITIONS.values() if not c.fidelity] == ["caption"]


# the synthetic corpus and the tokenizer


def test_scenes_are_functions_of_their_numbers_and_their_maps_are_true() -> None:
    for index in range(40):
        scene, again = draw_scene(3, index), draw_scene(3, index)
        np.testing.assert_array_equal(scene.image, again.image)
        assert (scene.depth > scene.depth.min()).sum() == (scene.labels > 0).sum()
        assert all(shape.colour in scene.caption and shape.kind in scene.caption for shape in scene.shapes)
        nearest = scene.labels[scene.depth == scene.depth.max()]
        assert len(set(nearest.tolist())) == 1
        assert len(np.unique(scene.depth)) == len(scene.shapes) + 1


def test_the_tokenizer_knows_every_byte_and_every_word_of_the_captions(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(caption_words(), 32)
    end = tokenizer.eos_token_id
    assert all(len(tokenizer(word).input_ids) == 3 for word in caption_words())
    assert end not in tokenizer("é 5 ! 漢 zebra").input_ids[1:-1]
    assert len(byte_symbols()) == len(set(byte_symbols())) == 256
    assert len(learn_merges(["red", "green"])) < 10
    assert end != 2
