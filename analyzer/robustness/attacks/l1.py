"""The L1 ball within the box (Croce & Hein, 2021, "Mind the box", arXiv 2103.01208), where few values move far.

All functions take flat samples, ``(n, d)``. Where a value may go depends on its bound: what is left until then is its
room.
"""

from __future__ import annotations

from typing import Any

import keras

Tensor = Any


def filled(slope: Tensor, room: Tensor, pace: Tensor, amount: Tensor) -> Tensor:
    """Values filled in order of their slopes, the steepest first, each as far as its room goes.

    That is the shortest step for a gain, and the step that gains most for a length.

    Args:
        slope: ``(n, d)`` of at least 0; values of slope 0 are filled last.
        room: ``(n, d)`` how far each can go.
        pace: ``(n, d)`` above 0: what a unit of each adds to the amount.
        amount: ``(n, 1)`` what is to be reached; where there is no room for it, all is filled.

    Returns:
        ``(n, d)`` how far each goes.
    """
    ops = keras.ops
    order = ops.argsort(-slope, axis=1)
    room, pace = (ops.take_along_axis(each, order, axis=1) for each in (room, pace))
    before = ops.cumsum(room * pace, axis=1) - room * pace
    taken = ops.clip((amount - before) / pace, 0.0, room)
    return ops.take_along_axis(taken, ops.argsort(order, axis=1), axis=1)


def steepest_within(x: Tensor, gradient: Tensor, size: Tensor) -> Tensor:
    """The step of a length that raises a linear function most without leaving the box.

    Args:
        x: Points from 0 to 1, ``(n, d)``.
        gradient: ``(n, d)``.
        size: ``(n, 1)``.
    """
    ops = keras.ops
    slope = ops.abs(gradient)
    room = ops.where(gradient > 0, 1 - x, x)
    return ops.sign(gradient) * filled(slope, ops.where(slope > 0, room, 0.0), ops.ones_like(slope), size)


def onto_ball(step: Tensor, x: Tensor, radius: Tensor) -> Tensor:
    """The step nearest to another in L2 that is no longer than a radius in L1 and stays in the box.

    It is ``sign * clip(|step| - λ, 0, room)`` for the least λ from 0 on for which the length fits. The length is
    piecewise linear in λ and bends where a value leaves its bound and where it reaches 0, so the bends are sorted and
    the piece that has the radius is solved.

    Args:
        step: ``(n, d)``.
        x: Samples from 0 to 1, ``(n, d)``.
        radius: ``(n, 1)``.
    """
    ops = keras.ops
    size, room = ops.abs(step), ops.where(step > 0, 1 - x, x)
    freed = ops.maximum(size - room, 0.0)
    bend = _last_bend_outside(freed, size, radius, ops.sum(ops.minimum(size, room), axis=1, keepdims=True))
    # Summed anew, not taken from running sums: those lose digits.
    held, moving = freed > bend, ops.logical_and(freed <= bend, size > bend)
    total = ops.sum(ops.where(held, room, 0.0) + ops.where(moving, size, 0.0), axis=1, keepdims=True)
    count = ops.sum(ops.cast(moving, "float32"), axis=1, keepdims=True)
    least = ops.where(count > 0, (total - radius) / ops.maximum(count, 1.0), bend)
    projected = ops.clip(size - ops.maximum(least, 0.0), 0.0, room)
    length = ops.sum(projected, axis=1, keepdims=True)
    return ops.sign(step) * projected * ops.minimum(1.0, radius / ops.maximum(length, 1e-12))


def _last_bend_outside(freed: Tensor, size: Tensor, radius: Tensor, length: Tensor) -> Tensor:
    """The largest λ among the bends at which the length is still above the radius, or 0: ``(n, 1)``.

    Args:
        freed: From which λ on each value shrinks.
        size: From which λ on each is 0.
        radius: See `onto_ball`.
        length: That of λ = 0.
    """
    ops = keras.ops
    ends = ops.concatenate([freed, size], axis=1)
    order = ops.argsort(ends, axis=1)
    ends = ops.take_along_axis(ends, order, axis=1)
    starts = ops.concatenate([ops.ones_like(freed), -ops.ones_like(size)], axis=1)
    shrinking = ops.cumsum(ops.take_along_axis(starts, order, axis=1), axis=1)
    gaps = ends[:, 1:] - ends[:, :-1]
    lengths = ops.concatenate([length, length - ops.cumsum(gaps * shrinking[:, :-1], axis=1)], axis=1)
    return ops.max(ops.where(lengths > radius, ends, 0.0), axis=1, keepdims=True)
