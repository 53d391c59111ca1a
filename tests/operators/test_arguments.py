"""Tests of what ClusterraSubmitJobOperator makes of its arguments, on a real server."""

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG

from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator
from airflow_provider_clusterra.triggers.jobs import JobEvent

BASH = "#!/bin/bash\n"


def submit(line="true", **fields):
    defaults = {
        "task_id": "task",
        "deferrable": False,
        "poll_interval": 0.05,
        "follow_output": False,
    }
    script = line if line.startswith("#!") else f"{BASH}{line}\n"
    return ClusterraSubmitJobOperator(**{**defaults, "script": script, **fields})


@pytest.fixture
def request_of(connected, ti):
    """What an operator would submit."""

    def build(operator, **context):
        with ClusterraHook().connect() as signed_in:
            return operator.build_request({"ti": ti, **context}, signed_in)

    return build


@pytest.fixture
def rendered(tmp_path):
    """Renders an operator's fields as a worker does, in a DAG whose file lies in ``tmp_path``."""

    def render(make, **context):
        with DAG("dag", schedule=None, template_searchpath=[str(tmp_path)]) as dag:
            operator = make()
        operator.render_template_fields({"dag": dag, "task": operator, **context})
        return operator

    return render


def test_a_script_beside_the_dag_runs_as_it_would_with_sbatch(connected, run, rendered, tmp_path):
    (tmp_path / "run.sbatch").write_text(
        "#!/bin/bash\n#SBATCH --ntasks=2 --job-name=md\n#SBATCH --export=ALL,COLOUR=blue\n"
        'parts=(a b c)\necho "$SLURM_NTASKS $COLOUR {{ ds }} ${#parts[@]}"\n'
    )
    operator = rendered(lambda: submit(script="run.sbatch", return_output="text"), ds="2026-01-01")

    assert operator.script.startswith(BASH)
    result = run(operator)
    assert result["output"] == "2 blue 2026-01-01 3\n"
    assert result["name"].startswith("md")


def test_a_script_that_ends_like_a_files_name_is_a_script(connected, run, rendered, tmp_path):
    (tmp_path / "run.sh").write_text("echo ran in $PWD\n")
    operator = rendered(
        lambda: submit(
            f"{BASH}cd {tmp_path}\nsh run.sh", working_directory="", return_output="last_line"
        )
    )

    assert operator.script.endswith("sh run.sh")
    assert run(operator)["output"] == f"ran in {tmp_path}"


def test_a_script_that_jinja_cannot_read_fails_its_task_for_good(connected, run, ti, rendered):
    with pytest.raises(AirflowFailException, match=r"Line 2 of the script.*render_script=False"):
        run(rendered(lambda: submit("echo {{ oops }}")))

    assert ti.pushed == {}

    operator = rendered(lambda: submit("echo {{ oops }}", render_script=False))
    assert operator.script == f"{BASH}echo {{{{ oops }}}}\n"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda script: script.unlink(),
        lambda script: script.rename(script.with_name("other.sh")),
        lambda script: script.write_text("{{ oops }}"),
        lambda script: script.write_bytes(b"\xff"),
        lambda script: script.chmod(0),
    ],
    ids=["removed", "renamed", "not Jinja", "not text", "not readable"],
)
def test_nothing_of_a_script_file_is_needed_after_the_submit(
    connected, run, rendered, ti, store, tmp_path, spoil
):
    script = tmp_path / "run.sh"
    script.write_text(f"{BASH}true")
    submitted = rendered(lambda: submit(script="run.sh", wait_for_completion=False))
    job_id = run(submitted)["job_id"]
    with ClusterraHook().client() as client:
        while not (job := client.get_job(connected.cluster_id, job_id)).state.ended:
            pass
    spoil(script)
    event = JobEvent("ended", job_id, connected.cluster_id, job).to_payload()
    resumed = rendered(lambda: submit(script="run.sh"))

    context = {"ti": ti, "task_state_store": store}
    assert resumed.execute_complete(context, event)["state"] == "COMPLETED"


def test_a_name_that_is_equal_to_the_script_is_a_name(rendered, tmp_path):
    (tmp_path / "run.sh").write_text(f"{BASH}true")
    operator = rendered(lambda: submit(script="run.sh", name="run.sh"))

    assert (operator.name, operator.script) == ("run.sh", f"{BASH}true")


def test_a_mapped_tasks_scripts_are_rendered_too(ti):
    with DAG("dag", schedule=None) as dag:
        mapped = ClusterraSubmitJobOperator.partial(task_id="task", name="{{ ds }}").expand(
            script=[f"{BASH}echo {{{{ ds }}}} 0", f"{BASH}echo {{{{ ds }}}} 1"]
        )
    for index in (0, 1):
        context = {"dag": dag, "task": mapped, "ti": ti, "ds": "2026-01-01"}
        ti.map_index = index
        unmapped = mapped.unmap({"script": f"{BASH}echo {{{{ ds }}}} {index}"})
        unmapped.render_template_fields(context)

        assert unmapped.script == f"{BASH}echo 2026-01-01 {index}"
        assert unmapped.name == "2026-01-01"


def test_what_another_task_returned_is_not_rendered_again():
    text = f"{BASH}echo {{{{ ds }}}}"
    operator = submit(text, name="{{ ds }}")
    env = operator.get_template_env()
    operator._do_render_template_fields(
        operator, operator.template_fields, {"ds": "today"}, env, {id(text)}
    )

    assert (operator.script, operator.name) == (text, "today")


def test_a_script_is_plain_text_which_airflows_processes_can_send_each_other():
    assert type(submit().script) is str


