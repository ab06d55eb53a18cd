"""All recordings, on the cores of this machine or on a cluster: the same function, another hand to run it.

A worker that dies (a decoder can take its process with it) costs the file that killed it, and no other.
"""

import contextlib
import ctypes
import functools
import importlib.util
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from agent.errors import ConfigError
from model_export.scan.hear import Heard, Job, hear

_WORKERS_S = 30.0
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_job: Job | None = None
"""Of a worker of the pool: it comes once, not with every file."""


def _begin(job: Job) -> None:
    global _job  # noqa: PLW0603  # the one thing that a pool's worker keeps
    _job = job


def _hear(root: str, name: str) -> Heard:
    assert _job is not None
    return hear(root, name, _job)


def here(root: str, names: Sequence[str], job: Job, workers: int) -> Iterator[Heard]:
    """Hear recordings on this machine; yields in the order in which they are done.

    Args:
        root: the folder that is scanned.
        names: of the recordings, below it.
        job: what to hear them with.
        workers: processes; 1: none but this one.
    """
    if workers == 1 or len(names) == 1:
        yield from (hear(root, name, job) for name in names)
        return
    left = set(names)
    try:
        for one in _pooled(root, names, job, workers):
            left.discard(one.path)
            yield one
    except BrokenProcessPool:
        # whoever it was is among those that are left: each alone, so that it takes no other along
        for name in [name for name in names if name in left]:
            yield _alone(root, name, job)


def _pooled(root: str, names: Sequence[str], job: Job, workers: int) -> Iterator[Heard]:
    # not fork: what other threads of this process hold would stay held
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(job,)) as pool:
        futures = [pool.submit(_hear, root, name) for name in names]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _alone(root: str, name: str, job: Job) -> Heard:
    try:
        return next(_pooled(root, [name], job, 1))
    except BrokenProcessPool:
        return Heard(
            path=name, error="the worker that heard it died; the file is damaged in a way that kills the decoder"
        )


def there(root: str, names: Sequence[str], job: Job, scheduler: str) -> Iterator[Heard]:
    """Hear recordings on a cluster; the folder must have the same path on every worker.

    Args:
        root: the folder that is scanned.
        names: of the recordings, below it.
        job: what to hear them with.
        scheduler: its address: `tcp://host:8786`.

    Raises:
        ConfigError: Dask is not installed, or no scheduler answers.
    """
    try:
        import distributed
    except ImportError as error:
        raise ConfigError("--scheduler: needs Dask: pip install 'curupira[scan]'") from error
    try:
        client: Any = distributed.Client(scheduler, timeout=10)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConfigError(f"--scheduler {scheduler}: does not answer: {error}") from error
    with client:
        _expect_workers(client, scheduler)
        told = client.scatter(job, broadcast=True)
        futures = {client.submit(_hear_there, root, name, told, pure=False): name for name in names}
        for future in distributed.as_completed(futures):
            yield _result(future, futures[future])


def _hear_there(root: str, name: str, job: Job) -> Heard:
    _keep_memory()
    return hear(root, name, job)


@functools.cache
def _keep_memory() -> None:
    """Let the C library keep freed memory: Dask's nanny makes it give every array back, at half the speed."""
    with contextlib.suppress(OSError, AttributeError):  # no glibc: nothing to tell
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 512 << 20)


def _expect_workers(client: Any, scheduler: str) -> None:  # noqa: ANN401  # Dask's client
    """Raise ConfigError unless every worker can import this package: else each file would fail for the same reason."""
    try:
        client.wait_for_workers(1, timeout=_WORKERS_S)
    except TimeoutError as error:
        raise ConfigError(f"--scheduler {scheduler}: has no worker; start some: dask worker {scheduler}") from error
    # a function of the standard library: one of ours could not be sent to whoever lacks it
    found = client.run(importlib.util.find_spec, "model_export")
    without = sorted(worker for worker, spec in found.items() if spec is None)
    if without:
        raise ConfigError(
            f"--scheduler {scheduler}: {len(without)} of {len(found)} workers lack this package, among them "
            f"{without[0]}; install it there: pip install 'curupira[scan]'"
        )


def _result(future: Any, name: str) -> Heard:  # noqa: ANN401  # Dask's future
    # the file that kills workers, and a cluster that goes away: both are told of, and stop nothing
    if future.status == "cancelled":
        return Heard(path=name, error="the cluster went away before it was heard; start it, the same command goes on")
    problem = future.exception()
    if problem is not None:
        return Heard(path=name, error=f"{type(problem).__name__}: {' '.join(str(problem).split())[:250]}")
    heard: Heard = future.result()
    return heard
