"""Counting from shapes: sizes, products and Einstein sums."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analyzer.inspection.call_graph import Shape


class Uncountable(Exception):
    """There is no count; the message says why, as part of a sentence."""


def size(shape: Shape) -> int:
    """Number of elements.

    Raises:
        Uncountable: If a size is not known before the model runs.
    """
    known = [length for length in shape if length is not None]
    if len(known) != len(shape):
        raise Uncountable("its shape is not known before the model runs")
    return math.prod(known)


def einsum_flops(equation: str, operands: Sequence[Shape], output: Shape) -> int:
    """Operations of an Einstein sum of two operands: 2 per element of the output and of the summed axes.

    Args:
        equation: For example ``"abc,cd->abd"``, with ``...`` where there are further axes.
        operands: Shapes of the first operands; that of a kernel may be left out, for its summed axes are in the first.
        output: Shape of the result.

    Raises:
        Uncountable: If there are more than two operands: then the order of the products decides.
    """
    terms, _, result = equation.replace(" ", "").partition("->")
    names = terms.split(",")
    if len(names) > 2:
        raise Uncountable("an Einstein sum of three or more operands depends on the order of the products")
    sizes: dict[str, int | None] = {}
    for name, shape in zip(names, operands, strict=False):
        sizes |= _labelled(name, shape)
    summed = [length for label, length in sizes.items() if label not in result]
    return (2 if len(names) == 2 else 1) * size(output) * size(tuple(summed))


def _labelled(name: str, shape: Shape) -> dict[str, int | None]:
    """Length of each axis that has a letter."""
    before, _, after = name.partition("...")
    tail = shape[len(shape) - len(after) :] if after else ()
    return dict(zip(before, shape, strict=False)) | dict(zip(after, tail, strict=True))
