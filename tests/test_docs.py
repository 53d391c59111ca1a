"""Tests of what is written about the code: docstrings, the README and its links."""

import ast
import re
from pathlib import Path

import pytest

from airflow_provider_clusterra import api
from tests.support.words import all_texts

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "airflow_provider_clusterra"
SERVER = ROOT / "server/clusterra_server"
DOORS = (
    *("operators/jobs.py", "operators/cancel.py", "operators/storage.py", "sensors/jobs.py"),
    *("triggers/jobs.py", "hooks/clusterra.py", "decorators/jobs.py"),
)
"""What a DAG's author imports from, besides ``api``."""
INTERFACE = [
    *(PACKAGE / each for each in DOORS),
    *(path for path in (PACKAGE / "api").glob("*.py") if path.name != "__init__.py"),
]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
AIRFLOWS = {"context", "kwargs"}
"""Parameters that mean in every operator what they mean in this one."""
THE_SAME = re.compile(r"^(See|As) :\w+:`")
"""A docstring that leads to the one that says it all."""


def public(path):
    """Each public class and function of a file: its name, its node, and its class's docstring."""
    tree = ast.parse(path.read_text())
    yield path.stem, tree, ""
    for node in tree.body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
            yield node.name, node, ""
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            said = ast.get_docstring(node) or ""
            for method in node.body:
                if isinstance(method, FUNCTIONS) and not method.name.startswith("_"):
                    yield f"{node.name}.{method.name}", method, said


def each(files):
    names = {str(path.relative_to(ROOT)): path for path in sorted(files)}
    return pytest.mark.parametrize("path", names.values(), ids=names)


def is_imported(path, name, node):
    """Whether users import it: a door's own classes, ``api.__all__``, and its endpoints."""
    first = name.partition(".")[0]
    if path.parent.name != "api":
        return first.startswith(("Clusterra", "SubmitOperator")) or first == "clusterra_task"
    returned = ast.unparse(getattr(node, "returns", None) or ast.Constant(None))
    return first in api.__all__ or returned.startswith("Call[")


@each([*PACKAGE.rglob("*.py"), *SERVER.rglob("*.py")])
def test_everything_public_says_what_it_is(path):
    for name, node, _ in public(path):
        text = ast.get_docstring(node) or ""

        assert text, name
        assert not text.startswith(("This function", "This class", "A function", "A class")), name


@each(INTERFACE)
def test_an_interface_names_its_parameters_and_its_errors(path):
    for name, node, said in public(path):
        text = ast.get_docstring(node) or ""
        if not is_imported(path, name, node) or not isinstance(node, FUNCTIONS):
            continue
        if THE_SAME.match(text):
            continue
        names = {arg.arg for arg in [*node.args.args, *node.args.kwonlyargs]} - {"self", "cls"}
        raised = {
            each.exc.func.id
            for each in ast.walk(node)
            if isinstance(each, ast.Raise)
            and isinstance(each.exc, ast.Call)
            and isinstance(each.exc.func, ast.Name)
            and each.exc.func.id[0].isupper()
            and each.exc.func.id != "AssertionError"
        }

        assert {
            each for each in names - AIRFLOWS if f":param {each}:" not in text + said
        } == set(), name
        assert {each for each in raised if f":raises {each}:" not in text} == set(), name


TEXTS = all_texts()
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_the_examples_as_they_are(name):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    examples = [path.read_text() for path in (ROOT / "example_dags").glob("*.py")]

    assert blocks or name.startswith("docs/")
    for block in blocks:
        assert any(block.strip() in text for text in examples), block


QUOTED = re.findall(
    r"^\*\*`(.+)`\*\*$", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE
)


@pytest.mark.parametrize("quoted", QUOTED)
def test_troubleshooting_quotes_what_the_code_says(quoted):
    # one reader serves many arguments
    forms = (quoted, re.sub(r"^\w+ is …", "… is …", quoted))

    assert any(form in text for form in forms for text in TEXTS)


def test_every_example_is_spoken_of():
    text = "".join((ROOT / name).read_text() for name in PAGES)

    for path in (ROOT / "example_dags").glob("*.py"):
        assert f"example_dags/{path.name})" in text, path.name


@pytest.mark.parametrize("name", [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md", "server/README.md"])
def test_links_to_files_lead_somewhere(name):
    text = (ROOT / name).read_text()
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
        assert ((ROOT / name).parent / target).exists(), target
    anchors = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        assert anchor in anchors


def test_make_has_the_targets_that_the_readme_names():
    makefile = (ROOT / "Makefile").read_text()
    for name in (*PAGES, "CONTRIBUTING.md"):
        for target in re.findall(r"\bmake ([a-z-]+)\b", (ROOT / name).read_text()):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
