"""The base class of every analysis."""

from __future__ import annotations

import abc
import functools
import logging
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from analyzer.data_types.values import Failed, Skipped
from analyzer.errors import Unsupported

if TYPE_CHECKING:
    from analyzer.config import AnalysisConfig
    from analyzer.data_types import AnalysisResults, DataInput
    from analyzer.inspection.needs import Need

logger = logging.getLogger("analyzer")

REFERENCE = "reference"
"""Key of what was gathered from the reference data, within the material of a model."""


class BaseAnalyzer(abc.ABC):
    """Measures one aspect of models.

    A subclass says what it `needs`, and turns the gathered material into results. It neither runs models over data,
    nor draws, nor writes files: the coordinator does.

    Attributes:
        name: Key of the analysis in results, in JSON and on the command line; the class name where not given.
        models: Mapping from model name to Keras model. A model given as a path is opened when it is asked for.
        config: The options of the run.
        progress: Told what is being done, steps done and steps in all, where `analyze` takes over a second.
    """

    name: ClassVar[str] = ""

    def __init__(self, models: Mapping[str, Any], config: AnalysisConfig) -> None:
        self.models = models
        self.config = config
        self.progress: Callable[[str, int, int], None] = _untold

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A name that a base class was given is inherited; one that it got from its class is not.
        if "name" not in vars(cls) and cls.name in ("", *(base.__name__ for base in cls.__mro__[1:])):
            cls.name = cls.__name__

    @abc.abstractmethod
    def requires_data(self) -> bool:
        """Whether the analysis can only run when data were given."""

    def needs(self) -> tuple[Need, ...]:
        """What must be gathered from each model before `analyze` is called; nothing by default."""
        return ()

    def compared_needs(self) -> tuple[Need, ...]:
        """What must be gathered from the data and from the reference data, where these are given."""
        return ()

    @abc.abstractmethod
    def analyze(self, results: AnalysisResults, data: DataInput | None, cache: Mapping[str, Any]) -> None:
        """Turn material into results.

        Args:
            results: Receives the outcome, as attribute ``results.<name>[model_name]`` or, for plugins, under any
                attribute name that is not reserved.
            data: The samples looked at (already drawn), or None.
            cache: ``cache[model_name][need]`` holds what was gathered for each need, and
                ``cache[model_name]["predictions"]`` the raw outputs where data were given, and
                ``cache[model_name]["reference"]`` what was gathered from the reference data, by need.
        """

    def each_model(self, work: Callable[[str], Any]) -> dict[str, Any]:
        """Do the work for every model; one that does not apply or breaks never loses another.

        Args:
            work: Makes the result of the model of that name, or raises `Unsupported` with the reason to skip it.

        Returns:
            Result, `Skipped` or `Failed`, by model name.
        """
        outcomes = {name: outcome(functools.partial(work, name)) for name in self.models}
        level = logging.INFO if self.config.verbose else logging.DEBUG
        for name, result in outcomes.items():
            reason = f": {result.reason}" if isinstance(result, Skipped | Failed) else ""
            logger.log(level, "%s of %s: %s%s", self.name, name, getattr(result, "status", "ok"), reason)
        return outcomes


def _untold(_what: str, _done: int, _total: int) -> None:
    """Nobody listens."""


def outcome(work: Callable[[], Any]) -> Any:
    """What the work returns, `Skipped` if it raises `Unsupported`, and `Failed` if it breaks.

    Args:
        work: Anything without arguments.
    """
    try:
        return work()
    except Unsupported as reason:
        return Skipped(str(reason))
    except Exception as error:
        logger.debug("the full error", exc_info=error)
        return failed(error)


def failed(error: BaseException) -> Failed:
    """An error as a result: its type and message, and the innermost place in a file."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].name}, line {frames[-1].lineno} of {Path(frames[-1].filename).name}" if frames else "?"
    return Failed(f"{type(error).__name__}: {error}", where)


def material(cache: Mapping[str, Any], model_name: str, need: Need) -> Any:
    """What was gathered from a model for a need.

    Args:
        cache: As `BaseAnalyzer.analyze` receives it.
        model_name: Name of the model.
        need: One of the analyzer's needs.

    Raises:
        Unsupported: If it could not be had, with the reason.
        AnalyzerError: If the model could not be opened or run.
    """
    found = cache[model_name][need]
    if isinstance(found, Skipped):
        raise Unsupported(found.reason)
    if isinstance(found, Exception):
        raise found
    return found
