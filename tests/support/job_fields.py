"""Makes ``sbatch/job_fields.json`` from what a slurmrestd says of itself.

``python -m tests.support.job_fields OPENAPI.json``: the answer to ``GET /openapi/v3``, or a recorded one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

VERSION = "v0.0.44"
TARGET = Path(__file__).parents[2] / "airflow_provider_clusterra" / "sbatch" / "job_fields.json"


def main() -> None:
    """Write the table."""
    document = json.loads(Path(sys.argv[1]).read_text())
    schemas = document.get("body", document)["components"]["schemas"]

    def resolved(schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            schema = schemas[schema["$ref"].rpartition("/")[2]]
        return schema

    def form(schema: dict[str, Any]) -> str | list[str]:
        """A field's form: its JSON type, ``"no_val"``, or the words that a list may hold."""
        found = resolved(schema)
        if {"set", "infinite", "number"} <= set(found.get("properties", {})):
            return "no_val"
        if found.get("type") == "array":
            return list(resolved(found["items"]).get("enum", [])) or "array"
        return str(found["type"])

    fields = resolved(schemas[f"{VERSION}_job_desc_msg"])["properties"]
    table = {name: form(schema) for name, schema in sorted(fields.items())}
    TARGET.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
