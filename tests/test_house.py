"""Tests of how the code is cut: what is drawn of it, and names."""

import ast
from collections import defaultdict

from tests.support.house import MAP, PACKAGE, PAGE, draw, rooms

MODULES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}


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
