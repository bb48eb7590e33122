"""Floating-point operations of what a Functional model writes with ``keras.ops`` and Python's operators."""

from __future__ import annotations

from typing import Any

from analyzer.inspection.call_graph import Shape
from analyzer.inspection.flops_shapes import Uncountable, einsum_flops, size

_MOVES_DATA = """
Arange Argmax Argsort BroadcastTo Cast Concatenate Copy Diagonal ExpandDims Flip Full FullLike GetItem Hstack Identity
Moveaxis OneHot OnesLike Pad Ravel Repeat Reshape Roll Shape Slice Sort Split Squeeze Stack StopGradient Swapaxes Take
TakeAlongAxis Tile TopK Transpose Unstack Vstack Where ZerosLike
"""
_FREE = frozenset(_MOVES_DATA.split())
"""What moves, makes, chooses or orders data."""

_ONE_EACH = """
Abs Absolute Add Celu Ceil Clip Conjugate Cos Cosh Divide Elu Equal Erf Exp Expm1 Floor FloorDivide Gelu Glu Greater
GreaterEqual HardShrink HardSigmoid HardSilu HardSwish HardTanh Isfinite Isinf Isnan LeakyRelu Less LessEqual Log Log10
Log1p Log2 LogSigmoid Logaddexp LogicalAnd LogicalNot LogicalOr Maximum Minimum Mod Multiply Negative NotEqual Power
Reciprocal Relu Relu6 Round Rsqrt Selu Sigmoid Sign Silu Sin Sinh SoftShrink Softplus Softsign SparsePlus Sqrt Square
SquaredRelu Subtract Swish Tan Tanh TanhShrink Threshold TrueDivide
"""
_ELEMENTWISE = frozenset(_ONE_EACH.split())
"""One operation per element of the result."""

_REDUCTIONS = {"Sum": 1, "Mean": 1, "Max": 1, "Min": 1, "Amax": 1, "Amin": 1, "Prod": 1, "All": 1, "Any": 1}
_REDUCTIONS |= {"CountNonzero": 1, "Cumsum": 1, "Var": 4, "Std": 4, "Norm": 2, "Logsumexp": 4}
"""Operations per element of the argument."""

_PER_ELEMENT = {"Softmax": 5, "LogSoftmax": 5, "Normalize": 3, "LayerNorm": 7, "RmsNorm": 4, "UnitNormalize": 3}
"""Operations per element of the result."""


def count(operation: Any, inputs: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> int:
    """Operations of one call.

    Args:
        operation: A `keras.Operation` that is no layer.
        inputs: Shapes of its tensor arguments.
        outputs: Shapes of what it returned.

    Raises:
        Uncountable: If there is no rule for it.
    """
    kind = type(operation).__name__
    if kind in _FREE:
        return 0
    if kind in _ELEMENTWISE:
        return sum(map(size, outputs))
    if kind in _REDUCTIONS:
        return _REDUCTIONS[kind] * size(inputs[0])
    if kind in _PER_ELEMENT:
        return _PER_ELEMENT[kind] * size(outputs[0])
    if kind in ("Matmul", "Dot") and len(inputs) == 2:
        return 2 * size(inputs[0][-1:]) * size(outputs[0])
    if kind == "Einsum":
        return einsum_flops(operation.subscripts, inputs, outputs[0])
    raise Uncountable(f"there is no rule for the operation {kind}")
