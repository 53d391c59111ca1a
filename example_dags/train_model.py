"""A job's files come back: the model goes to a store, and its asset's event starts ``use_model``.

``CLUSTERRA_EXAMPLE_STORE`` is the store, e.g. ``s3://models``; otherwise a folder of the worker.
"""

import os
import tempfile
from pathlib import Path

from airflow.sdk import DAG, Asset, task

from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator, OutputFile

FOLDER = f"{tempfile.gettempdir()}/clusterra-example"
MODEL = Asset(
    "example_model",
    uri=f"{os.environ.get('CLUSTERRA_EXAMPLE_STORE', f'file://{FOLDER}')}/model.csv",
)
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
            "model": OutputFile("model-%j/model.csv", asset=MODEL),
            "samples": "model-%j/samples.csv",
        },
        deferrable=True,
    )
