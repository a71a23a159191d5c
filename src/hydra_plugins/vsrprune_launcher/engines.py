"""Where a sweep's child processes run: this machine, a Dask cluster (SLURM, PBS and SGE too), a Ray cluster.

An engine is a context manager over `submit`: it starts `processes.run_child` with a call's values somewhere and gives
a future of its exit code. Everything else (order, results, failures, stopping) is the launcher's, the same for all.

Whoever reaches a scheduler of Dask or a Ray can run anything as the user who started it. What is started here on this
machine listens on the loopback interface alone, and Ray asks for a token. A cluster at `launcher.address` is as safe as
it was made: by a network of its own, TLS (Dask), a token (Ray). The scheduler that a batch system's workers join
listens on the network; `launcher.options.security` gives it TLS.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vsrprune.commands import TYPED
from vsrprune.config.machine import BATCH_SYSTEMS, LauncherConfig
from vsrprune.errors import UserError
from vsrprune.host import processes
from vsrprune.host.processes import run_child, run_elsewhere

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
LOOPBACK = "127.0.0.1"
RETRIES = 5  # of a job whose node left Ray's cluster; each goes on from its checkpoint
START_SECONDS = 30  # within which a scheduler at `address` must answer
REPLACE_SECONDS = 30  # between two looks for batch jobs that have ended
NOBODY_JOINED_SECONDS = 300  # after which it is said that no worker came: the queue is long, or batch jobs die early
ENDED_BATCH_JOBS = 20  # that one job may outlive, at their time limit for example; Dask counts up to two for each
# A batch system that ends a job (time limit, preemption) kills it when its script ends; so the script waits for the
# checkpoint.
WAIT_FOR_CHECKPOINT = "trap 'while pgrep -g 0 -f hydra.mode=RUN >/dev/null; do sleep 0.5; done' TERM"


@dataclass(frozen=True)
class Call:
    """A job's command, and where it runs. Dask and Ray set numbers of threads that are not meant for a job.

    elsewhere: this project's folder, where the job runs on a machine that shares none; `command` is without its Python.
    """

    command: list[str]
    cwd: str
    folder: Path
    log: Path | None
    environment: dict[str, str | None] = field(
        default_factory=lambda: {name: os.environ.get(name) for name in (*THREAD_VARIABLES, TYPED)}
    )

    elsewhere: str = ""

    @property
    def task(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """The function that runs it, and its arguments."""
        if self.elsewhere:
            return run_elsewhere, (self.elsewhere, self.command, self.environment)
        return run_child, (self.command, self.cwd, self.folder, self.log, self.environment)


Ended = int | tuple[int, dict[str, bytes]]  # an exit code; of a job elsewhere with the files of its folder
Submit = Callable[[Call], "Future[Ended]"]
Engine = Callable[[LauncherConfig, int, int], contextlib.AbstractContextManager[Submit]]


@contextlib.contextmanager
def local(settings: LauncherConfig, gpus: int, threads: int) -> Iterator[Submit]:
    """Processes on this machine, `jobs` at a time."""
    with ThreadPoolExecutor(settings.jobs) as pool:
        yield lambda call: pool.submit(call.task[0], *call.task[1])


@contextlib.contextmanager
def dask(settings: LauncherConfig, gpus: int, threads: int) -> Iterator[Submit]:
    """Workers of Dask: those of a scheduler at `address`, batch jobs, or processes that are started here."""
    with _needing_extra(settings.name):
        import cloudpickle
        from distributed import Client
        from distributed.security import Security
    cloudpickle.register_pickle_by_value(processes)
    with contextlib.ExitStack() as stack:
        target = settings.address or stack.enter_context(_dask_cluster(settings))
        try:
            security = _security(settings.options or {}, Security) if settings.address else None
            client = stack.enter_context(
                Client(target, timeout=START_SECONDS, set_as_default=False, security=security or None)
            )
        except (OSError, ValueError) as error:
            raise UserError(f"launcher.address={settings.address}: no Dask scheduler answers there ({error})") from None
        limits = {} if settings.address else {"resources": ONE_JOB}
        executor = client.get_executor(pure=False, **limits)  # pure: Dask would run equal calls once
        tasks = {function: _ByValue(cloudpickle, function) for function in (run_child, run_elsewhere)}
        yield lambda call: executor.submit(tasks[call.task[0]], *call.task[1])


class _ByValue:
    """A function as Dask sends it: its code, since the worker's own copy of this project may be an older one."""

    def __init__(self, cloudpickle: Any, function: Callable[..., Any]) -> None:
        # Dask itself sends the name alone of whatever can be imported here.
        self._read, self._written, self._function = cloudpickle.loads, cloudpickle.dumps(function), function

    def __reduce__(self) -> tuple[Any, ...]:
        return self._read, (self._written,)

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


