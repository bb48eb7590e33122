"""The user's models by name: live ones, and files that are opened when asked for and let go again."""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras

from analyzer.errors import ModelError
from analyzer.inspection.model_config import CompiledLosses, parse_losses
from analyzer.inspection.model_file import ModelFileFacts, load, preflight
from analyzer.inspection.view import check_built


class ModelSources(Mapping[str, keras.Model]):
    """Models by name; a model given as a path is loaded when it is asked for, and kept only inside `opened`.

    Args:
        models: Model name to a built Keras model, or to the path of a ``.keras`` file.

    Raises:
        ModelError: If there is no model, a name is empty, or a live model was never built.
    """

    def __init__(self, models: Mapping[str, Any]) -> None:
        if not isinstance(models, Mapping) or not models:
            raise ModelError(f"models={models!r}: expected a mapping with at least one {{name: keras.Model or path}}.")
        for name, model in models.items():
            if not isinstance(name, str) or not name:
                raise ModelError(f"A model is named {name!r}; expected a string that is not empty.")
            if not isinstance(model, str | Path):
                check_built(model)
            elif not Path(model).exists():
                raise ModelError(f"There is no file {str(model)!r} (model {name!r}). Check the path.")
        self._given = dict(models)
        self._open: dict[str, keras.Model] = {}
        self.facts: dict[str, ModelFileFacts] = {}

    def __getitem__(self, name: str) -> keras.Model:
        """The model of that name.

        Raises:
            ModelError: If its file cannot be opened; `UnsafeModelError` if that could run code.
        """
        given = self._given[name]
        if not isinstance(given, str | Path):
            return given
        if name not in self._open:
            self.facts[name] = preflight(given)
            model = load(given)
            check_built(model)
            return model
        return self._open[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[keras.Model]:
        """Keep one model open for a while; a loaded one is let go afterwards.

        Args:
            name: Name of the model.
        """
        model = self[name]
        is_file = isinstance(self._given[name], str | Path)
        if is_file:
            self._open[name] = model
        try:
            yield model
        finally:
            if is_file:
                del self._open[name], model
                gc.collect()

    def compile_config(self, name: str) -> dict[str, Any]:
        """Loss and metrics that the model was compiled with, as plain values; empty where it was not compiled.

        For a live model ``live_loss`` holds the loss itself: the plain values of some losses lack their parameters.
        """
        if name in self.facts:
            facts = self.facts[name]
            return {"loss": facts.loss, "metrics": facts.metrics, "weighted_metrics": facts.weighted_metrics}
        given = self._given[name]
        if isinstance(given, str | Path) or not getattr(given, "compiled", False):
            return {}
        try:
            with warnings.catch_warnings():
                # Keras warns that a lambda is unsafe to save; nothing is saved here.
                warnings.simplefilter("ignore")
                return dict(given.get_compile_config() or {}) | {"live_loss": given.loss}
        except (TypeError, ValueError, AttributeError, NotImplementedError):
            # A loss or metric of the user's own that cannot be serialised says nothing about the task.
            return {}

    def losses(self, name: str) -> CompiledLosses:
        """The compiled losses of a model."""
        return parse_losses(self.compile_config(name).get("loss"))
