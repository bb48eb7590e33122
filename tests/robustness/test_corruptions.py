"""Corruptions of tensors, tables, tokens and series: what all have in common, and each against a closed form."""

import numpy as np
import pytest
from scipy import stats

from analyzer.errors import ConfigError, DataError
from analyzer.robustness.corruptions import series, tables, tensors, tokens
from analyzer.robustness.corruptions.catalogue import KINDS, Corrupted, corruptions_of, input_kind, known_of
from analyzer.robustness.corruptions.reference import reference_of
from analyzer.robustness.corruptions.severities import SEVERITIES
from analyzer.robustness.corruptions.tokens import vocabulary_of

pytestmark = pytest.mark.plain

RNG = np.random.default_rng(0)


def texts(n=60, length=30):
    """Ids 1 to 40 by Zipf's law, padded at the end, with 0."""
    ids = RNG.choice(np.arange(1, 41), p=(w := 1 / np.arange(1, 41)) / w.sum(), size=(n, length))
    return np.where(np.arange(length) < RNG.integers(4, length + 1, size=(n, 1)), ids, 0).astype(np.int32)


def waves(n=40, steps=50, channels=3):
    time = np.arange(steps)[:, None]
    return np.sin(time * RNG.uniform(0.1, 0.5, (n, 1, channels)) + RNG.uniform(0, 6, (n, 1, channels)))


DATA = {
    "tensor": RNG.normal([1, -2, 30], [1, 0.1, 10], size=(200, 3)).astype(np.float32),
    "image": RNG.integers(0, 256, size=(6, 20, 24, 3)).astype(np.uint8),
    "table": np.column_stack([RNG.normal(size=300), RNG.integers(0, 5, 300), RNG.gamma(2, 3, 300)]),
    "tokens": texts(),
    "series": np.cumsum(RNG.normal(size=(40, 50, 3)), axis=1).astype(np.float32),
}
ALL = [(kind, corruption) for kind in KINDS for corruption in corruptions_of(kind, DATA[kind].shape)]
NAMED = pytest.mark.parametrize(("kind", "corruption"), ALL, ids=[f"{kind}-{c.name}" for kind, c in ALL])


@NAMED
def test_type_shape_and_range_stay_and_the_data_are_not_touched(kind, corruption):
    x = DATA[kind]
    before, known = x.copy(), known_of(kind, x)
    for severity in SEVERITIES:
        found = corruption(x, severity, 0, known)
        assert found.x.dtype == x.dtype
        assert found.x.shape == x.shape
        assert not np.shares_memory(found.x, x)
        axes = (0, 1) if kind == "series" else None if kind in ("image", "tokens") else 0
        assert (found.x.min(axis=axes) >= x.min(axis=axes)).all()
        assert (found.x.max(axis=axes) <= x.max(axis=axes)).all()
        assert (found.x != x).any()
        np.testing.assert_array_equal(x, before)