def _security(options: Mapping[str, Any], security: Callable[..., Any]) -> Any:
    """TLS of Dask, by the names of `distributed.Security`; None where nothing is asked. Raises UserError for others."""
    if not options:
        return None
    for name, value in options.items():
        if name.endswith(("_file", "_cert", "_key")) and not Path(str(value)).expanduser().is_file():
            raise UserError(f"launcher.options.{name}={value}: there is no such file")
    try:
        return security(**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"launcher.options: {error}; with an address they are those of distributed.Security") from None


ONE_JOB = {"job": 1}  # what a worker started here has and a job takes: one job at a time, whatever the worker's cores


@contextlib.contextmanager
def _dask_cluster(settings: LauncherConfig) -> Iterator[Any]:
    """A cluster of `jobs` workers, one job each; it is closed at the end."""
    if settings.name == "dask":
        from distributed import LocalCluster

        # Memory is the business of the jobs, which are not the workers: no limit, and no dashboard to serve.
        with LocalCluster(
            n_workers=settings.jobs,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address=None,
            resources=ONE_JOB,
            host=LOOPBACK,
        ) as cluster:
            yield cluster
        return
    on_interrupt = signal.getsignal(signal.SIGINT)
    with _needing_extra(settings.name):
        import dask_jobqueue
        from distributed.security import Security
    signal.signal(signal.SIGINT, on_interrupt)  # dask-jobqueue 0.9 makes Ctrl-C a sys.exit() when it is imported
    kinds = {
        "slurm": dask_jobqueue.SLURMCluster,
        "pbs": dask_jobqueue.PBSCluster,
        "sge": dask_jobqueue.SGECluster,
    }
    given = dict(settings.options or {})
    extra = [*given.pop("worker_extra_args", []), "--resources", "job=1"]
    if isinstance(given.get("security"), Mapping):
        given["security"] = _security(given["security"], Security)
    prologue = [*given.pop("job_script_prologue", []), WAIT_FOR_CHECKPOINT]
    try:
        cluster = kinds[settings.name](
            **given,
            processes=1,
            worker_extra_args=extra,
            job_script_prologue=prologue,
            scheduler_options={"dashboard_address": ":0", "dashboard": False, "allowed_failures": ENDED_BATCH_JOBS},
        )
    except (TypeError, ValueError, RuntimeError, ImportError) as error:  # security=true needs a package
        raise UserError(f"launcher.options: {error}; they are those of dask-jobqueue for {settings.name}") from None
    with cluster, _kept_up(cluster, settings):
        yield cluster


