"""Starts when ``train_model`` has written its model, and reads it from where the event says it is."""

from typing import Any

from airflow.sdk import DAG, Asset, ObjectStoragePath, task

MODEL = Asset("example_model", uri="s3://clusterra-example/model.csv")

with DAG("use_model", schedule=[MODEL], tags=["clusterra"]):

    @task
    def predict(triggering_asset_events: Any = None) -> dict[str, Any]:
        """What the model says of 1000.

        :returns: the value, and the job whose model it is.
        """
        model = triggering_asset_events[MODEL][-1].extra
        slope, intercept = ObjectStoragePath(model["target"]).read_text().split(",")
        return {"value": float(slope) * 1000 + float(intercept), "job_id": model["job_id"]}

    predict()
