"""Where a study is kept: a journal file that machines may share, or a database; and its errors as ours."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import CorruptArtifactError, MissingError, StorageError, ToolkitError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_optuna", "open_storage", "shown", "storage_errors"]


def check_optuna() -> None:
    """Before anything is done: whether there is an Optuna, which is then made to keep its own log to itself.

    Raises:
        MissingError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingError(
            f"this needs Optuna ({error}); install the extra 'sweep': pip install '.[train,sweep]' in the project"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def open_storage(where: str) -> Any:
    """Optuna's storage at a path or URL; a file that is not there is begun.

    Args:
        where: a file's path, or the URL of a database as SQLAlchemy takes it, such as sqlite:///study.db.

    Raises:
        UsageError: the path cannot be used, or the URL is none.
        MissingError: the database's driver is not installed.
        CorruptArtifactError: the file is no journal of Optuna's, or is damaged.
        StorageError: the database cannot be reached.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    if "://" in where:
        with storage_errors(where):
            return optuna.storages.RDBStorage(where)
    path = Path(where).absolute()
    if path.is_dir():
        raise UsageError(
            f"--storage {where} is a folder, expected a file or a database URL; give {path / 'study.journal'}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    # The other kind of lock is a link whose target must exist to tell when a lock was left by a kill; on machines that
    # know the folder by different names it does not.
    lock = JournalFileOpenLock(str(path))
    if path.is_file() and path.stat().st_size:
        lock.acquire()
        try:
            _mend(path)
        finally:
            lock.release()
    try:
        return optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise _damaged(path, "it cannot be read to its end") from error


@contextlib.contextmanager
def storage_errors(where: str) -> Iterator[None]:
    """Errors of a database as ours, in one line without its password."""
    import optuna
    import sqlalchemy.exc

    try:
        yield
    except ToolkitError:
        raise
    except ImportError as error:
        raise MissingError(
            f"--storage {shown(where)} needs a database driver that is not installed ({error.__cause__ or error}); "
            "install it, or give a file"
        ) from error
    except (
        optuna.exceptions.StorageInternalError,
        sqlalchemy.exc.OperationalError,
        sqlalchemy.exc.InterfaceError,
    ) as error:
        raise StorageError(
            f"the study's storage {shown(where)} cannot be used ({_first_line(error.__cause__ or error)}); see that it "
            "is there, then give the same command again"
        ) from error
    except (sqlalchemy.exc.ArgumentError, sqlalchemy.exc.NoSuchModuleError) as error:
        raise UsageError(
            f"--storage is {shown(where)} ({_first_line(error)}), expected a file or a database URL such as "
            "sqlite:///study.db"
        ) from error


def shown(where: str) -> str:
    """A storage as people may see it: a URL without its password."""
    if "://" not in where:
        return where
    import sqlalchemy

    try:
        return sqlalchemy.make_url(where).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return where.partition("://")[0] + "://..."


def _mend(path: Path) -> None:
    """Cut off a last line that a full disk or a kill left unfinished; the next one would be written onto it.

    Raises:
        CorruptArtifactError: the file does not begin as a journal does, so it is not ours to change.
    """
    with path.open("r+b") as file:
        first = file.readline()
        try:
            begins = first.endswith(b"\n") and "op_code" in json.loads(first)
        except ValueError:
            begins = False
        if not begins:
            raise _damaged(path, "it does not begin as one")
        text = first + file.read()
        if not text.endswith(b"\n"):
            file.truncate(text.rfind(b"\n") + 1)


def _damaged(path: Path, why: str) -> CorruptArtifactError:
    return CorruptArtifactError(f"{path} is no whole journal of a study ({why}); give another --storage")


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