@contextlib.contextmanager
def _kept_up(cluster: Any, settings: LauncherConfig) -> Iterator[None]:
    """Submit `jobs` batch jobs, and new ones for those that end before the sweep does (at their time limit, say).

    Raises UserError if the batch system takes none of them.
    """
    for _ in range(settings.jobs):
        cluster.worker_spec.update(cluster.new_worker_spec())
    try:
        cluster.sync(_submit_missing, cluster)
    except (OSError, RuntimeError) as error:
        if not cluster.workers:
            said = str(error).partition("stderr:\n")[2].strip() or error
            raise UserError(f"launcher={settings.name}: no batch job could be submitted ({said})") from None
    ended = threading.Event()

    def replace() -> None:
        nobody_until = time.monotonic() + NOBODY_JOINED_SECONDS
        while not ended.wait(REPLACE_SECONDS):
            if cluster.scheduler_info["workers"]:
                nobody_until = math.inf
            elif time.monotonic() > nobody_until:
                nobody_until = math.inf
                logs = (settings.options or {}).get("log_directory", "this folder")
                print(f"no batch job has joined yet: they are queued, or see what they print in {logs}", flush=True)
            with contextlib.suppress(OSError, RuntimeError):  # the next look tries again
                cluster.sync(_submit_missing, cluster)

    keeper = threading.Thread(target=replace, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()


async def _submit_missing(cluster: Any) -> None:
    """Have Dask submit the batch jobs that it lacks, and forget refused ones, which it would count as submitted."""
    from distributed.core import Status

    try:
        await cluster._correct_state()
    finally:
        for name, job in list(cluster.workers.items()):
            if job.job_id is None:
                job.status = Status.failed
                del cluster.workers[name]


@contextlib.contextmanager
def ray(settings: LauncherConfig, gpus: int, threads: int) -> Iterator[Submit]:
    """Ray tasks on the cluster at `address`, or on a Ray started here."""
    with contextlib.ExitStack() as stack:
        if not settings.address:
            stack.enter_context(_unreachable_ray())
        with _needing_extra("ray"):
            import ray
        threads = max(1, threads)  # Ray only counts threads; the job sets how many it uses
        where: dict[str, Any] = {"address": settings.address, "runtime_env": settings.options or None}
        _check_ray_answers(settings.address)
        if not settings.address:
            where = {"address": "local", "num_cpus": threads * settings.jobs, "include_dashboard": False}
        try:
            ray.init(**where, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(f"launcher.address={settings.address}: no Ray cluster answers there ({error})") from None
        stack.callback(ray.shutdown)
        # On this machine the launcher divides the cards, several jobs to a card if need be, as Ray would not.
        wanted = gpus if settings.address else 0
        ray.cloudpickle.register_pickle_by_value(processes)
        remote = ray.remote(num_cpus=threads, num_gpus=wanted, max_retries=RETRIES)
        tasks = {function: remote(function) for function in (run_child, run_elsewhere)}
        yield lambda call: tasks[call.task[0]].remote(*call.task[1]).future()


@contextlib.contextmanager
def _unreachable_ray() -> Iterator[None]:
    """Have a Ray that is started meanwhile listen on the loopback interface alone, and ask for a token of its own.

    Ray must not have been imported before.
    """
    # The first variable is Ray's default on macOS and Windows: a Ray of one machine, at the loopback address, which
    # ray.init would replace by that of the network. Other users of the machine reach it even so: hence the token.
    ours = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": _ray_token(),
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@functools.cache
def _ray_token() -> str:
    return secrets.token_hex(32)  # one for all sweeps of a process: Ray reads it once


def _check_ray_answers(address: str) -> None:
    """Raise UserError if nobody listens at HOST:PORT, where Ray itself would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return  # empty, or `auto`
    try:
        socket.create_connection((host, int(port)), START_SECONDS).close()
    except OSError as error:
        raise UserError(f"launcher.address={address}: no Ray cluster answers there ({error})") from None


@contextlib.contextmanager
def _needing_extra(engine: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"launcher={engine} needs packages that are not installed ({error.name}): pip install -e '.[launchers]'"
        ) from None


ENGINES: dict[str, Engine] = {"local": local, "dask": dask, "ray": ray, **dict.fromkeys(BATCH_SYSTEMS, dask)}
