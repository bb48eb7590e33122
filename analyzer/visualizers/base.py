"""The base class of everything that draws figures into files."""

from __future__ import annotations

import abc
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import matplotlib

from analyzer.errors import ConfigError, OutputError
from analyzer.visualizers.series import LABEL_SHARE, Cast, Series, cast_of
from analyzer.visualizers.sheet import Row, compose
from analyzer.visualizers.style import HASH_SALT, STYLES, PlotStyle, style_context
from analyzer.visualizers.text import NameBook

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analyzer.config import AnalysisConfig
    from analyzer.data_types import AnalysisResults

# What would differ between two equal runs is left out of files.
_METADATA: dict[str, dict[str, Any]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}

MOST_PIXELS = 60_000
"""Along one side of a raster figure: Matplotlib draws fewer than 65,536."""


class BaseVisualizer(abc.ABC):
    """Draws one aspect of results; it never sees a model.

    A subclass draws in `create_visualizations`, with pyplot or without, and writes each figure by `_save_figure`.

    Attributes:
        name: Key of the visualizer; the class name where not given.
        results: What was found.
        config: The options of the run.
        output_dir: Folder of the figures.
        model_colors: Colour by model name, the same in every figure.
    """

    name: ClassVar[str] = ""

    def __init__(
        self,
        results: AnalysisResults,
        config: AnalysisConfig,
        output_dir: str | Path,
        model_colors: Mapping[str, str],
    ) -> None:
        self.results = results
        self.config = config
        self.output_dir = Path(output_dir)
        self.model_colors = dict(model_colors)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A name that a base class was given is inherited; one that it got from its class is not.
        if "name" not in vars(cls) and cls.name in ("", *(base.__name__ for base in cls.__mro__[1:])):
            cls.name = cls.__name__

    @abc.abstractmethod
    def create_visualizations(self) -> None:
        """Draw, and write the figures where ``config.save_plots`` asks for it."""

    @property
    def style(self) -> PlotStyle:
        """The plot style that the options name."""
        return STYLES[self.config.plot_style]

    def _save_figure(self, fig: Figure, name: str) -> Path:
        """Write a figure as ``<output_dir>/<name>.<save_format>``, the same bytes in every run.

        Args:
            fig: The figure; it stays open.
            name: Plain file name without folder and suffix.

        Returns:
            The file.

        Raises:
            ConfigError: If the name is not a plain file name.
            OutputError: If the folder cannot be written.
        """
        if not name or name.startswith(".") or any(c in '/\\:*?"<>|' or not c.isprintable() for c in name):
            raise ConfigError(f"{name!r} is no name for a figure: expected a plain file name without folder or suffix.")
        kind, style = self.config.save_format, self.style
        dpi = self.config.dpi if style.most_dpi is None else min(self.config.dpi, style.most_dpi)
        if kind == "png":
            dpi = min(dpi, int(MOST_PIXELS / max(fig.get_size_inches())))
        buffer = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": HASH_SALT}):
            fig.savefig(buffer, format=kind, dpi=dpi, metadata=_METADATA[kind])
        path = self.output_dir / f"{name}.{kind}"
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            path.write_bytes(buffer.getbuffer())
        except OSError as error:
            raise OutputError(f"The figure cannot be written to {path}: {error.strerror}.") from error
        return path


class FigureVisualizer(BaseVisualizer):
    """A visualizer of one figure that is made of panels.

    Attributes:
        file_name: Name of its file, without suffix.
        title: What stands on top of the figure.
    """

    file_name: ClassVar[str]
    title: ClassVar[str]

    @abc.abstractmethod
    def rows(self, book: NameBook) -> tuple[list[Row], Sequence[Series], list[str]]:
        """The panels, the models of the legend, and the notes; no rows where there is nothing to draw.

        Args:
            book: Makes the labels of the figure.
        """

    def figure(self) -> Figure | None:
        """Draw the figure without writing it; None where there is nothing to draw."""
        with style_context(self.style):
            return self._compose()

    def create_visualizations(self) -> None:
        """Draw the figure and write it, if figures are to be written and there is something to draw."""
        if not self.config.save_plots:
            return
        with style_context(self.style):
            figure = self._compose()
            if figure is not None:
                self._save_figure(figure, self.file_name)

    def _compose(self) -> Figure | None:
        book = NameBook()
        rows, key, notes = self.rows(book)
        return compose(self.title, rows, key, notes, self.style, book) if rows else None

    def cast(self, results: Mapping[str, Any], book: NameBook) -> Cast:
        """Results by model with the looks of this run.

        Args:
            results: Model name to result.
            book: Makes the labels.
        """
        room = LABEL_SHARE * 72 * self.style.width / 2
        return cast_of(results, self.results.model_names, self.model_colors, book, room, self.style.small)


def grid_rows(cells: Sequence[Any], columns: int, height: float) -> list[Row]:
    """Cells in rows of equal panels; the last row may have fewer.

    Args:
        cells: The panels.
        columns: Panels in a row.
        height: Height of a row in inches.
    """
    starts = range(0, len(cells), columns)
    return [Row(cells=tuple(cells[i : i + columns]), height=height, columns=columns) for i in starts]
