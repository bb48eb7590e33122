"""What every backend module offers: the one place where frameworks may differ.

`Engine` is small on purpose: what `keras.ops` can say is said there. Each of ``jax.py``, ``tensorflow.py`` and
``torch.py`` has these names with these signatures; a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Tensor = Any
"""A tensor of the backend in use."""


class Engine(Protocol):
    """Compiling, differentiating and housekeeping on one backend."""

    name: str

    def jit(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Compile a pure function of tensors (nested lists, tuples and dicts of them) into one program.

        Parameters and variables must be arguments of ``fn``, or they are baked in on JAX. Dicts may come back sorted:
        keep order in lists.
        """

    def trace(self, fn: Callable[..., Any], *args: Any) -> None:
        """Call ``fn`` once for what it calls, computing as little as the backend allows.

        JAX and TensorFlow pass symbolic tensors; PyTorch runs eagerly without gradients.
        """

    def vjp(self, fn: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Value of ``fn`` at ``x``, and the pullback that maps a cotangent of the value to one of ``x``."""

    def jvp(self, fn: Callable[[Tensor], Tensor], x: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """Value of ``fn`` at ``x``, and its directional derivative along ``tangent``."""

    def value_and_grad(self, fn: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """Scalar value of ``fn`` at ``x`` and its gradient, without touching the gradients of any parameter.

        ``x`` may be a list of tensors; the gradient is then a list.
        """

    def unit_sums(self, x: Tensor, shift: Tensor) -> list[Tensor]:
        """Sums over every axis of ``x`` but the last, read as few times as the backend allows.

        Args:
            x: float32 ``(samples, ..., units)``.
            shift: ``(units,)`` near each unit's mean, so that the sum of squares loses nothing to a large offset.

        Returns:
            Six tensors ``(units,)``: the sums of ``x - shift`` and of its square, the minimum, the maximum, and the
            numbers of values above zero and of values that are not zero.
        """

    def stop_gradient(self, x: Tensor) -> Tensor:
        """``x`` as a constant."""

    def to_numpy(self, x: Tensor) -> NDArray[Any]:
        """A copy of ``x`` on the host, in its own dtype (bfloat16 becomes float32)."""

    def synchronize(self, tree: Any) -> Any:
        """Wait until every tensor in ``tree`` is computed, and return ``tree``."""

    def inference(self) -> AbstractContextManager[None]:
        """A scope in which no gradients are recorded."""

    def rng_guard(self) -> AbstractContextManager[None]:
        """A scope that leaves the framework's own random state as it was."""

    def deterministic(self) -> AbstractContextManager[None]:
        """A scope in which the backend only uses deterministic kernels; its switches are restored afterwards."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether ``error`` says that the device's (or the host's) memory is exhausted."""

    def memory_in_use(self) -> int | None:
        """Bytes allocated on the accelerator, or None where the backend does not say (CPU)."""

    def release(self, fns: Sequence[Callable[..., Any]]) -> None:
        """Drop the compiled programs behind functions made by `jit`."""


def as_float64(x: NDArray[Any]) -> NDArray[np.float64]:
    """``x`` as float64, for merging on the host."""
    return np.asarray(x, dtype=np.float64)


class RelevanceOps(Protocol):
    """Identities that change what flows back: the value is untouched, the cotangent is the rule.

    In ``jax_relevance.py``, ``tensorflow_relevance.py`` and ``torch_relevance.py``. A slot is a tensor of zeros that
    `pull` differentiates for: what it receives is read off as a result.
    """

    def bind(
        self,
        value: Tensor,
        parts: list[Tensor],
        kept: list[Tensor],
        back: Callable[[Tensor, list[Tensor]], list[Tensor]],
    ) -> Tensor:
        """``value``, whose relevance ``R = value * cotangent`` reaches ``parts`` as the cotangents ``back(R, kept)``.

        Args:
            value: What is handed on; nothing flows back through it.
            parts: Tensors of its shape.
            kept: Constants that ``back`` needs; it must use no other tensor.
            back: A pure function, linear in ``R`` or not, that computes on the way back.
        """

    def bind_value(self, value: Tensor, part: Tensor, epsilon: float) -> Tensor:
        """As `bind` with ``R / stabilise(value, epsilon)``, in fewer steps: the cotangent is hardly changed.

        Args:
            value: What is handed on; nothing flows back through it.
            part: A tensor of its shape.
            epsilon: Above 0.
        """

    def stabilise(self, z: Tensor, epsilon: float) -> Tensor:
        """``z + epsilon * sign(z)``, where 0 counts as positive."""

    def convolve(
        self,
        x: Tensor,
        kernel: Tensor,
        strides: Sequence[int],
        padding: str,
        dilation: Sequence[int],
        plain: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """A convolution, channels last, in the layout that the backend's kernels are fastest in.

        Args:
            x: ``(samples, *sizes, channels)``.
            kernel: ``(*window, channels of a group, output channels)``.
            strides: One per axis of the window.
            padding: ``"same"`` or ``"valid"``.
            dilation: One per axis of the window.
            plain: What Keras computes, for backends whose kernels it already uses well.
        """

    def max_pool(
        self,
        x: Tensor,
        window: Sequence[int],
        strides: Sequence[int],
        padding: str,
        plain: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """The maxima of windows; the first of the largest in each gets all that flows back, so nothing is doubled.

        Args:
            x: ``(samples, *sizes, channels)``.
            window: Its sizes.
            strides: One per axis of the window.
            padding: ``"same"`` or ``"valid"``.
            plain: What Keras computes, for backends whose kernels do so and are fast both ways.
        """

    def compile(self, fn: Callable[..., Any], *, convolutions: bool, jit_compile: bool) -> Callable[..., Any]:
        """As `Engine.jit`, for a pass forth and back.

        Args:
            fn: A pure function of tensors.
            convolutions: Whether it holds any: they decide which compiler is faster.
            jit_compile: Whether the backend's own compiler is asked for whatever it takes, as in Keras' ``compile``.
        """

    def book(self, t: Tensor, amounts: list[Tensor], slots: list[Tensor]) -> Tensor:
        """``t``; each slot ``(samples,)`` receives the sum of cotangent times amount over all axes but the first.

        Args:
            t: ``(samples, ...)``.
            amounts: Tensors that broadcast to the shape of ``t``; constants.
            slots: As many slots.
        """

    def observe(self, t: Tensor, slot: Tensor) -> Tensor:
        """``t``; the slot, of its shape, receives the cotangent."""

    def eager(self) -> AbstractContextManager[None]:
        """A scope inside a traced function in which operations on real arrays are computed at once."""

    def depends(self, t: Tensor, sources: list[Tensor]) -> bool:
        """Whether ``t`` is a differentiable function of any of ``sources``; asked inside what is given to `pull`."""

    def pull(
        self,
        fn: Callable[[list[Tensor]], tuple[Tensor, Any]],
        x: list[Tensor],
        cotangents: Callable[[Tensor], Tensor] | None,
    ) -> tuple[Tensor, Any, list[Tensor]]:
        """Value of ``fn`` and its pullback for several cotangents, computed from one forward pass.

        Args:
            fn: From ``x`` to a tensor and anything else.
            x: What is differentiated for; a fresh list of tensors is handed to ``fn``.
            cotangents: From the value to ``(k, *value.shape)``; None to go forward only.

        Returns:
            The value, what else ``fn`` returned, and for each of ``x`` its ``k`` gradients ``(k, *shape)``, if any.
        """
