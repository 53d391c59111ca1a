"""Run a job again and again, each with the result of the one before, until it has converged.

Airflow 3.4 or newer: older ones have no loops.
"""

from typing import Any

from airflow.sdk import DAG, task, task_group


def has_converged(loop: Any) -> bool:
    """Whether the last step changed hardly anything.

    :param loop: Airflow's own, with this iteration's result.
    """
    return loop.result["change"] < 1e-6


with DAG("until_converged", schedule=None, tags=["clusterra"]):

    @task_group
    def refine() -> None:
        """One iteration."""

        @task.clusterra(cpus_per_task=1, time_limit="0:05:00", deferrable=True)
        def step(*, loop: Any) -> dict:
            """Come closer to the square root of two.

            :param loop: what is plain of Airflow's own: ``index``, ``max_iterations``, ``previous``.
            """
            x = 1.0 if loop.previous is None else loop.previous["x"]
            better = (x + 2 / x) / 2
            return {"x": better, "change": abs(better - x)}

        step()

    refine.loop(max_iterations=10, until=has_converged)
