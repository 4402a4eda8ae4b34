"""PostgreSQL, PgBouncer and MariaDB from programs that are on the machine, in own directories."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from sinfer.embedded.child_process import _die_with_parent, free_port
from tests.support.required import unavailable
from tests.support.until import until_true

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 20.0


def _account(name: str) -> str | None:
    """Whom to run a server as that refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(name).pw_name
    except KeyError:
        return "nobody"


@contextmanager
def _directory(account: str | None) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="sinfer-db-"))
    if account is not None:
        shutil.chown(directory, account)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _answers(url: str) -> bool:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except OperationalError:
        return False
    finally:
        engine.dispose()
    return True


def _execute(url: str, statement: str) -> None:
    engine = create_engine(url)
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


@contextmanager
def _running(
    command: list[str], account: str | None, directory: Path, url: str, stop: signal.Signals
) -> Iterator[str]:
    """Run a server until the block ends; it begins once the server answers a query."""
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            user=account,
            cwd=directory,
            stdout=log,
            stderr=log,
            preexec_fn=_die_with_parent,
        )
        try:

            def told() -> str:
                return f"{command[0]}: {(directory / 'server.log').read_text()[-2000:]}"

            def does_answer() -> bool:
                assert process.poll() is None, told()
                return _answers(url)

            until_true(does_answer, told, _START_TIMEOUT_S)
            yield url
        finally:
            process.send_signal(stop)
            try:
                process.wait(_STOP_TIMEOUT_S)
            finally:
                process.kill()
                process.wait()


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a new PostgreSQL server; skips the test when there are no programs for one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (str(found[-1]) if found else None)
    if initdb is None:
        unavailable("PostgreSQL: no initdb on the path or in /usr/lib/postgresql/*/bin")
    account = _account("postgres")
    with _directory(account) as directory:
        data, port = directory / "data", free_port()
        subprocess.run(
            [initdb, "--pgdata", data, "--username", "sinfer", "--auth", "trust", "--no-sync"],
            user=account,
            cwd=directory,
            check=True,
            capture_output=True,
        )
        command = [
            str(Path(initdb).with_name("postgres")), "-D", str(data), "-p", str(port),
            "-k", str(directory), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
        ]  # fmt: skip
        # SIGINT ends connections, SIGTERM would wait for them.
        url = f"postgresql+psycopg://sinfer@127.0.0.1:{port}/postgres"
        with _running(command, account, directory, url, signal.SIGINT):
            yield url


@contextmanager
def mariadb(*settings: str) -> Iterator[str]:
    """The URL of a new MariaDB server; skips the test when there are no programs for one.

    Args:
        settings: options of the server.
    """
    server = shutil.which("mariadbd", path=os.defpath + ":/usr/sbin")
    install = shutil.which("mariadb-install-db")
    if server is None or install is None:
        unavailable("MariaDB: no mariadbd and mariadb-install-db on the path")
    account = _account("mysql")
    with _directory(account) as directory:
        data, port = directory / "data", free_port()
        subprocess.run(
            [
                install, "--no-defaults", f"--datadir={data}", "--skip-test-db",
                "--auth-root-authentication-method=normal",
            ],
            user=account,
            cwd=directory,
            check=True,
            capture_output=True,
        )  # fmt: skip
        command = [
            server, "--no-defaults", f"--datadir={data}", f"--port={port}",
            "--bind-address=127.0.0.1", f"--socket={directory / 's'}", "--skip-log-bin",
            *settings,
        ]  # fmt: skip
        url = f"mariadb+pymysql://root@127.0.0.1:{port}/mysql"
        with _running(command, account, directory, url, signal.SIGTERM):
            _execute(url, "CREATE DATABASE sinfer")  # no triggers in the one that is there
            yield f"{url.removesuffix('/mysql')}/sinfer"


@contextmanager
def pgbouncer(
    url: str, *, pool_mode: str = "transaction", port: int | None = None, pool_size: int = 4
) -> Iterator[str]:
    """The URL of a pooler in front of the server of a URL; skips where there is no program."""
    program = shutil.which("pgbouncer", path=os.defpath + ":/usr/sbin")
    if program is None:
        unavailable("PgBouncer: no pgbouncer on the path")
    server, port = make_url(url), port or free_port()
    account = _account("postgres")
    with _directory(account) as directory:
        settings = directory / "pgbouncer.ini"
        settings.write_text(
            "[databases]\n"
            f"* = host={server.host} port={server.port} user={server.username}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = any\npool_mode = {pool_mode}\ndefault_pool_size = {pool_size}\n"
            "server_login_retry = 1\n"
        )
        answering = server.set(port=port).render_as_string()
        if pool_mode == "statement":  # in which there are no transactions to ask in
            answering = url
        command = [program, str(settings)]
        with _running(command, account, directory, answering, signal.SIGINT):
            yield server.set(port=port).render_as_string()
