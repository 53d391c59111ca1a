"""What a DAG waits for on Clusterra."""
