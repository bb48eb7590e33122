"""Activation statistics, and the test whether shifted data change what layers put out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analyzer.data_types.inspection_report import Definition, Experiment, PlaceTest, Reading
from analyzer.data_types.values import Estimate
from analyzer.diagnosis.modeltrace.recording import Recorded, Side
from analyzer.errors import DataError
from analyzer.measures.activation_drift import (
    Bootstrapped,
    Resampling,
    RowSums,
    mean_magnitude,
    mean_of,
    mean_of_layers,
    over_rms,
    relative_change_of_magnitude,
    resampling,
    std_of,
)
from analyzer.measures.shift.samples import FEWEST_ROWS
from analyzer.measures.shift.two_sample import TwoSampleTests, two_sample_tests
from analyzer.measures.shift.verdict import LEVEL, permutations_needed, shift_verdict

MOST_TESTED_UNITS = 64
"""Units of a layer that are tested: more would add comparisons, hardly power."""

MOST_TESTED_ROWS = 256
"""Samples of each side in the tests of all units together; the matrices of a layer have the square of their number."""

_RMS = "over the root mean square of the layer's values"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all measures share.

    Attributes:
        n_bootstrap: Draws behind intervals; 0 for none.
        seed: Seed of every random choice.
    """

    n_bootstrap: int
    seed: int

    def drawn(self, n: int, *purpose: int) -> Resampling:
        """Bootstrap samples of n samples.

        Args:
            n: Samples.
            purpose: Tells sets of samples apart.
        """
        return resampling(n, self.n_bootstrap, self.seed, *purpose)


def number(value: float) -> float | None:
    """A value as results hold it: None where it is not finite."""
    return float(value) if np.isfinite(value) else None


STATISTICS = {
    "mean": Definition(raw="mean over all values", scale_free=f"mean {_RMS}"),
    "std": Definition(raw="standard deviation over all values, divisor count − 1", scale_free=f"deviation {_RMS}"),
    "max": Definition(raw="largest value", scale_free=f"largest value {_RMS}; without an interval"),
}


def activation_statistics(recorded: Recorded, settings: Settings) -> Experiment:
    """Mean, deviation and maximum of what every layer puts out.

    Args:
        recorded: What a run brought.
        settings: Bootstrap and seed.
    """
    drawn = settings.drawn(recorded.clean.n)
    return Experiment(
        name="activation_statistics",
        n=recorded.clean.n,
        definitions=STATISTICS,
        layers={name: _statistics(recorded.clean.sums[name], drawn) for name in recorded.leaf_names()},
        skipped=recorded.skipped,
    )


def _statistics(sums: RowSums, drawn: Resampling) -> dict[str, Reading]:
    largest = float(sums.largest.max())
    rms = float(np.sqrt(sums.square.sum() / sums.n_values))
    crest = largest / rms if rms > 0 else float("nan")
    return {
        "mean": Reading(raw=number(mean_of(sums)), scale_free=over_rms(1, sums, drawn).estimate()),
        "std": Reading(raw=number(std_of(sums)), scale_free=over_rms(2, sums, drawn).estimate(low=0.0)),
        "max": Reading(raw=number(largest), scale_free=Estimate(value=number(crest), n=sums.n)),
    }


SHIFT = {
    "normal": Definition(
        raw="mean |activation| on the data; of the model, averaged over layers", scale_free="1 by definition"
    ),
    "shifted": Definition(
        raw="the same on the shifted data",
        scale_free="mean |activation| on the shifted data over that on the data; of the model, averaged over layers",
    ),
    "p_value": Definition(
        raw="none: ModelTrace compares two magnitudes without a test",
        scale_free="smallest p-value of a layer's KS, MMD and classifier two-sample tests of unit means over "
        f"positions ({MOST_TESTED_UNITS} units at most), adjusted by Holm over all tests of all layers",
    ),
}


