"""A run of a DAG, and the jobs that it has on the server."""

from __future__ import annotations

import zlib

import httpx

from tests.e2e.rest import place_of, until


def check_a_model_is_trained_stored_and_used(rest, store, run_id):
    """The examples train_model and use_model: files in, a job, its file in S3, an event, the next DAG."""
    states = rest.wait_for_run("train_model", run_id, within=240)
    assert set(states.values()) == {"success"}, rest.task_log("train_model", run_id, "train")
    result = rest.xcom("train_model", run_id, "train")
    (event,) = rest.asset_events("train_model")
    (used,) = rest.wait_for_runs_of("use_model")
    states = rest.wait_for_run("use_model", used, within=240)
    content = (store.bucket / "model.csv").read_bytes()
    model = {**result["outputs"]["model"], "job_id": result["job_id"], "usage": result["usage"]}

    assert content == b"2.000,1.000\n"
    assert model["target"] == "s3://clusterra_store@clusterra-example/model.csv"
    assert (model["size"], model["checksum"]) == (12, f"crc32:{zlib.crc32(content):08x}")
    assert event["extra"] == model
    assert set(states.values()) == {"success"}, rest.task_log("use_model", used, "predict")
    prediction = {"value": 2001.0, "job_id": result["job_id"]}
    assert rest.xcom("use_model", used, "predict") == prediction


class Run:
    """A run of a DAG whose jobs are looked at on the server."""

    def __init__(self, rest, clusterra, dag_id, conf=None):
        self.rest = rest
        self._clusterra = clusterra
        self.dag_id = dag_id
        self._conf = conf or {}
        self.run_id = rest.run_dag(dag_id, conf)

    def job_of(self, task_id="one", index=-1):
        return self.rest.xcom(self.dag_id, self.run_id, task_id, "job_id", index)

    def state_of(self, job_id):
        return self._ask("GET", f"/{job_id}")["jobs"][0]["job_state"]

    def jobs(self):
        """The jobs that have the name in the run's conf, in their order."""
        named = [job for job in self._ask("GET")["jobs"] if self._conf["name"] in job["name"]]
        return sorted(named, key=lambda job: job["job_id"])

    def job_states(self):
        return [job["job_state"][0] for job in self.jobs()]

    def cancel_jobs(self):
        for job in self.jobs():
            if job["job_state"][0] in ("PENDING", "RUNNING"):
                self._ask("DELETE", f"/{job['job_id']}")

    def _ask(self, method, path=""):
        server = self._clusterra
        return httpx.request(
            method,
            f"{server.url}/v1/clusters/{server.cluster_id}/jobs{path}",
            headers={"Cookie": f"clusterra_session={server.token}"},
        ).json()

    def iterations(self, task_id, state):
        """Which iterations of a loop's task are in a state."""
        rows = self.rest.task_rows(self.dag_id, self.run_id, task_id)
        return sorted(row["region_index"] for row in rows if row["state"] == state)

    def iteration(self, task_id, index):
        """A loop's task in one iteration, as Airflow's REST API shows it."""
        rows = self.rest.task_rows(self.dag_id, self.run_id, task_id)
        return next(row for row in rows if row["region_index"] == index)

    def log_of(self, row):
        return self.rest.task_log(
            self.dag_id, self.run_id, row["task_id"], row["try_number"], where=place_of(row)
        )

    def xcom_of(self, row):
        return self.rest.xcom(self.dag_id, self.run_id, row["task_id"], where=place_of(row))

    def set_state_of(self, row, state):
        self.rest.set_task_state(
            self.dag_id, self.run_id, row["task_id"], state, where=place_of(row)
        )

    def clear(self, row, **options):
        """What a user's "clear" does to one execution."""
        body = {
            "dry_run": False,
            "dag_run_id": self.run_id,
            "task_instance_ids": [row["id"]],
            "only_failed": False,
            **options,
        }
        self.rest.clear(self.dag_id, body)

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
