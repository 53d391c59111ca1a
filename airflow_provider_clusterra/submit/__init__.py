"""Submitting exactly once: pure decisions (protocol, retries), and the shell that carries
them out (submission)."""
