"""`Explanation`: what it says of itself, strict JSON and back."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from analyzer.data_types.explanation import LEDGER_COLUMNS, Explanation, Statistics, Step
from analyzer.errors import DataError, OutputError
from tests.data_types.strategies import same
from tests.visualizers import synthetic

pytestmark = pytest.mark.plain


@pytest.fixture
def explanation():
    return synthetic.explanation("image", against=True)


def strict(text):
    def refuse(word):
        raise AssertionError(word)

    return json.loads(text, parse_constant=refuse)


def equal(one, other):
    frames = (one.ledger, other.ledger)
    pd.testing.assert_frame_equal(*frames, check_index_type=False, check_names=False)
    names = [name for name in vars(one) if name != "ledger"]
    return [name for name in names if not same(getattr(one, name), getattr(other, name))] == []


class TestItself:
    def test_repr_is_one_line_with_method_target_size_shapes_and_gap(self, explanation):
        said = repr(explanation)
        assert said == (
            "Explanation('contrastive', target 'predicted class', n=3, inputs {'image': (3, 12, 10, 3)}, "
            "unexplained at most 0.02 of the start value)"
        )
        bare = Explanation(method="gradient", inputs={"a": np.zeros((2, 4))}, output=np.zeros(2))
        assert repr(bare).endswith("n=2, inputs {'a': (2, 4)}, no ledger)")

    def test_n_is_that_of_the_samples_also_with_several_targets(self, explanation):
        assert explanation.n == 3
        assert synthetic.explanation("image", targets=2).n == 3

    def test_the_first_place_that_breaks_the_sum_is_the_first_on_the_way_from_the_output(self, explanation):
        fractions = dict(explanation.ledger["unexplained_fraction"])
        assert explanation.unexplained_fraction == max(fractions.values()) == 0.02
        assert explanation.first_break() == "relu_1"
        assert explanation.first_break(0.05) is None
        assert Explanation(method="gradient", inputs={}, output=np.zeros(2)).first_break() is None
        assert Explanation(method="gradient", inputs={}, output=np.zeros(2)).unexplained_fraction is None


class TestJson:
    @pytest.mark.parametrize("kind", ["image", "series", "tokens", "features"])
    @pytest.mark.parametrize("options", [{}, {"targets": 2}, {"against": True}])
    def test_a_text_holds_everything(self, kind, options):
        one = synthetic.explanation(kind, **options)
        text = one.to_json()
        assert strict(text)["type"] == "Explanation"
        assert equal(one, Explanation.from_json(text))

    def test_a_file_has_its_large_arrays_beside_it(self, explanation, tmp_path):
        path = tmp_path / "deep" / "first.json"
        text = explanation.to_json(path)
        assert path.read_text(encoding="utf-8") == text
        assert sorted(p.name for p in path.parent.iterdir()) == ["first.json", "first_arrays.npz"]
        entry = strict(text)["inputs"]["image"]
        assert (entry["shape"], entry["dtype"]) == ([3, 12, 10, 3], "float32")
        assert entry["values"]["array"].endswith("_inputs")
        assert equal(explanation, Explanation.load(path))
        assert equal(explanation, Explanation.load(str(path)))

    def test_a_small_one_is_one_file(self, tmp_path):
        one = dataclasses.replace(synthetic.explanation("features", n=2), layers={})
        one.to_json(tmp_path / "a.json")
        assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
        assert equal(one, Explanation.load(tmp_path / "a.json"))

    def test_without_arrays_sums_are_left_and_the_file_says_so(self, explanation, tmp_path):
        text = explanation.to_json(tmp_path / "a.json", include_arrays=False)
        assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
        entry = strict(text)["inputs"]["image"]
        array = explanation.inputs["image"]
        assert entry["values"] is None
        assert entry["sum"] == pytest.approx(float(array.sum(dtype=np.float64)))
        assert entry["sum_of_magnitudes"] == pytest.approx(float(np.abs(array).sum(dtype=np.float64)))
        assert strict(text)["output"]["values"] == pytest.approx(explanation.output.tolist())
        with pytest.raises(DataError, match=r"written without its arrays \('image'\)"):
            Explanation.from_json(text)

    def test_what_is_not_finite_is_null_and_comes_back_as_nan(self):
        one = Explanation(
            method="gradient",
            inputs={"a": np.array([[np.nan, np.inf, 1.0]], np.float32)},
            output=np.array([-np.inf]),
            trace=(
                Step(id="a", kind="Dense", rule="r", activation=Statistics(mean=None, std=0.5, minimum=0, maximum=1)),
            ),
            measured={"seconds": float("nan")},
            ledger=pd.DataFrame({name: [np.nan] for name in LEDGER_COLUMNS}, index=["a"]),
        )
        document = strict(one.to_json())
        assert document["inputs"]["a"]["values"] == [[None, None, 1.0]]
        assert document["measured"] == {"seconds": None}
        again = Explanation.from_json(one.to_json())
        assert np.array_equal(again.inputs["a"], [[np.nan, np.nan, 1]], equal_nan=True)
        assert again.inputs["a"].dtype == np.float32
        assert again.ledger["unexplained"].isna().all()
        assert again.ledger["unexplained"].dtype == np.float64
        assert again.unexplained_fraction is None
        assert again.trace == one.trace

    def test_users_names_are_keys_and_never_files_or_members(self, tmp_path):
        name = "../../<b>x"
        one = Explanation(method="m", inputs={name: np.zeros((2, 300))}, output=np.zeros(2))
        one.to_json(tmp_path / "in" / "a.json")
        assert {p.name for p in tmp_path.rglob("*") if p.is_file()} == {"a.json", "a_arrays.npz"}
        with np.load(tmp_path / "in" / "a_arrays.npz") as members:
            assert members.files == ["00000_inputs"]
        assert list(Explanation.load(tmp_path / "in" / "a.json").inputs) == [name]

    def test_types_that_only_frameworks_know_are_widened(self, tmp_path):
        half = np.arange(600, dtype=np.float16).reshape(2, 300)
        one = Explanation(method="m", inputs={"a": half}, output=np.zeros(2))
        one.to_json(tmp_path / "a.json")
        assert Explanation.load(tmp_path / "a.json").inputs["a"].dtype == np.float16


class TestErrors:
    def test_a_folder_that_cannot_be_written(self, explanation, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="cannot be written"):
            explanation.to_json(tmp_path / "file" / "a.json")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{", "not JSON"),
            ("[]", "no explanation"),
            ('{"type": "WeightResult"}', "no explanation"),
            ('{"type": "Explanation", "version": "2.0"}', "version 2.0; this release reads 1.0"),
            ('{"type": "Explanation", "version": "1.0"}', "damaged: KeyError"),
        ],
    )
    def test_what_is_no_explanation(self, text, said):
        with pytest.raises(DataError, match=said):
            Explanation.from_json(text)

    def test_a_file_that_is_not_there_or_has_lost_its_arrays(self, explanation, tmp_path):
        with pytest.raises(DataError, match="No explanation can be read"):
            Explanation.load(tmp_path / "none.json")
        explanation.to_json(tmp_path / "a.json")
        (tmp_path / "a_arrays.npz").unlink()
        with pytest.raises(DataError, match=r"does not hold"):
            Explanation.load(tmp_path / "a.json")
