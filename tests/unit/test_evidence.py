"""Whose signature counts: anybody's whose key is here may have written something."""

from __future__ import annotations

import json
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from worker.cli.evidence import _judged
from worker.core.evidence import canonical, signed_text
from worker.errors import ConfigError, ValidationFailed
from worker.steps.audit_trail import _trust
from worker.steps.signatures import trusted

KNOWN = {"ops@example.org": frozenset({"OPS"}), "old@example.org": frozenset({"OLD"})}


def adapters(signing_key: str | None = None, signer: str = "OPS") -> Any:
    def verify(_: bytes, signature: bytes) -> str:
        if signature == b"bad":
            raise ValidationFailed("One of them was changed.", "")
        return signer

    gpg = SimpleNamespace(named=lambda name: KNOWN.get(name, frozenset()), verify_signature=verify)
    return SimpleNamespace(gpg=gpg, settings=SimpleNamespace(signing_key=signing_key))


def judged(signature: bytes, signer: str, signing_key: str | None, *signers: str) -> Any:
    found = adapters(signing_key, signer)
    return _judged(found, b"record", signature, trusted(found, signers), "it is not signed")


@pytest.mark.parametrize(
    ("signature", "signer", "signing_key", "signers", "problem"),
    [
        (b"good", "OPS", "ops@example.org", (), ""),
        (b"good", "OLD", None, (), ""),
        (b"good", "OLD", "ops@example.org", ("old@example.org",), ""),
        (b"good", "OLD", "ops@example.org", ("ops@example.org", "old@example.org"), ""),
        (b"good", "MALLORY", "ops@example.org", (), "does not count"),
        (b"good", "OPS", "ops@example.org", ("old@example.org",), "does not count"),
        (b"bad", "OPS", None, (), "changed"),
        (b"", "OPS", None, (), "not signed"),
    ],
)
def test_whose_signature_counts(
    signature: bytes, signer: str, signing_key: str | None, signers: tuple[str, ...], problem: str
) -> None:
    told = judged(signature, signer, signing_key, *signers)
    assert told["ok"] is not bool(problem)
    assert problem in (told["problem"] or "")


def test_the_signed_text_can_be_had_without_us() -> None:
    """As docs/drill.md says it: the same bytes by jq, of what is stored."""
    record = {
        "rto": {"seconds": 94.0, "phases": [{"began": 0.0, "seconds": 0.001, "bytes": 1024}], "cold": None},
        "database": 'gö\t\x1f€😀"/\\',
        "Z": True,
        "a": [1.5, 1800, 12345678901],
        "signature": "S",
        "é": "",
        "~": {},
    }
    stored = json.dumps(canonical(record), indent=1)
    assert stored.count(".0") == 1  # that of 0.001
    command = ["jq", "-cSj", "del(.signature)"]
    told = subprocess.run(command, input=stored.encode(), capture_output=True, check=True).stdout
    assert told == signed_text(json.loads(stored))


def test_a_key_that_is_not_here() -> None:
    with pytest.raises(ConfigError, match="no key nobody"):
        trusted(adapters(), ("nobody",))


@pytest.mark.parametrize(
    ("signature", "signer", "signing_key", "signers", "trust"),
    [
        ("good", "OPS", "ops@example.org", (), ("signed", "OPS")),
        ("good", "OLD", None, (), ("signed", "OLD")),
        ("good", "OLD", "ops@example.org", ("old@example.org",), ("signed", "OLD")),
        ("good", "MALLORY", "ops@example.org", (), ("other key", "MALLORY")),
        ("good", "OPS", "ops@example.org", ("old@example.org",), ("other key", "OPS")),
        ("bad", "OPS", "ops@example.org", (), ("bad signature", "")),
        ("", "OPS", "ops@example.org", (), ("bad signature", "")),
    ],
)
def test_an_audit_record_counts_by_the_same_rule(
    signature: str, signer: str, signing_key: str | None, signers: tuple[str, ...], trust: tuple[str, str]
) -> None:
    """Whoever signed it, whatever it says of that itself."""
    found = adapters(signing_key, signer)
    record = {"signed_by": "OPS", "signature": signature}
    assert _trust(found, record, trusted(found, signers)) == trust
