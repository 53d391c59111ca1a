"""Go on after a time limit or a preemption from where the job was.

Slurm sends SIGTERM, and SIGKILL some time later. The script writes down how far it is, and ends; the
next try goes on from there. A shell reads a signal between two commands, so what takes long runs in
the background and is waited for.
"""

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator

SCRIPT = """\
#!/bin/bash
set -u
state="checkpoint-$CHECKPOINT"
step=$(cat "$state" 2>/dev/null || echo 0)

save() {
    echo "$step" > "$state"
    echo "ended at step $step of 5"
    exit 143
}
trap save TERM

echo "beginning at step $step of 5"
while [ "$step" -lt 5 ]; do
    sleep 0.5 &
    wait $!
    step=$((step + 1))
done
rm -f "$state"
echo "all 5 steps are done"
"""

with DAG("checkpoint", schedule=None, tags=["clusterra"]):
    ClusterraSubmitJobOperator(
        task_id="simulate",
        script=SCRIPT,
        environment={"CHECKPOINT": "{{ run_id }}"},
        time_limit="0:05:00",
        deferrable=True,
        return_output="last_line",
        retries=3,
        retry_delay=timedelta(seconds=30),
    )
