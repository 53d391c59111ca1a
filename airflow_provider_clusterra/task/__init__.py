"""Inside a running task: what operators, sensor and decorator share."""