@NAMED
def test_a_seed_gives_the_same_and_another_one_something_else_if_random(kind, corruption):
    x = DATA[kind]
    known = known_of(kind, x)
    first, again, other = (corruption(x, 3, seed, known).x for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() == corruption.random


@NAMED
def test_severity_0_and_others_that_are_none_are_refused(kind, corruption):
    for severity in (0, 6, -1, 2.5, True):
        with pytest.raises(ConfigError, match="whole number from 1"):
            corruption(DATA[kind], severity, 0, known_of(kind, DATA[kind]))


# Saturation goes down, then up; glass and the elastic map have several settings, of which one may fall.
UNORDERED = ("saturate", "elastic_transform", "glass_blur")
ORDERED = [(kind, corruption) for kind, corruption in ALL if corruption.name not in UNORDERED]


def distance(kind, corruption, severity):
    x, known = DATA[kind], known_of(kind, DATA[kind])
    found = corruption(x, severity, 0, known)
    if corruption.draws_rows:
        return tables.principal_component(x, known)[found.rows].mean()
    if kind == "tokens":
        return (found.x != x).mean()
    return np.square((found.x.astype(np.float64) - x) / np.maximum(x.std(axis=0), 1e-9)).mean()


@pytest.mark.parametrize(("kind", "corruption"), ORDERED, ids=[f"{kind}-{c.name}" for kind, c in ORDERED])
def test_no_severity_moves_the_data_less_far_than_the_one_before(kind, corruption):
    distances = [distance(kind, corruption, severity) for severity in SEVERITIES]
    assert distances == sorted(distances)
    assert distances[4] > 1.2 * distances[0] > 0


@NAMED
def test_missing_numbers_are_refused(kind, corruption):
    if kind in ("image", "tokens"):
        broken, said = DATA[kind][0], "expected"
    else:
        broken, said = np.where(DATA[kind] == DATA[kind].max(), np.nan, DATA[kind]), "NaN or infinite"
    with pytest.raises(DataError, match=said):
        corruption(broken, 1, 0, known_of(kind, DATA[kind]))


def test_kinds_are_recognised_by_type_and_shape():
    assert [input_kind(DATA[kind]) for kind in KINDS[1:]] == list(KINDS[1:])
    assert input_kind(np.zeros((2, 8, 8, 7))) == "tensor"
    with pytest.raises(ConfigError, match="'sound'"):
        corruptions_of("sound", (1, 2))


# ---------------------------------------------------------------------------------------------------------- tensors
WIDE = reference_of(DATA["tensor"].astype(np.float64), bounds=(-1e6, 1e6))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_the_standard_deviation_that_the_severity_says(severity):
    x = np.tile(DATA["tensor"].astype(np.float64), (500, 1))
    for function, levels, fourth in (
        (tensors.gaussian_noise, tensors.GAUSSIAN_NOISE, 3),
        (tensors.uniform_noise, tensors.UNIFORM_NOISE, 1.8),
    ):
        noise = (function(x, severity, np.random.default_rng(0), WIDE) - x) / WIDE.std
        np.testing.assert_allclose(noise.std(axis=0), levels.at(severity), rtol=0.02)
        np.testing.assert_allclose(stats.kurtosis(noise, axis=0, fisher=False), fourth, rtol=0.05)
        assert abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.02


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulses_hit_the_share_said_and_are_the_extremes_half_each(severity):
    x = np.tile(DATA["tensor"], (500, 1))
    reference = reference_of(x)
    found = tensors.impulse_noise(x, severity, np.random.default_rng(0), reference)
    hit = found != x
    assert hit.mean() == pytest.approx(tensors.IMPULSE_NOISE.at(severity), rel=0.03)
    assert (found[hit] == np.broadcast_to(reference.high, x.shape)[hit]).mean() == pytest.approx(0.5, abs=0.02)
    assert np.isin(found[hit], np.concatenate([reference.low, reference.high])).all()


def test_gain_and_offset_move_by_the_deviations_said():
    x = DATA["tensor"].astype(np.float64)
    stretched = tensors.gain(x, 5, np.random.default_rng(0), WIDE)
    ratio = (stretched - WIDE.mean) / (x - WIDE.mean)
    assert set(np.round(ratio, 9).ravel()) == {0.5, 1.5}
    np.testing.assert_allclose(ratio.std(axis=1), 0, atol=1e-9)
    moved = (tensors.offset(x, 5, np.random.default_rng(0), WIDE) - x) / WIDE.std
    assert set(np.round(moved, 9).ravel()) == {-1.0, 1.0}
    np.testing.assert_allclose(moved.std(axis=1), 0, atol=1e-9)


def test_dropped_features_are_their_mean():
    x = DATA["tensor"].astype(np.float64)
    found = tensors.feature_dropout(x, 5, np.random.default_rng(0), WIDE)
    changed = found != x
    assert changed.mean() == pytest.approx(0.5, abs=0.06)
    np.testing.assert_array_equal(found[changed], np.broadcast_to(WIDE.mean, x.shape)[changed])


def test_quantised_values_are_the_nearest_of_a_grid():
    x = DATA["tensor"].astype(np.float64)
    steps = (tensors.quantisation(x, 3, np.random.default_rng(0), WIDE) - WIDE.mean) / WIDE.std
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)
    assert (np.abs(steps - (x - WIDE.mean) / WIDE.std) <= 0.5 + 1e-9).all()


