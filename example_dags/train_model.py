"""A job's files come back: the model goes to S3, and its asset's event starts ``use_model``.

It needs ``apache-airflow-providers-amazon[s3fs]``, a connection ``clusterra_store`` of type ``aws`` (of
another S3 than Amazon's with its ``endpoint_url``), and there the bucket.
"""

import tempfile
from pathlib import Path

from airflow.sdk import DAG, Asset, task

from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator, OutputFile

MODEL = Asset("example_model", uri="s3://clusterra-example/model.csv")
TARGET = "s3://clusterra_store@clusterra-example/model.csv"
"""The same place with the connection that writes it."""
FIT = """\
#!/bin/bash
set -euo pipefail
mkdir "model-$SLURM_JOB_ID" && cd "model-$SLURM_JOB_ID"
curl -sf -o samples.csv "$SAMPLES_URL"
awk -F, '{ n++; x += $1; y += $2; xx += $1 * $1; xy += $1 * $2 }
    END { s = (n * xy - x * y) / (n * xx - x * x); printf "%.3f,%.3f\\n", s, (y - s * x) / n }
' samples.csv >model.csv
cat model.csv
"""

with DAG("train_model", schedule=None, tags=["clusterra"]):

    @task
    def make_samples() -> str:
        """Points of a line.

        :returns: their file's path.
        """
        path = Path(tempfile.mkdtemp()) / "samples.csv"
        path.write_text("".join(f"{x},{2 * x + 1}\n" for x in range(100)))
        return str(path)

    ClusterraSubmitJobOperator(
        task_id="train",
        script=FIT,
        uploads={"SAMPLES": make_samples()},
        outputs={
            "model": OutputFile("model-%j/model.csv", TARGET, MODEL),
            "samples": "model-%j/samples.csv",
        },
        deferrable=True,
    )
