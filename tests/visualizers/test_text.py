"""Names on figures: measured, wrapped, shortened in the middle, different for different names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.visualizers.text import NameBook, displayable, elide, text_width, wrap

pytestmark = pytest.mark.plain


@given(st.text(max_size=40))
def test_displayable_text_has_no_hidden_characters_and_loses_nothing(text):
    shown = displayable(text)
    assert shown.isprintable()
    assert displayable(shown) == shown
    assert len(shown) >= len(text)


def test_what_cannot_be_shown_is_written_as_its_code():
    assert displayable("a🚀b") == "a[U+1F680]b"
    assert displayable("x\u202ey") == "x[U+202E]y"
    assert displayable("tab\there") == "tab\\there"
    assert displayable("Modèle Ω β₁ – ünï") == "Modèle Ω β₁ – ünï"


@given(st.text(alphabet="abc_-/. WÄ", min_size=1, max_size=120), st.floats(20, 200))
def test_wrapped_lines_fit_and_keep_every_character(text, width):
    lines = wrap(text, width, 8)
    assert all(text_width(line, 8) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_lines_break_between_words_not_in_numbers():
    assert wrap("ECE 0.036 [0.016, 0.056]", text_width("ECE 0.036 [0.016,", 8) + 1, 8) == [
        "ECE 0.036 [0.016,",
        "0.056]",
    ]


def test_elided_text_keeps_both_ends():
    short = elide("a" * 100 + "z" * 100, 60, 8)
    assert text_width(short, 8) <= 60
    assert short.startswith("aa")
    assert short.endswith("zz")
    assert "…" in short


def test_width_grows_with_size_and_weight():
    assert text_width("model", 16) == pytest.approx(2 * text_width("model", 8), rel=0.05)
    assert text_width("model", 8, bold=True) > text_width("model", 8)


def test_labels_of_different_names_differ_and_full_names_are_kept():
    book = NameBook()
    names = ["x" * 200 + f"{i}" + "y" * 200 for i in range(12)]
    labels = [book.label(name, 60, 7) for name in names]
    assert len(set(labels)) == 12
    assert sorted(book.elided.values()) == sorted(names)
    assert labels == [book.label(name, 60, 7) for name in names]
    assert book.label("short", 60, 7) == "short"
    assert len(book.notes()) == 12
