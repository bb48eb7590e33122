"""Shares of new rows beyond a threshold that comes from a sample itself."""

from __future__ import annotations

import math

from analyzer.data_types.values import Estimate


def with_threshold_error(share: Estimate, fewest: float, most: float) -> Estimate:
    """Widen the interval of a share by what the threshold may be off.

    Both errors come from separate rows, so their distances from the value add up in squares, as for a difference of two
    estimates (Zou & Donner 2008).

    Args:
        share: The share at the threshold as it is, with its interval.
        fewest: The share at one end of the interval of the threshold.
        most: The share at the other end.
    """
    if share.value is None or share.low is None or share.high is None:
        return share
    value = share.value
    return Estimate(
        value=value,
        low=max(value - math.hypot(value - share.low, value - min(fewest, value)), 0.0),
        high=min(value + math.hypot(share.high - value, max(most, value) - value), 1.0),
        n=share.n,
        level=share.level,
        method="Wilson with threshold error",
    )
