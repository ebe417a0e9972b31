"""A Slurm cluster of one node in a folder of its own: the real daemons, started as children of the test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from support.farm_processes import until
from support.ports import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo")
CONF = """
ClusterName=farm
SlurmctldHost=HOST(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=PORT1
SlurmdPort=PORT2
AuthType=auth/munge
AuthInfo=socket=DIR/munge/socket
CredType=cred/munge
StateSaveLocation=DIR/state
SlurmdSpoolDir=DIR/spool
SlurmctldPidFile=DIR/slurmctld.pid
SlurmdPidFile=DIR/slurmd.pid
SlurmctldLogFile=DIR/slurmctld.log
SlurmdLogFile=DIR/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=30
MinJobAge=300
DefMemPerCPU=100
NodeName=HOST NodeAddr=127.0.0.1 CPUs=16 RealMemory=8000 State=UNKNOWN
PartitionName=batch Nodes=HOST Default=YES MaxTime=INFINITE DefaultTime=60 State=UP
"""


def is_here() -> bool:
    """Whether Slurm is installed, and may be run by this user."""
    return os.geteuid() == 0 and all(map(shutil.which, PROGRAMS))


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[Path]:
    """Runs the daemons; gives the path of `slurm.conf`."""
    for name, mode in (("state", 0o755), ("spool", 0o755), ("munge", 0o700)):
        (folder / name).mkdir(parents=True)
        (folder / name).chmod(mode)
    conf = folder / "slurm.conf"
    text = CONF.replace("DIR", str(folder)).replace("HOST", socket.gethostname().split(".")[0])
    conf.write_text(text.replace("PORT1", str(free_port())).replace("PORT2", str(free_port())))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    munge = folder / "munge"
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    daemons = [
        ["munged", f"--key-file={key}", f"--socket={munge}/socket", f"--pid-file={munge}/munged.pid",
         f"--log-file={munge}/log", f"--seed-file={munge}/seed", "--force", "--foreground"],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    ]  # fmt: skip
    started: list[subprocess.Popen[bytes]] = []
    try:
        for line in daemons:
            with (folder / f"{line[0]}.out").open("wb") as out:
                started.append(subprocess.Popen(line, env=environment, stdout=out, stderr=out))
            if line[0] == "munged":
                until((munge / "socket").exists, "munged listens")
        until(lambda: _idle(environment), "the node is idle")
        yield conf
    finally:
        for daemon in reversed(started):
            daemon.terminate()
        for daemon in started:
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(20)
            if daemon.poll() is None:
                daemon.kill()
                daemon.wait(20)


def _idle(environment: dict[str, str]) -> bool:
    answer = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True, timeout=20)
    return answer.stdout.strip() == "idle"
