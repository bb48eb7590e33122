"""The three backend modules offer the same names with the same signatures; read, not imported."""

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.plain

BACKENDS = Path(__file__).parents[2] / "analyzer" / "backends"
MODULES = ("jax", "tensorflow", "torch")


def tree(name):
    return ast.parse((BACKENDS / f"{name}.py").read_text(encoding="utf-8"))


def protocol(name="Engine"):
    return next(node for node in tree("contract").body if isinstance(node, ast.ClassDef) and node.name == name)


def signature(function, *, method=False):
    """Arguments with their annotations, and what is returned."""
    arguments = ast.unparse(function.args)
    if method:
        arguments = arguments.removeprefix("self").removeprefix(", ")
    returned = ast.unparse(function.returns)
    # A context manager's generator function is annotated by what it yields.
    is_scope = any("contextmanager" in ast.unparse(decorator) for decorator in function.decorator_list)
    return arguments, returned.replace("Iterator[", "AbstractContextManager[") if is_scope else returned


def functions(body, *, method=False):
    return {
        node.name: signature(node, method=method)
        for node in body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


@pytest.mark.parametrize("name", MODULES)
def test_functions_and_signatures_are_those_of_the_protocol(name):
    assert functions(tree(name).body) == functions(protocol().body, method=True)


@pytest.mark.parametrize("name", MODULES)
def test_relevance_ops_have_the_functions_and_signatures_of_their_protocol(name):
    assert functions(tree(f"{name}_relevance").body) == functions(protocol("RelevanceOps").body, method=True)


@pytest.mark.parametrize("name", MODULES)
def test_name_is_what_keras_calls_the_backend(name):
    assigned = {
        target.id: node.value.value
        for node in tree(name).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
    }
    assert assigned["name"] == name
    assert "name" in {node.target.id for node in protocol().body if isinstance(node, ast.AnnAssign)}


def test_every_function_of_the_protocol_is_documented():
    members = [*protocol().body, *protocol("RelevanceOps").body]
    undocumented = [n.name for n in members if isinstance(n, ast.FunctionDef) and not ast.get_docstring(n)]
    assert undocumented == []


def test_there_is_a_module_for_each_backend_and_no_other():
    found = {path.stem for path in BACKENDS.glob("*.py") if not path.stem.startswith("reference")}
    relevance = {f"{name}_relevance" for name in MODULES}
    assert found == {*MODULES, *relevance, "__init__", "contract", "loader"}
