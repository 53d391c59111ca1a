"""What each operator, the sensor and the decorator take: from their signatures and docstrings.

``python -m tests.support.arguments`` writes docs/arguments.md anew.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_provider_clusterra.decorators.jobs import ClusterraDecoratedOperator
from airflow_provider_clusterra.operators.cancel import ClusterraCancelJobOperator
from airflow_provider_clusterra.operators.jobs import (
    ClusterraSubmitJobOperator,
    ClusterraSubmitTemplateOperator,
    SubmitOperator,
)
from airflow_provider_clusterra.operators.storage import (
    ClusterraDownloadFileOperator,
    ClusterraUploadFileOperator,
)
from airflow_provider_clusterra.sensors.jobs import ClusterraJobSensor

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/arguments.md"
HEADINGS: dict[type[Any], str] = {
    SubmitOperator: "Both submit operators, and `@task.clusterra`",
    ClusterraSubmitJobOperator: "`ClusterraSubmitJobOperator`, and `@task.clusterra` but for `script`",
    ClusterraSubmitTemplateOperator: "`ClusterraSubmitTemplateOperator`",
    ClusterraDecoratedOperator: "`@task.clusterra`",
    ClusterraUploadFileOperator: "`ClusterraUploadFileOperator`",
    ClusterraDownloadFileOperator: "`ClusterraDownloadFileOperator`",
    ClusterraJobSensor: "`ClusterraJobSensor`",
    ClusterraCancelJobOperator: "`ClusterraCancelJobOperator`",
}
HEAD = """\
# Arguments

Each class's own arguments, from its docstring; `python -m tests.support.arguments` draws this page. A
*templated* one may also come from another task (`.output`) or a mapped task group. [Operators, sensor and
decorator](operators.md) shows how they are used.
"""


def arguments_of(kind: type[Any]) -> Iterator[tuple[str, Any]]:
    """A class's own arguments: their names and defaults."""
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            yield name, parameter.default


def meanings_of(kind: type[Any]) -> dict[str, str]:
    """What the class's docstring says of each argument."""
    found = re.findall(
        r"^:param (\w+): (.*(?:\n    .*)*)", inspect.cleandoc(kind.__doc__ or ""), re.MULTILINE
    )
    return {name: re.sub(r"\s+", " ", words) for name, words in found}


def draw() -> str:
    """The page."""
    lines = [HEAD]
    for kind, heading in HEADINGS.items():
        lines += [
            f"## {heading}\n",
            "| argument | default | templated | meaning |",
            "|---|---|---|---|",
        ]
        meanings = meanings_of(kind)
        for name, default in arguments_of(kind):
            shown = "" if default is inspect.Parameter.empty else f"`{default!r}`"
            templated = "yes" if name in kind.template_fields else ""
            words = meanings.get(name, "").replace("``", "`").replace("|", "\\|")
            lines.append(f"| `{name}` | {shown} | {templated} | {words} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(draw())
