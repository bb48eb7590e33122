"""Opening Keras models without touching them."""

from analyzer.inspection.view import LayerInfo, ModelView, VariableInfo, open_model

__all__ = ["LayerInfo", "ModelView", "VariableInfo", "open_model"]
