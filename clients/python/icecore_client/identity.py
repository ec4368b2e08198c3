"""Identities: who a client is, as a directory with `ca.pem`, `cert.pem` and `key.pem`."""

from __future__ import annotations

import os
import urllib.parse
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .frames import ProtocolError


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
        certificate = x509.load_pem_x509_certificate((directory / "cert.pem").read_bytes())
        role, name = _who(certificate, directory)
        return cls(directory, role, name, certificate.not_valid_before_utc, certificate.not_valid_after_utc)

    @property
    def wants_renewal(self) -> bool:
        """Whether less than a third of the certificate's time is left."""
        left = self.not_after - datetime.now(timezone.utc)
        return left < (self.not_after - self.not_before) / 3

    def renewed(self, certificate: bytes) -> Identity:
        """Puts a certificate (DER) in place of the one in the directory, for the next connection on."""
        try:
            parsed = x509.load_der_x509_certificate(certificate)
            if _who(parsed, self.directory) != (self.role, self.name):
                raise ValueError("it names somebody else")
        except ValueError as error:
            raise ProtocolError(f"the new certificate cannot be used: {error}") from error
        new = self.directory / "cert.pem.new"
        _write(new, parsed.public_bytes(serialization.Encoding.PEM), 0o644)
        new.replace(self.directory / "cert.pem")
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


def _who(certificate: x509.Certificate, directory: Path) -> tuple[str, str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        match uri.split(":", 2):
            case ["icecore", ("device" | "gateway") as role, name]:
                return role, urllib.parse.unquote(name)
    raise ValueError(f"{directory / 'cert.pem'} names neither a device nor a gateway")


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
