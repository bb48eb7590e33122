"""Law 1 made measurable: everything that an analysis must leave as it was, in a form that can be compared.

``process()`` is what belongs to the Python process, ``model(model)`` what belongs to one Keras model. Frameworks are
looked up among the modules that Keras has loaded, and private attributes are only read, to see that they did not move.
"""

from __future__ import annotations

import os
import random
import sys
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from analyzer.inspection import compat

BACKEND = keras.backend.backend()


def process() -> dict[str, Any]:
    """States of random generators, counters and settings; measuring moves none of them."""
    legacy: Any = np.random.get_state()  # noqa: NPY002
    kind, keys, *rest = legacy
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tobytes(), *rest),
        "keras": _keras_seed(),
        "names": dict(_keras_state().get_global_attribute("object_name_uids") or {}),
        "framework": _framework_state(),
        "switches": _framework_switches(),
        "warnings": list(warnings.filters),
        "rcparams": dict(sys.modules["matplotlib"].rcParams) if "matplotlib" in sys.modules else {},
        "numpy errors": np.geterr(),
        "environment": dict(os.environ),
        "directory": Path.cwd(),
        "policy": (keras.config.dtype_policy().name, keras.config.floatx(), keras.config.epsilon()),
    }


def _keras_state() -> Any:
    return sys.modules[keras.random.SeedGenerator.__module__].global_state


def _keras_seed() -> Any:
    module = sys.modules[keras.random.SeedGenerator.__module__]
    generator = module.global_state.get_global_attribute(module.GLOBAL_SEED_GENERATOR)
    return None if generator is None else (id(generator), keras.ops.convert_to_numpy(generator.state).tolist())


def _framework_state() -> Any:
    if BACKEND == "torch":
        return sys.modules["torch"].get_rng_state().numpy().tobytes()
    if BACKEND == "tensorflow":
        context = sys.modules["tensorflow.python.eager.context"].context()
        generator = getattr(context, "_rng", None)
        return None if generator is None else generator.getstate()
    return None


def _framework_switches() -> Any:
    if BACKEND == "torch":
        torch = sys.modules["torch"]
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.benchmark,
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
        )
    if BACKEND == "tensorflow":
        config = sys.modules["tensorflow.python.framework.config"]
        eagerly = sys.modules["tensorflow"].config.functions_run_eagerly()
        return config.is_op_determinism_enabled(), eagerly
    config = sys.modules["jax"].config
    return config.jax_enable_x64, config.jax_default_matmul_precision, config.jax_disable_jit


def model(subject: keras.Model) -> dict[str, Any]:
    """Bits of every variable, identity of every compiled function, and every attribute of every layer.

    Args:
        subject: The model.
    """
    layers = compat.all_layers(subject)
    return {
        "weights": [_bits(v) for v in subject.variables],
        "optimizer": [_bits(v) for v in getattr(getattr(subject, "optimizer", None), "variables", ())],
        "metrics": [_bits(v) for v in subject.metrics_variables],
        "trainable": [v.trainable for v in subject.variables],
        "losses": [id(loss) for layer in layers for loss in layer._losses],
        "functions": [getattr(subject, f"{name}_function", None) for name in ("train", "test", "predict")],
        "attributes": [_attributes(layer) for layer in layers],
        "gradients": [getattr(v.value, "grad", None) for v in subject.variables] if BACKEND == "torch" else [],
    }


def _bits(variable: Any) -> tuple[str, bytes]:
    return str(variable.path), np.array(keras.ops.convert_to_numpy(variable), copy=True).tobytes()


def _attributes(layer: Any) -> dict[str, Any]:
    """Names and identities; flags that Keras itself sets in every call are not the analysis' doing."""
    attributes = {name: value for name, value in vars(layer).items() if name not in ("_called",)}
    return {name: value if isinstance(value, bool | int | str) else id(value) for name, value in attributes.items()}


def both(subject: keras.Model) -> dict[str, Any]:
    """The process and the model.

    Args:
        subject: The model.
    """
    return process() | model(subject)


def moved(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names of what is not as it was.

    Args:
        before: A footprint.
        after: The same, later.
    """
    return [key for key in before if before[key] != after[key]]
