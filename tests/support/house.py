"""The house as it stands: its rooms and files in the order of imports, drawn for CONTRIBUTING.

``python -m tests.support.house`` draws it anew.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "airflow_provider_clusterra"
PAGE = ROOT / "CONTRIBUTING.md"
MAP = re.compile(r"(?<=```text\n).*?(?=```)", re.DOTALL)


def rooms() -> list[Path]:
    """Folders and single files, from the one that imports most to the one that imports nothing."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(each for each in contracts["contracts"] if each["type"] == "layers")["layers"]
    names = [part.split(".")[1] for layer in layers for part in layer.split(" : ")]
    found = [PACKAGE / name for name in dict.fromkeys(names)]
    return [room if room.is_dir() else room.with_suffix(".py") for room in found]


def draw() -> str:
    """The map: each file with the first line of its docstring."""
    lines = []
    for room in rooms():
        if room.is_file():
            lines.append((room.name, _first_line(room)))
            continue
        lines.append((f"{room.name}/", _first_line(room / "__init__.py")))
        others = sorted(path for path in room.glob("*.py") if path.name != "__init__.py")
        lines += [(f"  {path.name}", _first_line(path)) for path in others]
    width = max(len(name) for name, _ in lines) + 2
    return "".join(f"{name:{width}}{words}\n" for name, words in lines)


def _first_line(path: Path) -> str:
    words = ast.get_docstring(ast.parse(path.read_text())) or ""
    first = words.split("\n\n")[0].replace("\n", " ").replace("``", "")
    return re.sub(r":class:`(\w+)`", r"\1", first).rstrip(".")


if __name__ == "__main__":
    PAGE.write_text(MAP.sub(lambda _: draw(), PAGE.read_text(), count=1))
