"""What maps are like, and what they depend on: stability, the class explained, sparseness, complexity.

``attribute`` gives a map for each sample. It always receives all samples, in their order, so that each can keep its own
target. Whether the model follows the features that a map names is measured in `faithfulness`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from analyzer.config import Progress as ProgressSetting
from analyzer.config import check_names
from analyzer.data_types.explanation_quality import QualityScore
from analyzer.errors import ConfigError, DataError, Unsupported
from analyzer.measures import map_complexity
from analyzer.measures.map_similarity import ROW_SIMILARITIES, MapSimilarity, ssim
from analyzer.measures.random_streams import stream
from analyzer.progress import Progress
from analyzer.relevance.evaluation.removal import Inputs, Removal
from analyzer.relevance.evaluation.scoring import check_at_least, quality_score, stepping

Floats = NDArray[np.float64]
Attribute = Callable[[Inputs], Inputs]
AttributeTarget = Callable[[Inputs, NDArray[np.int64]], Inputs]


def max_sensitivity(
    attribute: Attribute,
    removal: Removal,
    maps: Inputs | None = None,
    *,
    radius: float = 0.05,
    n_draws: int = 10,
    n_bootstrap: int = 1000,
    seed: int = 0,
    progress: ProgressSetting = False,
) -> QualityScore:
    """Largest relative change of a map under small noise (Yeh et al. 2019, arXiv 1901.09392).

    Args:
        attribute: Maps of all samples.
        removal: The inputs.
        maps: Maps of the inputs as they are, where they are there already.
        radius: Most noise, in standard deviations of each input's values; uniform.
        n_draws: Draws of noise.
        n_bootstrap: Draws behind the interval.
        seed: Draws the noise, and seeds the interval.
        progress: Whether bars are drawn, or who is told of each step.

    Raises:
        ConfigError: If an option has no such value.
        Unsupported: If no input is made of real numbers.
    """
    check_at_least("n_draws", n_draws)
    if isinstance(radius, bool) or not isinstance(radius, int | float) or not 0 < radius < np.inf:
        raise ConfigError(f"radius={radius!r}: expected a positive number of standard deviations.")
    rng = stream(seed)
    still = removal.scores(attribute(removal.whole) if maps is None else maps)
    change = np.empty((n_draws, removal.n))
    with Progress(progress) as bars:
        for i in stepping(bars, "max-sensitivity", n_draws):
            change[i] = map_complexity.relative_change(still, removal.scores(attribute(removal.moved(radius, rng))))
    # A draw without a map leaves the largest change unknown: max hands NaN on.
    return quality_score("max_sensitivity", "smaller", change.max(axis=0), n_bootstrap, seed)


def random_logit(
    attribute: AttributeTarget,
    removal: Removal,
    targets: NDArray[np.integer],
    n_classes: int,
    *,
    maps: Inputs | None = None,
    similarity: MapSimilarity = "spearman",
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> QualityScore:
    """Similarity of the map of the explained class with that of another, drawn at random (Sixt et al. 2020).

    An explanation that looks the same for any class does not explain a decision between them (arXiv 1912.09818).

    Args:
        attribute: Maps of all samples for a class each.
        removal: The inputs.
        targets: ``(n,)`` class that is explained.
        n_classes: Number of classes.
        maps: Maps of ``targets``, where they are there already.
        similarity: How maps are compared.
        n_bootstrap: Draws behind the interval.
        seed: Draws the other class, and seeds the interval.

    Raises:
        Unsupported: If there is no other class.
        DataError: If the targets are no classes of the samples.
    """
    if n_classes < 2:
        raise Unsupported(f"There are {n_classes} classes: no other class to explain.")
    targets = np.asarray(targets)
    if targets.shape != (removal.n,) or targets.min() < 0 or targets.max() >= n_classes:
        raise DataError(f"targets has shape {targets.shape}: expected a class of 0 to {n_classes - 1} for each sample.")
    shift = stream(seed).integers(1, n_classes, size=removal.n)
    others = (targets + shift) % n_classes
    own = attribute(removal.whole, targets.astype(np.int64)) if maps is None else maps
    values = map_similarity(removal, own, attribute(removal.whole, others), similarity)
    return quality_score("random_logit", "smaller", values, n_bootstrap, seed)


def sparseness(removal: Removal, maps: Inputs, *, n_bootstrap: int = 1000, seed: int = 0) -> QualityScore:
    """Gini index of the magnitudes of relevance; see `analyzer.measures.map_complexity.gini`."""
    return quality_score("sparseness", None, map_complexity.gini(removal.scores(maps)), n_bootstrap, seed)


def complexity(removal: Removal, maps: Inputs, *, n_bootstrap: int = 1000, seed: int = 0) -> QualityScore:
    """Entropy of the shares of relevance in nats; see `analyzer.measures.map_complexity.entropy`."""
    return quality_score("complexity", None, map_complexity.entropy(removal.scores(maps)), n_bootstrap, seed)


def map_similarity(removal: Removal, maps: Inputs, others: Inputs, similarity: MapSimilarity = "spearman") -> Floats:
    """Similarity of two maps of each sample, ``(n,)``.

    Args:
        removal: The inputs that both explain.
        maps: Maps.
        others: Other maps.
        similarity: ``"spearman"``, ``"pearson"`` or ``"cosine"`` of the features; ``"ssim"`` for images.

    Raises:
        ConfigError: If there is no such measure.
        Unsupported: If SSIM is asked of what is no image.
    """
    check_names([similarity], [*ROW_SIMILARITIES, "ssim"], what="similarity")
    x, y = removal.scores(maps), removal.scores(others)
    if similarity != "ssim":
        return ROW_SIMILARITIES[similarity](x, y)
    if removal.image_shape is None:
        raise Unsupported("similarity='ssim' compares images: one input whose features are pixels. Use 'spearman'.")
    return ssim(x.reshape(-1, *removal.image_shape), y.reshape(-1, *removal.image_shape))


def random_maps(removal: Removal, seed: int = 0) -> Inputs:
    """Maps of standard normal noise: what any explanation must beat.

    Args:
        removal: The inputs.
        seed: Seed of the noise.
    """
    rng = stream(seed)
    return removal.with_values({name: rng.standard_normal(x.shape) for name, x in removal.inputs.items()})
