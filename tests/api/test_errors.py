"""Tests of airflow_provider_clusterra.api.errors."""

import re
import textwrap

from airflow_provider_clusterra.api import errors


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    drawn = {}
    path = []
    for line in textwrap.dedent(errors.__doc__.partition(chr(10))[2]).splitlines():
        found = re.match(r"^([ │├└─]*)(\w+Error)\b", line)
        if found:
            depth = len(found[1]) // 4
            path = [*path[:depth], found[2]]
            drawn[found[2]] = path[-2] if depth else "Exception"

    real = {
        name: kind.__bases__[0].__name__
        for name, kind in vars(errors).items()
        if isinstance(kind, type)
        and issubclass(kind, Exception)
        and kind.__module__ == errors.__name__
    }
    assert drawn == real
