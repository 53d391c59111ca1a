"""The lab's configuration, as text."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.support.ports import free_port

NODES = ("lab1", "lab2")
CPUS = 16
"""Of each node, whatever the machine has."""
MEMORY_MB = 8000
GPUS = "gpu:a100:2,gpu:2080ti:1,gpu:3g.20gb:1"
DATABASE = "slurm_acct"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a test may want to be different."""

    accounting: bool = True
    """Whether slurmctld and slurmrestd know of slurmdbd, and accounts and QOS are enforced."""
    min_job_age: int = 300
    """Seconds for which slurmctld remembers a job that has ended."""
    gather: bool = True
    """Whether slurmd looks at what jobs use."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Free ones, found when the lab starts."""

    slurmctld: int
    slurmdbd: int
    slurmrestd: int
    nodes: tuple[int, ...]

    @classmethod
    def free(cls) -> Self:
        """Ports that nobody listens on."""
        found: set[int] = set()
        while len(found) < 3 + len(NODES):
            found.add(free_port())
        slurmctld, slurmdbd, slurmrestd, *nodes = found
        return cls(slurmctld, slurmdbd, slurmrestd, tuple(nodes))


def slurm_conf(settings: Settings, ports: Ports, *, cgroups: bool) -> str:
    """``slurm.conf``.

    :param cgroups: whether jobs are held in cgroups, so that one which takes too much memory ends
        as OUT_OF_MEMORY; otherwise slurmd looks at each job's memory once a second.
    """
    kind, gather = ("cgroup", "cgroup") if cgroups else ("linuxproc", "linux")
    lines = [
        "ClusterName=lab",
        "SlurmctldHost=localhost(127.0.0.1)",
        f"SlurmctldPort={ports.slurmctld}",
        "SlurmUser=root",
        "SlurmdUser=root",
        "AuthType=auth/slurm",
        "CredType=cred/slurm",
        # a requeued job waits for so many seconds
        "AuthInfo=cred_expire=20",
        "AuthAltTypes=auth/jwt",
        "AuthAltParameters=jwt_key=/etc/slurm/jwt.key",
        "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny",
        f"ProctrackType=proctrack/{kind}",
        f"TaskPlugin=task/{'cgroup' if cgroups else 'none'}",
        f"JobAcctGatherType=jobacct_gather/{gather if settings.gather else 'none'}",
        "JobAcctGatherFrequency=task=1",
        *([] if cgroups or not settings.gather else ["JobAcctGatherParams=OverMemoryKill"]),
        "MpiDefault=none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        "SchedulerType=sched/backfill",
        "SchedulerParameters=sched_interval=1,sched_min_interval=100000,bf_interval=1,"
        "batch_sched_delay=0",
        "PriorityType=priority/basic",
        "StateSaveLocation=/srv/slurm/state",
        "SlurmdSpoolDir=/srv/slurm/spool/%n",
        "SlurmctldPidFile=/srv/slurm/slurmctld.pid",
        "SlurmdPidFile=/srv/slurm/slurmd.%n.pid",
        "SlurmctldLogFile=/srv/slurm/log/slurmctld.log",
        "SlurmdLogFile=/srv/slurm/log/slurmd.%n.log",
        "SlurmdParameters=config_overrides",
        "ReturnToService=2",
        "SlurmdTimeout=300",
        "KillWait=2",
        "MaxArraySize=20001",
        "MaxJobCount=50000",
        f"MinJobAge={settings.min_job_age}",
        "Licenses=matlab:4",
        "GresTypes=gpu",
    ]
    if settings.accounting:
        lines += [
            "AccountingStorageType=accounting_storage/slurmdbd",
            "AccountingStorageHost=localhost",
            f"AccountingStoragePort={ports.slurmdbd}",
            "AccountingStorageEnforce=associations,qos,limits",
            "AccountingStoreFlags=job_script,job_comment",
        ]
    lines += [
        f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} "
        f"RealMemory={MEMORY_MB} Gres={GPUS} Features=fast State=UNKNOWN"
        for node, port in zip(NODES, ports.nodes, strict=True)
    ]
    everything = f"Nodes={','.join(NODES)} MaxTime=INFINITE State=UP DefMemPerCPU=100"
    lines += [
        f"PartitionName=main {everything} Default=YES",
        # where a job says nothing, it is another one than where it says what is usual elsewhere
        f"PartitionName=second {everything} DefaultTime=60 OverSubscribe=YES:2",
    ]
    return "\n".join([*lines, ""])


def slurmdbd_conf(ports: Ports) -> str:
    """``slurmdbd.conf``."""
    lines = [
        "DbdHost=localhost",
        "DbdAddr=127.0.0.1",
        f"DbdPort={ports.slurmdbd}",
        "SlurmUser=root",
        "AuthType=auth/slurm",
        "AuthAltTypes=auth/jwt",
        "AuthAltParameters=jwt_key=/etc/slurm/jwt.key",
        "CommunicationParameters=NoInAddrAny",
        "StorageType=accounting_storage/mysql",
        "StorageHost=localhost",
        "StorageUser=slurm",
        "StoragePass=slurm",
        f"StorageLoc={DATABASE}",
        "LogFile=/srv/slurm/log/slurmdbd.log",
        "PidFile=/srv/slurm/slurmdbd.pid",
    ]
    return "\n".join([*lines, ""])


def cgroup_conf(*, cgroups: bool) -> str:
    """``cgroup.conf``."""
    if not cgroups:
        return "CgroupPlugin=disabled\n"
    return (
        "CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\n"
        "ConstrainRAMSpace=yes\nConstrainSwapSpace=yes\nAllowedSwapSpace=0\n"
    )


def gres_conf() -> str:
    """``gres.conf``: GPUs that are counted and not there."""
    nodes = ",".join(NODES)
    files = {"null": "a100", "zero": "a100", "full": "2080ti", "random": "3g.20gb"}
    return "".join(
        f"NodeName={nodes} Name=gpu Type={kind} File=/dev/{each}\n" for each, kind in files.items()
    )


def has_cgroups() -> bool:
    """Whether the machine has what ``cgroup/v1`` needs."""
    return all(
        Path("/sys/fs/cgroup", name, "cgroup.procs").exists()
        for name in ("memory", "freezer", "cpuset", "cpuacct")
    )


def remove_cgroups() -> None:
    """Remove what slurmd leaves of them."""
    for node in NODES:
        for top in Path("/sys/fs/cgroup").glob(f"*/slurm_{node}"):
            for path, _, _ in os.walk(top, topdown=False):
                with suppress(OSError):
                    Path(path).rmdir()
