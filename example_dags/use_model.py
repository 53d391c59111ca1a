"""Starts when ``train_model`` has written its model, and reads it from where its asset is."""

import os
import tempfile
from typing import Any

from airflow.sdk import DAG, Asset, ObjectStoragePath, task

FOLDER = f"{tempfile.gettempdir()}/clusterra-example"
MODEL = Asset(
    "example_model",
    uri=f"{os.environ.get('CLUSTERRA_EXAMPLE_STORE', f'file://{FOLDER}')}/model.csv",
)

with DAG("use_model", schedule=[MODEL], tags=["clusterra"]):

    @task
    def predict(triggering_asset_events: Any = None) -> dict[str, Any]:
        """What the model says of 1000.

        :returns: the value, and the job whose model it is.
        """
        slope, intercept = ObjectStoragePath(MODEL.uri).read_text().split(",")
        event = triggering_asset_events[MODEL][-1]
        return {"value": float(slope) * 1000 + float(intercept), "job_id": event.extra["job_id"]}

    predict()