def test_strength_does_not_depend_on_the_units_of_features():
    x = DATA["tensor"].astype(np.float64)
    factor, shift = np.array([10.0, 0.01, 3.0]), np.array([5.0, -1.0, 0.0])
    for corruption in corruptions_of("tensor", x.shape):
        plain = corruption(x, 3, 0, reference_of(x)).x
        scaled = corruption(x * factor + shift, 3, 0, reference_of(x * factor + shift)).x
        np.testing.assert_allclose(scaled, plain * factor + shift, rtol=1e-9, atol=1e-9)


def test_constant_features_get_no_noise():
    x = np.column_stack([DATA["tensor"], np.full(200, 0.1)])
    for corruption in corruptions_of("tensor", x.shape):
        np.testing.assert_allclose(corruption(x, 5, 0, reference_of(x)).x[:, 3], 0.1, rtol=1e-12)


def test_values_outside_the_reference_data_are_not_pulled_back():
    x = DATA["tensor"].astype(np.float64)
    beyond = x + 100
    found = tensors.quantisation(beyond, 1, np.random.default_rng(0), reference_of(x))
    assert (np.abs(found - beyond) <= 0.125 * x.std(axis=0) + 1e-9).all()


def test_bounds_that_do_not_hold_the_data_are_refused():
    with pytest.raises(DataError, match="outside bounds"):
        known_of("tensor", DATA["tensor"], bounds=(0.0, 1.0))
    with pytest.raises(ConfigError, match="larger largest"):
        known_of("image", DATA["image"], bounds=(255, 0))


# ----------------------------------------------------------------------------------------------------------- tables
def test_missing_cells_are_the_share_said_and_become_the_mean():
    x = DATA["table"]
    reference = reference_of(x)
    for severity in SEVERITIES:
        found = tables.missing_values(x, severity, np.random.default_rng(0), reference)
        changed = found != x
        assert changed.mean() == pytest.approx(tables.MISSING_VALUES.at(severity), abs=0.04)
        np.testing.assert_array_equal(found[changed], np.broadcast_to(reference.mean, x.shape)[changed])


def test_the_mean_of_whole_numbers_is_a_whole_number():
    x = np.repeat([[0, 10], [1, 11], [1, 11]], 20, axis=0)
    found = tables.missing_values(x, 5, np.random.default_rng(0), reference_of(x))
    assert set(found[:, 0]) == {0, 1}
    assert found[x[:, 0] == 0, 0].max() == 1


def test_swapped_cells_come_from_another_row_of_the_same_column():
    x = np.arange(8000.0).reshape(4, 2000)
    for severity in SEVERITIES:
        found = tables.swap_noise(x, severity, np.random.default_rng(0), reference_of(x))
        # All values differ, so a cell that was hit looks as it did only if it took its own value.
        assert (found != x).mean() == pytest.approx(tables.SWAP_NOISE.at(severity), rel=0.1)
        np.testing.assert_array_equal(found % 2000, x % 2000)


def test_permuted_columns_keep_their_values_and_lose_their_dependence():
    common = RNG.normal(size=2000)
    x = common[:, None] + 0.1 * RNG.normal(size=(2000, 10))
    for severity, expected in zip(SEVERITIES, (1, 2, 3, 5, 10), strict=True):
        found = tables.permuted_columns(x, severity, np.random.default_rng(0), reference_of(x))
        np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(x, axis=0))
        permuted = (found != x).any(axis=0)
        assert permuted.sum() == expected
        assert np.abs([np.corrcoef(found[:, i], common)[0, 1] for i in np.flatnonzero(permuted)]).max() < 0.1
    assert (found != x).mean() > 0.99


@pytest.mark.parametrize("severity", SEVERITIES)
def test_covariate_shift_moves_a_normal_component_by_the_exponent(severity):
    # Tilting N(0, 1) by exp(k z) gives N(k, 1).
    z = np.random.default_rng(5).standard_normal(50_000)
    x = np.column_stack([z, 2 * z + 3, z + 1e-3 * np.arange(50_000) / 50_000])
    rows = tables.covariate_shift(x, severity, np.random.default_rng(0), reference_of(x))
    shift = tables.COVARIATE_SHIFT.at(severity)
    assert rows.shape == (50_000,)
    assert z[rows].mean() == pytest.approx(shift, abs=0.05)
    assert z[rows].std() == pytest.approx(1, abs=0.05)


