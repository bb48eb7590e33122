"""What a model's `config.json` names: its classes, whether rebuilding them runs code, and its compiled losses.

No Keras here: the document is plain JSON. The rules mirror how Keras resolves a name (registered objects first, then
its own modules), but allow only the modules that a model is made of, where Keras forbids a list of known dangers.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from analyzer.errors import ModelError, UnsafeModelError

# Sub-modules of Keras that hold the classes and functions of which models are made. keras.utils, keras.saving,
# keras.config and others hold functions that read files and URLs, and never occur in a file that Keras wrote.
CLASS_MODULES = frozenset(
    {
        "_legacy",
        "activations",
        "constraints",
        "distillation",
        "dtype_policies",
        "initializers",
        "layers",
        "losses",
        "metrics",
        "models",
        "ops",
        "optimizers",
        "quantizers",
        "random",
        "regularizers",
    }
)
FUNCTION_MODULES = frozenset({"activations", "losses", "metrics", "ops"})
# ConvNeXt and InceptionResNetV2 define layers of their own; the public keras.applications has functions that download.
APPLICATIONS_MODULE = "keras.src.applications."

# Layers of Keras whose configuration is a program: a pickled torch module, a path to a TensorFlow SavedModel.
PROGRAM_LAYERS = {
    "TorchModuleWrapper": "holds a pickled PyTorch module",
    "TFSMLayer": "runs a TensorFlow SavedModel from another folder",
}
# Markers of the format for tensors, slices and bytes, not classes.
PLAIN_MARKERS = frozenset(
    {"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__typespec__"}
)
LAMBDA_MARKER = "__lambda__"

TRUST_ADVICE = (
    "If you trust its author, load it yourself with keras.models.load_model(path, safe_mode=False) and pass the model "
    "instead of the path."
)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A class or function that a model's configuration names.

    Attributes:
        name: Its name, for a registered function `package>name`.
        is_function: Whether it is a function.
        module: The module written in the file; None for the user's `__main__`, `""` if the file names none.
        registered_name: The name under which a class is registered, `package>name`.
        config: Its own configuration.
        layer: Name of the layer it belongs to, for messages.
    """

    name: str
    is_function: bool
    module: str | None
    registered_name: str
    config: Any
    layer: str

    @property
    def title(self) -> str:
        """The full name, for messages."""
        return f"{self.module}.{self.name}" if self.module else self.name

    @property
    def is_from_keras(self) -> bool:
        """Whether the file says that this comes with Keras itself."""
        return self.module in ("", "builtins") or (self.module or "").split(".")[0] == "keras"


def references(config: dict[str, Any]) -> Iterator[Reference]:
    """Every class and function that rebuilding this model would look up, in the order of the file.

    The root's `compile_config` is left out: the project loads with `compile=False`, so that the user's losses and
    metrics are not needed.

    Args:
        config: The document `config.json`.

    Yields:
        One reference per place.

    Raises:
        ModelError: The document is not of the form that Keras writes.
    """
    root = {key: value for key, value in config.items() if key != "compile_config"}
    pending: list[tuple[Any, str]] = [(root, "")]
    while pending:
        node, layer = pending.pop()
        if isinstance(node, list):
            pending.extend((child, layer) for child in reversed(node))
        elif isinstance(node, dict):
            if "class_name" in node:
                layer = _layer_name(node) or layer
                reference = _reference(node, layer)
                if reference is not None:
                    yield reference
            pending.extend((child, layer) for child in reversed(node.values()))


def _layer_name(node: dict[str, Any]) -> str | None:
    inner = node.get("config")
    name = inner.get("name") if isinstance(inner, dict) else None
    # Losses, initialisers and policies carry a name too; of those, only layers have "trainable" or are operations.
    is_layer = isinstance(inner, dict) and ("trainable" in inner or "inbound_nodes" in node)
    return name if is_layer and isinstance(name, str) else None


def _reference(node: dict[str, Any], layer: str) -> Reference | None:
    class_name, module = node["class_name"], node.get("module", "")
    if not isinstance(class_name, str) or not isinstance(module, str | None):
        raise ModelError(
            f"config.json names a class {class_name!r} in the module {module!r}; expected two strings. Save the model "
            "again."
        )
    if class_name in PLAIN_MARKERS:
        return None
    is_function = class_name == "function" and isinstance(node.get("config"), str)
    name = node["config"] if is_function else class_name
    registered = name if is_function else node.get("registered_name") or class_name
    return Reference(
        name=name,
        is_function=is_function,
        module=module,
        registered_name=str(registered),
        config=node.get("config"),
        layer=layer,
    )


