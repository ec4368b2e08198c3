"""Certificates: when to ask for the next, and which to take."""

from __future__ import annotations

import unittest
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from icecore_client import Identity, create_request
from icecore_client.renewal import Renewal

HOUR = 3600.0


def year(number: int) -> datetime:
    return datetime(number, 1, 1, tzinfo=timezone.utc)


def certificate(uri: str | None, key: ec.EllipticCurvePrivateKey, until: int) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(year(2020)).not_valid_after(year(until))
    if uri is not None:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256())


class Renewals(unittest.TestCase):
    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        create_request("pump", self.directory)
        key = serialization.load_pem_private_key((self.directory / "key.pem").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.key = key
        pem = certificate("icecore:device:pump", key, 2050).public_bytes(serialization.Encoding.PEM)
        (self.directory / "cert.pem").write_bytes(pem)
        (self.directory / "ca.pem").write_bytes(pem)
        self.renewal = Renewal(Identity.load(self.directory))

    def test_the_last_third_of_a_life_is_for_renewal(self) -> None:
        due = [self.renewal.is_due(year(at).timestamp(), 0.0) for at in (2021, 2039, 2041, 2099)]
        self.assertEqual(due, [False, False, True, True])

    def test_the_next_question_waits_for_the_answer_to_the_last(self) -> None:
        late = year(2045).timestamp()
        self.renewal.asked(100.0)
        self.assertEqual([self.renewal.is_due(late, now) for now in (100.0, 100.0 + HOUR)], [False, True])
        for retry, hours in (None, 24), (0.0, 1), (3 * HOUR, 3):
            self.renewal.refused(retry, 100.0)
            due = [self.renewal.is_due(late, 100.0 + hours * HOUR + second) for second in (-1.0, 1.0)]
            self.assertEqual(due, [False, True], retry)

    def test_only_a_longer_one_of_the_same_name_and_key_is_taken(self) -> None:
        before = (self.directory / "cert.pem").read_bytes()
        other = ec.generate_private_key(ec.SECP256R1())
        for uri, key, until, reason in (
            ("icecore:device:fan", self.key, 2060, "another name"),
            ("icecore:gateway:pump", self.key, 2060, "another name"),
            (None, self.key, 2060, "names neither"),
            ("icecore:device:pump", other, 2060, "another key"),
            ("icecore:device:pump", self.key, 2050, "longer"),
        ):
            der = certificate(uri, key, until).public_bytes(serialization.Encoding.DER)
            with self.subTest(reason), self.assertRaisesRegex(ValueError, reason):
                self.renewal.take(der)
        with self.assertRaises(ValueError):
            self.renewal.take(b"\x30\x03")
        self.assertEqual((self.directory / "cert.pem").read_bytes(), before)
        new = certificate("icecore:device:pump", self.key, 2060)
        self.renewal.take(new.public_bytes(serialization.Encoding.DER))
        self.assertEqual(self.renewal.identity.not_after, year(2060))
        self.assertEqual(Identity.load(self.directory), self.renewal.identity)