def test_the_component_is_that_of_a_singular_value_decomposition():
    x = DATA["table"] @ RNG.normal(size=(3, 3))
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    left, values, _ = np.linalg.svd(scaled, full_matrices=False)
    ours = tables.principal_component(x, reference_of(x))
    assert abs(ours @ left[:, 0]) == pytest.approx(values[0])
    np.testing.assert_allclose(tables.principal_component(x * [1, 100, 1], reference_of(x * [1, 100, 1])), ours)


def test_what_is_known_of_drawn_rows_is_known_of_samples():
    x = DATA["table"]
    (shift,) = (c for c in corruptions_of("table", x.shape) if c.draws_rows)
    found = shift(x, 5, 0, known_of("table", x))
    np.testing.assert_array_equal(found.x, x[found.rows])
    right = RNG.random(len(x)) < 0.7
    by_sample = found.by_sample(right[found.rows])
    assert by_sample.mean() == pytest.approx(right[found.rows].mean())
    np.testing.assert_array_equal(by_sample[~right], 0)
    assert Corrupted(x=x, rows=np.arange(3)).by_sample([1, 0, 0.5]).tolist() == [1, 0, 0.5]


def test_tables_that_leave_nothing_to_draw_from_are_refused():
    one = DATA["table"][:1]
    for function in (tables.swap_noise, tables.permuted_columns, tables.covariate_shift):
        with pytest.raises(DataError, match="two rows at least"):
            function(one, 1, np.random.default_rng(0), reference_of(one))
    with pytest.raises(DataError, match="All rows are the same"):
        tables.covariate_shift(np.ones((9, 2)), 1, np.random.default_rng(0), reference_of(np.ones((9, 2))))


# ----------------------------------------------------------------------------------------------------------- tokens
IDS = texts(400, 40)
VOCABULARY = vocabulary_of(IDS)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_share_of_tokens_said_is_lost_or_replaced_and_padding_stays(severity):
    real = IDS != 0
    lost = tokens.token_dropout(IDS, severity, np.random.default_rng(0), VOCABULARY)
    assert (lost == 0)[real].mean() == pytest.approx(tokens.TOKEN_DROPOUT.at(severity), rel=0.1)
    replaced = tokens.token_replacement(IDS, severity, np.random.default_rng(0), VOCABULARY)
    assert (replaced != IDS)[real].mean() == pytest.approx(tokens.TOKEN_REPLACEMENT.at(severity), rel=0.1)
    for found in (lost, replaced):
        assert (found[~real] == 0).all()
        same = found == IDS
        np.testing.assert_array_equal(found[same], IDS[same])


def test_tokens_are_replaced_by_others_that_are_as_frequent():
    rank = {token: i for i, token in enumerate(VOCABULARY.by_frequency)}
    counts = np.bincount(IDS.ravel())[VOCABULARY.by_frequency]
    assert (np.diff(counts) <= 0).all()
    found = tokens.token_replacement(IDS, 5, np.random.default_rng(0), VOCABULARY)
    changed = found != IDS
    away = [abs(rank[a] - rank[b]) for a, b in zip(IDS[changed], found[changed], strict=True)]
    assert set(away) == {1, 2, 3, 4, 5}


def test_ids_that_were_never_seen_become_rare_ones():
    unseen = np.full((20, 30), 999)
    found = tokens.token_replacement(unseen, 5, np.random.default_rng(0), VOCABULARY)
    assert set(found[found != 999]) <= set(VOCABULARY.by_frequency[-5:])
    assert (found != 999).mean() == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("length", [1, 2, 7, 40])
def test_swapped_tokens_are_neighbours_and_no_token_is_lost(severity, length):
    ids = np.tile(np.arange(1, length + 1), (500, 1))
    ids[:, length // 2 + 1 :] = 0
    found = tokens.neighbour_swap(ids, severity, np.random.default_rng(0), VOCABULARY)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.sort(ids, axis=1))
    np.testing.assert_array_equal(found == 0, ids == 0)
    assert np.abs(found - ids).max() == (length > 1)
    if length == 40:
        # At each end half of the texts have no neighbour to swap with.
        expected = tokens.NEIGHBOUR_SWAP.at(severity) * 20 / 21
        assert (found != ids)[ids != 0].mean() == pytest.approx(expected, rel=0.12)


