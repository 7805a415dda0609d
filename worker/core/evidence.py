"""What of an evidence record is signed: all of it but the signature, in one canonical form.

``jq -cSj 'del(.signature)' RECORD.json`` gives the same bytes, so `gpg --verify` can check it without pgfleet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def signed_text(record: Mapping[str, Any]) -> bytes:
    """Keys sorted, no white space, UTF-8."""
    content = {name: value for name, value in record.items() if name != "signature"}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
