"""What a job asked for and used, in one line for the task's log."""

from __future__ import annotations

import math
from collections.abc import Mapping

from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.usage import usage_of

ADVISED_AFTER = 60.0
"""Seconds that a job must have run before its memory says anything of the next one's."""
ROOM = 1.25
"""What is advised has so much room above the most that was used …"""
WORTH_IT = 0.75
"""… and is at most this share of what was asked for."""
MB, GB = 2**20, 2**30


def receipt(job: Job) -> str:
    """E.g. "Job 12 used 3.1 of 16 GB, 22 % of 8 CPUs for 41 min, queued 12 min; memory='4G' would
    do."; empty if nothing is known.
    """
    usage = {**usage_of(job)}
    tasks = usage.get("tasks", {"count": 1})
    usage |= tasks.get("largest", {})
    memory, cpus, gpus = _memory(usage), _cpus(usage), _gpus(usage)
    queued = f"queued {_time(usage['queue_seconds'])}" if "queue_seconds" in usage else ""
    cost = f"cost {usage['cost_usd']:.4g} USD" if "cost_usd" in usage else ""
    words = ", ".join(filter(None, (memory, cpus, gpus, queued, cost)))
    if not (memory or cpus):
        return ""
    verb = "used" if usage.keys() & {"memory_bytes_peak", "cpu_core_seconds_used"} else "had"
    many = tasks["count"] > 1
    whose = f": each of its {tasks['count']} tasks {verb} at most" if many else f" {verb}"
    return f"Job {job.job_id}{whose} {words}{_advice(job, usage)}."


def _memory(usage: Mapping[str, float]) -> str:
    peak, asked = usage.get("memory_bytes_peak"), usage.get("memory_bytes_requested")
    if peak is None:
        return f"{_size(asked)} of memory" if asked else ""
    used, of = _size(peak), _size(asked or 0)
    if not asked:
        return f"{used} of memory"
    return f"{used.removesuffix(of[-3:])} of {of}"


def _cpus(usage: Mapping[str, float]) -> str:
    cpus, ran = usage.get("cpus_allocated"), usage.get("run_seconds")
    if not cpus or ran is None:
        return ""
    share = (
        f"{usage['cpu_efficiency']:.0%} of ".replace("%", " %") if "cpu_efficiency" in usage else ""
    )
    return f"{share}{cpus:g} CPU{'' if cpus == 1 else 's'} for {_time(ran)}"


def _gpus(usage: Mapping[str, float]) -> str:
    gpus, busy = usage.get("gpus_allocated"), usage.get("gpu_utilization_percent")
    if not gpus:
        return ""
    share = "" if busy is None else f"{busy:.0f} % of "
    return f"{share}{gpus:g} GPU{'' if gpus == 1 else 's'}"


def _advice(job: Job, usage: Mapping[str, float]) -> str:
    """Less memory for the next one, if this one ended well, on one node, and not at once."""
    peak, asked = usage.get("memory_bytes_peak", 0), usage.get("memory_bytes_requested", 0)
    whole = job.state.succeeded and usage.get("run_seconds", 0) >= ADVISED_AFTER
    if not (whole and peak and usage.get("nodes_allocated") == 1):
        return ""
    cpus = usage.get("cpus_allocated", 1) if job.memory_per_cpu else 1
    enough = _rounded(peak * ROOM / cpus)
    if enough * cpus > asked * WORTH_IT:
        return ""
    name = "memory_per_cpu" if job.memory_per_cpu else "memory"
    text = f"{enough // GB}G" if enough % GB == 0 else f"{enough // MB}M"
    return f"; {name}='{text}' would do"


def _rounded(size: float) -> int:
    """Up to whole GB, or to 64 MB where it is little."""
    step = GB if size > GB else 64 * MB
    return math.ceil(size / step) * step


def _size(size: float) -> str:
    return f"{size / GB:.3g} GB" if size >= GB else f"{size / MB:.3g} MB"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
