"""What a DAG does with Clusterra: submit jobs, upload files."""
