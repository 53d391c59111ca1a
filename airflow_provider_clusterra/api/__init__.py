"""Clusterra's HTTP API for Python, with or without Airflow."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from airflow_provider_clusterra.api.templates import (
        CheckedParams,
        Param,
        Template,
        check_params,
    )
    from airflow_provider_clusterra.api.uploads import Download, DownloadGrant, UploadGrant

MODULES = ("errors", "jobs", "specs", "templates", "uploads", "calls", "client")
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

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import what is asked for: who reads a DAG needs the errors, and nothing of HTTP."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        modules = (import_module(f"{__name__}.{each}") for each in MODULES)
        return next(getattr(module, name) for module in modules if hasattr(module, name))
