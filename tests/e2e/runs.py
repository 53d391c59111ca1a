"""A run of a DAG, and the jobs that it has on the server."""

from __future__ import annotations

import httpx

from tests.e2e.rest import until


class Run:
    """A run of a DAG whose jobs are looked at on the server."""

    def __init__(self, rest, clusterra, dag_id, conf=None):
        self.rest = rest
        self._clusterra = clusterra
        self.dag_id = dag_id
        self.run_id = rest.run_dag(dag_id, conf)

    def job_of(self, task_id="one", index=-1):
        return self.rest.xcom(self.dag_id, self.run_id, task_id, "job_id", index)

    def state_of(self, job_id):
        server = self._clusterra
        answer = httpx.get(
            f"{server.url}/v1/clusters/{server.cluster_id}/jobs/{job_id}",
            headers={"Cookie": f"clusterra_session={server.token}"},
        )
        return answer.json()["jobs"][0]["job_state"]

    def until_state(self, job_id, state):
        until(
            lambda: self.state_of(job_id) == [state],
            60,
            lambda: f"job {job_id} is {self.state_of(job_id)}",
        )

    def until_watched(self, task_id="one", index=-1, try_number=1):
        """Airflow tells a trigger nothing of a user who comes before it has begun."""

        def seen():
            job_id = self.job_of(task_id, index)
            return f"Job {job_id} is RUNNING" in self.log(task_id, index, try_number)

        until(seen, 90, lambda: f"not watched: {self.log(task_id, index, try_number)}")
        return self.job_of(task_id, index)

    def log(self, task_id="one", index=-1, try_number=1):
        try:
            return self.rest.task_log(self.dag_id, self.run_id, task_id, try_number, index)
        except RuntimeError:
            return ""

    def ends(self):
        return self.rest.wait_for_run(self.dag_id, self.run_id)
