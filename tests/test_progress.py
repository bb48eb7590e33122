"""Progress: bars only on a terminal and only for what takes long, a callback for every step, clean streams after."""

from __future__ import annotations

import io
import sys
import time

import pytest

from analyzer.progress import Progress, printable

pytestmark = pytest.mark.plain


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return Terminal()


def wait_for(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("did not happen within ten seconds")


def test_a_callable_receives_every_step_at_once():
    seen = []
    with Progress(lambda *step: seen.append(step)) as progress:
        progress.step("fit", 0, 2)
        progress.step("fit", 2, 2)
    assert seen == [("fit", 0, 2), ("fit", 2, 2)]


def test_an_error_of_the_callable_stops_the_work():
    def cancel(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Progress(cancel) as progress:
        progress.step("fit", 1, 2)


def test_bars_appear_during_a_long_first_step_and_go(terminal):
    before = sys.stdout, sys.stderr
    with Progress(True, stream=terminal, delay=0.0) as progress:
        progress.step("reading [b]a[/b]\x1b[2J", 1, 4)
        wait_for(lambda: "1/4" in terminal.getvalue())
        progress.step("reading [b]a[/b]\x1b[2J", 3, 4)
        wait_for(lambda: "3/4" in terminal.getvalue())
    assert "reading [b]a[/b]\\x1b[2J" in terminal.getvalue()
    assert (sys.stdout, sys.stderr) == before
    after = terminal.getvalue()
    progress.step("late", 1, 2)
    assert terminal.getvalue() == after


def test_streams_are_given_back_after_an_error(terminal):
    before = sys.stdout, sys.stderr

    def work():
        with Progress(True, stream=terminal, delay=0.0) as progress:
            progress.step("fit", 1, 4)
            wait_for(lambda: "1/4" in terminal.getvalue())
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        work()
    assert (sys.stdout, sys.stderr) == before


def test_standard_output_into_a_file_is_left_alone(terminal, monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    with Progress(True, stream=terminal, delay=0.0) as progress:
        progress.step("fit", 1, 4)
        wait_for(lambda: "1/4" in terminal.getvalue())
        sys.stdout.write("for the file\n")
    assert file.getvalue() == "for the file\n"
    assert "for the file" not in terminal.getvalue()


def test_what_is_done_before_the_delay_draws_nothing(terminal):
    with Progress(True, stream=terminal, delay=60.0) as progress:
        progress.step("fit", 1, 2)
        progress.step("fit", 2, 2)
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("setting", [True, False])
def test_silent_when_not_a_terminal_or_not_wanted(terminal, setting):
    stream = io.StringIO() if setting else terminal
    with Progress(setting, stream=stream, delay=0.0) as progress:
        assert progress._timer is None
        progress.step("fit", 1, 2)
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain näme/1", "plain näme/1"),
        ("a\nb\t\x1b[31m", "a\\nb\\t\\x1b[31m"),
        ("\u202eevil", "\\u202eevil"),
        ("\ud800", "\\ud800"),
        ("👩‍🔬 [b]", "👩‍🔬 [b]"),
    ],
)
def test_printable_escapes_what_would_steer_a_terminal(text, shown):
    assert printable(text) == shown
