"""File names that cannot escape or collide, and model names for the command line."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from analyzer.errors import ConfigError, ModelError, OutputError
from analyzer.inspection.names import model_names_from_paths, safe_join, slug

pytestmark = pytest.mark.plain

HOSTILE = [
    "../x",
    "..",
    ".",
    "",
    "/etc/passwd",
    "<b>",
    "a" * 300,
    "🦊",
    "con",
    "nul.txt",
    "NUL.0",
    "com1",
    "x.",
    "x ",
    " x",
    "a\0b",
    "C:\\x",
    "~",
    "-rf",
    ".hidden",
    "\ud800",
    "Model",
    "model",
]
# Made so that chance finds what matters: separators, dots, letters of both cases, and what looks like a hash.
names = st.one_of(
    st.text(st.characters(), max_size=300),
    st.text("aA./\\-_0", max_size=6),
    st.from_regex(r"[a-z]{0,3}-[0-9a-f]{12}", fullmatch=True),
    st.sampled_from(HOSTILE),
)


@pytest.mark.parametrize("name", ["a", "conv2d_1", "resnet-50.v2", "model", "0", "a" * 64])
def test_a_plain_name_is_its_own_slug(name):
    assert slug(name) == name


@given(names)
@example("NUL.0")
@example("Aux.v2.keras")
def test_a_slug_is_a_harmless_file_name(name):
    made = slug(name)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", made)
    assert not made.endswith(".")
    assert made.split(".")[0].lower() not in {"con", "prn", "aux", "nul", "com1", "lpt1"}


@given(names, names)
def test_different_names_have_different_slugs_even_where_case_does_not_count(first, second):
    assert (slug(first).lower() == slug(second).lower()) == (first == second)


@given(names)
def test_a_slug_used_as_a_name_does_not_take_the_place_of_another(name):
    made = slug(name)
    assert made == name or slug(made) != made


def test_a_slug_stays_readable():
    assert slug("My Model (v2)").startswith("My-Model-v2-")


@pytest.mark.parametrize("name", HOSTILE)
def test_files_of_hostile_names_stay_in_their_folder(tmp_path, name):
    path = safe_join(tmp_path, f"{slug(name)}_weights.png")
    path.write_text("drawn")
    assert [child.read_text() for child in tmp_path.iterdir()] == ["drawn"]


@pytest.mark.parametrize(
    "name",
    ["../x", "..", ".", "", "/etc/passwd", "a/../../x", "a//b", "a\0b", "C:/x", "C:\\x", "..\\x", "\\\\server\\x"],
)
def test_a_file_name_that_leads_out_is_refused(tmp_path, name):
    with pytest.raises(OutputError, match="would lead out"):
        safe_join(tmp_path, name)


def test_a_link_that_leads_out_is_refused(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="would lead out"):
        safe_join(inside, "link/x.png")
    assert safe_join(inside, "sub/x.png") == inside / "sub" / "x.png"


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ["a.keras", "b.v2.keras", "lr=0.1.keras", "runs/a.keras"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def test_models_are_named_after_their_files_or_by_the_user(models):
    found = model_names_from_paths(["b.v2.keras", "last run=runs/a.keras", str(models / "a.keras")])
    assert found == {"b.v2": Path("b.v2.keras"), "last run": Path("runs/a.keras"), "a": models / "a.keras"}
    assert list(found) == ["b.v2", "last run", "a"]


def test_an_equals_sign_in_a_path_or_a_name_is_understood(models):
    assert model_names_from_paths(["lr=0.1.keras"]) == {"lr=0.1": Path("lr=0.1.keras")}
    assert model_names_from_paths(["x=lr=0.1.keras"]) == {"x": Path("lr=0.1.keras")}
    assert model_names_from_paths(["p=1=a.keras"]) == {"p=1": Path("a.keras")}


def test_a_home_folder_after_a_name_is_understood(models, monkeypatch):
    monkeypatch.setenv("HOME", str(models))
    assert model_names_from_paths(["mine=~/a.keras"]) == {"mine": models / "a.keras"}


def test_two_models_of_one_name_are_refused_with_both_paths_and_the_way_out(models):
    with pytest.raises(ConfigError, match=r"'a'.*'a\.keras'.*'runs/a\.keras'.*name=path") as caught:
        model_names_from_paths(["a.keras", "runs/a.keras"])
    fix = re.search(r"example (\S+)\.$", str(caught.value)).group(1)
    assert model_names_from_paths(["a.keras", fix]) == {"a": Path("a.keras"), "a_2": Path("runs/a.keras")}


def test_an_empty_name_is_refused(models):
    with pytest.raises(ConfigError, match="empty model name"):
        model_names_from_paths(["=a.keras"])


@pytest.mark.parametrize(
    ("spec", "missing"),
    [("c.keras", "c.keras"), ("x=c.keras", "c.keras"), ("", ""), ("a=", ""), ("y" * 5000, "yyy"), ("a\0b", "a")],
)
def test_a_file_that_is_not_there_is_said_to_be_missing(models, spec, missing):
    with pytest.raises(ModelError, match=f"no model file '{missing}"):
        model_names_from_paths([spec])
