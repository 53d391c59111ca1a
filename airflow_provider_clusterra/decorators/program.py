"""Writes a Python function and its arguments as a batch script, and reads its value from the output."""

from __future__ import annotations

import ast
import builtins
import inspect
import json
import symtable
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from airflow_provider_clusterra.api.calls import Output
from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.task.result import read_json

MARK = "clusterra-value: "
"""Precedes the function's value in the job's output."""
LARGEST_VALUE = 64 * 1024
"""Characters of JSON that fit into XCom; the job itself refuses more."""
OURS = frozenset({"clusterra", "setup", "teardown", "skip_if", "run_if"})
"""Decorators for Airflow, without a meaning in the job."""
PROGRAM = '''\
#!{python}
"""The function {name} of an Airflow task, as @task.clusterra sent it."""
from __future__ import annotations

{source}

def _clusterra_call(function):
    import json, os, sys, traceback, types

    args, kwargs, loop, mapped = json.loads({arguments})
    if mapped is not None:
        given = kwargs if isinstance(mapped, str) else args
        given[mapped] = given[mapped][int(os.environ["SLURM_ARRAY_TASK_ID"])]
    if loop is not None:
        kwargs["loop"] = types.SimpleNamespace(**loop)
    try:
        value = function(*args, **kwargs)
    except Exception as error:
        traceback.print_exception(type(error), error, error.__traceback__.tb_next)
        sys.exit(1)
    try:
        text = json.dumps(value, allow_nan=False)
    except RecursionError:
        sys.exit("{name} returned a value that is nested too deeply for JSON.")
    except (TypeError, ValueError) as error:
        shown = repr(value)[:1000]
        sys.exit("{name} returned what is not JSON (" + str(error) + "): " + shown)
    if len(text) > {largest}:
        sys.exit("{name} returned " + str(len(text)) + " characters of JSON, and XCom takes "
                 "{largest}. Write them to a file, and return its name.")
    print({mark} + text, flush=True)


if __name__ == "__main__":
    _clusterra_call({name})
'''


def check_interpreter(python: str) -> None:
    """Refuse an interpreter that cannot stand in a shebang."""
    if len(python.split()) != 1:
        raise InputError(
            f"python is {python!r}; it is one word: the path of an interpreter on the cluster, e.g. "
            "'/shared/envs/md/bin/python', or a name to be found there, e.g. 'python3.12'."
        )


def read_source(function: Callable[..., Any]) -> str:
    """The source of a function without its decorators, checked that it can run by itself."""
    name = getattr(function, "__name__", repr(function))
    try:
        lines, _ = inspect.getsourcelines(function)
    except (OSError, TypeError) as exc:
        raise InputError(f"@task.clusterra: the source of {name} is not known: {exc}.") from exc
    return _standing_alone(name, tuple(lines))


@lru_cache  # of one function an author makes many tasks
def _standing_alone(name: str, lines: tuple[str, ...]) -> str:
    # dedenting would change indented text inside of strings
    opening = ("if True:\n",) if lines[0][0].isspace() else ()
    definition = _definition_of(name, "".join(opening + lines))
    _check_decorators(definition)
    _check_names(definition)
    return "".join(opening + (opening + lines)[definition.lineno - 1 :])


def plain_loop(loop: Any) -> dict[str, Any]:
    """The attributes of Airflow's ``loop`` that are JSON; ``previous`` may not be."""
    plain = {name: getattr(loop, name) for name in ("index", "max_iterations", "previous")}
    try:
        _to_json(plain["previous"])
    except (TypeError, ValueError):
        del plain["previous"]
    return plain


