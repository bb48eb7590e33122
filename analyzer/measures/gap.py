"""The difference of two estimates from separate data, with an interval."""

from __future__ import annotations

import math

from analyzer.data_types.values import Estimate

METHOD = "MOVER"


def difference(train: Estimate, held_out: Estimate) -> Estimate:
    """Held-out minus training value.

    The interval is made from the two (Zou and Donner, Construction of confidence limits about effect measures,
    Statistics in Medicine 2008; for proportions with Wilson's intervals it is Newcombe's): each end of the difference
    moves by the root of the squared distances to the ends that matter for it.

    Args:
        train: Value on the training data.
        held_out: Value on other data, independent of it.

    Returns:
        The difference; without an interval where one of the two has none. Its n is the smaller of the two.
    """
    n = min(train.n, held_out.n)
    if train.value is None or held_out.value is None:
        return Estimate(value=None, n=n)
    gap = held_out.value - train.value
    if None in (train.low, train.high, held_out.low, held_out.high):
        return Estimate(value=gap, n=n)
    low, high = _ends(_limits(train), _limits(held_out))
    return Estimate(value=gap, low=low, high=high, n=n, level=held_out.level, method=METHOD)


def relative_difference(train: Estimate, held_out: Estimate) -> Estimate | None:
    """Held-out minus training value by the larger of the two, within [-1, 1].

    It is a monotone function of log(held out) − log(train), and so are the ends of its interval (see `difference`).

    Args:
        train: Value on the training data.
        held_out: Value on other data, independent of it.

    Returns:
        The relative difference; None where a value is not positive, without an interval where an end is not.
    """
    if train.value is None or held_out.value is None or min(train.value, held_out.value) <= 0:
        return None
    n, value = min(train.n, held_out.n), _relative(math.log(held_out.value / train.value))
    ends = (train.low, train.high, held_out.low, held_out.high)
    if any(end is None or end <= 0 for end in ends):
        return Estimate(value=value, n=n)
    logs = [tuple(math.log(x) for x in _limits(estimate)) for estimate in (train, held_out)]
    low, high = (_relative(end) for end in _ends(logs[0], logs[1]))
    return Estimate(value=value, low=low, high=high, n=n, level=held_out.level, method=METHOD)


def _limits(estimate: Estimate) -> tuple[float, float, float]:
    low, value, high = estimate.low, estimate.value, estimate.high
    if low is None or value is None or high is None:
        raise ValueError(f"{estimate}: expected a value with an interval.")
    # The ends of a bootstrap interval may pass its value; a distance is never negative.
    return min(low, value), value, max(high, value)


def _ends(train: tuple[float, ...], held_out: tuple[float, ...]) -> tuple[float, float]:
    gap = held_out[1] - train[1]
    low = gap - math.hypot(held_out[1] - held_out[0], train[2] - train[1])
    return low, gap + math.hypot(held_out[2] - held_out[1], train[1] - train[0])


def _relative(log_ratio: float) -> float:
    """(b − a) / max(a, b) from log(b / a)."""
    return math.copysign(-math.expm1(-abs(log_ratio)), log_ratio)
