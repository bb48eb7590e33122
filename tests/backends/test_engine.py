"""The engine of the backend in use against closed forms, and what it must leave as it was."""

import contextlib

import keras
import numpy as np
import pytest

from analyzer.backends import engine, loader
from analyzer.errors import MissingExtraError

BACKEND = keras.backend.backend()

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]], dtype="float32")
V = np.array([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]], dtype="float32")
W = np.array([[1.0, -2.0], [0.5, 0.3], [2.0, 1.0]], dtype="float32")


def tensor(array):
    return keras.ops.convert_to_tensor(array)


def numpy(x):
    return engine().to_numpy(x)


def cube(x):
    """x³ @ W: value (2, 2), Jacobian diag(3 x²) W."""
    return keras.ops.matmul(x * x * x, tensor(W))


def raising_scope(scope):
    with pytest.raises(ZeroDivisionError), scope():
        raise ZeroDivisionError


class TestDerivatives:
    def test_vjp_pulls_any_number_of_cotangents_back(self):
        value, pullback = engine().vjp(cube, tensor(X))
        np.testing.assert_allclose(numpy(value), X**3 @ W, rtol=1e-6)
        for cotangent in (np.ones((2, 2), "float32"), np.array([[1, -1], [0, 2]], "float32")):
            np.testing.assert_allclose(numpy(pullback(tensor(cotangent))), 3 * X**2 * (cotangent @ W.T), rtol=1e-6)

    def test_jvp_is_the_directional_derivative(self):
        value, derivative = engine().jvp(cube, tensor(X), tensor(V))
        np.testing.assert_allclose(numpy(value), X**3 @ W, rtol=1e-6)
        np.testing.assert_allclose(numpy(derivative), (3 * X**2 * V) @ W, rtol=1e-6)

    def test_value_and_grad_of_a_scalar(self):
        value, gradient = engine().value_and_grad(lambda x: keras.ops.sum(x * x * x), tensor(X))
        np.testing.assert_allclose(float(numpy(value)), (X.astype(float) ** 3).sum(), rtol=1e-6)
        np.testing.assert_allclose(numpy(gradient), 3 * X**2, rtol=1e-6)

    def test_a_constant_has_zero_derivatives_rather_than_none(self):
        def constant(x):
            return keras.ops.sum(tensor(W))

        _, gradient = engine().value_and_grad(constant, tensor(X))
        np.testing.assert_array_equal(numpy(gradient), np.zeros_like(X))
        _, pullback = engine().vjp(constant, tensor(X))
        np.testing.assert_array_equal(numpy(pullback(tensor(np.float32(1)))), np.zeros_like(X))
        _, derivative = engine().jvp(constant, tensor(X), tensor(V))
        assert float(numpy(derivative)) == 0.0

    def test_stop_gradient_keeps_the_value_and_drops_the_derivative(self):
        value, gradient = engine().value_and_grad(lambda x: keras.ops.sum(engine().stop_gradient(x) * x), tensor(X))
        assert float(numpy(value)) == pytest.approx((X**2).sum())
        np.testing.assert_allclose(numpy(gradient), X, rtol=1e-6)

    def test_derivatives_of_a_model_inside_the_inference_scope_leave_no_gradient_on_it(self):
        keras.utils.set_random_seed(0)
        layer = keras.layers.Dense(2, activation="tanh")
        layer.build((None, 3))
        with engine().inference():
            _, gradient = engine().value_and_grad(lambda x: keras.ops.sum(layer(x)), tensor(X))
            engine().jvp(layer, tensor(X), tensor(V))
            engine().vjp(layer, tensor(X))[1](tensor(np.ones((2, 2), "float32")))
        kernel, bias = layer.get_weights()
        expected = (1 - np.tanh(X @ kernel + bias) ** 2) @ kernel.T
        np.testing.assert_allclose(numpy(gradient), expected, rtol=1e-5, atol=1e-6)
        if BACKEND == "torch":
            assert [v.value.grad for v in layer.weights] == [None, None]
            assert all(v.value.requires_grad for v in layer.weights)


class TestCompiling:
    def test_jit_takes_and_gives_nested_structures(self):
        def program(values, batch):
            return [batch["x"] * values[0], (batch["y"] + values[1],)]

        values, batch = [tensor(np.float32(2)), tensor(X)], {"x": tensor(X), "y": tensor(V)}
        first, (second,) = engine().synchronize(engine().jit(program)(values, batch))
        np.testing.assert_array_equal(numpy(first), 2 * X)
        np.testing.assert_array_equal(numpy(second), V + X)

    def test_arguments_are_not_baked_in_and_shapes_may_change(self):
        program = engine().jit(lambda w, x: keras.ops.matmul(x, w))
        np.testing.assert_allclose(numpy(program(tensor(W), tensor(X))), X @ W, rtol=1e-6)
        np.testing.assert_allclose(numpy(program(tensor(-W), tensor(X))), X @ -W, rtol=1e-6)
        np.testing.assert_allclose(numpy(program(tensor(W), tensor(X[:1]))), X[:1] @ W, rtol=1e-6)

    def test_a_released_program_runs_again(self):
        program = engine().jit(lambda x: x + 1.0)
        before = numpy(program(tensor(X)))
        engine().release([program])
        np.testing.assert_array_equal(numpy(program(tensor(X))), before)

    def test_trace_calls_once_and_raises_what_was_raised(self):
        shapes = []
        engine().trace(lambda x: shapes.append(tuple(x.shape)), tensor(X))
        assert shapes == [(2, 3)]

        def broken(x):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            engine().trace(broken, tensor(X))


