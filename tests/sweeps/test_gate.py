"""Rules: how they are read, what they find in a document, and that nothing missing ever passes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.data_types.results import ANALYSIS_TYPES
from analyzer.data_types.values import Estimate, Failed, Finding, Skipped
from analyzer.errors import ConfigError
from analyzer.sweeps.gate import OPERATORS, Rule, evaluate
from analyzer.sweeps.quantities import check_rules

pytestmark = pytest.mark.plain


def estimate(value, low=None, high=None, n=300):
    return {"value": value, "low": low, "high": high, "n": n, "level": 0.95, "method": None}


def finding(severity, kind="dead_channels"):
    return {"kind": kind, "layer": "conv", "severity": severity, "evidence": {}, "message": "…"}


@pytest.fixture
def document():
    return {
        "schema_version": "1.0",
        "models": ["a", "b", "c"],
        "calibration": {
            "a": {
                "status": "ok",
                "findings": [finding("warning", "over_confident")],
                "ece": estimate(0.04, 0.02, 0.07),
            },
            "b": {
                "status": "ok",
                "findings": [finding("error")],
                "outputs": {
                    "left": {"ece": estimate(0.01, 0.0, 0.02), "findings": [finding("error")]},
                    "right": {"ece": estimate(0.2, 0.1, 0.3), "findings": []},
                },
            },
            "c": {"status": "skipped", "reason": "no data", "findings": []},
        },
        "weights": {
            "a": {
                "status": "ok",
                "findings": [finding("error"), finding("info")],
                "health": {"score": 0.5, "worst": "conv"},
                "layers": [{"id": "block/conv", "l2": 3.0}, {"id": "out.put", "l2": None}],
                "totals": {"total": 42},
            },
            "b": {"status": "ok", "findings": [], "health": {"score": 1.0}, "layers": []},
            "c": {"status": "failed", "reason": "ValueError: boom (in weights)", "findings": []},
        },
        "comparison": {"status": "ok", "reason": None, "findings": [finding("error")], "agreement": estimate(0.9)},
        "findings": {"b": [finding("info", "detected_task")]},
        "custom_metrics": {"a": {"my_score": 0.99}},
        "provenance": {"models": {"a": {}}},
    }


def statuses(text, document):
    return {(o.model, o.output): o.status for o in evaluate([Rule.parse(text)], document)}


def only(text, document, model="a"):
    (outcome,) = [o for o in evaluate([Rule.parse(text)], document) if o.model == model]
    return outcome


class TestParse:
    def test_parts(self):
        rule = Rule.parse(" calibration.ece : high >= 5e-2 ")
        assert (rule.path, rule.end, rule.comparison, rule.limit) == (("calibration", "ece"), "high", ">=", 0.05)
        assert rule.text == "calibration.ece : high >= 5e-2"

    @pytest.mark.parametrize(("written", "limit"), [("-1", -1.0), (".5", 0.5), ("1e3", 1000.0), ("true", 1.0)])
    def test_numbers(self, written, limit):
        assert Rule.parse(f"calibration.ece>{written}").limit == limit

    @given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(sorted(OPERATORS)))
    def test_any_finite_limit_and_operator_survive(self, limit, comparison):
        rule = Rule.parse(f"weights.health.score {comparison} {limit!r}")
        assert (rule.limit, rule.comparison, rule.path) == (limit, comparison, ("weights", "health", "score"))

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "cannot be read"),
            ("calibration.ece", "cannot be read"),
            ("calibration.ece > five", "cannot be read"),
            ("calibration.ece => 1", "cannot be read"),
            ("calibration.ece > 0.05 or weights.x > 1", "cannot be read"),
            ("calibration.ece > nan", "cannot be read"),
            ("calibration.ece > 1e999", "not finite"),
            ("ece > 0.05", "names no quantity"),
            ("calibration. > 0.05", "names no quantity"),
            ("calibration.ece:upper > 0.05", "'upper'"),
            ("findings.errors > 0", "info, warning, error"),
            ("a.b.findings.error > 0", "by severity"),
        ],
    )
    def test_what_is_no_rule_is_refused_with_what_came(self, text, said):
        with pytest.raises(ConfigError, match=said) as caught:
            Rule.parse(text)
        assert repr(text) in str(caught.value)


class TestEvaluate:
    def test_holding_fails_and_not_holding_passes_per_model_and_output(self, document):
        assert statuses("calibration.ece > 0.03", document) == {
            ("a", None): "failed",
            ("b", "left"): "passed",
            ("b", "right"): "failed",
            ("c", None): "not evaluated",
        }

    @pytest.mark.parametrize(
        ("end", "value"), [("", 0.04), (":value", 0.04), (":low", 0.02), (":high", 0.07), (":n", 300.0)]
    )
    def test_ends_of_the_interval(self, document, end, value):
        assert only(f"calibration.ece{end} > 0.03", document).value == value

    @pytest.mark.parametrize(
        ("comparison", "below", "equal", "above"),
        [
            (">", "passed", "passed", "failed"),
            (">=", "passed", "failed", "failed"),
            ("<", "failed", "passed", "passed"),
            ("<=", "failed", "failed", "passed"),
            ("==", "passed", "failed", "passed"),
            ("!=", "failed", "passed", "failed"),
        ],
    )
    def test_operators(self, document, comparison, below, equal, above):
        # The quantity is 0.5: it lies below the limit 0.6, at 0.5 and above 0.4.
        found = [only(f"weights.health.score {comparison} {limit}", document).status for limit in (0.6, 0.5, 0.4)]
        assert found == [below, equal, above]

    def test_plain_numbers_nested_fields_and_items_by_id(self, document):
        assert only("weights.totals.total > 50", document).value == 42
        assert only("weights.layers.block/conv.l2 > 1", document).value == 3.0
        assert only("weights.layers.0.l2 > 1", document).value == 3.0

    def test_keys_with_dots_are_found(self, document):
        document["weights"]["a"]["totals"]["v1.0"] = 8
        assert only("weights.totals.v1.0 > 1", document).value == 8
        document["weights"]["a"]["layers"][1]["l2"] = 7.0
        assert only("weights.layers.out.put.l2 > 1", document).value == 7.0

    @pytest.mark.parametrize(
        ("text", "model", "reason"),
        [
            ("calibration.ece > 1", "c", "was skipped: no data"),
            ("weights.health.score < 0", "c", "failed: ValueError: boom"),
            ("calibration.brier > 1", "a", "there is no 'brier'"),
            ("weights.layers.out.put.l2 > 1", "a", "is missing"),
            ("weights.health.worst > 1", "a", "not a number"),
            ("weights.health.score:low > 1", "a", "no estimate"),
            ("information_flow.rank > 1", "a", "has no result"),
        ],
    )
    def test_what_is_missing_is_not_evaluated_and_says_why(self, document, text, model, reason):
        outcome = only(text, document, model)
        assert (outcome.status, outcome.value) == ("not evaluated", None)
        assert reason in outcome.reason
        assert repr(text) in outcome.message

    def test_undefined_value_and_absent_interval_are_not_evaluated(self, document):
        document["calibration"]["a"]["ece"] = estimate(None)
        assert "undefined" in only("calibration.ece < 1", document).reason
        document["calibration"]["a"]["ece"] = estimate(0.5)
        assert "no interval" in only("calibration.ece:low < 1", document).reason

    def test_no_model_at_all_is_not_evaluated(self):
        (outcome,) = evaluate([Rule.parse("calibration.ece > 1")], {"provenance": {}})
        assert outcome.status == "not evaluated"

    def test_between_models(self, document):
        assert statuses("comparison.agreement < 0.95", document) == {(None, None): "failed"}
        assert statuses("comparison.cka < 0.95", document) == {(None, None): "not evaluated"}

    def test_message_names_model_output_and_number(self, document):
        messages = [o.message for o in evaluate([Rule.parse("calibration.ece > 0.03")], document)]
        assert "b, output right: failed: 'calibration.ece > 0.03' at 0.2" in messages

    def test_results_of_plugins(self, document):
        assert statuses("custom_metrics.my_score > 0.9", document) == {
            ("a", None): "failed",
            ("b", None): "not evaluated",
            ("c", None): "not evaluated",
        }


class TestFindings:
    def test_all_analyses_and_outputs_are_counted_by_severity(self, document):
        found = {
            severity: only(f"findings.{severity} > 0", document).value for severity in ("error", "warning", "info")
        }
        assert found == {"error": 1.0, "warning": 1.0, "info": 1.0}
        assert only("findings.error > 0", document, "b").value == 1.0
        assert only("findings.info > 0", document, "b").value == 1.0

    def test_one_analysis(self, document):
        assert only("calibration.findings.error > 0", document).status == "passed"
        assert only("weights.findings.error > 0", document).status == "failed"

    def test_between_models(self, document):
        assert only("comparison.findings.error > 0", document, None).status == "failed"
        document["comparison"] = {"status": "failed", "reason": "boom", "findings": []}
        assert only("comparison.findings.error > 0", document, None).status == "not evaluated"

    def test_a_failed_analysis_may_have_had_more_to_say(self, document):
        document["calibration"]["c"] = {"status": "ok", "findings": []}
        outcome = only("findings.error > 0", document, "c")
        assert outcome.status == "not evaluated"
        assert "weights failed" in outcome.reason
        document["calibration"]["c"]["findings"] = [finding("error")]
        assert only("findings.error > 0", document, "c").status == "failed"

    def test_nothing_evaluated_is_not_zero_findings(self, document):
        assert only("findings.error > 0", document, "c").status == "not evaluated"
        assert only("calibration.findings.error > 0", document, "c").status == "not evaluated"


@dataclass(frozen=True, kw_only=True)
class Part:
    share: float | None
    name: str


@dataclass(frozen=True, kw_only=True)
class Result:
    findings: tuple[Finding, ...] = ()
    ece: Estimate
    n: int
    part: Part
    parts: tuple[Part, ...] = ()
    scores: dict[str, Estimate]


HINTS = {"calibration": Result | Skipped | Failed, "weights": Part, "comparison": Part}


class TestQuantities:
    @pytest.mark.parametrize(
        "text",
        [
            "calibration.ece > 1",
            "calibration.ece:low > 1",
            "calibration.ece.value > 1",
            "calibration.n > 1",
            "calibration.part.share > 1",
            "calibration.parts.any.layer.share > 1",
            "calibration.scores.f1:high > 1",
            "calibration.findings.error > 1",
            "weights.share > 1",
            "findings.warning > 1",
            "comparison.share > 1",
        ],
    )
    def test_what_can_exist_is_let_through(self, text):
        assert check_rules([Rule.parse(text)], HINTS) is None

    def test_results_of_plugins_are_not_known_beforehand(self):
        rule = Rule.parse("custom_metrics.my_score > 1")
        with pytest.raises(ConfigError, match="custom_metrics"):
            check_rules([rule], HINTS)
        assert check_rules([rule], HINTS, open_ended=True) is None

    def test_every_quantity_that_the_documentation_names_exists(self):
        texts = [
            "calibration.ece:low > 1",
            "calibration.verdict.p_value < 0.05",
            "performance.accuracy < 0.9",
            "weights.health.score < 0.5",
            "weights.layers.conv.spectral_norm > 9",
            "performance.metrics.f1 < 1",
        ]
        assert check_rules([Rule.parse(text) for text in texts], ANALYSIS_TYPES) is None

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("calibratoin.ece > 1", "Did you mean 'calibration'"),
            ("calibration.ec > 1", "Did you mean 'ece'"),
            ("calibration.zzz > 1", "There is ece, n, part"),
            ("calibration.part > 1", "no number 'part'"),
            ("calibration.part.name > 1", "no number 'part.name'"),
            ("calibration.parts.share > 1", "no number"),
            ("calibration.n:low > 1", "plain number"),
            ("weights.ece > 1", "no number 'ece'"),
            ("comparison.cka > 1", "no number 'cka'"),
        ],
    )
    def test_what_cannot_exist_is_refused_with_the_nearest(self, text, said):
        with pytest.raises(ConfigError, match=said) as caught:
            check_rules([Rule.parse(text)], HINTS)
        assert repr(text) in str(caught.value)
