"""Patching of layers, channels, positions and heads against the same runs by hand."""

import keras
import numpy as np
import pytest

from analyzer.diagnosis.patching import patch_layers, patch_together, patch_units
from analyzer.diagnosis.units import units_of
from analyzer.errors import ConfigError
from analyzer.testing import footprint
from tests.diagnosis.faulty import (
    WIDTH,
    calls_of,
    chain,
    dense,
    fill,
    opened,
    relu,
    residual,
    residual_by_hand,
    samples,
)

L = keras.layers
numpy = keras.ops.convert_to_numpy


def margin_lost(cases, z_from, z_to):
    rows = np.arange(len(cases.y))
    return (z_from - z_to)[rows, cases.y] - (z_from - z_to)[rows, cases.other]


class TestLayers:
    def test_branches_against_the_net_by_hand(self):
        model = residual()
        patchable, cases, places = opened(model, *samples(model))
        found = patch_layers(patchable, cases, calls_of(places))
        z, made = residual_by_hand(model, cases.x)
        z_moved, made_moved = residual_by_hand(model, cases.moved)
        np.testing.assert_allclose(cases.lost, margin_lost(cases, z, z_moved), atol=1e-5)
        for name in made:
            noised = residual_by_hand(model, cases.x, {name: made_moved[name]})[0]
            denoised = residual_by_hand(model, cases.moved, {name: made[name]})[0]
            np.testing.assert_allclose(found[name].noising, margin_lost(cases, z, noised), atol=1e-5)
            np.testing.assert_allclose(found[name].denoising, margin_lost(cases, denoised, z_moved), atol=1e-5)

    def test_what_carries_all_is_told_from_what_does_not(self):
        model = residual()
        patchable, cases, places = opened(model, *samples(model))
        found = patch_layers(patchable, cases, calls_of(places))
        around = {name for name, patch in found.items() if not patch.carries_all}
        assert around == {f"{part}_{i}" for part in ("up", "down") for i in range(3)}

    @pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
    def test_on_a_chain_every_layer_explains_everything(self, dtype):
        keras.config.set_dtype_policy(dtype)
        try:
            model = chain()
        finally:
            keras.config.set_dtype_policy("float32")
        patchable, cases, places = opened(model, *samples(model))
        for patch in patch_layers(patchable, cases, calls_of(places)).values():
            assert patch.carries_all
            np.testing.assert_allclose(patch.noising, cases.lost, atol=1e-5)
            np.testing.assert_allclose(patch.denoising, cases.lost, atol=1e-5)

    def test_all_branches_together_and_batches(self):
        model = residual()
        patchable, cases, places = opened(model, *samples(model))
        ends = [call for call in calls_of(places) if call.id.startswith("down")]
        z = residual_by_hand(model, cases.x)[0]
        made_moved = residual_by_hand(model, cases.moved)[1]
        expected = margin_lost(cases, z, residual_by_hand(model, cases.x, made_moved)[0])
        for batch_size in (5, 128):
            object.__setattr__(patchable, "batch_size", batch_size)
            np.testing.assert_allclose(patch_together(patchable, cases, ends).noising, expected, atol=1e-5)

    def test_nothing_of_the_model_changes(self):
        model = residual()
        x, moved, y = samples(model)
        before = footprint.model(model)
        patchable, cases, places = opened(model, x, moved, y)
        patch_layers(patchable, cases, calls_of(places))
        assert footprint.model(model) == before


