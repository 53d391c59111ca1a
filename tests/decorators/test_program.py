"""Tests of airflow_provider_clusterra.decorators.program."""

import json
import os
import subprocess
import sys
from functools import lru_cache, partial
from tempfile import NamedTemporaryFile
from types import SimpleNamespace
from typing import TypedDict

import pytest

from airflow_provider_clusterra.api.calls import Output
from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.decorators.program import (
    LARGEST_VALUE,
    MARK,
    check_interpreter,
    plain_loop,
    read_source,
    read_value,
    returned_keys,
    write_program,
)

LIMIT = 3


def call(function, *args, **kwargs):
    """Run a function's script as a job would: its exit code, its output, and its errors."""
    return run(write_program(function, sys.executable, args, kwargs))


def run(program):
    with NamedTemporaryFile("w", suffix=".py") as file:
        file.write(program)
        file.flush()
        return subprocess.run(
            [sys.executable, file.name], capture_output=True, text=True, check=False
        )


def value_of(function, *args, **kwargs):
    done = call(function, *args, **kwargs)
    assert done.returncode == 0, done.stderr
    return read_value(Output(done.stdout.encode()))


def add(a, b=2, *more, scale: LIMIT = 1) -> LIMIT:
    # a comment, and a text that looks like one
    text = """
# not a comment
"""
    assert text == "\n# not a comment\n"
    return (a + b + sum(more)) * scale


def compute(size):
    import math
    from os import path

    def inner(n):
        return [math.sqrt(each) for each in range(n) if path]

    class Row:
        width: int = 2

    return {"roots": inner(size), "width": Row.width}


def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)


def counting():
    global total
    total = 4
    return total


def failing():
    values = {"a": 1}
    return values["b"]


def leaving():
    import sys

    sys.exit(0)


def noisy():
    import os

    print("some progress", end="")
    os.system("echo from a shell >&2")
    return 5


def not_json():
    return {1, 2}


def endless():
    return float("nan")


def huge(size):
    return "x" * size


def uses_a_constant():
    return LIMIT


def uses_a_module():
    return json.dumps(1)


def uses_a_default(n=LIMIT):
    return n


@lru_cache
def decorated():
    return 1


async def awaited():
    return 1


def test_a_function_runs_elsewhere_with_its_arguments():
    assert value_of(add, 1) == 3
    assert value_of(add, 1, 2, 3, 4, scale=10) == 100
    assert value_of(compute, 2) == {"roots": [0.0, 1.0], "width": 2}


def converges(*, loop):
    return [loop.index, loop.max_iterations, getattr(loop, "previous", "left out")]


@pytest.mark.parametrize(("previous", "seen"), [({"x": 1}, {"x": 1}), (object(), "left out")])
def test_it_is_given_what_is_plain_of_a_loop(previous, seen):
    loop = plain_loop(SimpleNamespace(index=1, max_iterations=3, previous=previous))
    done = run(write_program(converges, sys.executable, [], {}, loop))

    assert read_value(Output(done.stdout.encode())) == [1, 3, seen]


def test_it_may_call_itself_and_make_globals_of_its_own():
    assert value_of(factorial, 5) == 120
    assert value_of(counting) == 4


def test_one_that_is_indented_and_decorated_travels_as_it_stands():
    def setup(function):
        return function

    @setup
    def inside(x):
        text = """
        two
"""
        return [x, text]

    assert value_of(inside, "{{ }} '\"\n") == ["{{ }} '\"\n", "\n        two\n"]
    assert "@setup" not in read_source(inside)


def test_the_same_call_is_the_same_script():
    scripts = {write_program(add, "python3", [1], {"scale": 2}) for _ in range(3)}

    assert len(scripts) == 1
    assert scripts.pop().startswith("#!/usr/bin/env python3\n")
    assert write_program(add, "/opt/py/bin/python", [1], {}).startswith("#!/opt/py/bin/python\n")


def test_its_value_is_found_in_the_midst_of_output():
    assert value_of(noisy) == 5
    assert read_value(Output(b'clusterra-value: 1\nclusterra-value: {"a": [2]}\nbye\n')) == {
        "a": [2]
    }


def test_an_exception_comes_back_with_its_traceback_and_only_its_own():
    done = call(failing)

    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.count("  File ") == 1
    assert "in failing\n" in done.stderr
    assert done.stderr.endswith("\nKeyError: 'b'\n")


