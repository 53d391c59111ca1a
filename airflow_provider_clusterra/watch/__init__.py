"""Waiting for jobs, whether in a triggerer or in a worker; knows nothing of Airflow."""
