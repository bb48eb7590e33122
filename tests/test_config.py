"""`AnalysisConfig`: every option is checked once, by name, with what came and what was expected."""

import copy
import dataclasses
import json
import threading
from types import MappingProxyType

import numpy as np
import pytest

from analyzer.config import ANALYSES, TASKS, AnalysisConfig, check_names, parse_task
from analyzer.errors import AnalyzerError, ConfigError

pytestmark = pytest.mark.plain

NAMES = [f.name for f in dataclasses.fields(AnalysisConfig)]

GUIDE_DEFAULTS = {
    "analyze_weights": True,
    "analyze_calibration": True,
    "analyze_information_flow": True,
    "analyze_training_dynamics": True,
    "n_samples": 1000,
    "weight_layer_types": None,
    "analyze_biases": False,
    "compute_weight_pca": True,
    "calibration_bins": 15,
    "smooth_training_curves": True,
    "smoothing_window": 5,
    "pareto_analysis_threshold": 2,
    "plot_style": "publication",
    "save_plots": True,
    "save_format": "png",
    "dpi": 300,
    "max_layers_heatmap": 12,
    "max_layers_info_flow": 8,
    "verbose": True,
}
"""Names and defaults of the guide's section 5; where it shows an example instead, the default says nothing of it."""

SWITCHES = [f.name for f in dataclasses.fields(AnalysisConfig) if f.type == "bool"]
WHOLE = {
    "n_samples": 1,
    "calibration_bins": 1,
    "smoothing_window": 1,
    "pareto_analysis_threshold": 1,
    "dpi": 1,
    "max_layers_heatmap": 1,
    "max_layers_info_flow": 1,
    "relevance_samples": 1,
    "robustness_samples": 1,
    "n_bootstrap": 0,
    "seed": 0,
    "batch_size": 1,
}


def refused(**options):
    with pytest.raises(ConfigError) as error:
        AnalysisConfig(**options)
    return str(error.value)


def test_every_field_of_the_guide_has_its_name_and_default():
    config = AnalysisConfig()
    assert {name: getattr(config, name) for name in GUIDE_DEFAULTS} == GUIDE_DEFAULTS


def test_every_field_is_documented_and_checked_here():
    documented = AnalysisConfig.__doc__
    assert [name for name in NAMES if f"\n        {name}: " not in documented] == []
    words = {"plot_style", "save_format", "weight_layer_types", "class_names", "task", "from_logits", "progress"}
    words |= {"metric_directions", "relevance_method"}
    words |= {"robustness_tier", "robustness_norm", "robustness_epsilon", "robustness_bounds"}
    assert set(NAMES) == {*SWITCHES, *WHOLE, *words}
    assert [f"analyze_{name}" in SWITCHES for name in ANALYSES] == [True] * len(ANALYSES)


@pytest.mark.parametrize("name", SWITCHES)
def test_switches_are_true_or_false(name):
    assert getattr(AnalysisConfig(**{name: False}), name) is False
    for wrong in (1, "yes", None):
        assert refused(**{name: wrong}) == f"{name}={wrong!r}: expected True or False."


@pytest.mark.parametrize("name", WHOLE)
def test_numbers_are_whole_and_large_enough(name):
    least = WHOLE[name]
    assert getattr(AnalysisConfig(**{name: least}), name) == least
    for wrong in (least - 1, 2.5, "3", True, float("nan")):
        assert refused(**{name: wrong}) == f"{name}={wrong!r}: expected a whole number of at least {least}."


def test_the_method_of_relevance_is_a_word():
    assert AnalysisConfig().relevance_method == "auto"
    assert AnalysisConfig(relevance_method="epsilon_plus").relevance_method == "epsilon_plus"
    for wrong in ("", None, 3):
        assert f"relevance_method={wrong!r}: expected 'auto' or the name of a method" in refused(relevance_method=wrong)


def test_relevance_is_off_by_default_for_its_cost():
    assert AnalysisConfig().analyze_relevance is False


