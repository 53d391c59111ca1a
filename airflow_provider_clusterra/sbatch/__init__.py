"""The language of ``sbatch``: script lines and arguments as a job; knows nothing of HTTP or Airflow."""
