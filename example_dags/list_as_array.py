"""Run a function for each value of a list as one array, two at a time, and use the list that comes back.

Mapping with ``.expand()`` makes a task and a job of each value; this is one task and one job. A retry
runs only the values that have failed.
"""

from airflow.sdk import DAG, task

with DAG("list_as_array", schedule=None, tags=["clusterra"]):

    @task
    def seeds() -> list:
        """What another task has found."""
        return [1, 2, 3, 4]

    @task.clusterra(
        map_over="seed", max_running=2, time_limit="0:05:00", deferrable=True, retries=2
    )
    def estimate_pi(seed: int, points: int) -> float:
        """Throw points at a square, and count those in the circle.

        :param seed: of the random numbers.
        :param points: how many.
        """
        import random

        dice = random.Random(seed)
        inside = sum(dice.random() ** 2 + dice.random() ** 2 < 1 for _ in range(points))
        return 4 * inside / points

    @task
    def mean(values: list) -> float:
        """The estimates as one.

        :param values: each seed's.
        """
        return sum(values) / len(values)

    mean(estimate_pi(seeds(), points=100_000))