def shift_test(recorded: Recorded, settings: Settings) -> Experiment:
    """Magnitudes on both sets of data, and whether the distributions of any layer's units differ.

    Args:
        recorded: What a run brought, with shifted data; they need not be pairs.
        settings: Bootstrap and seed.
    """
    clean, shifted = recorded.clean, recorded.shifted
    assert shifted is not None  # noqa: S101 - the caller has checked what every experiment needs
    names = [name for name in recorded.leaf_names() if name in shifted.sums]
    first = settings.drawn(clean.n)
    second = first if recorded.drift is not None else settings.drawn(shifted.n, 1)
    changes = {
        name: relative_change_of_magnitude(clean.sums[name], shifted.sums[name], first, second) for name in names
    }
    tests, notes = _tests(clean, shifted, names, settings)
    p_values = {name: min((t.adjusted for t in tests if t.layer == name), default=None) for name in names}
    layers = {
        name: _magnitudes(
            mean_magnitude(clean.sums[name]), mean_magnitude(shifted.sums[name]), changes[name], p_values[name], clean.n
        )
        for name in names
    }
    means = [float(np.mean([mean_magnitude(side.sums[name]) for name in names])) for side in (clean, shifted)]
    smallest = min((p for p in p_values.values() if p is not None), default=None)
    model = _magnitudes(means[0], means[1], mean_of_layers(list(changes.values())), smallest, clean.n)
    return Experiment(
        name="shift_test",
        n=min(clean.n, shifted.n),
        definitions=SHIFT,
        model=model,
        layers=layers,
        tests=tests,
        skipped=recorded.skipped,
        notes=notes,
    )


def _magnitudes(normal: float, shifted: float, change: Bootstrapped, p: float | None, n: int) -> dict[str, Reading]:
    ratio = Bootstrapped(change.value + 1, change.draws + 1, change.n).estimate(low=0.0)
    return {
        "normal": Reading(raw=number(normal), scale_free=Estimate(value=None if ratio.value is None else 1.0, n=n)),
        "shifted": Reading(raw=number(shifted), scale_free=ratio),
        "p_value": Reading(raw=None, scale_free=Estimate(value=p, n=n)),
    }


def _tests(
    clean: Side, shifted: Side, names: list[str], settings: Settings
) -> tuple[tuple[PlaceTest, ...], tuple[str, ...]]:
    if min(clean.n, shifted.n) < FEWEST_ROWS:
        return (), (f"Two-sample tests need {FEWEST_ROWS} samples on each side; there are {clean.n} and {shifted.n}.",)
    places: dict[str, TwoSampleTests] = {}
    widths: dict[str, int] = {}
    untested = []
    permutations = permutations_needed(len(names))
    for name in names:
        # Units are kept in a random order, so the first of them are a random choice.
        one, two = (side.units[name][:, :MOST_TESTED_UNITS] for side in (clean, shifted))
        try:
            places[name] = two_sample_tests(
                one, two, n_permutations=permutations, max_rows=MOST_TESTED_ROWS, seed=settings.seed
            )
        except DataError as reason:
            untested.append(f"{name}: not tested. {reason}")
            continue
        widths[name] = one.shape[1]
    if not places:
        return (), tuple(untested)
    verdict = shift_verdict(places)
    tests = tuple(
        PlaceTest(layer=t.place, test=t.test, p_value=t.p_value, adjusted=t.adjusted, features=widths[t.place])
        for t in verdict.tests
    )
    said = "differ" if verdict.shifted else "are not told apart"
    return tests, (f"The two sets of activations {said} at level {LEVEL:g} (p = {verdict.p_value:.2g}).", *untested)


def raw_means(names: list[str], sums: Mapping[str, RowSums]) -> float:
    """Mean over layers of their mean magnitude; NaN without layers.

    Args:
        names: The layers.
        sums: By name.
    """
    return float(np.mean([mean_magnitude(sums[name]) for name in names])) if names else float("nan")