@pytest.mark.parametrize(
    ("function", "args", "words"),
    [
        (not_json, [], "not_json returned what is not JSON (Object of type set"),
        (not_json, [], "{1, 2}"),
        (endless, [], "endless returned what is not JSON"),
        (huge, [LARGEST_VALUE], "Write them to a file, and return its name."),
    ],
)
def test_a_value_that_xcom_cannot_take_fails_the_job_in_words(function, args, words):
    done = call(function, *args)

    assert done.returncode == 1
    assert words in done.stderr


def test_a_job_that_leaves_no_value_is_told():
    done = call(leaving)

    assert done.returncode == 0
    for output in (done.stdout.encode(), b"clusterra-value: {cut", b""):
        with pytest.raises(InputError, match="holds no value of the function"):
            read_value(Output(output))


def test_what_does_not_travel_is_refused_by_name():
    of_the_dag = object()

    def closes_over():
        return of_the_dag

    for function, words in {
        uses_a_constant: "uses_a_constant uses LIMIT from outside of it",
        uses_a_module: "uses json from outside.* Import modules inside of it",
        uses_a_default: "uses_a_default uses LIMIT",
        closes_over: "closes_over uses of_the_dag from outside",
        decorated.__wrapped__: "decorated has the decorator @lru_cache",
        awaited: "awaited is not a plain function",
        (lambda: 1): "is not a plain function: write it with def",
        len: "the source of len is not known",
        partial(add, 1): "the source of .* is not known",
    }.items():
        with pytest.raises(InputError, match=words):
            read_source(function)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"a": object()}, "the argument a of add cannot travel: .* is a object"),
        ({"a": 1, "b": {1}}, "the argument b of add"),
        ({"a": float("inf")}, "the argument a of add"),
    ],
)
def test_an_argument_that_is_not_json_is_refused_by_name(kwargs, words):
    with pytest.raises(InputError, match=words):
        write_program(add, "python3", [], kwargs)


@pytest.mark.parametrize("python", ["", " ", "conda run python", "python3 -u"])
def test_an_interpreter_is_one_word(python):
    with pytest.raises(InputError, match=r"python is .*; it is one word"):
        check_interpreter(python)


def test_the_script_needs_no_newer_python_than_it_says(tmp_path):
    script = tmp_path / "job"
    script.write_text(write_program(compute, sys.executable, [1], {}))
    script.chmod(0o755)

    assert compile(script.read_text(), "job", "exec")
    assert os.access(script, os.X_OK)
    assert subprocess.run([script], capture_output=True, check=True).stdout.startswith(
        b"clusterra-"
    )


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("levels", [150, 900, 100_000])
def test_a_value_that_is_nested_too_deeply_is_refused_in_words(levels):
    text = MARK + "[" * levels + "]" * levels + "\n"
    with pytest.raises(InputError, match="nested more than 100 levels deep"):
        read_value(Output(text.encode()))


def test_a_value_that_no_json_holds_ends_the_job_in_words():
    def nest():
        value = []
        for _ in range(100_000):
            value = [value]
        return value

    done = call(nest)

    assert done.returncode == 1
    assert done.stderr == "nest returned a value that is nested too deeply for JSON.\n"


def test_an_argument_that_is_nested_too_deeply_is_refused_in_words():
    with pytest.raises(InputError, match="the argument a of add cannot travel"):
        write_program(add, "python3", [deep(100_000)], {})


def test_what_it_imports_or_defines_as_a_global_is_its_own():
    def root():
        global math, halve
        import math

        def halve(n):
            return n / 2

        def inner():
            return halve(math.sqrt(16))

        return inner()

    assert value_of(root) == 2.0


def test_the_keys_that_a_function_returns_are_read_from_its_source():
    def ends(flag):
        if flag:
            return {"a": 1, "job": 2}
        return dict(b=1)  # noqa: C408 - one of the forms

    class Ends(TypedDict):
        c: int

    def annotated() -> Ends:
        found = {"c": 1}
        return found  # noqa: RET504 - its keys stand in the annotation only

    assert returned_keys(ends) == {"a", "job", "b"}
    assert returned_keys(annotated) == {"c"}
    assert returned_keys(add) == set()
