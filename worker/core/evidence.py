"""What of an evidence record is signed: all of it but the signature, in one canonical form.

``jq -cSj 'del(.signature)' RECORD.json`` gives the same bytes, so `gpg --verify` can check it without pgfleet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def canonical(record: Mapping[str, Any]) -> dict[str, Any]:
    """As it is to be stored: a whole number is written as one. Of 0.0 some versions of jq make 0, and others do not."""
    return {name: _canonical(value) for name, value in record.items()}


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return canonical(value)
    return [_canonical(one) for one in value] if isinstance(value, list | tuple) else value


def signed_text(record: Mapping[str, Any]) -> bytes:
    """Keys sorted, no white space, UTF-8."""
    content = {name: value for name, value in record.items() if name != "signature"}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
