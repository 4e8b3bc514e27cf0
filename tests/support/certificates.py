"""An authority and a server's certificate that it signed, good for a day."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

KEPT = timedelta(days=1)


def make_certificates(host: str, *, authority: Path, server: Path) -> None:
    """PEM files: the authority's certificate, and the key and certificate of `host`, an IP address."""
    ours, theirs = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = _name("Thumbwheel's tests")
    root = _begun(name, name, ours).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    authority.write_bytes(root.sign(ours, hashes.SHA256()).public_bytes(Encoding.PEM))
    there = x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))])
    leaf = _begun(_name(host), name, theirs).add_extension(there, critical=False).sign(ours, hashes.SHA256())
    key = theirs.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    server.write_bytes(key + leaf.public_bytes(Encoding.PEM))


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _begun(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    began = datetime.now(UTC) - timedelta(minutes=5)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + KEPT)
    )
