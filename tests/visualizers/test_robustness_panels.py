"""Panels of robustness draw the numbers of the results."""

import dataclasses

import numpy as np
import pytest
from matplotlib.figure import Figure

from analyzer.visualizers.plot import plot
from tests.visualizers import synthetic
from tests.visualizers.synthetic_robustness import layers_at_fault

pytestmark = pytest.mark.plain


def drawn(result, kind):
    return plot(result, Figure(figsize=(5, 4)).add_subplot(), kind)


def test_curves_are_those_of_the_result_and_dashed_where_the_score_is_withheld():
    for withheld in (False, True):
        result = synthetic.robustness(withheld=withheld)
        (line,) = drawn(result, "robust_curves").lines
        np.testing.assert_array_equal(line.get_xdata(), result.curve.epsilon)
        np.testing.assert_array_equal(line.get_ydata(), result.curve.accuracy)
        assert line.is_dashed() is withheld


def test_scores_that_are_withheld_have_no_mark():
    plain, without = synthetic.robustness(), synthetic.robustness(withheld=True)
    marks = [float(line.get_xdata()[0]) for line in drawn(plain, "robust_scores").lines if line.get_marker() == "o"]
    assert marks == [plain.clean_accuracy.value, plain.robust_accuracy.value, plain.aura.value]
    marks = [float(line.get_xdata()[0]) for line in drawn(without, "robust_scores").lines if line.get_marker() == "o"]
    assert marks == [without.clean_accuracy.value]


def test_every_cell_of_corruptions_has_its_number():
    result = synthetic.robustness()
    words = [text.get_text() for text in drawn(result, "corruption_accuracy").texts]
    numbers = [word for word in words if word.replace(".", "").isdigit() and "." in word]
    assert numbers == [f"{value:.2f}" for value in result.corruptions.accuracy.ravel()]


def test_fooled_samples_have_three_pictures_each_and_the_step_is_what_was_added():
    result = synthetic.robustness()
    images = drawn(result, "fooled").images
    assert len(images) == 3 * len(result.examples)
    one = result.examples[0]
    step = (one.moved - one.values)[..., 0]
    red, blue = images[1].get_array()[..., 0], images[1].get_array()[..., 2]
    assert (red > blue)[step > 0.04].all()
    assert (blue > red)[step < -0.04].all()
    np.testing.assert_allclose(images[0].get_array()[..., 0], one.values[..., 0], atol=0.06)


def test_what_is_not_there_is_said():
    assert any(
        "no model was attacked" in text.get_text()
        for text in drawn(synthetic.robustness(attacked=False), "robust_curves").texts
    )
    assert any(
        "no sample of an image" in text.get_text() for text in drawn(synthetic.robustness(images=False), "fooled").texts
    )


def marks(ax, marker, *, hollow=False):
    """Positions and values of the marks of one kind."""
    lines = [line for line in ax.lines if line.get_marker() == marker]
    (line,) = [line for line in lines if (line.get_markerfacecolor() == "white") is hollow]
    return np.asarray(line.get_ydata(), float), np.asarray(line.get_xdata(), float)


def test_layers_have_their_amplification_under_attack_and_by_chance_and_their_noise_gain():
    result = synthetic.robustness()
    ax = drawn(result, "layer_profile")
    layers = result.layers.layers
    assert [text.get_text().removeprefix("! ") for text in ax.get_yticklabels()] == [layer.id for layer in layers]
    grown = [(i, layer.log_amplification) for i, layer in enumerate(layers) if layer.log_amplification]
    for group, hollow in (("failures", False), ("controls", True)):
        at, values = marks(ax, "o", hollow=hollow)
        assert at.round().tolist() == [i for i, _ in grown]
        np.testing.assert_allclose(values, np.exp([getattr(one, group).value for _, one in grown]))
    at, values = marks(ax, "x")
    assert at.round().tolist() == list(range(len(layers)))
    np.testing.assert_allclose(values, [layer.noise_gain.failures.value for layer in layers])
    ends = np.concatenate([part for bars in ax.collections for part in bars.get_segments()])[:, 0]
    for _, one in grown:
        for end in (one.failures.low, one.failures.high, one.controls.low, one.controls.high):
            assert np.isclose(ends, np.exp(end)).any()


def test_shares_stand_beside_their_branches_and_the_one_at_fault_is_shaded():
    result = synthetic.robustness()
    ax = drawn(result, "layer_profile")
    ids = [layer.id for layer in result.layers.layers]
    shares = {text.get_position()[1]: text.get_text() for text in ax.texts if text.get_text().endswith("%")}
    assert shares == {ids.index(branch.id): f"{branch.share.failures.value:.0%}" for branch in result.layers.branches}
    (shaded,) = ax.patches
    assert shaded.get_y() + shaded.get_height() / 2 == pytest.approx(ids.index(result.layers.culprit))
    innocent = dataclasses.replace(result, layers=dataclasses.replace(result.layers, culprit=None))
    assert not drawn(innocent, "layer_profile").patches


def words_of(result):
    return " ".join(text.get_text() for text in drawn(result, "layer_profile").texts).replace("\n", " ")


def test_what_layers_cannot_tell_is_said():
    chain = synthetic.robustness(1)
    assert "a chain: patching names no layer" in words_of(chain)
    assert "n = 32 failures, 28 controls" in words_of(chain)
    alone = dataclasses.replace(chain, layers=layers_at_fault(controls=False))
    assert "no controls" in words_of(alone)
    note = "layers not traced: The model answers differently."
    assert "The model answers differently" in words_of(dataclasses.replace(chain, layers=None, notes=(note,)))
    assert "no wrong decision was traced" in words_of(dataclasses.replace(chain, layers=None))
