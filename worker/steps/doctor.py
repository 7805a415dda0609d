"""Is everything there that a backup takes? Small checks of one outside part each.

The broker is asked by the command itself (`worker.cli.doctor`): steps know nothing of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from secrets import token_hex

from worker.config.model import Database, Destination
from worker.core import human
from worker.core.versions import warnings_for
from worker.errors import AccessDenied, ConfigError, EncryptionFailed, ObjectLocked, StorageError
from worker.gpg import Key
from worker.postgres.tools import discover
from worker.steps import doctor_database
from worker.steps.context import Adapters
from worker.steps.examine import Check, Probe, failed, ok, warning
from worker.steps.keys import recipients
from worker.storage import ObjectStore
from worker.storage.connect import open_store
from worker.storage.probe import PROBE_PREFIX

EXPIRES_SOON_DAYS = 30
#: A worker says that it is alive every 10 s.
ALIVE_SECONDS = 60.0
#: What does not happen without a worker that takes the queue.
QUEUES = {
    "control": "nothing is scheduled, mended or told",
    "dump": "no backup begins",
    "verify": "no backup is verified",
    "restore": "no restore or drill begins",
}


def probes(adapters: Adapters) -> list[Probe]:
    """One for each outside part that the settings name."""
    settings = adapters.settings
    found = [Probe("client tools", partial(client_tools, adapters))]
    for alias, database in settings.databases.items():
        found += [
            Probe(f"database {alias}", partial(doctor_database.checks, adapters, database)),
            Probe(f"database {alias}: encryption", partial(encryption, adapters, database)),
        ]
    for alias, destination in settings.destinations.items():
        found.append(Probe(f"destination {alias}", partial(storage, destination)))
    if settings.signing_key is not None:
        found.append(Probe("signing key", partial(signing, adapters, settings.signing_key)))
    return [
        *found,
        Probe("spool", partial(spool, adapters)),
        Probe("ledger", partial(ledger, adapters)),
        Probe("workers", partial(workers, adapters)),
    ]


def client_tools(adapters: Adapters) -> Iterator[Check]:
    """Every major that is here; whether one suits a server is that database's check."""
    found = discover(adapters.settings.pg_bin)
    for major, tools in sorted(found.items()):
        name, detail = f"client tools {major}", f"{tools.version} in {tools.bin_dir}"
        notes = warnings_for((tools.major, tools.minor))
        yield warning(name, f"{detail}. {' '.join(notes)}", "Update them.") if notes else ok(name, detail)
    if not found:
        hint = "Install postgresql-client of your server's major, or set PGFLEET_PG_BIN."
        inside = all(database.use_docker for database in adapters.settings.databases.values())
        detail = "there are none here"
        yield (
            warning("client tools", f"{detail}: only those in the containers", hint)
            if inside
            else failed("client tools", detail, hint, 2)
        )


def encryption(adapters: Adapters, database: Database) -> Iterator[Check]:
    """The recipients' keys are here, do not end soon, and gpg encrypts to all of them."""
    name = f"database {database.alias}: encryption"
    try:
        keys = recipients(adapters, database)
        if keys:
            _encrypt_something(adapters, keys)
    except EncryptionFailed as error:
        yield failed(name, error.message, error.hint, 3)  # the recipients are a setting
        return
    if not keys:
        hint = "Set GPG_RECIPIENT: whoever reads a destination reads the database."
        yield warning(name, "backups are stored unencrypted (ALLOW_UNENCRYPTED)", hint)
    for key in keys:
        yield _key(name, key, datetime.now(UTC))


def signing(adapters: Adapters, key: str) -> Iterator[Check]:
    """The key signs, here. Evidence is written where a drill ends: other hosts need no more than its public half."""
    name, passphrase = "signing key", adapters.settings.gpg_passphrase_file
    try:
        adapters.gpg.sign(b"pgfleet doctor\n", key, passphrase_file=passphrase)
    except ConfigError as error:
        public = adapters.gpg.named(key)
        hint = f"{error.hint} Without it, drills, audit records and reports that end on this host are not signed."
        yield (
            warning(name, error.message.removeprefix("PGFLEET_SIGNING_KEY: "), hint)
            if public
            else failed(name, error.message.removeprefix("PGFLEET_SIGNING_KEY: "), error.hint, 3)
        )
        return
    yield ok(name, f"{key} signs evidence, audit records and reports")


