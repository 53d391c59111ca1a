"""Tests of the package as a whole."""

import ast
import importlib
import json
import re
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import airflow
import jsonschema

import airflow_provider_clusterra
import clusterra_server
from airflow_provider_clusterra import api

ROOT = Path(__file__).parent.parent
AIRFLOW = Path(airflow.__file__).parent


def test_the_version_is_said_once():
    newest = re.search(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert airflow_provider_clusterra.__version__ == version("airflow-provider-clusterra")
    assert airflow_provider_clusterra.__version__ == newest[1]
    assert clusterra_server.__version__ == version("clusterra-server") == newest[1]


def test_airflow_finds_the_provider():
    found = [
        entry.load()()
        for entry in entry_points(group="apache_airflow_provider")
        if entry.value.startswith("airflow_provider_clusterra")
    ]

    assert found == [airflow_provider_clusterra.get_provider_info()]


def test_the_provider_info_is_what_airflow_asks_for():
    schema = json.loads((AIRFLOW / "provider_info.schema.json").read_text())

    jsonschema.validate(airflow_provider_clusterra.get_provider_info(), schema)


def test_the_form_is_what_airflow_asks_for():
    schema = json.loads((AIRFLOW / "provider.yaml.schema.json").read_text())
    # those two are of the packages that Airflow itself releases
    schema["required"] = sorted({*schema["required"]} - {"state", "source-date-epoch"})
    info = airflow_provider_clusterra.get_provider_info()
    # Airflow 3.1 ignores what it does not know
    newer = {"cli"} - {*schema["properties"]}

    jsonschema.validate({name: info[name] for name in info.keys() - newer}, schema)


def test_the_guides_and_the_logo_of_the_provider_info_are_there():
    (integration,) = airflow_provider_clusterra.get_provider_info()["integrations"]

    for path in [*integration["how-to-guide"], f"/docs{integration['logo']}"]:
        assert (ROOT / path.lstrip("/")).exists(), path


def test_every_option_of_ours_that_is_read_is_declared():
    read = {
        match.groups()
        for path in (ROOT / "airflow_provider_clusterra").rglob("*.py")
        for match in re.finditer(r'conf\.get\w*\(\s*"(\w+)",\s*"(\w+)"', path.read_text())
    }
    declared = {
        (section, option)
        for section, each in airflow_provider_clusterra.get_provider_info()["config"].items()
        for option in each["options"]
    }

    assert {each for each in read if each[0] == "clusterra"} == declared
    for each in airflow_provider_clusterra.CONFIG["clusterra"]["options"].values():
        assert each.keys() == {"description", "version_added", "type", "example", "default"}


def test_everything_that_the_provider_info_names_can_be_imported():
    info = airflow_provider_clusterra.get_provider_info()
    modules = [
        module
        for kind in ("operators", "sensors", "hooks", "triggers")
        for entry in info[kind]
        for module in entry["python-modules"]
    ]
    for module in modules:
        importlib.import_module(module)
    names = [
        info["connection-types"][0]["hook-class-name"],
        *info["extra-links"],
        *(entry["class-name"] for entry in info["task-decorators"]),
    ]
    for module, _, name in (path.rpartition(".") for path in names):
        assert getattr(importlib.import_module(module), name)


def test_the_front_door_of_the_api_is_what_it_says():
    imports = [
        node
        for node in ast.walk(ast.parse(Path(api.__file__).read_text()))
        if isinstance(node, ast.ImportFrom)
    ]
    modules = {each.name: node.module for node in imports for each in node.names}
    public = {
        name: module
        for name, module in modules.items()
        if f"{module}.".startswith(f"{api.__name__}.")
    }

    assert sorted(public) == api.__all__
    for name, module in public.items():
        assert getattr(api, name) is getattr(importlib.import_module(module), name)
    assert not hasattr(api, "Call"), "a name of a module behind the door"


def test_no_module_imports_anything_heavy():
    modules = [
        "hooks.clusterra",
        "triggers.jobs",
        "sensors.jobs",
        "operators.storage",
        "operators.jobs",
        "decorators.jobs",
        "links.jobs",
    ]
    heavy = "requests aiohttp botocore boto3 starlette.applications uvicorn pandas sqlalchemy.orm"
    program = (
        "import sys, importlib, airflow.sdk, airflow.triggers.base\n"
        "from airflow.sdk import BaseHook, BaseOperator, BaseSensorOperator\n"
        "before = set(sys.modules)\n"
        f"for module in {modules}:\n"
        "    importlib.import_module(f'airflow_provider_clusterra.{module}')\n"
        f"print(*sorted(set({heavy.split()!r}) & (set(sys.modules) - before)))\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert shown.stdout.strip() == ""
