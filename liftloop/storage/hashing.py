"""Content hashes and fingerprints."""

import hashlib


def sha256_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def fingerprint_of(*parts: object) -> str:
    """One hash over everything that a derived object depends on: input hashes, parameters, rule versions."""
    return sha256_of("\n".join(str(part) for part in parts).encode())
