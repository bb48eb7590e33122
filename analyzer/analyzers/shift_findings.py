"""What a comparison with reference data says about a model, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from analyzer.data_types.shift import OutputShift
from analyzer.data_types.values import Estimate, Finding
from analyzer.measures.shift.verdict import ShiftVerdict

WORDS = {
    "harmful": "the shift does harm",
    "not harmful": "it does no harm beyond the accepted loss",
    "suspected": "harm is suspected",
    "undecided": "whether it does harm is undecided",
}

ADVICE = {
    "harmful": "Find out what changed in the data; retrain on such data, or recalibrate, before you rely on the model.",
    "suspected": "Label some of these data before you rely on the model: estimates without labels can be far off.",
    "undecided": "More labelled samples would tell.",
}


def verdict_of(verdict: ShiftVerdict, outputs: Mapping[str, OutputShift]) -> str:
    """Both answers in one sentence.

    Args:
        verdict: Whether data have shifted.
        outputs: What that does, by output.
    """
    first = f"{verdict.alarms[0].place} ({verdict.alarms[0].test})" if verdict.alarms else ""
    shifted = (
        f"The data have shifted against the reference (p = {verdict.p_value:.2g}, clearest at {first})"
        if verdict.shifted
        else f"The data are not told from the reference (p = {verdict.p_value:.2g})"
    )
    said = [_of_output(name if len(outputs) > 1 else "", found) for name, found in outputs.items() if found.harm]
    return "; ".join([shifted, *said]) + "."


def _of_output(name: str, found: OutputShift) -> str:
    words = WORDS[str(found.harm)]
    return f"{name + ': ' if name else ''}{words} ({_change(found)})"


def _change(found: OutputShift) -> str:
    change = found.change or Estimate(value=None, n=0)
    if change.value is None:
        return "not measured"
    interval = "" if change.low is None or change.high is None else f" [{change.low:+.1%}, {change.high:+.1%}]"
    return f"accuracy {change.value:+.1%}{interval} by {found.basis}"


def shift_findings(verdict: ShiftVerdict, outputs: Mapping[str, OutputShift]) -> Iterator[Finding]:
    """What is wrong or remarkable.

    Args:
        verdict: Whether data have shifted.
        outputs: What that does, by output.
    """
    harms = {found.harm for found in outputs.values()}
    if verdict.shifted:
        worst = next((harm for harm in ("harmful", "suspected", "undecided") if harm in harms), None)
        alarm = verdict.alarms[0]
        yield Finding(
            kind="data_shifted",
            layer=None,
            severity="info" if worst is None and "not harmful" in harms else "warning",
            evidence={"p_value": verdict.p_value, "place": alarm.place, "test": alarm.test, "level": verdict.level},
            message=f"{verdict_of(verdict, outputs)} {ADVICE.get(str(worst), '')}".strip(),
        )
    for name, found in outputs.items():
        if found.harm == "harmful" and not verdict.shifted and found.change is not None:
            # Labels may be wrong, or the relation of inputs and labels another, where the inputs look the same.
            yield Finding(
                kind="worse_without_visible_shift",
                layer=None,
                severity="warning",
                evidence={"output": name, "change": found.change.value, "p_value": verdict.p_value},
                message=(
                    f"The decisions are worse than on the reference ({_change(found)}), though the data are not told "
                    "from it: was the model trained on the reference, or do the labels mean something else?"
                ),
            )