def test_what_an_attacker_may_do_is_checked():
    config = AnalysisConfig()
    assert (config.analyze_robustness, config.robustness_tier, config.robustness_norm) == (False, "screen", "linf")
    assert AnalysisConfig(robustness_norm="l2", robustness_epsilon=1).robustness_epsilon == 1
    assert AnalysisConfig(robustness_bounds=[0, 255]).robustness_bounds == (0.0, 255.0)
    assert "has no usual radius: give robustness_epsilon" in refused(robustness_norm="l2")
    assert "expected one of 'linf', 'l2', 'l1'" in refused(robustness_norm="l3", robustness_epsilon=1.0)
    assert "expected one of 'screen', 'standard', 'full'" in refused(robustness_tier="best")
    for wrong in (0, -1.0, float("inf"), float("nan"), "1", True):
        assert f"robustness_epsilon={wrong!r}: expected a finite radius above 0" in refused(robustness_epsilon=wrong)
    for wrong in ((1, 0), (0, 0), (0,), 3, "01", (0, None), (float("nan"), 1)):
        assert "expected (low, high) with low < high" in refused(robustness_bounds=wrong)


def test_only_the_number_of_samples_may_be_unlimited():
    assert AnalysisConfig(n_samples=None).n_samples is None
    for name in WHOLE.keys() - {"n_samples"}:
        assert "None" in refused(**{name: None})


@pytest.mark.parametrize(
    ("name", "choices", "nearly"),
    [
        ("plot_style", ["publication", "presentation", "draft"], ("publcation", "publication")),
        ("save_format", ["png", "pdf", "svg"], ("pdf2", "pdf")),
        ("task", list(TASKS)[:5] + list(TASKS)[6:], ("multi-class", "multiclass")),
    ],
)
def test_choices_are_named_in_the_message_with_the_nearest(name, choices, nearly):
    for choice in choices:
        assert getattr(AnalysisConfig(**{name: choice}), name) == choice
    message = refused(**{name: nearly[0]})
    assert f"Did you mean {nearly[1]!r}?" in message
    assert all(repr(choice) in message for choice in choices)
    assert "Did you mean" not in refused(**{name: "0123456789"})
    assert repr(["a", "list"]) in refused(**{name: ["a", "list"]})


def test_directions_of_metrics():
    assert AnalysisConfig(metric_directions={"my_score": "up"}).to_dict()["metric_directions"] == {"my_score": "up"}
    for wrong in ("up", {"my_score": "more"}, {"my_score": True}):
        assert repr(wrong) in refused(metric_directions=wrong)


def test_unknown_options_are_refused_by_name_with_the_nearest():
    assert refused(calibration_bin=10) == "Unknown option 'calibration_bin'. Did you mean 'calibration_bins'?"
    assert "Known: analyze_weights" in refused(zzz=1)
    with pytest.raises(TypeError):
        AnalysisConfig(True)


@pytest.mark.parametrize("name", ["weight_layer_types", "class_names"])
def test_lists_of_names_are_kept_as_tuples_of_words(name):
    for given in (["Dense", "Conv2D"], ("Dense", "Conv2D"), np.array(["Dense", "Conv2D"]), iter(["Dense", "Conv2D"])):
        assert getattr(AnalysisConfig(**{name: given}), name) == ("Dense", "Conv2D")
    assert getattr(AnalysisConfig(**{name: None}), name) is None
    for wrong in ("Dense", 5, [1, 2], ["Dense", None]):
        message = refused(**{name: wrong})
        assert repr(wrong) in message
        assert "expected a list of names" in message


def test_task_and_logits_are_one_for_all_or_by_name():
    config = AnalysisConfig(task={"a": "binary", "head": "quantile:0.1,0.9"}, from_logits={"a": True, "b": None})
    assert config.task["head"] == "quantile:0.1,0.9"
    assert config.from_logits == {"a": True, "b": None}
    assert AnalysisConfig(from_logits=False).from_logits is False
    assert "'clasification'" in refused(task={"a": "binary", "b": "clasification"})
    assert refused(task=5).startswith("task='5': expected one of")
    for wrong in ("yes", 1, {"a": "no"}):
        assert repr(wrong) in refused(from_logits=wrong)


def test_progress_is_a_switch_or_a_callable():
    shown = []
    AnalysisConfig(progress=lambda *step: shown.append(step)).progress("gather", 1, 2)
    assert shown == [("gather", 1, 2)]
    assert AnalysisConfig(progress=False).progress is False
    assert refused(progress="bar").startswith("progress='bar': expected True, False or a callable")


@pytest.mark.parametrize("word", [task for task in TASKS if task != "quantile"])
def test_task_words_stand_alone(word):
    assert parse_task(word) == (word, ())
    with pytest.raises(ConfigError, match="only a quantile task takes levels"):
        parse_task(f"{word}:0.5")


