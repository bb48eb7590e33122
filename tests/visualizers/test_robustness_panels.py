"""Panels of robustness draw the numbers of the results."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from analyzer.visualizers.plot import plot
from tests.visualizers import synthetic

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
