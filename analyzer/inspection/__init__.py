"""Opening Keras models without touching them.

Names resolve on first use: looking at a file (`model_file.preflight`) and at names must not import Keras.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analyzer.inspection.view import LayerInfo, ModelView, VariableInfo, open_model

__all__ = ["LayerInfo", "ModelView", "VariableInfo", "open_model"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from analyzer.inspection import view

    return getattr(view, name)
