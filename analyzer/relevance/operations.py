"""`keras.ops` as user code sees it during a traced pass: every operation by its rule, those without one by name."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import keras

from analyzer.relevance.flow import Flow, Tensor
from analyzer.relevance.public_ops import ops
from analyzer.relevance.registry import Handler, handles_operations, operation_handler
from analyzer.relevance.tokens import LOOKING_UP, carry, follow, shadowed
from analyzer.relevance.visit import Visit
from analyzer.relevance.written_activations import FUNCTIONS, activation_rule

MOVING = [
    "append",
    "array_split",
    "broadcast_to",
    "copy",
    "cumsum",
    "depth_to_space",
    "diag",
    "diagonal",
    "dsplit",
    "expand_dims",
    "flip",
    "fliplr",
    "flipud",
    "get_item",
    "hsplit",
    "moveaxis",
    "nan_to_num",
    "pad",
    "ravel",
    "rearrange",
    "real",
    "repeat",
    "reshape",
    "roll",
    "rot90",
    "slice",
    "space_to_depth",
    "split",
    "squeeze",
    "swapaxes",
    "take_along_axis",
    "tile",
    "transpose",
    "trace",
    "tril",
    "triu",
    "unstack",
    "view",
    "vsplit",
    "fold",
    "unfold",
    "cast",
    "convert_to_tensor",
    "identity",
]
"""Operations that are linear without weights, so that their own gradient is the rule."""

JOINING = ["stack", "hstack", "vstack", "dstack", "where", "select"]
"""Operations that put several tensors side by side."""

REDUCING = [
    "sum",
    "mean",
    "average",
    "max",
    "amax",
    "min",
    "amin",
    "adaptive_average_pool",
    "adaptive_max_pool",
    "average_pool",
    "top_k",
    "sort",
]
"""Sums and means by value; of maxima the winner takes all."""

ELEMENTWISE = [
    "relu6",
    "elu",
    "selu",
    "celu",
    "gelu",
    "silu",
    "swish",
    "hard_silu",
    "hard_swish",
    "hard_sigmoid",
    "hard_tanh",
    "hard_shrink",
    "soft_shrink",
    "softplus",
    "softsign",
    "sigmoid",
    "log_sigmoid",
    "tanh",
    "tanh_shrink",
    "threshold",
    "squareplus",
    "sparse_plus",
    "sparse_sigmoid",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
    "sqrt",
    "square",
    "cbrt",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "arcsin",
    "arccos",
    "arctan",
    "arcsinh",
    "arccosh",
    "arctanh",
    "erf",
    "erfc",
    "erfinv",
    "clip",
    "abs",
    "absolute",
    "fabs",
    "sinc",
]
"""Element-wise functions: the identity rule."""

CONSTANT = ["rsqrt", "reciprocal", "var", "std", "norm"]
"""What normalisers are made of: constants."""

NONDIFFERENTIABLE = [
    "all",
    "any",
    "argmax",
    "argmin",
    "argpartition",
    "argsort",
    "arange",
    "array",
    "bincount",
    "bitwise_and",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "ceil",
    "count_nonzero",
    "digitize",
    "dtype",
    "empty",
    "empty_like",
    "equal",
    "eye",
    "floor",
    "full",
    "full_like",
    "greater",
    "greater_equal",
    "histogram",
    "in_top_k",
    "is_tensor",
    "isclose",
    "isfinite",
    "isin",
    "isinf",
    "isnan",
    "isneginf",
    "isposinf",
    "isreal",
    "less",
    "less_equal",
    "linspace",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logspace",
    "meshgrid",
    "multi_hot",
    "ndim",
    "nonzero",
    "not_equal",
    "ones",
    "ones_like",
    "round",
    "searchsorted",
    "shape",
    "sign",
    "signbit",
    "size",
    "stop_gradient",
    "tri",
    "trunc",
    "unravel_index",
    "zeros",
    "zeros_like",
    "convert_to_numpy",
    "allclose",
    "custom_gradient",
    "cond",
    "switch",
    "map",
    "scan",
    "fori_loop",
    "while_loop",
    "vectorize",
    "vectorized_map",
    "associative_scan",
    "jvp",
    "heaviside",
    "hamming",
    "hanning",
    "bartlett",
    "blackman",
    "kaiser",
    "geomspace",
    "floor_divide",
]
"""Nothing flows back through these, or they only call what the user hands them."""


@handles_operations(*MOVING)
def moving(visit: Visit, *args: Any, **kwargs: Any) -> Any:
    y = visit.natural(*args, **kwargs)
    follow(visit.flow, visit.operation, visit.call, args, kwargs, y)
    return y


@handles_operations("negative", "diff")
def turning(visit: Visit, *args: Any, **kwargs: Any) -> Any:
    """Linear as those above, but what is not negative may become so."""
    return visit.natural(*args, nonnegative=False, **kwargs)


@handles_operations(*JOINING, *REDUCING)
def by_value(visit: Visit, *args: Any, **kwargs: Any) -> Any:
    return visit.natural(*args, **kwargs)


@handles_operations("max_pool")
def max_pool(visit: Visit, inputs: Tensor, *args: Any, **kwargs: Any) -> Any:
    given = dict(zip(("pool_size", "strides", "padding", "data_format"), args, strict=False)) | kwargs

    def option(name: str, default: Any = None) -> Any:
        # As an operation of a Functional model, options are attributes and not arguments.
        return given.get(name, getattr(visit.layer, name, default))

    if (option("data_format") or keras.config.image_data_format()) == "channels_last":
        window = _per_axis(option("pool_size"), inputs)
        visit.call = functools.partial(
            visit.flow.backend.max_pool,
            window=window,
            strides=window if option("strides") is None else _per_axis(option("strides"), inputs),
            padding=option("padding", "valid"),
            plain=functools.partial(visit.call, **given),
        )
        return visit.natural(inputs)
    return visit.natural(inputs, **given)


def _per_axis(sizes: Any, x: Tensor) -> tuple[int, ...]:
    return (sizes,) * (len(x.shape) - 2) if isinstance(sizes, int) else tuple(sizes)


@handles_operations("relu", "leaky_relu")
def through_origin(visit: Visit, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    y = visit.call(visit.enter(x), *args, **kwargs)
    return visit.leave(visit.flow.mark(y, nonnegative="leaky" not in visit.record.kind.lower()))


@handles_operations(*ELEMENTWISE)
def elementwise(visit: Visit, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    x = visit.enter(x)
    if visit.cut:
        return visit.leave(x)
    y = visit.identity(x, visit.call(ops.stop_gradient(x), *args, **kwargs))
    kind = visit.record.kind.lower()
    gate = "sigmoid" in kind and "log" not in kind
    positive = gate or kind in (
        "square",
        "exp",
        "exp2",
        "sqrt",
        "abs",
        "absolute",
        "fabs",
        "softplus",
        "relu6",
        "squareplus",
    )
    return visit.leave(visit.flow.mark(y, nonnegative=positive, gate=gate))


@handles_operations(*CONSTANT)
def constant(visit: Visit, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    visit.record.rule.append("constant")
    return visit.call(ops.stop_gradient(x), *args, **kwargs)


@handles_operations("power")
def power(visit: Visit, x1: Any, x2: Any) -> Tensor:
    """The identity rule for the base, or the exponent, that depends on the input."""
    first, second = visit.flow.depends(x1), visit.flow.depends(x2)
    if first and second:
        raise visit.refuse("a power whose base and exponent both depend on the input has no rule.")
    x = visit.enter(x1 if first else x2)
    still = ops.stop_gradient(x)
    y = visit.call(still, x2) if first else visit.call(x1, still)
    return visit.leave(visit.flow.mark(visit.identity(x, y), nonnegative=x2 == 2 if isinstance(x2, int) else False))


@handles_operations(*NONDIFFERENTIABLE)
def opaque(visit: Visit, *args: Any, **kwargs: Any) -> Any:
    """Nothing flows back."""
    return visit.call(*args, **kwargs)


@handles_operations("softmax")
def softmax(visit: Visit, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    x = visit.enter(x)
    if visit.cut:
        return visit.leave(x)
    axis = kwargs.get("axis", args[0] if args else getattr(visit.layer, "axis", -1))
    y = visit.softmax(x, lambda z: visit.call(z, *args, **kwargs), axis=axis)
    return visit.leave(visit.flow.mark(y, nonnegative=True, gate=True))


@handles_operations("divide", "true_divide", "divide_no_nan")
def divide(visit: Visit, x1: Any, x2: Any) -> Tensor:
    """The denominator is a constant, as normalisers are."""
    if visit.flow.depends(x2):
        visit.record.rule.append("constant denominator")
        x2 = ops.stop_gradient(x2)
    return visit.leave(visit.call(visit.enter(x1), x2))


@handles_operations("matmul", "dot", "tensordot", "inner", "outer")
def matmul(visit: Visit, x1: Any, x2: Any, *args: Any, **kwargs: Any) -> Tensor:
    return visit.leave(visit.product(visit.enter(x1), visit.enter(x2), lambda a, b: visit.call(a, b, *args, **kwargs)))


@handles_operations("einsum")
def einsum(visit: Visit, *args: Any, **kwargs: Any) -> Tensor:
    # As an operation of a Functional model, the subscripts are an attribute and not an argument.
    subscripts = [a for a in args if isinstance(a, str)]
    operands = [visit.enter(a) for a in args if not isinstance(a, str)]
    if sum(visit.flow.depends(t) for t in operands) > 2:
        raise visit.refuse(
            "a product of more than two tensors that depend on the input has no rule; write it in steps."
        )
    if len(operands) != 2:
        return visit.leave(visit.call(*subscripts, *operands, **kwargs))
    first, second = operands
    return visit.leave(visit.product(first, second, lambda a, b: visit.call(*subscripts, a, b, **kwargs)))


_PATCHING = threading.RLock()
"""One traced pass at a time: two that replaced the operations in turn would leave one's replacements behind."""


