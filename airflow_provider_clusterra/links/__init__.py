"""From a task in Airflow's UI to its job."""