def test_texts_are_cut_at_the_end_and_never_empty():
    ids = np.array([[5, 6, 7, 8, 9, 1, 2, 3, 4, 5], [0, 0, 0, 0, 0, 0, 0, 0, 7, 8], [9, 0, 0, 0, 0, 0, 0, 0, 0, 0]])
    found = tokens.truncation(ids, 5, np.random.default_rng(0), VOCABULARY)
    assert found.tolist() == [[5, 6, 7] + 7 * [0], 8 * [0] + [7, 0], [9] + 9 * [0]]


def test_what_is_no_text_is_refused():
    with pytest.raises(DataError, match="whole numbers"):
        vocabulary_of(IDS.astype(np.float32))
    with pytest.raises(DataError, match="1 different tokens"):
        vocabulary_of(np.array([[0, 3, 3]]))


# ----------------------------------------------------------------------------------------------------------- series
WAVES = waves(300, 60, 2)
FREE = reference_of(WAVES, axes=(0, 1), bounds=(-1e6, 1e6))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_jitter_and_scaling_are_as_strong_as_said(severity):
    noise = (series.jitter(WAVES, severity, np.random.default_rng(0), FREE) - WAVES) / FREE.std
    np.testing.assert_allclose(noise.std(axis=(0, 1)), series.JITTER.at(severity), rtol=0.03)
    factor = series.scaling(WAVES, severity, np.random.default_rng(0), FREE) / WAVES
    np.testing.assert_allclose(factor, np.broadcast_to(factor[:, :1], factor.shape))
    assert factor[:, 0].std() == pytest.approx(series.SCALING.at(severity), rel=0.1)
    assert factor[:, 0].mean() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_missing_span_is_one_stretch_of_the_length_said(severity):
    found = series.missing_span(WAVES, severity, np.random.default_rng(0), FREE)
    lost = (found == FREE.mean).all(axis=2)
    assert set(lost.sum(axis=1)) == {round(series.MISSING_SPAN.at(severity) * 60)}
    assert (np.abs(np.diff(lost.astype(int), axis=1)).sum(axis=1) <= 2).all()
    assert lost.any(axis=0).all()
    np.testing.assert_array_equal(found[~lost], WAVES[~lost])


def test_channels_are_lost_as_a_whole():
    found = series.channel_dropout(WAVES, 5, np.random.default_rng(0), FREE)
    lost = found == FREE.mean
    np.testing.assert_array_equal(lost.all(axis=1), lost.any(axis=1))
    assert lost[:, 0].mean() == pytest.approx(0.5, abs=0.06)


def test_time_that_is_warped_keeps_its_order_and_its_ends():
    clock = np.tile(np.arange(60.0)[:, None], (200, 1, 1))
    for severity in SEVERITIES:
        found = series.time_warp(clock, severity, np.random.default_rng(0), reference_of(clock, axes=(0, 1)))
        assert (np.diff(found, axis=1) > 0).all()
        np.testing.assert_allclose(found[:, [0, -1]], clock[:, [0, -1]])
        # Speeds are lognormal at four knots: where the series was cut evenly they are exp(sigma z) times a constant.
        speed = np.log(np.diff(found[:, :, 0], axis=1)[:, [0, -1]])
        spread = (speed[:, 0] - speed[:, 1]).std() / np.sqrt(2)
        assert spread == pytest.approx(series.TIME_WARP.at(severity), rel=0.15)


def test_lag_is_a_shift_that_holds_the_first_value():
    for severity, late in zip(SEVERITIES, (1, 3, 6, 12, 18), strict=True):
        found = series.lag(WAVES, severity, np.random.default_rng(0), FREE)
        np.testing.assert_array_equal(found[:, late:], WAVES[:, :-late])
        np.testing.assert_array_equal(found[:, :late], np.repeat(WAVES[:, :1], late, axis=1))


def test_series_of_one_step_have_no_time_to_warp():
    single = WAVES[:, :1]
    np.testing.assert_array_equal(series.time_warp(single, 5, np.random.default_rng(0), FREE), single)
