"""One process at a time in a folder, where several may run the same command."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from steerclear.errors import Log, StorageError

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""What a file system without locks answers."""


def has_locks(folder: Path) -> bool:
    """Return whether files in a folder, which is made if need be, can be locked.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "probe.lock", fallback_to_soft=False, timeout=0):
            pass
    except Timeout:
        return True  # another process is looking too
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        raise StorageError(f"{folder}: cannot be written ({error.strerror}). Choose another output.") from error
    return True


def try_lock(file: Path) -> FileLock | None:
    """Take a lock and return it; None where another process holds it. The system lets go of a dead process's lock.

    Raises:
        StorageError: the folder has no locks or cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file, fallback_to_soft=False)
        lock.acquire(blocking=False)
    except Timeout:
        return None
    except OSError as error:
        raise _no_lock(file.parent, error) from error
    return lock


@contextmanager
def alone(folder: Path, log: Log) -> Iterator[None]:
    """Let one process of all in at a time. The system lets go of a dead process's lock.

    Raises:
        StorageError: the folder has no locks or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "stage.lock", fallback_to_soft=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            log(f"{folder}: another process is at work here; waiting for it ...")
            lock.acquire()
    except OSError as error:
        raise _no_lock(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def _no_lock(folder: Path, error: OSError) -> StorageError:
    return StorageError(f"{folder}: cannot be locked ({error.strerror}). Choose an output whose file system has locks.")
