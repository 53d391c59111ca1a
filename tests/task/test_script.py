"""Tests of airflow_provider_clusterra.task.script."""

import re

import pytest
from airflow.sdk import DAG

from airflow_provider_clusterra.api import InputError
from airflow_provider_clusterra.sbatch.job import tidy_script
from airflow_provider_clusterra.task.script import TidyScript, render_script

BASH = "#!/bin/bash\n"


@pytest.fixture
def rendered(tmp_path):
    """Renders a script with Airflow's own environment, whose templates lie in ``tmp_path``."""

    def render(script, *, jinja=True, **context):
        env = DAG("dag", schedule=None, template_searchpath=[str(tmp_path)]).get_template_env()
        return render_script(script, env, context, jinja=jinja)

    return render


def test_jinja_is_rendered(rendered):
    assert rendered(BASH + "echo {{ ds }} {# not seen #}", ds="2026-01-01").text == (
        BASH + "echo 2026-01-01 "
    )


@pytest.mark.parametrize(
    "line",
    [
        'echo "${#array[@]} ${#word}"',
        'for i in $(seq ${#a[@]}); do echo "{{ n }}"; done # #}',
        "echo ${array[@]%%.txt} ${array[@]#*.}",
        "sh run.sh",
        "parallel 'work {} > out_{#}.log 2> err_{#}.log' ::: *",
        "parallel 'a {#}' ::: 1\nparallel 'b {#}' ::: 2\n",
        "printf 'a\rb\n' # a lone CR\n\n\n",
        "awk '{print $1}' f | sed 's/{}/x/'",
    ],
)
def test_the_shells_own_braces_stay(rendered, line):
    assert rendered(BASH + line, n=3).text == BASH + line.replace("{{ n }}", "3")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (
            BASH + "\nprintf '{%s}'",
            "Line 3 of the script is \"printf '{%s}'\", of which Jinja says",
        ),
        (BASH + "cp {{a,b},c} .", "Line 2 of the script is 'cp {{a,b},c} .', of which Jinja says"),
        (BASH + "awk '{# all'", "Line 2 of the script"),
        (
            BASH + "a\nb\necho {{ typo }}",
            "Line 4 of the script is 'echo {{ typo }}', of which Jinja says: 'typo' is undefined",
        ),
        (
            "\n\n    #!/bin/bash\n    echo {{ ds | oops }}",
            "Line 2 of the script is 'echo {{ ds | oops }}'",
        ),
    ],
    ids=repr,
)
def test_what_jinja_cannot_read_is_told_with_its_line_and_the_cure(rendered, script, words):
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        rendered(script, ds="x")

    assert "{% raw %}" in str(caught.value)
    assert "render_script=False" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_jinja_can_be_turned_off(rendered):
    assert rendered(BASH + "echo '{%s}' {{ typo }}", jinja=False).text == (
        BASH + "echo '{%s}' {{ typo }}"
    )


@pytest.mark.parametrize("name", ["run.sh", "deep/train.sbatch", "my job.slurm", "\n  run.sh\n"])
def test_a_file_beside_the_dag_is_read_and_rendered(rendered, tmp_path, name):
    path = tmp_path / name.strip()
    path.parent.mkdir(exist_ok=True)
    path.write_text(BASH + "echo {{ x }}\n")

    assert rendered(name, x=1).text == BASH + "echo 1\n"


def test_a_files_name_may_hold_jinja_and_be_absolute(rendered, tmp_path):
    (tmp_path / "run_a.sh").write_text(BASH + "echo {{ x }}")

    assert rendered(f"{tmp_path}/run_{{{{ x }}}}.sh", x="a").text == BASH + "echo a"
    assert rendered("run_{{ x }}.sh", jinja=False, x="a").text == BASH + "echo {{ x }}"


@pytest.mark.parametrize("name", ["missing.sh", "/mnt/efs/missing.sh", "sh run.sh", "../up.sh"])
def test_a_file_that_is_not_there_is_told_with_what_to_do(rendered, tmp_path, name):
    with pytest.raises(InputError, match="There is no script") as caught:
        rendered(name)

    assert repr(name) in str(caught.value)
    assert "only on the cluster, is run by a script's text" in str(caught.value)
    assert (str(tmp_path) in str(caught.value)) == (not name.startswith("/"))


