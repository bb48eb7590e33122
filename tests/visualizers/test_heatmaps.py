"""Relevance as pictures: one symmetric scale, red for and blue against, files that are the same in every run."""

import numpy as np
import pytest

from analyzer.data_types.explanation import Explanation
from analyzer.errors import ConfigError, DataError, OutputError
from analyzer.visualizers.heatmaps import (
    coloured,
    flat_map,
    grey,
    grid,
    overlay,
    save_heatmaps,
    symmetric_limit,
)
from tests.visualizers import synthetic

pytestmark = pytest.mark.plain


def test_the_limit_is_a_quantile_of_the_magnitudes_of_all_maps():
    one, other = np.arange(-100.0, 0), np.arange(1.0, 101)
    assert symmetric_limit(one, other, quantile=1.0) == 100
    assert symmetric_limit(one, None, quantile=0.5) == 50.5
    # Sparse maps: the quantile is zero, the largest is not.
    sparse = np.zeros(10_000)
    sparse[3] = -7
    assert symmetric_limit(sparse) == 7
    assert symmetric_limit(np.zeros(4)) == symmetric_limit(np.full(4, np.nan)) == symmetric_limit() == 1
    assert symmetric_limit(np.array([np.nan, np.inf, 2.0])) == 2


def test_maps_sum_channels_wherever_they_are_and_take_the_middle_of_volumes():
    rng = np.random.default_rng(0)
    last = rng.normal(size=(9, 7, 3))
    assert np.allclose(flat_map(last), last.sum(-1))
    assert np.allclose(flat_map(np.moveaxis(last, -1, 0)), last.sum(-1))
    assert np.allclose(flat_map(last[..., 0]), last[..., 0])
    # Too many channels to guess: the caller says so.
    deep = rng.normal(size=(16, 5, 6))
    assert flat_map(deep, channels_first=True).shape == (5, 6)
    assert flat_map(deep).shape == (16, 5)
    volume = rng.normal(size=(5, 9, 7, 2))
    assert np.allclose(flat_map(volume), volume[2].sum(-1))
    with pytest.raises(DataError, match=r"got \(4,\)"):
        flat_map(np.zeros(4))


def test_grey_spans_from_dark_to_light_and_constant_images_are_in_between():
    image = np.array([[-3.0, 1.0], [0.0, np.nan]])
    assert np.allclose(grey(image), [[0, 1], [0.75, 0.5]])
    assert np.allclose(grey(np.full((2, 3, 3), 7)), 0.5)
    assert grey(np.random.default_rng(0).normal(size=(3, 8, 9))).shape == (8, 9)


def test_red_is_for_blue_against_and_zero_white():
    red, blue, white, clipped, odd = coloured(np.array([1.0, -1.0, 0.0, 9.0, np.nan]), 1.0)
    assert red[0] > red[2] + 0.2
    assert blue[2] > blue[0] + 0.2
    assert white.min() > 0.95
    assert np.allclose(clipped, red)
    assert np.allclose(odd, 0.6)


def test_an_overlay_shows_the_image_where_relevance_is_zero():
    image = np.array([[0.0, 1.0], [0.5, 0.5]])
    found = overlay(image, np.array([[0.0, 0.0], [1.0, -1.0]]), 1.0)
    assert np.ptp(found[0, 0]) == np.ptp(found[0, 1]) == 0
    assert found[0, 0, 0] < found[0, 1, 0] == 1
    assert np.allclose(found[1], coloured(np.array([1.0, -1.0]), 1.0))
    # A picture larger than its map, as after a strided explanation.
    assert overlay(np.zeros((8, 8)), np.zeros((4, 4)), 1.0).shape == (4, 4, 3)


def test_a_grid_keeps_pictures_apart_and_in_order():
    tiles = [np.full((2, 3, 3), value) for value in (0.1, 0.2, 0.3)]
    sheet = grid(tiles, 2)
    assert sheet.shape == (5, 7, 3)
    assert (sheet[0, 0, 0], sheet[0, 4, 0], sheet[3, 0, 0]) == (0.1, 0.2, 0.3)
    assert (sheet[2] == 1).all()
    assert (sheet[3:, 4:] == 1).all()
    with pytest.raises(DataError, match="one size"):
        grid([np.zeros((2, 2, 3)), np.zeros((2, 3, 3))], 2)
    with pytest.raises(DataError, match="none"):
        grid([], 2)


class TestFiles:
    def test_one_picture_per_sample_the_same_bytes_again(self, tmp_path):
        explanation = synthetic.explanation("image")
        x = np.random.default_rng(0).random((3, 12, 10, 3))
        first = save_heatmaps(explanation, x, tmp_path / "a")
        again = save_heatmaps(explanation, {"image": x}, tmp_path / "b")
        assert [p.name for p in first] == [f"heatmap_{i:05d}.png" for i in range(3)]
        assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]
        assert len({p.read_bytes() for p in first}) == 3

    @pytest.mark.parametrize("kind", ["pdf", "svg"])
    def test_formats_and_names_that_are_neither_mathematics_nor_paths(self, tmp_path, kind):
        name = "../$x$ & <b>"
        one = Explanation(method="$m$", target=name, inputs={name: np.ones((1, 4, 4))}, output=np.ones(1))
        (path,) = save_heatmaps(one, np.ones((1, 4, 4)), tmp_path / "out", kind=kind)
        assert path == tmp_path / "out" / f"heatmap_00000.{kind}"
        assert [p.name for p in tmp_path.iterdir()] == ["out"]

    def test_several_targets_are_chosen_by_number(self, tmp_path):
        explanation = synthetic.explanation("image", targets=2)
        x = np.zeros((3, 12, 10, 3))
        files = [save_heatmaps(explanation, x, tmp_path / str(t), target=t)[0].read_bytes() for t in (0, 1)]
        assert files[0] != files[1]
        with pytest.raises(DataError, match="target=2: the explanation has 2"):
            save_heatmaps(explanation, x, tmp_path, target=2)

    def test_the_limit_has_an_effect(self, tmp_path):
        explanation, x = synthetic.explanation("image", n=1), np.zeros((1, 12, 10, 3))
        pictures = [save_heatmaps(explanation, x, tmp_path / str(v), limit=v)[0].read_bytes() for v in (1.0, 50.0)]
        assert pictures[0] != pictures[1]

    def test_what_does_not_fit_is_one_clear_error(self, tmp_path):
        explanation = synthetic.explanation("image")
        with pytest.raises(DataError, match="3 samples were explained, but x has 2"):
            save_heatmaps(explanation, np.zeros((2, 12, 10, 3)), tmp_path)
        with pytest.raises(DataError, match=r"no input 'y'\. Known: 'image'"):
            save_heatmaps(explanation, np.zeros((3, 12, 10, 3)), tmp_path, name="y")
        with pytest.raises(DataError, match="A map needs 2 axes"):
            save_heatmaps(synthetic.explanation("features"), np.zeros((3, 20)), tmp_path)
        with pytest.raises(DataError, match="no inputs"):
            save_heatmaps(Explanation(method="m", inputs={}, output=np.ones(1)), np.ones(1), tmp_path)
        with pytest.raises(ConfigError, match="expected one of 'png', 'pdf', 'svg'"):
            save_heatmaps(explanation, np.zeros((3, 12, 10, 3)), tmp_path, kind="gif")
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="cannot be written"):
            save_heatmaps(explanation, np.zeros((3, 12, 10, 3)), tmp_path / "file" / "x")
