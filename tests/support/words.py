"""What the package says: every text of its code, with … for what is put in."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = [ROOT / "airflow_provider_clusterra", ROOT / "server/clusterra_server"]
PUT_IN = re.compile(r"…|%[sdr]|%\.\d+f|\{[a-z]+\}")


def all_texts() -> list[str]:
    """Every text, f-strings included; docstrings as well, which does no harm."""
    texts: list[str] = []
    for path in (path for package in PACKAGES for path in package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(PUT_IN.sub("…", node.value))
            elif isinstance(node, ast.JoinedStr):
                texts.append("".join(map(_part, node.values)))
    return texts


def _part(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else "…"
