"""What a station needs to know before it starts."""

import importlib.util
import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from agent.errors import ConfigError

DEFAULT_PORT = 8765

_BACKLOG = 512
_DATABASE_FORM = "postgresql://user:password@host/name (or sqlite:////folder/file.db)"


def default_data() -> Path:
    """Return the folder for data that nobody named: the same one whatever the working directory."""
    home = os.environ.get("XDG_DATA_HOME", "")
    return (Path(home) if home else Path.home() / ".local" / "share") / "curupira-station"


def default_database() -> str | None:
    """Return the URL of the database that nobody named: what the environment says, or None for the file in `data`."""
    return os.environ.get("CURUPIRA_DATABASE") or None


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Where the station keeps its data and where it listens."""

    data: Path
    """Folder of the database and of the station's key."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = DEFAULT_PORT
    """TCP port; 0 takes a free one."""
    database: str | None = None
    """URL of a PostgreSQL database; None is a SQLite file in `data`."""
    page: bool = True
    """Whether this process also shows the page; of several on one database one is enough."""

    def __post_init__(self) -> None:
        """Refuse what would put the station into the open, or nowhere."""
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"--port: is {self.port}, expected 0 to 65535")
        if not self.exposed:
            return
        if not self.tls:
            raise ConfigError(
                f"--host: {self.host or 'empty'} can be reached from other machines, and {self.data} has no "
                "certificate for TLS; make one: python -m base_station init --name NAME, or use 127.0.0.1"
            )
        if not _is_address(self.host):
            raise ConfigError(f"--host: is {self.host!r}, expected an address of this machine; 0.0.0.0 is all of them")

    @property
    def exposed(self) -> bool:
        """Say whether other machines can reach it."""
        return not _is_loopback(self.host)

    @property
    def tls_folder(self) -> Path:
        """Where the certificate authority and the server's certificate are, if there are."""
        return self.data / "tls"

    @property
    def tls(self) -> bool:
        """Say whether there is a certificate: then the station speaks nothing but TLS."""
        return (self.tls_folder / "station.pem").exists()

    @property
    def database_url(self) -> URL:
        """Where the database is."""
        if self.database is None:
            return URL.create("sqlite", database=str(self.data / "station.db"))
        return database_url(self.database)

    @property
    def key_file(self) -> Path:
        """The file with the key that seals the devices' keys."""
        return self.data / "station.key"


def database_url(given: str) -> URL:
    """Return the URL of a database that somebody named, with the driver that is installed.

    Raises:
        ConfigError: it is none, or of a kind that the station does not use. The text holds no password.
    """
    try:
        url = make_url(given)
        kind = url.get_backend_name()
    except (ArgumentError, ValueError) as error:
        raise ConfigError(f"--database: is no URL of a database; expected {_DATABASE_FORM}") from error
    if kind in ("postgresql", "postgres"):
        if importlib.util.find_spec("psycopg") is None:
            raise ConfigError("--database: PostgreSQL needs psycopg; install curupira[postgres]")
        return url.set(drivername="postgresql+psycopg")
    if kind == "sqlite" and url.database:
        return url
    raise ConfigError(f"--database: is of kind {kind!r}, expected {_DATABASE_FORM}")


def page_url(settings: Settings, port: int) -> str:
    """Return the address of the page, which is for this machine alone."""
    host = settings.host
    if settings.exposed:
        host = "::1" if ":" in host else "127.0.0.1"
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.tls else 'http'}://{name}:{port}/"


def listening_socket(settings: Settings) -> socket.socket:
    """Return a socket that listens already, so that nobody else can take the port any more.

    Raises:
        ConfigError: the port is taken or may not be used.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"--port: {settings.host}:{settings.port} cannot be used: {error.strerror or error}; "
            "is another station running? Name another port, or 0 for a free one"
        ) from error
    return listening


def prepare_folder(data: Path) -> None:
    """Make the data folder, for its owner alone, and prove that it can be written.

    Raises:
        ConfigError: it cannot be made or written.
    """
    probe = data / f".writable-{os.getpid()}"
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"--data: {data} cannot be written: {error.strerror or error}; name a folder of your own"
        ) from error


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
