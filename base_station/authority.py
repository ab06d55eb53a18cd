"""The station's own certificate authority: TLS without the internet, pinned by the devices.

Two files that their owner alone may read: `authority.pem` (the authority's key and certificate) and `station.pem` (the
server's), each replaced as a whole; and `ca.pem`, which every device gets. Nobody's clock is trusted: all
certificates begin in 1970, where a phone with an empty clock believes itself to be, and a station whose clock stands
before this software was written counts from then. What ends is the server's certificate, and it is renewed long before.
"""

import ipaddress
import os
import re
import secrets
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.errors import ConfigError
from base_station.keys import write_secret

BEGINS = datetime(1970, 1, 1, tzinfo=UTC)
WRITTEN = datetime(2026, 11, 1, tzinfo=UTC)
"""Before this nobody can have run this code: an earlier clock is wrong."""
AUTHORITY_LIFE = timedelta(days=30 * 365)
"""A phone in a tree keeps the pin for as long as it hangs."""
SERVER_LIFE = timedelta(days=2 * 365)
RENEW_BEFORE = timedelta(days=365)
"""A station that is switched on once a year still has a certificate that is good."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_LOCAL_ZONES = ("localhost", "local", "lan", "internal", "home.arpa")
_PRIVATE = (
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What there is after `prepare`."""

    ca_file: Path
    """The authority's certificate, PEM: what devices pin."""
    fingerprint: str
    """SHA-256 of that certificate, to compare by eye."""
    names: tuple[str, ...]
    """Names and addresses for which the server's certificate is good."""
    ends: datetime
    """When the server's certificate ends, unless it is renewed."""
    made: tuple[str, ...]
    """What was made just now: `authority`, `certificate`."""


@dataclass(frozen=True, slots=True)
class _Pair:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def ca_file(folder: Path) -> Path:
    """Return where the certificate lies that devices pin."""
    return folder / "ca.pem"


def server_file(folder: Path) -> Path:
    """Return where the server's key and certificates lie, in one file, for `ssl`."""
    return folder / "station.pem"


def names_of(folder: Path) -> tuple[str, ...]:
    """Return the names and addresses that the server's certificate is good for; ConfigError if it cannot be read."""
    return _names(_read(server_file(folder)).certificate)


def prepare(folder: Path, names: Sequence[str], now: datetime) -> Standing:
    """Make the authority if there is none, and a server certificate where names or time ask for one.

    Args:
        folder: where the three files lie; made if missing.
        names: host names and addresses; the loopback ones are always there. None given: those that it has.
        now: station time, UTC.

    Raises:
        ConfigError: a name is none, or the authority may not vouch for it; a file cannot be read or written.
    """
    wanted = [_normal(name) for name in names]
    made: list[str] = []
    _make_folder(folder)
    if not _authority_file(folder).exists():
        _write(_authority_file(folder), _new_authority(wanted, now))
        made.append("authority")
    authority = _read(_authority_file(folder))
    _publish(folder, authority)
    server = _read(server_file(folder)) if server_file(folder).exists() else None
    all_names = _with_loopback(wanted or (_names(server.certificate) if server else ()))
    _check_permitted(authority.certificate, all_names, folder)
    if server is None or _is_due(server, authority, all_names, now):
        _write(server_file(folder), _new_server(authority, all_names, now))
        made.append("certificate")
    return _standing(folder, authority, made)


def renew(folder: Path, now: datetime) -> bool:
    """Make the server's certificate anew if it ends within a year; return whether it was.

    Raises:
        ConfigError: there is no authority, or a file cannot be read or written.
    """
    if not _authority_file(folder).exists():
        raise ConfigError(f"{folder}: there is no certificate authority; run: python -m base_station init")
    return bool(prepare(folder, (), now).made)


def _authority_file(folder: Path) -> Path:
    return folder / "authority.pem"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _hand_over(folder)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot make the folder: {error.strerror or error}") from error


