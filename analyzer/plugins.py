"""Classes that others bring: found by entry points, checked, and named in full where they are broken."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from importlib.metadata import EntryPoint
from typing import Any

from analyzer.errors import ConfigError

logger = logging.getLogger("analyzer")

BROKEN = (Exception, SystemExit)
"""What somebody else's code may raise without ending the run; an interrupt by the user still does."""

_told: set[tuple[str, str, str]] = set()


def described(thing: object) -> str:
    """How a warning names a class or an instance of it: ``'name' (module.Class)``.

    Args:
        thing: The class, or an instance.
    """
    cls = thing if isinstance(thing, type) else type(thing)
    return f"{getattr(cls, 'name', cls.__name__)!r} ({cls.__module__}.{cls.__qualname__})"


def check_plugin(cls: object, base: type, kind: str, taken: Collection[str], *, reserved: Collection[str] = ()) -> None:
    """Refuse what cannot be run under its name.

    Args:
        cls: The class.
        base: What it must be a subclass of.
        kind: What it is, with its article: ``"An analyzer"``.
        taken: Names that other classes have.
        reserved: Names that mean something else.

    Raises:
        ConfigError: If it is no such class, or its name is none, taken or reserved.
    """
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise ConfigError(f"{cls!r} is no subclass of {base.__name__}; expected a subclass of {base.__name__}.")
    name: object = getattr(cls, "name", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigError(f"{cls.__name__} has the name {name!r}: expected a word of letters, digits and underscores.")
    if name in taken:
        raise ConfigError(f"{kind} named {name!r} exists already. Give {cls.__name__} another `name`: it is taken.")
    if name in reserved:
        raise ConfigError(f"{name!r} is a name of AnalysisResults itself. Give {cls.__name__} another `name`.")


def installed(points: Iterable[EntryPoint], kind: str, check: Callable[[Any, Collection[str]], None]) -> dict[str, Any]:
    """Classes that installed packages offer, by name; each broken one is a warning, once in a process.

    Args:
        points: Entry points of the group.
        kind: What they offer, for the warning: ``"analyzer"`` or ``"visualizer"``.
        check: Raises where a class does not do; receives the class and the names found so far.
    """
    found: dict[str, Any] = {}
    for point in points:
        try:
            cls = point.load()
            check(cls, found)
        except BROKEN as error:
            _warn_once(point, kind, error)
        else:
            found[cls.name] = cls
    return found


def _warn_once(point: EntryPoint, kind: str, error: BaseException) -> None:
    key = (kind, point.name, point.value)
    if key in _told:
        return
    _told.add(key)
    package = getattr(getattr(point, "dist", None), "name", None)
    where = point.value if package is None else f"{point.value}, of package {package}"
    logger.warning(
        "the %s plugin %r cannot be loaded: %s: %s (%s)", kind, point.name, type(error).__name__, error, where
    )
