"""`keras.ops` as it is while user code sees our wrappers: rules compute with these."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import keras

ops: Any = SimpleNamespace(**{name: getattr(keras.ops, name) for name in dir(keras.ops) if not name.startswith("_")})
"""Every public operation of `keras.ops`, taken when this module was imported."""
