"""The project's own rules: who imports whom, what stays unimported, what is shipped, how long a file may be."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "analyzer"
FRAMEWORKS = {"tensorflow", "jax", "jaxlib", "torch"}
LONGEST_FILE = 800


def modules() -> list[Path]:
    found = sorted(PACKAGE.rglob("*.py"))
    assert found, "no module found: these tests would pass on nothing"
    return found


def named(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module name that is imported anywhere in a file, also inside functions and by name as a string."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            literal = node.args[0] if node.args else None
            if isinstance(literal, ast.Constant):
                yield str(literal.value), node.lineno


def private_keras(path: Path) -> list[int]:
    """Lines that reach `keras.src`, by an import or by attribute."""
    lines = [line for name, line in imports(path) if name.startswith("keras.src")]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "src")
    return lines + [node.lineno for node in attributes if ast.unparse(node) == "keras.src"]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


class TestImports:
    @pytest.mark.plain
    def test_nothing_reaches_keras_src(self):
        assert {named(path): lines for path in modules() if (lines := private_keras(path))} == {}

    @pytest.mark.plain
    def test_no_framework_outside_backends(self):
        offenders = [
            f"{named(path)}:{line} {name}"
            for path in modules()
            if PACKAGE / "backends" not in path.parents
            for name, line in imports(path)
            if name.split(".")[0] in FRAMEWORKS
        ]
        assert offenders == []

    @pytest.mark.plain
    def test_the_finder_of_imports_sees_all_kinds(self, tmp_path):
        file = tmp_path / "guilty.py"
        file.write_text(
            "import keras\n"
            "def f():\n    import jax.numpy\n    from torch import nn\n"
            "import importlib\nimportlib.import_module('tensorflow')\nkeras.src.backend\nfrom keras.src import ops\n"
        )
        assert {name for name, _ in imports(file)} >= {"jax.numpy", "torch.nn", "tensorflow"}
        assert private_keras(file) == [8, 7]

    @pytest.mark.plain
    def test_rooms_hold(self):
        linter = run("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache")
        assert "0 broken" in linter.stdout, linter.stdout + linter.stderr
        assert linter.returncode == 0

    @pytest.mark.plain
    @pytest.mark.parametrize(
        "code",
        [
            "import analyzer",
            "from analyzer import AnalysisConfig, AnalysisResults",
            "import analyzer.cli",
            "import runpy; sys.argv = ['analyzer', '--help']\n"
            "try: runpy.run_module('analyzer', run_name='__main__')\n"
            "except SystemExit as stop: assert not stop.code, stop.code",
        ],
        ids=["package", "results", "cli", "help"],
    )
    def test_import_and_help_load_neither_keras_nor_matplotlib(self, code):
        heavy = sorted({"keras", "matplotlib", "seaborn"} | FRAMEWORKS)
        done = run("-c", f"import sys\n{code}\nprint('loaded:', [m for m in {heavy} if m in sys.modules])")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "loaded: []"

    @pytest.mark.plain
    def test_public_names_are_listed_and_unknown_ones_refused(self):
        import analyzer

        assert {"ModelAnalyzer", "AnalysisConfig", "AnalysisResults", "DataInput"} <= set(dir(analyzer))
        with pytest.raises(AttributeError, match="no_such_name"):
            _ = analyzer.no_such_name


@pytest.mark.plain
class TestFiles:
    def test_every_module_can_be_read_in_one_sitting(self):
        lengths = {named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
        assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}

    def test_no_test_is_skipped_or_expected_to_fail(self):
        word = re.compile(r"\b(skip|skipif|xfail|importorskip)\s*\(|mark\.(skip|skipif|xfail)\b")
        guilty = [
            f"{named(path)}:{number}"
            for path in sorted((REPOSITORY / "tests").rglob("*.py"))
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
            if word.search(line) and path != Path(__file__)
        ]
        assert guilty == []


@pytest.mark.plain
class TestPackaging:
    @pytest.fixture
    def project(self):
        return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    @staticmethod
    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[^A-Za-z0-9_.-]", line)[0].lower() for line in requirements}

    def test_no_backend_is_a_dependency(self, project):
        assert self.names(project["dependencies"]) & FRAMEWORKS == set()
        assert {"tensorflow", "jax", "torch", "all", "dev"} <= set(project["optional-dependencies"])

    def test_leg_without_keras_has_every_other_dependency(self, project):
        lines = (REPOSITORY / "constraints" / "plain.txt").read_text(encoding="utf-8").splitlines()
        plain = self.names([line for line in lines if line and not line.startswith("#")])
        needed = self.names(project["dependencies"]) - {"keras"}
        assert needed <= plain
        assert plain - needed <= self.names(project["optional-dependencies"]["dev"])

    def test_floor_is_what_the_project_promises(self, project):
        lines = (REPOSITORY / "constraints" / "floor.txt").read_text(encoding="utf-8").splitlines()
        floor = dict(line.split("==") for line in lines if "==" in line)
        promised = dict(
            re.split(r"[^\w.-]+", line) for line in project["dependencies"] + project["optional-dependencies"]["jax"]
        )
        different = {
            name: (version, floor.get(name))
            for name, version in promised.items()
            if not f"{floor.get(name)}.".startswith(f"{version}.")
        }
        assert different == {}

    def test_every_requirement_is_pinned(self, project):
        pinned = self.names((REPOSITORY / "constraints" / "py311.txt").read_text(encoding="utf-8").splitlines())
        optional = project["optional-dependencies"]
        extras = [line for extra in ("tensorflow", "jax", "torch", "pareto", "dev") for line in optional[extra]]
        assert self.names(project["dependencies"] + extras) <= pinned


@pytest.mark.plain
@pytest.mark.slow
def test_wheel_holds_the_package_and_nothing_else(tmp_path):
    built = run("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), ".")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("keras_analyzer-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "keras-analyzer = analyzer.cli:main" in archive.read(entry_points).decode()
    tree = (path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert shipped == {named(path) for path in tree}
    assert "analyzer/py.typed" in shipped