def write_program(
    function: Callable[..., Any],
    python: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    loop: Mapping[str, Any] | None = None,
    mapped: int | str | None = None,
) -> str:
    """The batch script that calls a function and prints its value.

    ``loop`` becomes an argument of that name, with attributes as Airflow's accessor has them. Of the
    argument ``mapped``, a position or a name, each of an array's tasks takes one value.
    """
    source = read_source(function)
    signature = inspect.signature(function)
    for argument, value in signature.bind_partial(*args, **kwargs).arguments.items():
        try:
            # as deeply nested as in the list that is sent
            _to_json([[value]])
        except (TypeError, ValueError, RecursionError) as exc:
            raise InputError(
                f"@task.clusterra: the argument {argument} of {function.__name__} cannot travel: "
                f"arguments travel as JSON, and {exc}."
            ) from exc
    return PROGRAM.format(
        python=python if python.startswith("/") else f"/usr/bin/env {python}",
        name=function.__name__,
        source=source,
        arguments=repr(_to_json([list(args), dict(kwargs), loop, mapped])),
        mark=repr(MARK),
        largest=LARGEST_VALUE,
    )


def read_value(output: Output) -> Any:
    """The function's value, from its job's output."""
    _, mark, after = output.data.decode("utf-8", "replace").rpartition(MARK)
    try:
        return read_json(json.loads, after.partition("\n")[0] if mark else "")
    except InputError:
        raise
    except (ValueError, msgspec.DecodeError):
        raise InputError(
            "The job succeeded, and its output holds no value of the function. Did it end the "
            f"interpreter by itself, or write over the line that begins with {MARK.strip()!r}?"
        ) from None


def returned_keys(function: Callable[..., Any]) -> set[str]:
    """Keys of the dict that a function returns, as far as its source shows them."""
    definition = _definition_of(function.__name__, read_source(function))
    keys = {*getattr(inspect.signature(function).return_annotation, "__annotations__", ())}
    for node in ast.walk(definition):
        value = node.value if isinstance(node, ast.Return) else None
        if isinstance(value, ast.Dict):
            keys |= {key.value for key in value.keys if isinstance(key, ast.Constant)}
        elif isinstance(value, ast.Call) and ast.unparse(value.func) == "dict":
            keys |= {each.arg for each in value.keywords}
    return keys


def _definition_of(name: str, source: str) -> ast.FunctionDef:
    try:
        walked = list(ast.walk(ast.parse(source)))
    except SyntaxError:  # a lambda in the midst of something
        walked = []
    found = [each for each in walked if isinstance(each, ast.FunctionDef)]
    if not found or found[0].name != name:
        raise InputError(f"@task.clusterra: {name} is not a plain function: write it with def.")
    return found[0]


def _check_decorators(definition: ast.FunctionDef) -> None:
    for decorator in definition.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        name = ast.unparse(called)
        if name.rpartition(".")[2] not in OURS:
            raise InputError(
                f"@task.clusterra: {definition.name} has the decorator @{name}, which does not "
                "travel to the job. Use it inside of the function."
            )


def _check_names(definition: ast.FunctionDef) -> None:
    """Refuse names from outside of the function: each would be a NameError in the job."""
    alone = _Unannotated().visit(ast.parse(ast.unparse(definition)))
    alone.body[0].decorator_list = []
    used: set[str] = {definition.name}
    made: set[str] = {definition.name, *dir(builtins)}
    for table in _tables(symtable.symtable(ast.unparse(alone), definition.name, "exec")):
        for symbol in table.get_symbols():
            if symbol.is_global() and symbol.is_referenced():
                used.add(symbol.get_name())
            if symbol.is_declared_global() and (symbol.is_assigned() or symbol.is_imported()):
                made.add(symbol.get_name())
    if used - made:
        raise InputError(
            f"@task.clusterra: {definition.name} uses {', '.join(sorted(used - made))} from outside "
            "of it, and only its own source travels to the job. Import modules inside of it, and "
            "give it values as arguments."
        )


class _Unannotated(ast.NodeTransformer):
    """Removes annotations, which the job does not evaluate."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(node.arg)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(0)
        return self.generic_visit(node)


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _tables(child)


def _to_json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    """A mapped task's output, which is a lazy sequence, as a list."""
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{value!r:.200} is a {type(value).__name__}")
