"""What parts of a report are evidence for. A report supports a control; it fulfils none by itself.

GDPR: Regulation (EU) 2016/679. SOC 2: AICPA Trust Services Criteria 2017 (with 2022 points of focus). HIPAA: 45 CFR
part 164, subpart C. PCI DSS: version 4.0.1.
"""

from __future__ import annotations

from typing import NamedTuple


class Control(NamedTuple):
    """section: of the report. shows: what it says, in one clause."""

    section: str
    shows: str
    gdpr: str
    soc2: str
    hipaa: str
    pci: str


CONTROLS: tuple[Control, ...] = (
    Control(
        "Backups", "that data was backed up, and that every stored byte was read back",
        "Art. 32(1)(b)", "A1.2", "164.308(a)(7)(ii)(A)", "12.10.1",
    ),
    Control(
        "Recovery", "that backups restore to what was backed up, and how long that takes",
        "Art. 32(1)(c), 32(1)(d)", "A1.3", "164.308(a)(7)(ii)(B), (D)", "12.10.1",
    ),
    Control(
        "Keys", "that stored data is encrypted, to which keys, and until when these are valid",
        "Art. 32(1)(a)", "CC6.1, CC6.7", "164.312(a)(2)(iv)", "3.5.1, 3.7",
    ),
    Control(
        "Copies", "that stored copies are read again and found unchanged",
        "Art. 32(1)(b)", "A1.2", "164.312(c)(1)", "—",
    ),
    Control(
        "Retention", "that backups are removed by rule, each with its reason",
        "Art. 5(1)(e)", "C1.2", "—", "3.2.1",
    ),
    Control(
        "Access", "who restored, downloaded, held or removed backups, or changed settings",
        "Art. 5(2), 32(4)", "CC6.1, CC7.2", "164.312(b)", "10.2.1",
    ),
)  # fmt: skip
