"""Pictures of feature maps: what is shown of what there is, whatever the shape and the name."""

import matplotlib
import numpy as np
import pytest

from analyzer.errors import DataError, OutputError
from analyzer.visualizers.feature_maps import draw_feature_maps, save_feature_maps

pytestmark = pytest.mark.plain


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape)


def drawn(array, **options):
    """The image, the texts of both axes and the note."""
    figure = draw_feature_maps("layer", array, **options)
    ax = figure.axes[0]
    labels = [[text.get_text() for text in axis.get_ticklabels()] for axis in (ax.xaxis, ax.yaxis)]
    return ax.images[0].get_array(), labels, figure.texts[0].get_text()


def test_a_grid_of_samples_and_channels():
    maps = normal(2, 10, 12, 3)
    image, (channels, samples), note = drawn(maps)
    assert (channels, samples) == (["0", "1", "2"], ["0", "1"])
    assert image.shape == (2 * 10 + 1, 3 * 12 + 2)
    np.testing.assert_array_equal(image[11:21, 13:25], maps[1, :, :, 1])
    assert np.ma.getmaskarray(image)[10].all()
    assert image.count() == maps.size
    assert note == ""


def test_channels_first():
    maps = normal(2, 3, 10, 12)
    image, _, _ = drawn(maps, channels_first=True)
    np.testing.assert_array_equal(image[11:21, 13:25], maps[1, 1])


def test_what_is_left_out_is_said():
    image, (channels, samples), note = drawn(normal(9, 5, 5, 40))
    assert (len(channels), len(samples)) == (16, 4)
    assert note == "the first 4 of 9 samples; the first 16 of 40 channels"
    assert image.count() == 4 * 16 * 25


def test_volumes_show_the_middle():
    maps = normal(1, 5, 4, 4, 1)
    np.testing.assert_array_equal(drawn(maps)[0], maps[0, 2, :, :, 0])


def test_sequences_are_one_map_per_sample():
    maps = normal(2, 10, 6)
    image, (_, samples), _ = drawn(maps)
    np.testing.assert_array_equal(image[:10], maps[0])
    np.testing.assert_array_equal(image[-10:], maps[1])
    assert samples == ["0", "1"]


def test_units_are_columns():
    array = normal(100, 4)
    image, _, note = drawn(array)
    np.testing.assert_array_equal(image, array[:64])
    assert note == "the first 64 of 100 samples"
    assert drawn(normal(3))[0].shape == (3, 1)


def test_what_is_not_finite_stays_empty():
    array = normal(3, 4)
    array[1, 2] = np.nan
    assert drawn(array)[0].count() == 11


@pytest.mark.parametrize("array", [np.zeros((0, 3)), np.array([["a"]]), np.zeros((1, 2), complex)])
def test_nothing_to_draw(array):
    with pytest.raises(DataError, match="nothing to draw for layer 'layer'"):
        drawn(array)


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_files_are_the_same_every_time_whatever_the_name(tmp_path, kind):
    settings = dict(matplotlib.rcParams)
    name = "$\\frac{" + "a/long_name" * 30 + "\U0001f680"
    files = [save_feature_maps(name, normal(2, 4, 4, 3), tmp_path / f"{i}.{kind}") for i in range(2)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].stat().st_size > 1000
    assert dict(matplotlib.rcParams) == settings


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        save_feature_maps("layer", normal(2, 3), tmp_path / "missing" / "a.png")
