"""Tests of how the code is cut: what is drawn of it, names, and branches."""

import ast
from collections import defaultdict

import pytest

from tests.support.house import MAP, PACKAGE, PAGE, draw, rooms

MODULES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
SERVER = sorted(PACKAGE.parent.glob("server/clusterra_server/*.py"))
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
MOST_BRANCHES = 10


def test_contributings_map_is_the_house():
    assert MAP.search(PAGE.read_text())[0] == draw(), "python -m tests.support.house draws it anew"


def test_every_module_is_in_a_room_of_the_map():
    drawn = {each for room in rooms() for each in (room, *room.glob("*.py"))}

    assert {*MODULES.values()} - drawn == {PACKAGE / "__init__.py"}


def test_no_two_classes_have_one_name():
    named = defaultdict(list)
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                named[node.name].append(name)

    assert {name: places for name, places in named.items() if len(places) > 1} == {}


def branches(function):
    """Cyclomatic complexity by radon's rules: a function without branches has 1."""
    found = 1
    for node in (each for part in function.body for each in ast.walk(part)):
        match node:
            case ast.If() | ast.IfExp() | ast.Assert() | ast.match_case():
                found += 1
            case ast.For() | ast.AsyncFor() | ast.While():
                found += 1 + bool(node.orelse)
            case ast.Try():
                found += len(node.handlers) + bool(node.orelse)
            case ast.BoolOp():
                found += len(node.values) - 1
            case ast.comprehension():
                found += 1 + len(node.ifs)
    return found


@pytest.mark.parametrize(
    "path", [*MODULES.values(), *SERVER], ids=lambda path: str(path.relative_to(PACKAGE.parent))
)
def test_no_function_has_more_branches_than_a_reader_can_hold(path):
    tree = ast.parse(path.read_text())
    counts = {node.name: branches(node) for node in ast.walk(tree) if isinstance(node, FUNCTIONS)}

    assert {name: n for name, n in counts.items() if n > MOST_BRANCHES} == {}


def test_branches_are_counted():
    program = ast.parse(
        "def f(a, b):\n"
        "    for x in [y for y in a if y if b]:\n"  # 1 + 3
        "        if x and a or b:\n"  # 3
        "            return 1 if x else 2\n"  # 1
        "    else:\n"  # 1
        "        try:\n"
        "            pass\n"
        "        except (ValueError, TypeError):\n"  # 1
        "            pass\n"
    )

    assert branches(program.body[0]) == 11
