"""Names and sentences on figures: measured, wrapped, shortened in the middle, and never read as mathematics.

Any string is a legal name. What no font can show, and what would move or hide other text, is written as its code.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from matplotlib import font_manager

FALLBACK_FAMILIES = (
    "Noto Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans Symbols2",
    "Arial Unicode MS",
    "Microsoft YaHei",
    "PingFang SC",
    "WenQuanYi Micro Hei",
)
"""Families looked at for characters that DejaVu Sans, which comes with matplotlib, does not have."""

ELLIPSIS = "…"
_FINE = 10
"""Type is measured at this multiple of 72 dpi: at screen sizes hinting rounds every letter to whole pixels."""

_ALLOWANCE = 1.02
"""What rounding may add on the page."""

_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


@functools.cache
def families() -> tuple[str, ...]:
    """The font families to draw with: DejaVu Sans and the installed ones of `FALLBACK_FAMILIES`."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ("DejaVu Sans", *(name for name in FALLBACK_FAMILIES if name in installed))


@functools.cache
def _paths(*, bold: bool) -> list[str]:
    weight = "bold" if bold else "normal"
    return [font_manager.findfont(font_manager.FontProperties(family=[f], weight=weight)) for f in families()]


@functools.cache
def _known_characters() -> frozenset[int]:
    return frozenset(code for path in _paths(bold=False) for code in font_manager.get_font(path).get_charmap())


@functools.lru_cache(maxsize=4096)
def displayable(text: str) -> str:
    """The text with every character that cannot be shown replaced by its code, e.g. ``[U+1F680]``.

    Args:
        text: Any string.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    # Not printable: control and format characters (right-to-left marks, zero-width joiners), odd spaces, surrogates.
    if not character.isprintable() or ord(character) not in _known_characters():
        return f"[U+{ord(character):04X}]"
    return character


@functools.lru_cache(maxsize=16384)
def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width of one line in points.

    Args:
        text: The line, as `displayable` returns it.
        size: Font size in points.
        bold: Whether it is drawn bold.
    """
    font = font_manager.get_font(_paths(bold=bold))
    font.set_size(size, 72 * _FINE)
    font.set_text(text, 0.0)
    return _ALLOWANCE * float(font.get_width_height()[0]) / 64 / _FINE


def elide(text: str, width: float, size: float) -> str:
    """The text with its middle left out, so that it is no wider than ``width`` points.

    Args:
        text: One line.
        width: Room in points.
        size: Font size in points.
    """
    if text_width(text, size) <= width:
        return text
    fits, too_many = 2, len(text)
    while too_many - fits > 1:
        kept = (fits + too_many) // 2
        if text_width(_without_middle(text, kept), size) <= width:
            fits = kept
        else:
            too_many = kept
    return _without_middle(text, fits)


def _without_middle(text: str, kept: int) -> str:
    tail = kept // 2
    return text[: kept - tail] + ELLIPSIS + text[len(text) - tail :]


def wrap(text: str, width: float, size: float, *, bold: bool = False) -> list[str]:
    """Break a text into lines of at most ``width`` points, at spaces and signs where there are any.

    Args:
        text: The text, as `displayable` returns it; line breaks in it are kept.
        width: Room in points.
        size: Font size in points.
        bold: Whether it is drawn bold.
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for piece in _pieces(paragraph, width, size):
            if line and text_width((line + piece).rstrip(), size, bold=bold) > width:
                lines.append(line.rstrip())
                line = ""
            line += piece
        lines.append(line.rstrip())
    return lines


def _pieces(text: str, width: float, size: float) -> list[str]:
    """Parts between which a line may break: words; of words wider than a line, parts of names, then letters."""
    pieces: list[str] = []
    for word in re.findall(r"\S*\s+|\S+", text):
        if text_width(word.rstrip(), size) <= width:
            pieces.append(word)
            continue
        for part in re.findall(r"[^_/.\-]*[_/.\-]+|[^_/.\-]+", word):
            pieces.extend(part if text_width(part, size) > width else [part])
    return pieces


class NameBook:
    """Labels of one figure: as short as they have to be, different for different names, with the full ones kept.

    Attributes:
        elided: Full name (displayable) by label, for every name that was shortened.
    """

    def __init__(self) -> None:
        self.elided: dict[str, str] = {}
        self._labels: dict[tuple[str, float, float, int], str] = {}
        self._taken: dict[str, str] = {}

    def label(self, name: str, width: float, size: float, *, lines: int = 1) -> str:
        """The label of a name: whole where it fits, else without its middle.

        Args:
            name: The name.
            width: Room in points.
            size: Font size in points.
            lines: Lines that the label may take.
        """
        key = (name, width, size, lines)
        if key not in self._labels:
            self._labels[key] = self._new_label(name, width, size, lines)
        return self._labels[key]

    def _new_label(self, name: str, width: float, size: float, lines: int) -> str:
        whole = displayable(name)
        label, mark, budget = "\n".join(wrap(whole, width, size)), "", width * lines
        while label.count("\n") >= lines or self._taken.get(label, name) != name:
            if label.count("\n") < lines:
                mark = f" #{len(self._taken) + 1}"
            budget -= 0.02 * width
            short = elide(whole, budget - text_width(mark, size), size) + mark
            label = "\n".join(wrap(short, width, size))
        self._taken[label] = name
        if label.replace("\n", "").replace(" ", "") != whole.replace(" ", ""):
            self.elided[label.replace("\n", "")] = whole
        return label

    def notes(self) -> Sequence[str]:
        """One line per shortened name, with the name in full."""
        return [f"{label} = {whole}" for label, whole in self.elided.items()]
