"""Submitting exactly once: pure decisions (protocol, retries), and the shells that carry them out
(submission, kill)."""
