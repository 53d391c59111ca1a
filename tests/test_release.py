"""Tests of what a package index shows and hands out."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DISTRIBUTIONS = {"provider": ROOT, "server": ROOT / "server"}
each_distribution = pytest.mark.parametrize("folder", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)


def project(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


REPOSITORY = project(ROOT)["urls"]["Source"]
OF_THE_REPOSITORY = re.compile(
    rf"({REPOSITORY}/(blob|tree)|{REPOSITORY.replace('github.com', 'raw.githubusercontent.com')})"
    r"/(main|v[\d.]+)/(?P<path>[^#]+)"
)


def run(*words, cwd):
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, check=True
    ).stdout


class Links(HTMLParser):
    """Where a page's links and pictures lead."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("href", "src")]


@each_distribution
def test_each_link_of_the_built_readme_leads_to_a_file_of_the_repository(folder, tmp_path):
    built = tmp_path / "README.md"
    built.write_text(run("-m", "hatchling", "metadata", "readme", cwd=folder))
    links = Links(run("-m", "readme_renderer", str(built), cwd=tmp_path)).found

    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    ours = [OF_THE_REPOSITORY.fullmatch(link) for link in links]
    paths = [each["path"] for each in ours if each]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [link for link in links if link.startswith(f"{REPOSITORY}/")] == [
        each[0] for each in ours if each and each[0].startswith(REPOSITORY)
    ]
    assert folder != ROOT or len(paths) > 20


@each_distribution
def test_the_projects_addresses_lead_to_files_of_the_repository(folder):
    addresses = project(folder)["urls"]

    assert {"Documentation", "Source", "Changelog", "Issues"} <= addresses.keys()
    for address in addresses.values():
        assert address.startswith(REPOSITORY)
        found = OF_THE_REPOSITORY.fullmatch(address)
        assert found is None or (ROOT / found["path"]).exists(), address


@each_distribution
def test_a_distribution_holds_what_it_needs_and_no_more(folder, tmp_path):
    run("-m", "hatchling", "build", "--directory", str(tmp_path), cwd=folder)
    (wheel,) = tmp_path.glob("*.whl")
    (sdist,) = tmp_path.glob("*.tar.gz")
    package = wheel.name.split("-")[0]
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {top for top in tops if not top.endswith(".dist-info")} == {package}
    assert {"LICENSE", "README.md", "pyproject.toml", f"{package}/py.typed"} <= names
    if folder == ROOT and (ROOT / ".git").exists():  # which an unpacked sdist has not
        program = (
            "import subprocess; print(subprocess.check_output(['git', 'ls-files'], text=True))"
        )
        assert {*run("-c", program, cwd=ROOT).split()} - names == set()


def targets_of(path):
    """What ``make`` is called for."""
    lines = re.findall(r"^\s*(?:- )?(?:run: )?make ([a-z -]+)", path.read_text(), re.MULTILINE)
    return {target for line in lines for target in line.split()}


WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_targets_that_there_are(path):
    makefile = (ROOT / "Makefile").read_text()
    workflow = yaml.safe_load(path.read_text())

    assert workflow[True].keys() >= {"push", "pull_request"}  # YAML reads "on" as true
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["runs-on"]
        assert job["steps"]
    for target in targets_of(path):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_workflow_runs_what_ci_runs():
    assert set().union(*map(targets_of, WORKFLOWS)) == targets_of(ROOT / ".ci/run")


def test_issue_forms_are_forms():
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"):
        form = yaml.safe_load(path.read_text())

        assert {"name", "description", "body"} <= form.keys(), path
        for field in form["body"]:
            assert field["type"] in {"markdown", "input", "textarea", "dropdown", "checkboxes"}
            assert field["attributes"].get("label") or field["attributes"].get("value")