class TestHost:
    def test_to_numpy_is_a_writable_copy(self):
        source = tensor(X)
        copy = numpy(source)
        copy[:] = 7.0
        np.testing.assert_array_equal(numpy(source), X)

    @pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "bool", "uint8"])
    def test_dtype_is_kept(self, dtype):
        assert numpy(keras.ops.cast(tensor(X), dtype)).dtype == np.dtype(dtype)

    def test_bfloat16_becomes_float32(self):
        converted = numpy(keras.ops.cast(tensor(X), "bfloat16"))
        assert converted.dtype == np.float32
        np.testing.assert_array_equal(converted, X)

    def test_memory_in_use_is_unknown_on_a_cpu(self):
        assert engine().memory_in_use() is None


class TestScopes:
    @staticmethod
    def switches():
        """Every switch that `deterministic` may set."""
        if BACKEND == "torch":
            import torch

            return (
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
                torch.backends.cudnn.benchmark,
                torch.backends.cudnn.deterministic,
            )
        if BACKEND == "tensorflow":
            from tensorflow.python.framework import config

            return config.is_op_determinism_enabled()
        return engine()._deterministic

    def test_deterministic_switches_on_and_restores(self):
        before = self.switches()
        with engine().deterministic():
            inside = self.switches()
        assert inside != before
        assert self.switches() == before

    def test_deterministic_restores_when_the_body_raises_and_when_nested(self):
        before = self.switches()
        raising_scope(engine().deterministic)
        assert self.switches() == before
        with engine().deterministic():
            inside = self.switches()
            with engine().deterministic():
                pass
            assert self.switches() == inside
        assert self.switches() == before

    def test_deterministic_restores_what_the_user_had_switched_on(self):
        with engine().deterministic():
            before = self.switches()
            if BACKEND == "torch":
                import torch

                torch.backends.cudnn.benchmark = True
            mine = self.switches()
            with engine().deterministic():
                inside = self.switches()
            after = self.switches()
            if BACKEND == "torch":
                torch.backends.cudnn.benchmark = False
        assert after == mine
        assert inside == before

    def test_random_state_of_the_framework_is_restored_also_when_the_body_raises(self):
        keras.utils.set_random_seed(3)
        control = [framework_draw(), framework_draw()]
        keras.utils.set_random_seed(3)
        program = engine().jit(framework_random)
        with engine().rng_guard():
            program()
        first = framework_draw()
        with contextlib.suppress(ZeroDivisionError), engine().rng_guard():
            program()
            raise ZeroDivisionError
        assert [first, framework_draw()] == control

    def test_inference_scope_ends(self):
        with engine().inference():
            pass
        _, gradient = engine().value_and_grad(lambda x: keras.ops.sum(x * x), tensor(X))
        np.testing.assert_allclose(numpy(gradient), 2 * X)


def framework_random():
    """A random tensor from the framework's own generator; JAX has none, so nothing can move there."""
    if BACKEND == "torch":
        import torch

        return torch.rand(())
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.random.uniform(())
    return keras.ops.convert_to_tensor(0.5)


def framework_draw():
    return float(numpy(framework_random()))


class TestOutOfMemory:
    def test_what_the_framework_really_raises_is_recognised(self):
        with pytest.raises(Exception) as raised:  # noqa: PT011 - its class differs by backend
            engine().synchronize(keras.ops.zeros((2**45,), dtype="float32"))
        assert engine().is_out_of_memory(raised.value)

    def test_memory_error_of_the_host_counts_and_other_errors_do_not(self):
        assert engine().is_out_of_memory(MemoryError())
        for error in (ValueError("out of memory"), RuntimeError("shapes do not match"), KeyboardInterrupt()):
            assert not engine().is_out_of_memory(error)


class TestLoader:
    def test_engine_is_that_of_keras_and_loaded_once(self):
        assert engine().name == BACKEND
        assert engine() is engine()

    def test_a_backend_without_gradients_is_refused_with_the_way_out(self, monkeypatch):
        monkeypatch.setattr(keras.backend, "backend", lambda: "numpy")
        with pytest.raises(MissingExtraError, match=r"'numpy'.*KERAS_BACKEND=jax.*keras-analyzer\[jax\]"):
            loader.engine.__wrapped__()


@pytest.mark.parametrize(
    "shape", [(5, 3), (64, 7), (3, 9, 11, 5), (2, 40, 40, 64), (2, 8, 8, 300), (4, 6, 2500), (1, 1)]
)
def test_unit_sums_are_those_of_numpy(shape):
    rng = np.random.default_rng(0)
    x = np.where(rng.random(shape) < 0.3, 0.0, rng.normal(3.0, 2.0, shape)).astype("float32")
    shift = x.reshape(-1, shape[-1])[0]
    program = engine().jit(lambda x, shift: engine().unit_sums(x, shift))
    with engine().inference():
        found = program(*map(keras.ops.convert_to_tensor, (x, shift)))
    rows = x.astype(np.float64).reshape(-1, shape[-1])
    off = rows - shift
    wanted = [off.sum(0), (off**2).sum(0), rows.min(0), rows.max(0), (rows > 0).sum(0), (rows != 0).sum(0)]
    for name, a, b in zip(("off", "squares", "min", "max", "above", "other"), found, wanted, strict=True):
        np.testing.assert_allclose(engine().to_numpy(a), b, rtol=2e-6, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_unit_sums_show_what_is_not_finite(broken):
    x = np.ones((4, 33, 33, 6), "float32")
    x[2, 5, 7, 1] = broken
    with engine().inference():
        off = engine().unit_sums(keras.ops.convert_to_tensor(x), keras.ops.zeros(6))[0]
    assert np.isfinite(engine().to_numpy(off)).tolist() == [True, False, True, True, True, True]