def _encrypt_something(adapters: Adapters, keys: list[Key]) -> None:
    with tempfile.TemporaryDirectory(prefix="pgfleet-doctor-") as directory:
        plain = Path(directory, "plain")
        plain.write_bytes(b"pgfleet doctor\n")
        adapters.gpg.encrypt(plain, Path(directory, "plain.gpg"), keys)


def _key(name: str, key: Key, now: datetime) -> Check:
    size = f" {key.bits} bits" if key.bits and key.algorithm.startswith("RSA") else ""
    detail = f"to {key.user_id} ({key.fingerprint[-16:]}, {key.algorithm}{size})"
    if key.expires is None:
        return ok(name, f"{detail}, never expires")
    days = (key.expires - now).days
    detail = f"{detail}, expires {key.expires:%Y-%m-%d}"
    if days < EXPIRES_SOON_DAYS:
        hint = f"Extend it (gpg --quick-set-expire {key.fingerprint} 1y) and import it here before that."
        return warning(name, f"{detail}, in {days} days", hint)
    return ok(name, detail)


def storage(destination: Destination) -> Iterator[Check]:
    """A probe object is put, read and deleted. With less patience than a backup has: somebody is waiting."""
    name = f"destination {destination.alias}"
    hasty = {"max_attempts": 2, "connect_timeout": min(5, destination.connect_timeout), "read_timeout": 15}
    store = open_store(destination.model_copy(update=hasty))
    offers = store.probe()
    told = ", ".join(f"{what.replace('_', ' ')} {state}" for what, state in sorted(offers.items()))
    detail = f"{_place(destination)}: put and read back an object; {told}"
    if offers.get("multipart") == "no":
        hint = "Artifacts of more than 5 GiB cannot be stored there, and no upload is resumed."
        yield warning(name, detail, hint)
    elif offers.get("delete") == "no":
        hint = "That is right for a key that only uploads. Cleanup needs another one that may delete."
        yield warning(name, detail, hint)
    else:
        yield ok(name, detail)
    if classes := sorted(set(destination.storage_class.values())):
        yield storage_classes(f"{name}: storage classes", store, classes)


def storage_classes(name: str, store: ObjectStore, classes: Sequence[str]) -> Check:
    """Each is tried: one that the store does not have would fail the first backup of a Sunday or a month."""
    content = b"pgfleet was here; this object may be deleted.\n"
    for storage_class in classes:
        key = f"{PROBE_PREFIX}{token_hex(8)}"
        try:
            store.put(
                key,
                content,
                size=len(content),
                sha256=sha256(content).hexdigest(),
                storage_class=storage_class,
            )
        except StorageError as error:
            hint = "Set S3_STORAGE_CLASS_DAILY, _WEEKLY and _MONTHLY (storage_class) to what the store has."
            return failed(name, f"{storage_class} was refused: {error.message}", hint, 3)
        with suppress(AccessDenied, ObjectLocked):  # `probe` has told that it may not delete
            store.delete(key)
    return ok(name, ", ".join(classes))


def _place(destination: Destination) -> str:
    if destination.kind == "directory":
        return str(destination.path)
    bucket = "/".join(part for part in (destination.bucket or "", destination.prefix.strip("/")) if part)
    return f"{destination.endpoint or 'AWS'} {bucket}"


def spool(adapters: Adapters) -> Iterator[Check]:
    settings = adapters.settings
    found = adapters.spool
    detail = f"{found.root} (id {found.id}) has room for {human.size(found.free())}"
    if found.free() == 0:
        hint = "Free some space there, or set PGFLEET_SPOOL to a larger disk."
        yield failed("spool", f"{detail}; {human.size(settings.spool_reserve_bytes)} are kept free", hint)
    else:
        yield ok("spool", detail)


def ledger(adapters: Adapters) -> Iterator[Check]:
    url = adapters.settings.ledger_url.get_secret_value()
    adapters.ledger.ping()
    yield ok("ledger", "SQLite, for one host" if url.startswith("sqlite") else "PostgreSQL")


def workers(adapters: Adapters) -> Iterator[Check]:
    """Per queue, who takes it."""
    alive = adapters.ledger.workers(alive_within=ALIVE_SECONDS)
    if not alive:
        hint = "Start them: celery -A worker.app worker. `pgfleet backup --here` works without."
        yield warning("workers", "none has been seen within a minute", hint)
        return
    for queue, without in QUEUES.items():
        names = [worker.name for worker in alive if queue in worker.queues]
        if names:
            yield ok(f"workers {queue}", ", ".join(names))
        else:
            yield warning(f"workers {queue}", f"none: {without}", f"Start one with -Q {queue}.")
