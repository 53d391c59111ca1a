"""Waiting for Clusterra in the triggerer."""
