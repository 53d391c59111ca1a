"""Templates of the catalogue: values, an upload, a preset, and one job for each of many values.

The templates here are those of ``clusterra-server``; ``ClusterraHook().client().list_templates()`` says
which ones a cluster has.
"""

import tempfile
from pathlib import Path

from airflow.sdk import DAG, task

from airflow_provider_clusterra.operators.jobs import ClusterraSubmitTemplateOperator

TEXT = "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer\n"

with DAG("templates", schedule=None, params={"points": 20000}, tags=["clusterra"]):

    @task
    def make_text() -> str:
        """A text.

        :returns: its path.
        """
        path = Path(tempfile.mkdtemp()) / "hamlet.txt"
        path.write_text(TEXT)
        return str(path)

    text = make_text()

    count = ClusterraSubmitTemplateOperator(
        task_id="count",
        template_id="word-count",
        template_params={"order": "alphabet", "min_length": 2},
        uploads={"text_file": text},
        deferrable=True,
        return_output="json",
    )

    long_words = ClusterraSubmitTemplateOperator(
        task_id="long_words",
        template_id="long-words",
        uploads={"text_file": text},
        deferrable=True,
        return_output="json",
    )

    estimate = ClusterraSubmitTemplateOperator.partial(
        task_id="estimate",
        template_id="estimate-pi",
        deferrable=True,
        return_output="json",
    ).expand(
        template_params=[{"points": "{{ params.points }}", "seed": seed} for seed in (1, 2, 3)]
    )

    @task
    def mean(results: list[dict]) -> float:
        """Put the estimates together.

        :param results: what each mapped task returned.
        """
        found = [result["output"]["pi"] for result in results]
        return sum(found) / len(found)

    mean(estimate.output)
