"""Clusterra's HTTP API for Python, with or without Airflow."""

from __future__ import annotations

from airflow_provider_clusterra.api.access import Access, read_origin
from airflow_provider_clusterra.api.client import AsyncClient, Client
from airflow_provider_clusterra.api.errors import (
    ApiError,
    AuthenticationError,
    ClusterraError,
    ConflictError,
    InputError,
    JobFailedError,
    NotFoundError,
    ProtocolError,
    RateLimitedError,
    RequestError,
    ServerError,
    TransportError,
    WaitTimeoutError,
)
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.numbers import ExitStatus
from airflow_provider_clusterra.api.readers import Cluster, Output, Submitted, User
from airflow_provider_clusterra.api.retry import Retry
from airflow_provider_clusterra.api.specs import JobSpec
from airflow_provider_clusterra.api.states import JobState
from airflow_provider_clusterra.api.uploads import UploadGrant

__all__ = [
    "Access",
    "ApiError",
    "AsyncClient",
    "AuthenticationError",
    "Client",
    "Cluster",
    "ClusterraError",
    "ConflictError",
    "ExitStatus",
    "InputError",
    "Job",
    "JobFailedError",
    "JobSpec",
    "JobState",
    "NotFoundError",
    "Output",
    "ProtocolError",
    "RateLimitedError",
    "RequestError",
    "Retry",
    "ServerError",
    "Submitted",
    "TransportError",
    "UploadGrant",
    "User",
    "WaitTimeoutError",
    "read_origin",
]
