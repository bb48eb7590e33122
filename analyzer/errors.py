"""The public exceptions of keras-analyzer.

Each one derives from :class:`AnalyzerError` and from the built-in exception that a caller would reach for, so both
``except AnalyzerError`` and ``except ValueError`` do what is expected. Every message says what came, what was expected
and how to fix it.
"""


class AnalyzerError(Exception):
    """Base class of everything that keras-analyzer raises on purpose."""


class ConfigError(AnalyzerError, ValueError):
    """An option has an unknown name or a value outside its range."""


class DataError(AnalyzerError, ValueError):
    """The data do not fit each other, the model or the analysis."""


class ModelError(AnalyzerError, ValueError):
    """A model cannot be opened: never built, unreadable, or of an unsupported kind."""


class UnsafeModelError(ModelError):
    """Loading this model file could run code that its author put there."""


class MissingExtraError(AnalyzerError, ImportError):
    """An optional dependency is needed; the message names the extra that installs it."""


class OutputError(AnalyzerError, OSError):
    """The output folder cannot be created or written."""


class DeviceMemoryError(AnalyzerError, MemoryError):
    """One sample alone does not fit into the device's memory."""


class Unsupported(AnalyzerError):
    """An analysis does not apply to this model or data; recorded as ``Skipped`` with the message as reason."""
