"""Run a Python function as jobs, one for each seed, and use the values that it returns.

The function's own source travels to the cluster, so it imports what it needs inside of itself.
"""

from airflow.sdk import DAG, task

with DAG("python_function", schedule=None, tags=["clusterra"]):

    @task.clusterra(python="python3", cpus_per_task=1, time_limit="0:05:00", deferrable=True)
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

    mean(estimate_pi.partial(points=100_000).expand(seed=[1, 2, 3]))