@contextlib.contextmanager
def patched_namespace(flow: Flow) -> Iterator[None]:
    """A scope in which operations of `keras.ops` that this thread's user code calls go through their rules."""
    names = [name for name, fn in vars(ops).items() if inspect.isfunction(fn) and hasattr(keras.ops, name)]
    thread = threading.get_ident()
    calls: Counter[tuple[int, str]] = Counter()

    def wrapped(name: str, original: Callable[..., Any], rule: Handler | None) -> Callable[..., Any]:
        @functools.wraps(original)
        def operation(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != thread or not flow.user_code or name in NONDIFFERENTIABLE:
                return original(*args, **kwargs)
            if not any(flow.depends(t) for t in keras.tree.flatten((args, kwargs)) if keras.ops.is_tensor(t)):
                if not shadowed(flow, (args, kwargs)):
                    return original(*args, **kwargs)
                if name not in LOOKING_UP:
                    return carry(flow, name, original, args, kwargs)
            owner = flow.current
            calls[owner.number, name] += 1
            count = calls[owner.number, name]
            label = f"{owner.id}/{name}" + (f"#{count}" if count > 1 else "")
            with flow.call(label, name) as record:
                visit = Visit(flow=flow, layer=None, record=record, call=original)
                if rule is None:
                    flow.unknown.append(f"keras.ops.{name} in {owner.id}")
                    record.rule.append("gradient, no rule")
                    return visit.natural(*args, nonnegative=False, **kwargs)
                return rule(visit, *args, **kwargs)

        return operation

    with _PATCHING, contextlib.ExitStack() as stack:
        for name in names:
            original = getattr(keras.ops, name)
            stack.callback(setattr, keras.ops, name, original)
            setattr(keras.ops, name, wrapped(name, original, operation_handler(name)))
        for name in FUNCTIONS:
            original = getattr(keras.activations, name)
            stack.callback(setattr, keras.activations, name, original)
            setattr(keras.activations, name, wrapped(name, original, activation_rule))
        yield
