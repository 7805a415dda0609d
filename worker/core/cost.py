"""What deleting early costs: some storage classes charge for a minimum time, however short it was.

Amazon S3 user guide, "Understanding and managing Amazon S3 storage classes": 30 days for the infrequent
access classes, 90 for both Glacier retrievals, 180 for Deep Archive. Cloudflare R2 charges 30 days under the
same name STANDARD_IA. Classes that are not listed have no minimum.
"""

from __future__ import annotations

from datetime import datetime, timedelta

MINIMUM_DAYS = {
    "STANDARD_IA": 30,
    "ONEZONE_IA": 30,
    "GLACIER_IR": 90,
    "GLACIER": 90,
    "DEEP_ARCHIVE": 180,
}
_DAY = timedelta(days=1)


def early_delete_note(storage_class: str, stored_at: datetime, now: datetime) -> str | None:
    """One sentence when deleting now pays for time that the object does not live; None when it does not.

    stored_at: when the object came into this class. Both times are aware.
    """
    minimum = MINIMUM_DAYS.get(storage_class.upper(), 0)
    left = minimum * _DAY - max(now - stored_at, timedelta())
    if left <= timedelta():
        return None
    days = -(-left // _DAY)
    return (
        f"{storage_class} is charged for at least {minimum} days: "
        f"deleting now still pays for {days} more {'day' if days == 1 else 'days'}."
    )