def refuse_code(found: list[Reference], is_registered: Callable[[str], bool], file_name: str) -> None:
    """Refuse a model whose rebuilding would run code that Keras does not bring or the user has not registered.

    Args:
        found: The references of the model.
        is_registered: Tells whether a registered name is known to Keras, that is, allowed by the user.
        file_name: For messages.

    Raises:
        UnsafeModelError: It would; the message names layer and class, and how to allow what can be allowed.
    """
    for reference in found:
        problem = _program(reference)
        if problem is not None:
            raise UnsafeModelError(f"{file_name}: {_place(reference)} {problem}. {TRUST_ADVICE}")
    strangers = [r for r in found if not r.is_from_keras and not is_registered(r.registered_name)]
    for reference in strangers:
        if (reference.module or "").split(".")[0] in sys.stdlib_module_names:
            raise UnsafeModelError(
                f"{file_name}: {_place(reference)} names {reference.title}, which belongs to Python, not to models. "
                "Keras writes no such thing: the file was made to run code. Do not load it."
            )
    if strangers:
        raise UnsafeModelError(_unregistered(strangers, file_name))


def _program(reference: Reference) -> str | None:
    """Say what program this reference carries or fetches; None if it is a plain part of a model."""
    if reference.name == LAMBDA_MARKER:
        return "holds Python bytecode (a Lambda layer or argument), which loading would run"
    if not reference.is_from_keras and reference.module is not None:
        return None
    function = reference.config.get("function") if isinstance(reference.config, dict) else None
    if reference.name == "Lambda" and isinstance(function, list | str):
        return "holds Python bytecode (a Lambda layer of Keras 2), which loading would run"
    if reference.name in PROGRAM_LAYERS:
        return f"is a {reference.name}, which {PROGRAM_LAYERS[reference.name]}; loading it would run its code"
    if (reference.module or "").startswith("keras") and not _belongs_to_models(reference):
        return f"names {reference.title}, which is not among the modules of which Keras makes models"
    return None


def _belongs_to_models(reference: Reference) -> bool:
    module = reference.module or ""
    if module.startswith(APPLICATIONS_MODULE):
        return not reference.is_function  # Keras itself then insists on a layer class
    parts = [part for part in module.split(".")[1:] if part != "src"]
    if reference.is_function:
        return bool(parts) and parts[0] in FUNCTION_MODULES
    # Functions of Keras are lower-case: a "class" named clone_model is a function asked for under a false flag.
    return reference.name[:1].isupper() and (not parts or parts[0] in CLASS_MODULES)


def _place(reference: Reference) -> str:
    return f"the layer {reference.layer!r}" if reference.layer else "the model"


def _unregistered(strangers: list[Reference], file_name: str) -> str:
    first = strangers[0]
    names = list(dict.fromkeys(r.registered_name for r in strangers))
    package = (first.module or "").split(".")[0] or "my_layers"
    kind = "function" if first.is_function else "class"
    also = f" (also missing: {', '.join(names[1:])})" if len(names) > 1 else ""
    return (
        f"{file_name}: {_place(first)} needs the {kind} {first.registered_name!r}, which is neither part of Keras nor "
        f"registered{also}; nothing was run. If you trust it, import the module that registers it with "
        f"@keras.saving.register_keras_serializable() first (command line: --import {package}), or load with "
        f"custom_objects={{{first.registered_name!r}: {first.name}}}."
    )


@dataclass(frozen=True, kw_only=True)
class CompiledLoss:
    """The loss with which one output was compiled.

    Attributes:
        name: In snake case and in full, whatever its spelling in the file: `mean_squared_error` for `mse`, `MSE` and
            `MeanSquaredError`. A custom loss keeps its own name.
        from_logits: Whether it takes the output as logits.
    """

    name: str
    from_logits: bool = False


CompiledLosses = CompiledLoss | tuple["CompiledLosses", ...] | dict[str, "CompiledLosses"] | None

_LOSS_ABBREVIATIONS = {
    "bce": "binary_crossentropy",
    "kld": "kl_divergence",
    "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error",
    "mse": "mean_squared_error",
    "msle": "mean_squared_logarithmic_error",
}


def parse_losses(config: Any) -> CompiledLosses:
    """Read the `loss` of a `compile_config`.

    Args:
        config: Its JSON: a name, a serialized loss or function, or a list or dict of them by output.

    Returns:
        One loss for all outputs; a tuple in the order of the outputs; a dict by output name; None where there is none.
    """
    if isinstance(config, str):
        return CompiledLoss(name=_full_name(config))
    if isinstance(config, list | tuple):
        return tuple(parse_losses(entry) for entry in config)
    if not isinstance(config, dict):
        return None
    if "class_name" not in config:
        return {name: parse_losses(entry) for name, entry in config.items()}
    inner = config.get("config")
    if isinstance(inner, str):
        return CompiledLoss(name=_full_name(inner))
    from_logits = isinstance(inner, dict) and inner.get("from_logits") is True
    return CompiledLoss(name=_full_name(str(config["class_name"])), from_logits=from_logits)


def _full_name(name: str) -> str:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    return _LOSS_ABBREVIATIONS.get(snake, snake)
