"""The certificate with which the services of the embedded object store authenticate each other."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from liftloop.stack.layout import HOST, Layout, write_private

_DAYS = 100 * 365  # it is useless without the key, which is as secret as the data
_SERVICES = ("MASTER", "VOLUME", "FILER", "S3", "ADMIN", "WORKER", "CLIENT")


def write_certificate(layout: Layout) -> None:
    """Create the certificate and its key unless they exist."""
    if layout.certificate_file.exists() and layout.certificate_key_file.exists():
        return
    key = ec.generate_private_key(ec.SECP256R1())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    write_private(
        layout.certificate_key_file, key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain).decode()
    )
    write_private(layout.certificate_file, _signed_by_itself(key).public_bytes(pem).decode())


def certificate_environment(layout: Layout) -> dict[str, str]:
    """Makes every gRPC service of SeaweedFS present and require this certificate: they ignore S3 identities."""
    found = {"WEED_GRPC_CA": str(layout.certificate_file)}
    for service in _SERVICES:
        found[f"WEED_GRPC_{service}_CERT"] = str(layout.certificate_file)
        found[f"WEED_GRPC_{service}_KEY"] = str(layout.certificate_key_file)
    return found


def _signed_by_itself(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "liftloop")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # a clock may be set back
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), critical=False)
        .sign(key, hashes.SHA256())
    )
