"""Run one script for many inputs, and at a retry only for those that failed.

Index 3 fails the first time here, as a download might. The second try runs that index alone, and the
task returns what all indices printed, in whichever try. A job that runs out of memory or time asks for
more at its next try. Both need Airflow 3.3, which remembers how the last try ended.
"""

from datetime import timedelta

from airflow.sdk import DAG, task

from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator

SQUARE = """\
#!/bin/bash
n=$SLURM_ARRAY_TASK_ID
seen="$PWD/seen-$RUN-$n"
if [ "$n" = 3 ] && [ ! -e "$seen" ]; then
    touch "$seen"
    echo "the download of input $n broke off" >&2
    exit 1
fi
rm -f "$seen"
echo $((n * n))
"""

with DAG("arrays", schedule=None, tags=["clusterra"]):
    squares = ClusterraSubmitJobOperator(
        task_id="squares",
        script=SQUARE,
        array="0-9%4",
        environment={"RUN": "{{ run_id | replace('/', '-') }}"},
        memory="100M",
        time_limit="0:05:00",
        deferrable=True,
        return_output="json",
        retries=2,
        retry_delay=timedelta(seconds=5),
        retry_failed_indices=True,
        grow_on_retry={"memory": 2.0, "time_limit": 1.5},
        max_memory="1G",
        max_time_limit="1:00:00",
    )

    @task
    def add_up(result: dict) -> int:
        """Use what all indices printed.

        :param result: what the array's task returned.
        """
        return sum(result["output"].values())

    add_up(squares.output)
