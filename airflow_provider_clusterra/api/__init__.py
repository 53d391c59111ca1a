"""Clusterra's HTTP API for Python, with or without Airflow."""

from __future__ import annotations

from airflow_provider_clusterra.api.calls import (
    ApiRoute,
    Cluster,
    JobFile,
    JobFiles,
    LightState,
    Node,
    Output,
    Submitted,
    User,
)
from airflow_provider_clusterra.api.client import Access, AsyncClient, Client, read_origin
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
    Retry,
    ServerError,
    TransportError,
    WaitTimeoutError,
)
from airflow_provider_clusterra.api.jobs import ExitStatus, Job, JobState
from airflow_provider_clusterra.api.specs import JobSpec
from airflow_provider_clusterra.api.templates import CheckedParams, Param, Template, check_params
from airflow_provider_clusterra.api.uploads import Download, DownloadGrant, UploadGrant

__all__ = [
    "Access",
    "ApiError",
    "ApiRoute",
    "AsyncClient",
    "AuthenticationError",
    "CheckedParams",
    "Client",
    "Cluster",
    "ClusterraError",
    "ConflictError",
    "Download",
    "DownloadGrant",
    "ExitStatus",
    "InputError",
    "Job",
    "JobFailedError",
    "JobFile",
    "JobFiles",
    "JobSpec",
    "JobState",
    "LightState",
    "Node",
    "NotFoundError",
    "Output",
    "Param",
    "ProtocolError",
    "RateLimitedError",
    "RequestError",
    "Retry",
    "ServerError",
    "Submitted",
    "Template",
    "TransportError",
    "UploadGrant",
    "User",
    "WaitTimeoutError",
    "check_params",
    "read_origin",
]
