"""Whether the data still come from where reference data came, as a model sees both, and whether that does harm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from analyzer.analyzers.base import REFERENCE, BaseAnalyzer, material
from analyzer.analyzers.shift_findings import shift_findings, verdict_of
from analyzer.analyzers.shift_outputs import output_shifts
from analyzer.data_types import AnalysisResults, DataInput
from analyzer.data_types.shift import FeatureShift, PlaceShift, ShiftResult
from analyzer.errors import DataError, Unsupported
from analyzer.measures.shift.drift import Drift, drift
from analyzer.measures.shift.samples import Samples, samples
from analyzer.measures.shift.two_sample import TwoSampleTests, two_sample_tests
from analyzer.measures.shift.verdict import ShiftVerdict, permutations_needed, shift_verdict
from analyzer.robustness.gathered_shift import GatheredPlaces, Place, PlaceFeatures

NO_REFERENCE = "no reference data were given: pass analyze(data, reference_data=...) or --reference ref.npz"

TESTED_LAYERS = 5
"""Layers with tests, spread over the depth: every further test makes all others of the family weaker."""

MOVED_FEATURES = 6
QUANTILES = 41


Told = Callable[[int, int], None]


class ShiftAnalyzer(BaseAnalyzer):
    """Compares data with reference data at the inputs, in the layers and at the outputs of every model."""

    name: ClassVar[str] = "shift"

    def requires_data(self) -> bool:
        """Two sets of data are compared."""
        return True

    def compared_needs(self) -> tuple[PlaceFeatures, ...]:
        """The features of every place."""
        return (PlaceFeatures(),)

    def analyze(self, results: AnalysisResults, data: DataInput | None, cache: Mapping[str, Any]) -> None:
        """Fill ``results.shift``."""
        results.shift = self.each_model(lambda name: self._model(name, data, cache))

    def _model(self, name: str, data: DataInput | None, cache: Mapping[str, Any]) -> ShiftResult:
        (need,) = self.compared_needs()
        if data is None:
            raise Unsupported("no data were given.")
        if need not in cache[name]:
            raise Unsupported(NO_REFERENCE)
        new, reference = material(cache, name, need), material(cache[name], REFERENCE, need)

        def told(done: int, total: int) -> None:
            self.progress(f"{name}: shift", done, total)

        return _compared(reference, new, self.config, told)


def _compared(reference: GatheredPlaces, new: GatheredPlaces, config: Any, told: Told) -> ShiftResult:
    pairs, skipped = _pairs(reference, new)
    if not pairs:
        raise Unsupported("No place can be compared: " + "; ".join(f"{k}: {why}" for k, why in skipped.items()))
    seed, chosen = config.seed, _places_to_test(pairs)
    drifts, tests = {}, {}
    for done, (key, (_, two)) in enumerate(pairs.items()):
        told(done, len(pairs))
        drifts[key] = drift(two, n_draws=config.n_bootstrap, seed=seed)
        if key in chosen:
            permutations = permutations_needed(len(chosen))
            tests[key] = two_sample_tests(two.reference, two.new, n_permutations=permutations, seed=seed)
    told(len(pairs), len(pairs))
    verdict = shift_verdict(tests)
    outputs = output_shifts(reference, new, seed=seed)
    return ShiftResult(
        findings=tuple(shift_findings(verdict, outputs)),
        shifted=verdict.shifted,
        level=verdict.level,
        p_value=verdict.p_value,
        verdict=verdict_of(verdict, outputs),
        n=len(new.kept),
        n_reference=len(reference.kept),
        seed=seed,
        places=tuple(_place(key, place, drifts[key], tests, verdict) for key, (place, _) in pairs.items()),
        features=_most_moved(pairs, drifts),
        outputs=outputs,
        skipped=skipped,
    )


def _pairs(reference: GatheredPlaces, new: GatheredPlaces) -> tuple[dict[str, tuple[Place, Samples]], dict[str, str]]:
    """Both sides of each place, by a key that no two places share."""
    known = {(place.kind, place.name): place for place in reference.places}
    pairs: dict[str, tuple[Place, Samples]] = {}
    skipped = reference.skipped | new.skipped
    for place in new.places:
        other = known.get((place.kind, place.name))
        try:
            if other is None:
                raise Unsupported("It brought nothing on the reference data.")
            two = samples(other.rows, place.rows)
        except (DataError, Unsupported) as reason:
            skipped[place.name] = str(reason)
            continue
        key = place.name if place.name not in pairs else f"{place.kind} {place.name}"
        pairs[key] = (place, two)
    return pairs, skipped


def _places_to_test(pairs: Mapping[str, tuple[Place, Samples]]) -> list[str]:
    """Inputs, outputs, and a few layers with kernels, or of any kind where there are none."""
    layers = [key for key, (place, _) in pairs.items() if place.kind == "layer"]
    layers = [key for key in layers if pairs[key][0].has_kernel] or layers
    spread = np.unique(np.linspace(0, len(layers) - 1, min(TESTED_LAYERS, len(layers))).round().astype(int))
    chosen = {layers[i] for i in spread} if layers else set()
    return [key for key, (place, _) in pairs.items() if place.kind != "layer" or key in chosen]


def _place(
    key: str, place: Place, found: Drift, tests: Mapping[str, TwoSampleTests], verdict: ShiftVerdict
) -> PlaceShift:
    p_values = tests[key].p_values if key in tests else {}
    adjusted = [test.adjusted for test in verdict.tests if test.place == key]
    return PlaceShift(
        place=place.name,
        kind=place.kind,
        n_features=place.rows.shape[1],
        of_features=place.of_features,
        drift=found.estimate,
        chance=found.chance,
        ks=p_values.get("KS"),
        mmd=p_values.get("MMD"),
        classifier=p_values.get("classifier"),
        adjusted=min(adjusted, default=None),
    )


def _most_moved(pairs: Mapping[str, tuple[Place, Samples]], drifts: Mapping[str, Drift]) -> tuple[FeatureShift, ...]:
    """Features of inputs and outputs, whose numbers a user knows, and of layers where these tell nothing."""
    outer = [key for key, (place, _) in pairs.items() if place.kind != "layer"] or list(pairs)
    found = [
        (float(distance), key, column)
        for key in outer
        for column, distance in enumerate(drifts[key].features)
        if np.isfinite(distance) and distance > 0
    ]
    steps = np.linspace(0, 1, QUANTILES)
    return tuple(
        FeatureShift(
            place=pairs[key][0].name,
            feature=int(pairs[key][0].drawn[column]),
            wasserstein=distance,
            reference=np.quantile(pairs[key][1].reference[:, column], steps),
            new=np.quantile(pairs[key][1].new[:, column], steps),
        )
        for distance, key, column in sorted(found, key=lambda one: -one[0])[:MOVED_FEATURES]
    )