def test_quantile_levels_ascend_within_zero_and_one():
    assert parse_task("quantile:0.1,0.5,0.9") == ("quantile", (0.1, 0.5, 0.9))
    assert parse_task("quantile: 0.5 ") == ("quantile", (0.5,))
    for wrong in (
        "quantile",
        "quantile:",
        "quantile:0.9,0.1",
        "quantile:0.5,0.5",
        "quantile:0,1",
        "quantile:a",
        "quantile:nan",
    ):
        with pytest.raises(ConfigError, match="ascending levels between 0 and 1"):
            parse_task(wrong)


def test_check_names_says_what_a_name_stands_for():
    check_names(["a"], ["a", "b"], what="analysis")
    with pytest.raises(ConfigError, match=r"Unknown analysis 'wieghts'. Did you mean 'weights'\?"):
        check_names({"wieghts": 1}, ["weights"], what="analysis")


def test_an_error_is_both_ours_and_a_value_error():
    for kind in (AnalyzerError, ValueError):
        with pytest.raises(kind):
            AnalysisConfig(dpi=0)


def test_a_configuration_cannot_change_but_can_be_copied():
    config = AnalysisConfig(seed=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 4
    assert dataclasses.replace(config, dpi=72).to_dict() == {**config.to_dict(), "dpi": 72}
    assert copy.copy(config) == config
    with pytest.raises(ConfigError, match="dpi=0"):
        dataclasses.replace(config, dpi=0)


class TestFile:
    @pytest.fixture
    def toml(self, tmp_path):
        def write(text, encoding="utf-8"):
            (tmp_path / "audit.toml").write_text(text, encoding=encoding)
            return tmp_path / "audit.toml"

        return write

    def test_keys_are_options(self, toml):
        path = toml('dpi = 72\nsave_format = "svg"\nclass_names = ["Katze", "狗"]\n[task]\na = "binary"\n')
        expected = AnalysisConfig(dpi=72, save_format="svg", class_names=["Katze", "狗"], task={"a": "binary"})
        assert AnalysisConfig.from_file(path) == expected
        assert AnalysisConfig.from_file(str(path)) == expected

    def test_a_table_of_ours_goes_before_the_rest_of_the_file(self, toml):
        config = AnalysisConfig.from_file(toml("[other]\nx = 1\n[keras-analyzer]\nseed = 7\n"))
        assert config == AnalysisConfig(seed=7)

    def test_an_empty_file_changes_nothing(self, toml):
        assert AnalysisConfig.from_file(toml("")) == AnalysisConfig()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("dpi = 72.5", "dpi=72.5: expected a whole number"),
            ("dip = 72", "Unknown option 'dip'. Did you mean 'dpi'"),
            ("dpi: 72", "not valid TOML"),
            ("keras-analyzer = 3", r"\[keras-analyzer\]"),
        ],
    )
    def test_what_is_wrong_is_said(self, toml, text, message):
        with pytest.raises(ConfigError, match=message):
            AnalysisConfig.from_file(toml(text))

    def test_a_file_that_cannot_be_read(self, tmp_path, toml):
        with pytest.raises(ConfigError, match="cannot be read: No such file"):
            AnalysisConfig.from_file(tmp_path / "missing.toml")
        with pytest.raises(ConfigError, match="cannot be read"):
            AnalysisConfig.from_file(tmp_path)
        with pytest.raises(ConfigError, match="not valid TOML"):
            AnalysisConfig.from_file(toml('class_names = ["é"]', encoding="latin-1"))


class TestToDict:
    def test_holds_every_option_as_json(self):
        plain = AnalysisConfig().to_dict()
        assert list(plain) == NAMES
        assert json.loads(json.dumps(plain, allow_nan=False)) == plain

    def test_gives_the_configuration_back(self):
        config = AnalysisConfig(
            class_names=("a", "b"), task={"m": "binary"}, from_logits={"m": True}, n_samples=None, progress=False
        )
        assert AnalysisConfig(**config.to_dict()) == config

    def test_mappings_of_any_kind_become_dicts(self):
        plain = AnalysisConfig(task=MappingProxyType({"a": "binary"}), class_names=np.array(["x", "y"])).to_dict()
        assert json.loads(json.dumps(plain))["task"] == {"a": "binary"}
        assert plain["class_names"] == ["x", "y"]

    def test_a_progress_callable_that_cannot_be_copied_becomes_true(self):
        class Bar:
            lock = None

            def __init__(self):
                self.lock = threading.Lock()

            def step(self, *step):
                pass

        assert AnalysisConfig(progress=Bar().step).to_dict()["progress"] is True
        assert AnalysisConfig(progress=False).to_dict()["progress"] is False
