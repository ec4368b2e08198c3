"""Identities: who a client is, as a directory with `ca.pem`, `cert.pem` and `key.pem`."""

from __future__ import annotations

import os
import urllib.parse
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True)
class Identity:
    """A certificate, its key, and the authority that servers are checked against."""

    directory: Path
    role: str
    """`device` or `gateway`."""
    name: str
    not_before: datetime
    not_after: datetime

    @classmethod
    def load(cls, directory: str | Path) -> Identity:
        """Reads the directory that `icecore device enroll` wrote."""
        directory = Path(directory)
        for file in ("ca.pem", "key.pem"):
            if not (directory / file).is_file():
                raise ValueError(f"{directory / file} is missing: an identity is ca.pem, cert.pem and key.pem")
        certificate = _load(directory)
        try:
            role, name = _who(certificate)
        except ValueError as error:
            raise ValueError(f"{directory / 'cert.pem'}: {error}") from error
        return cls(directory, role, name, certificate.not_valid_before_utc, certificate.not_valid_after_utc)

    def renewed(self, certificate: bytes) -> Identity:
        """Puts a certificate (DER) in place of the one in the directory.

        Raises ValueError for one that is not of the same name and key or does not last longer.
        """
        new, old = x509.load_der_x509_certificate(certificate), _load(self.directory)
        if _who(new) != (self.role, self.name):
            raise ValueError("it is of another name")
        if new.public_key() != old.public_key():
            raise ValueError("it is of another key")
        if new.not_valid_after_utc <= old.not_valid_after_utc:
            raise ValueError("it does not last longer than the present one")
        beside = self.directory / "cert.pem.new"
        _write(beside, new.public_bytes(serialization.Encoding.PEM), 0o644)
        beside.replace(self.directory / "cert.pem")
        return Identity.load(self.directory)


def create_request(name: str, directory: str | Path) -> Path:
    """Makes a key in `directory` and a request for a certificate; returns the request's path.

    The key is readable by its owner only and never leaves the directory. `icecore device enroll NAME --csr FILE` signs the
    request; what it writes (`ca.pem`, `cert.pem`) completes the identity.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / "key.pem").exists():
        raise ValueError(f"{directory / 'key.pem'} exists already and is not replaced")
    key = ec.generate_private_key(ec.SECP256R1())
    encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(directory / "key.pem", key.private_bytes(*encoding), 0o600)
    # For people: the server takes the name from its own command line. X.509 allows 64 characters.
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name[:64])])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    path = directory / "request.pem"
    _write(path, request.public_bytes(serialization.Encoding.PEM), 0o644)
    return path


def _load(directory: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory / "cert.pem").read_bytes())


def _who(certificate: x509.Certificate) -> tuple[str, str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    for uri in uris:
        match uri.split(":", 2):
            case ["icecore", ("device" | "gateway") as role, name]:
                return role, urllib.parse.unquote(name)
    raise ValueError("it names neither a device nor a gateway")


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