def test_a_file_that_is_not_text_is_told(rendered, tmp_path):
    (tmp_path / "run.sh").write_bytes(b"#!/bin/bash\necho \xff\n")
    for name in ("run.sh", str(tmp_path / "run.sh")):
        with pytest.raises(InputError, match="is not UTF-8 text"):
            rendered(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n\n  #!/bin/bash\n  if x; then\n    y\n  fi\n", "#!/bin/bash\nif x; then\n  y\nfi\n"),
        ("\ufeff#!/bin/bash\necho", "#!/bin/bash\necho"),
        ("   \n\t\n#!/bin/sh\n    cat <<E\n   \nE\n", "#!/bin/sh\n    cat <<E\n   \nE\n"),
        ("#!/bin/sh\r\necho a\r\n", "#!/bin/sh\necho a\n"),
        ("#!/bin/sh\nprintf 'a\rb'\n", "#!/bin/sh\nprintf 'a\rb'\n"),
        ("", ""),
        ("  \n", ""),
    ],
    ids=repr,
)
def test_a_script_is_tidied(text, expected):
    tidy, warnings = tidy_script(text)

    assert tidy == expected
    assert tidy_script(tidy) == (expected, [])
    assert bool(warnings) == ("\r\n" in text)


def test_windows_line_ends_are_told_once(rendered):
    assert len(rendered("#!/bin/sh\r\necho a\r\n").warnings) == 1


def test_a_blank_line_that_jinja_leaves_before_the_shebang_goes(rendered):
    assert rendered("{% set n = 3 %}\n#!/bin/sh\necho {{ n }}").text == "#!/bin/sh\necho 3"


@pytest.mark.parametrize(
    ("line", "made"),
    [
        (
            "work {# all of it #} now",
            "Line 2 of the script: Jinja removed the comment 'all of it'.",
        ),
        (
            "awk '{{0,0}}' f",
            "Line 2 of the script, \"awk '{{0,0}}' f\": Jinja made '(0, 0)' of {{0,0}}.",
        ),
        ("echo {{0}}", "Line 2 of the script, 'echo {{0}}': Jinja made '0' of {{0}}."),
    ],
)
def test_what_jinja_makes_of_what_may_be_the_shells_is_told(rendered, line, made):
    (words,) = rendered(BASH + line).warnings

    assert words.startswith(made)
    assert "{% raw %}" in words


@pytest.mark.parametrize(
    "line",
    ["{{ ds }}", "{{ '{#' }}", "{% raw %}{# {{0}} #}{% endraw %}", "{% if ds %}a{% endif %}"],
)
def test_what_is_jinjas_is_not_told(rendered, line):
    assert rendered(BASH + line, ds="x").warnings == ()


@pytest.mark.parametrize(
    "name",
    ["train", "a.job", "a.run", "a.slrm", "a.sl", "a.bash", "a.batch", "a.txt", "deep/b.csh"],
)
def test_one_line_that_names_a_file_is_a_file_whatever_its_name_ends_in(rendered, tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(BASH)

    assert rendered(name) == TidyScript(BASH)
    assert rendered(f"{tmp_path}/{name}").text == BASH


def test_what_stands_behind_a_files_name_are_the_scripts_arguments(rendered, tmp_path):
    (tmp_path / "train.sh").write_text(BASH)
    found = rendered("train.sh 3 'two words' {{ x }}.yaml", x="cfg")

    assert (found.text, found.arguments) == (BASH, ("3", "two words", "cfg.yaml"))


def test_one_line_that_names_no_file_is_the_scripts_text(rendered):
    assert rendered("echo hello").text == "echo hello"
    with pytest.raises(InputError, match=r"There is no script 'missing.sh'"):
        rendered("missing.sh 3")
    with pytest.raises(InputError, match="cannot be split into words"):
        rendered("train 'x")