def _hand_over(path: Path) -> None:
    """Give what root made to whom the folder around it belongs: the service has a user of its own."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _standing(folder: Path, authority: _Pair, made: Sequence[str]) -> Standing:
    server = _read(server_file(folder)).certificate
    digest = authority.certificate.fingerprint(hashes.SHA256()).hex().upper()
    return Standing(
        ca_file=ca_file(folder),
        fingerprint=":".join(digest[at : at + 2] for at in range(0, len(digest), 2)),
        names=_names(server),
        ends=server.not_valid_after_utc,
        made=tuple(made),
    )


def _is_due(server: _Pair, authority: _Pair, names: Iterable[str], now: datetime) -> bool:
    certificate = server.certificate
    return (
        certificate.not_valid_after_utc - max(now, WRITTEN) < RENEW_BEFORE
        or set(_names(certificate)) != set(names)
        or certificate.issuer != authority.certificate.subject
    )


# names


def _normal(name: str) -> str:
    """Return a host name or address as certificates write it; ConfigError if it is neither."""
    bare = name.strip("[]")
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    host = name.lower().rstrip(".")
    looks_numeric = re.fullmatch(r"[0-9.]*", host) is not None
    if looks_numeric or not _HOST.fullmatch(host) or len(host) > 253:
        raise ConfigError(
            f"--name: is {name[:80]!r}, expected a host name or an address, say station.local or 10.0.0.1"
        )
    return host


def _with_loopback(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*names, *_LOOPBACK)))


def _address(name: str) -> Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _general(name: str) -> x509.GeneralName:
    address = _address(name)
    return x509.DNSName(name) if address is None else x509.IPAddress(address)


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return tuple(str(name.value) for name in names)


def _permitted(names: Iterable[str]) -> list[x509.GeneralName]:
    """Return what the authority may vouch for: what is local, and the names that it was made for.

    Whoever steals its key from the ranger's laptop can then play this station, and not the ranger's bank.
    """
    networks = [ipaddress.ip_network(text) for text in _PRIVATE]
    zones = list(_LOCAL_ZONES)
    for name in names:
        address = _address(name)
        if address is None:
            if not _is_below(name, zones):
                zones.append(name)
        elif not any(address in network for network in networks):
            networks.append(ipaddress.ip_network(address))
    return [*(x509.DNSName(zone) for zone in zones), *(x509.IPAddress(network) for network in networks)]


def _is_below(name: str, zones: Iterable[str]) -> bool:
    return any(name == zone or name.endswith(f".{zone}") for zone in zones)


def _check_permitted(authority: x509.Certificate, names: Iterable[str], folder: Path) -> None:
    permitted = authority.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    zones = [entry.value for entry in permitted if isinstance(entry, x509.DNSName)]
    networks = [entry.value for entry in permitted if isinstance(entry, x509.IPAddress)]
    for name in names:
        address = _address(name)
        good = _is_below(name, zones) if address is None else any(_holds(network, address) for network in networks)
        if not good:
            raise ConfigError(
                f"--name: the authority in {folder} may not vouch for {name}: it was made for local names and for "
                "those given to the first init; use one of these, or move the folder away, run init, and provision the "
                "fleet anew"
            )


def _holds(network: object, address: Address) -> bool:
    return isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network) and address in network


# certificates


def _new_authority(names: Iterable[str], now: datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    # a name of its own: two stations in one browser must not be taken for one another
    subject = _subject(f"Curupira station authority {secrets.token_hex(4)}")
    certificate = (
        _builder(subject, subject, key, max(now, WRITTEN) + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.NameConstraints(_permitted(names), None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _Pair(key, certificate)


def _new_server(authority: _Pair, names: Iterable[str], now: datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    ends = min(max(now, WRITTEN) + SERVER_LIFE, authority.certificate.not_valid_after_utc)
    issuer = authority.certificate
    certificate = (
        _builder(_subject("Curupira station"), issuer.subject, key, ends)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return _Pair(key, certificate)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGINS)
        .not_valid_after(ends)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


# files


def _read(path: Path) -> _Pair:
    """Read a key and its certificate; ConfigError names what is wrong and never holds the key."""
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    if mode & _OTHERS:
        raise ConfigError(f"{path}: others may read this key (mode {mode & 0o777:o}); run: chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(content, None)
        certificate = x509.load_pem_x509_certificate(content)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: is damaged, expected a key and a certificate; put it back from a backup") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ConfigError(f"{path}: key and certificate do not belong together; put it back from a backup")
    return _Pair(key, certificate)


def _write(path: Path, pair: _Pair) -> None:
    key = pair.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    draft = path.with_name(f".{path.name}.new-{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        write_secret(draft, key + pair.certificate.public_bytes(serialization.Encoding.PEM).rstrip())
        _hand_over(draft)
        draft.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _publish(folder: Path, authority: _Pair) -> None:
    """Put the authority's certificate beside, without its key; a copy that was changed is put right."""
    content = authority.certificate.public_bytes(serialization.Encoding.PEM)
    path = ca_file(folder)
    try:
        if path.exists() and path.read_bytes() == content:
            return
        draft = path.with_name(f".{path.name}.new-{os.getpid()}")
        draft.write_bytes(content)
        _hand_over(draft)
        draft.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error