class TestUnits:
    def test_channels_of_a_chain_by_hand(self):
        model = chain()
        patchable, cases, _ = opened(model, *samples(model))
        units = units_of(patchable.view, "two", "channels")
        found = patch_units(patchable, cases, units, list(units))
        h, moved = (relu(dense(model, "two", relu(dense(model, "one", x)))) for x in (cases.x, cases.moved))
        assert list(found) == [(i,) for i in range(5)]
        for (unit,), patch in found.items():
            mixed = h.copy()
            mixed[:, unit] = moved[:, unit]
            expected = margin_lost(cases, *(dense(model, "three", one) for one in (h, mixed)))
            np.testing.assert_allclose(patch.noising, expected, atol=1e-5)
        # What follows is linear: units add up to everything, whichever way they are patched.
        for kind in ("noising", "denoising", "mean"):
            total = sum(getattr(patch, kind) for patch in found.values())
            np.testing.assert_allclose(total, cases.lost, atol=1e-5)

    @pytest.mark.parametrize(("by", "sizes"), [("channels", (4,)), ("positions", (3, 2))])
    def test_parts_of_a_grid_add_up_where_what_follows_is_linear(self, by, sizes):
        x = inputs = keras.Input((6, 4, 2))
        x = L.Conv2D(4, 2, strides=2, activation="relu", name="conv")(x)
        model = fill(keras.Model(inputs, L.Dense(3, name="head")(L.Flatten()(x))), scale=1.0)
        patchable, cases, _ = opened(model, *samples(model, (6, 4, 2)))
        units = units_of(patchable.view, "conv", by)
        assert (units.sizes, units.count) == (sizes, int(np.prod(sizes)))
        found = patch_units(patchable, cases, units, list(units))
        np.testing.assert_allclose(sum(patch.noising for patch in found.values()), cases.lost, atol=1e-5)
        one = next(iter(found.values()))
        assert np.abs(one.noising).sum() > 0

    def test_heads_against_attention_by_hand(self):
        x = inputs = keras.Input((4, WIDTH))
        x = x + L.MultiHeadAttention(2, 3, name="mha")(x, x)
        model = fill(keras.Model(inputs, L.Dense(3, name="head")(L.GlobalAveragePooling1D()(x))), scale=1.0)
        patchable, cases, _ = opened(model, *samples(model, (4, WIDTH)))
        units = units_of(patchable.view, "mha", "heads")
        found = patch_units(patchable, cases, units, list(units))
        parts = {v.path.split("/", 1)[1]: numpy(v).astype("float64") for v in model.get_layer("mha").weights}

        def heads(x):
            q, k, v = (
                np.einsum("btd,dhe->bhte", x, parts[f"{name}/kernel"]) + parts[f"{name}/bias"][None, :, None]
                for name in ("query", "key", "value")
            )
            scores = np.einsum("bhte,bhse->bhts", q, k) / np.sqrt(3)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            return np.einsum("bhts,bhse->bhte", weights / weights.sum(-1, keepdims=True), v)

        def logits(x, attended):
            out = np.einsum("bhte,hed->btd", attended, parts["attention_output/kernel"])
            return dense(model, "head", (x + out + parts["attention_output/bias"]).mean(axis=1))

        h, moved = heads(cases.x.astype("float64")), heads(cases.moved.astype("float64"))
        np.testing.assert_allclose(logits(cases.x, h), cases.z, atol=1e-5)
        assert units.sizes == (2,)
        for (head,), patch in found.items():
            mixed = h.copy()
            mixed[:, head] = moved[:, head]
            expected = margin_lost(cases, logits(cases.x, h), logits(cases.x, mixed))
            np.testing.assert_allclose(patch.noising, expected, atol=1e-5)

    def test_heads_that_share_keys_are_one_unit(self):
        x = inputs = keras.Input((4, WIDTH))
        x = L.GroupQueryAttention(3, num_query_heads=4, num_key_value_heads=2, name="gqa")(x, x)
        model = fill(keras.Model(inputs, L.Dense(3, name="head")(L.Flatten()(x))), scale=1.0)
        patchable, cases, _ = opened(model, *samples(model, (4, WIDTH)))
        units = units_of(patchable.view, "gqa", "heads")
        assert units.sizes == (2,)
        found = patch_units(patchable, cases, units, list(units))
        # Heads act on what follows, which is linear, one by one: together they are the whole.
        np.testing.assert_allclose(sum(patch.noising for patch in found.values()), cases.lost, atol=1e-5)

    @pytest.mark.parametrize(
        ("layer", "by", "said"),
        [
            ("two", "positions", "has no positions"),
            ("two", "heads", "without projections named query"),
            ("two", "neurons", "Unknown kind of units"),
            (["one", "two"], "channels", "means 2 calls"),
            ("four", "channels", "four"),
        ],
    )
    def test_what_has_no_such_units_is_refused(self, layer, by, said):
        model = chain()
        patchable, _, _ = opened(model, *samples(model))
        with pytest.raises(ConfigError, match=said):
            units_of(patchable.view, layer, by)