def test_airflows_own_variables_go_into_the_job(connected, run, ti):
    operator = submit("echo $AIRFLOW_CTX_DAG_ID $AIRFLOW_CTX_TASK_ID", return_output="last_line")

    assert operator.execute({"ti": ti, "task_instance": ti})["output"] == "dag task"


def test_a_login_environment_is_asked_for(request_of):
    variables = request_of(submit(login_environment=True)).body()["job"]["environment"]

    assert "SLURM_GET_USER_ENV=1" in variables
    assert "SLURM_GET_USER_ENV=1" not in request_of(submit()).body()["job"]["environment"]


def test_each_conflict_is_told_once(request_of, capsys):
    request = request_of(submit(f"{BASH}#SBATCH -p gpu -t 60\ntrue", partition="cpu", time_limit=5))

    assert request.body()["job"]["partition"] == "cpu"
    told = capsys.readouterr().out
    assert told.count("partition='cpu' wins over partition 'gpu' of the script's #SBATCH") == 1
    assert told.count("time_limit=5 wins over time_limit 60 of the script's #SBATCH lines.") == 1


def test_what_the_author_asks_for_is_the_same_at_every_try(request_of, ti):
    def identity(**fields):
        operator = submit(**fields)
        request_of(operator)
        return operator._identity()

    begins = f"{BASH}#SBATCH --begin=now+1hour\ntrue"
    first = identity(script=begins)
    ti.try_number = 2
    assert identity(script=begins) == first
    assert identity(script=begins, memory="1G") != first
    assert identity(script=begins, environment={"A": "1"}) != first


def test_an_array_that_could_not_be_waited_for_is_not_submitted(connected, run, ti):
    with pytest.raises(AirflowFailException, match=r"more than 100000.*wait_for_completion=False"):
        run(submit(array="0-100000"))

    assert ti.pushed == {}


def test_an_array_is_told_by_its_indices(request_of):
    assert request_of(submit(array="0-3%2")).array == "0-3%2"
    assert request_of(submit(f"{BASH}#SBATCH -a 1,3\ntrue")).array == "1,3"
    assert request_of(submit()).array == ""


def test_a_time_of_day_is_one_of_the_connections_zone(local, connection, request_of):
    begins = f"{BASH}#SBATCH --begin=2030-01-20T12:00\ntrue"
    seconds = []
    for zone in ("UTC", "Asia/Tokyo"):
        connection(local.url, local.token, local.cluster_id, timezone=zone)
        seconds.append(request_of(submit(begins)).body()["job"]["begin_time"]["number"])

    assert seconds[0] - seconds[1] == 9 * 3600


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"job": {"partitoin": "cpu"}}, "no field 'partitoin'. Did you mean partition?"),
        ({"job": {"shared": "nobody"}}, "job: shared is 'nobody'; it holds"),
        ({"script": f"{BASH}#SBATCH --wrap=x\n"}, "Line 2 of the script, #SBATCH: --wrap=x cannot"),
        ({"array": "all"}, "array is 'all': it takes indices"),
        ({"dependency": "12"}, "dependency is '12': it takes e.g. afterok:12:13"),
        ({"dependency": "singleton"}, "dependency: singleton waits for jobs of the same name"),
        (
            {"script": f"{BASH}#SBATCH -o logs/%x.log\n", "return_output": "text"},
            "return_output: the job's output goes to /mnt/efs/logs/%x.log, which the API does not",
        ),
        ({"script_arguments": "3"}, "script_arguments is '3'; it takes a list of texts"),
        ({"uploads": {"IN": "missing.dat"}}, "uploads: IN: missing.dat cannot be read"),
    ],
    ids=repr,
)
def test_what_cannot_be_asked_fails_the_task_before_anything_is_sent(
    connected, run, ti, fields, words
):
    with pytest.raises(AirflowFailException) as caught:
        run(submit(**fields))

    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ti.pushed == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"on_stuck": "panic"},
        {"return_output": "yaml"},
        {"array_success": 0},
        {"grow_on_retry": {"nodes": 2}},
        {"max_memory": "much"},
        {"timeout": "soon"},
    ],
    ids=repr,
)
def test_a_wrong_argument_of_a_mapped_task_which_its_worker_finds_is_not_retried(fields):
    with pytest.raises(AirflowFailException):
        submit(**fields)


def test_arguments_of_a_script_come_behind_those_of_its_file(rendered, request_of, tmp_path):
    (tmp_path / "train").write_text(BASH + "echo $1\n")
    operator = rendered(
        lambda: submit(script="train 3 {{ ds }}", script_arguments=["{{ ds }}", 5]), ds="today"
    )

    assert operator.script == BASH + "echo $1\n"
    assert request_of(operator).body()["job"]["argv"] == ["script", "3", "today", "today", "5"]


def test_an_output_elsewhere_is_told_and_runs_if_it_is_not_returned(request_of, capsys):
    assert request_of(submit(f"{BASH}#SBATCH -o logs/x.log\n"))
    assert "The output goes to /mnt/efs/logs/x.log" in capsys.readouterr().out


def test_a_singleton_is_for_jobs_without_a_tag(request_of):
    request = request_of(submit(dependency="singleton", durable=False))

    assert request.dependency == "singleton"


def test_arguments_behind_a_files_name_are_the_same_at_each_try(rendered, ti, tmp_path):
    (tmp_path / "train.sh").write_text(BASH)
    operator = rendered(lambda: submit(script="train.sh 3", script_arguments=["4"]), ti=ti)
    context = {"dag": operator.get_dag(), "task": operator, "ti": ti}

    assert operator.script_arguments == ["3", "4"]
    assert operator._render_anew("script_arguments", context) == ["3", "4"]
