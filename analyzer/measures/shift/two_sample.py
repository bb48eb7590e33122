"""All tests of one place where data can be compared: the inputs, the features of a layer, or the outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from analyzer.measures.shift.features import FeatureTests, feature_tests
from analyzer.measures.shift.kernel import MAX_ROWS, KernelTest, classifier_test, mmd_test, pooled_kernel
from analyzer.measures.shift.samples import samples


@dataclass(frozen=True, kw_only=True, eq=False)
class TwoSampleTests:
    """Three tests of the hypothesis that two samples come from one distribution.

    Attributes:
        features: Each feature alone; finds shifts of few features.
        mmd: All features together; finds smooth shifts of many features.
        classifier: All features together; finds rows off the manifold of the reference, where relations between
            features are broken.
    """

    features: FeatureTests
    mmd: KernelTest
    classifier: KernelTest

    @property
    def p_values(self) -> dict[str, float]:
        """P-value of each test by its name."""
        return {
            "KS": self.features.any_p_value,
            "MMD": self.mmd.p_value,
            "classifier": self.classifier.p_value,
        }


def two_sample_tests(
    reference: NDArray[Any],
    new: NDArray[Any],
    *,
    n_permutations: int = 999,
    max_rows: int = MAX_ROWS,
    seed: int = 0,
) -> TwoSampleTests:
    """Test whether two samples of independent rows come from one distribution.

    Args:
        reference: ``(n, ...)`` reference rows, 10 at least.
        new: ``(m, ...)`` new rows with the same features.
        n_permutations: Permutations of MMD and classifier; `permutations_needed` of the verdict says how many.
        max_rows: Most rows of each side in MMD and classifier; KS tests and distances use all.
        seed: Seed of draws, folds and permutations.

    Raises:
        DataError: If features differ, rows are too few, or a value is not finite.
        ConfigError: If there are no permutations or fewer than 10 rows allowed.
    """
    two = samples(reference, new)
    kernel = pooled_kernel(two, max_rows=max_rows, seed=seed)
    return TwoSampleTests(
        features=feature_tests(two),
        mmd=mmd_test(kernel, n_permutations=n_permutations, seed=seed),
        classifier=classifier_test(kernel, n_permutations=n_permutations, seed=seed),
    )
