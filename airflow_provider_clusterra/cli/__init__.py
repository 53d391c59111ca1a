"""``airflow clusterra``: the command line."""
