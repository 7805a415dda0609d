"""The rules of a restore that need no server: tables of contents, statements, names, clients."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cli.restore import _confirm, _what
from worker.config.load import load
from worker.config.model import Target
from worker.core import restore_plan, statements, toc
from worker.core.backup import Server
from worker.core.requests import RestoreRequest
from worker.errors import ConfigError, MissingDependency
from worker.ledger import Ledger
from worker.postgres.restore import load_error
from worker.process import Finished
from worker.steps.context import Adapters
from worker.steps.restore_check import _unknown

LISTING = """;
; Archive created at 2026-11-23 03:17:32 UTC
;     dbname: my shop
;     TOC Entries: 20
;     Compression: zstd
;     Dumped from database version: 16.9 (Debian 16.9-1)
;     Dumped by pg_dump version: 17.2
;
2812; 0 0 ENCODING - ENCODING 
2815; 1262 16563 DATABASE - my shop owner
6; 2615 16564 SCHEMA - Odd Schema owner
883; 1247 16567 TYPE public mood owner
222; 1259 1 TABLE public people owner
;	depends on: 883
221; 1259 2 SEQUENCE public people_id_seq owner
;	depends on: 222
230; 1259 3 TABLE public pets a role
;	depends on: 883
231; 1259 4 TABLE Odd Schema my "table" owner
;	depends on: 6
240; 1259 5 VIEW public grown owner
;	depends on: 222
250; 1259 6 TABLE public log owner
251; 1259 7 TABLE public log_2024 owner
252; 0 0 TABLE ATTACH public log_2024 owner
;	depends on: 251 250
300; 0 1 TABLE DATA public people owner
;	depends on: 222
301; 0 3 TABLE DATA public pets a role
;	depends on: 230
302; 0 7 TABLE DATA public log_2024 owner
;	depends on: 251
310; 0 0 SEQUENCE SET public people_id_seq owner
;	depends on: 221
320; 2606 1 CONSTRAINT public people people_pkey owner
;	depends on: 222
330; 2606 2 FK CONSTRAINT public pets pets_owner_fkey owner
;	depends on: 320 222 230
340; 0 0 ACL public TABLE people owner
;	depends on: 222
350; 3079 9 EXTENSION - pg_trgm 
"""  # noqa: W291 - pg_restore ends lines without an owner so
CONTENTS = toc.parse(LISTING)


def names(selection: toc.Selection) -> set[str]:
    return {f"{CONTENTS.by_id[one].kind} {CONTENTS.by_id[one].name}" for one in selection.ids} - {
        "ENCODING ENCODING"
    }


def test_listing() -> None:
    assert (CONTENTS.dbname, CONTENTS.server, CONTENTS.client) == ("my shop", (16, 9), (17, 2))
    assert CONTENTS.compression == "zstd"
    odd = CONTENTS.by_id[231]
    assert (odd.schema, odd.name, odd.owner) == ("Odd Schema", 'my "table"', "owner")
    assert [entry.id for entry in CONTENTS.entries if entry.of_database] == [2815]
    with pytest.raises(ValueError, match="no table of contents"):
        toc.parse("pg_restore: error: not an archive")


def test_a_table_brings_what_belongs_to_it_and_what_it_needs() -> None:
    assert names(toc.select(CONTENTS, tables=["people"])) == {
        "TYPE mood", "TABLE people", "SEQUENCE people_id_seq", "TABLE DATA people", "SEQUENCE SET people_id_seq",
        "CONSTRAINT people people_pkey", "ACL TABLE people",
    }  # fmt: skip
    pets = toc.select(CONTENTS, tables=["public.pets"])
    assert pets.left_out == ("fk constraint public.pets pets_owner_fkey",), pets
    known = [("public", name) for name in ("people", "pets", "log", "log_2024")]
    assert pets.tables(known) == {("public", "pets")}, "its owner is called 'a role'"
    assert pets.tables([*known, ("public", "pets a")]) == {("public", "pets a")}, (
        "its owner may be called 'role'"
    )
    both = toc.select(CONTENTS, tables=["pets", "people"])
    assert "FK CONSTRAINT pets pets_owner_fkey" in names(both)
    assert not both.left_out


def test_partitions_and_odd_names() -> None:
    assert names(toc.select(CONTENTS, tables=["log"])) == {
        "TABLE log", "TABLE log_2024", "TABLE ATTACH log_2024", "TABLE DATA log_2024",
    }  # fmt: skip
    assert "TABLE ATTACH log_2024" not in names(toc.select(CONTENTS, tables=["log_2024"]))
    assert names(toc.select(CONTENTS, tables=['"Odd Schema"."my ""table"""'])) == {
        "SCHEMA Odd Schema", 'TABLE my "table"',
    }  # fmt: skip
    odd = ("Odd Schema", 'my "table"')
    beside = ("Odd Schema", "my")
    assert toc.select(CONTENTS, schemas=["Odd Schema"]).tables([odd, beside]) == {odd}


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("people", ("people",)),
        ("public.my table", ("public", "my table")),
        ('"a.b"."say ""x"""', ("a.b", 'say "x"')),
        ("a.b.c", ()),
        ('"people', ()),
        ('pub"lic.people', ()),
        ('""', ()),
        ("public.", ()),
    ],
)
def test_names_as_they_are_given(given: str, parts: tuple[str, ...]) -> None:
    assert toc.split_name(given) == parts
    if parts:
        assert toc.split_name(toc.written(*parts)) == parts
    else:
        assert toc.select(CONTENTS, tables=[given]).unknown == (given,)
        assert toc.select(CONTENTS, schemas=[given]).unknown == (given,)


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ({"tables": ("PEOPLE",)}, "Did you mean public.people"),
        ({"tables": ('my "table"',)}, 'Did you mean Odd Schema."my ""table"""?'),
        ({"schemas": ("odd schema",)}, "Did you mean Odd Schema?"),
        ({"schemas": ("public.people",)}, "Did you mean public?"),
        ({"tables": ("zzz",)}, "Names are exact"),
    ],
)
def test_a_misspelt_name_is_told_as_it_must_be_given(asked: dict[str, tuple[str, ...]], hint: str) -> None:
    request = RestoreRequest(**asked)
    (name,) = request.tables or request.schemas
    error = _unknown(request, [name], CONTENTS)
    assert hint in error.hint
    assert f"no {'table' if request.tables else 'schema'} {name}" in error.message


def test_tables_that_an_archive_has_no_rows_of() -> None:
    """All but the partitioned one, which has them in its partitions."""
    assert [entry.name for entry in CONTENTS.without_rows()] == ['my "table"']


def test_excluding() -> None:
    rest = toc.select(CONTENTS, exclude_tables=["people"])
    assert rest.left_out == ("fk constraint public.pets pets_owner_fkey", "view public.grown")
    assert not {"TABLE people", "TABLE DATA people", "VIEW grown", "SEQUENCE people_id_seq"} & names(rest)
    assert "TABLE DATA pets a" in names(rest)


def test_unknown_names_select_nothing() -> None:
    assert toc.select(CONTENTS, tables=["people", "public.nope"], schemas=["no"]).unknown == (
        "public.nope",
        "no",
    )


def test_everything_is_everything() -> None:
    assert toc.select(CONTENTS).ids == tuple(entry.id for entry in CONTENTS.entries)


def test_roles_and_extensions_that_are_missing() -> None:
    every = set(CONTENTS.by_id)
    assert restore_plan.missing_owners(CONTENTS, every, ["owner", "a role"]) == []
    assert restore_plan.missing_owners(CONTENTS, every, ["owner"]) == ["role"]
    assert restore_plan.missing_extensions(CONTENTS, every, ["plpgsql"]) == ["pg_trgm"]
    assert restore_plan.missing_extensions(CONTENTS, every - {350}, []) == []


# --- statements -----------------------------------------------------------------------------------------------------

SCRIPT = r'''
-- DATABASE "my shop"; a comment
\restrict abc"'
SET standard_conforming_strings = on;
CREATE DATABASE "my shop" WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'C.UTF-8';
\connect "my shop"
ALTER DATABASE "my shop" CONNECTION LIMIT = 77;
ALTER DATABASE "my shop" SET "app.x" TO 'a; ALTER DATABASE "my shop" \';
ALTER ROLE r IN DATABASE "my shop" SET work_mem TO '8MB';
COMMENT ON DATABASE "my shop" IS E'it\'s; "my shop"';
GRANT CONNECT ON DATABASE "my shop" TO "a ""b""";
GRANT SELECT ON TABLE public."my shop" TO other;
ALTER DATABASE elsewhere SET a TO 'my shop';
'''


def test_a_database_gets_another_name_and_nothing_else_changes() -> None:
    found = statements.renamed(SCRIPT, "my shop", 'new "one"')
    assert [statement[:14] for statement in found] == [
        "CREATE DATABAS", "ALTER DATABASE", "ALTER DATABASE", "ALTER ROLE r I", "COMMENT ON DAT", "GRANT CONNECT ",
    ]  # fmt: skip
    assert found[1] == 'ALTER DATABASE "new ""one""" CONNECTION LIMIT = 77'
    assert found[2].endswith("""TO 'a; ALTER DATABASE "my shop" \\'""")
    assert found[4].endswith(""" IS E'it\\'s; "my shop"\'""")
    assert statements.grantees(SCRIPT) == {'a "b"', "other"}


def test_tablespaces() -> None:
    script = '''CREATE DATABASE a WITH TEMPLATE = template0 ENCODING = 'UTF8' TABLESPACE = "one ""1""";
SET default_tablespace = \'\';
CREATE TABLE t (x text DEFAULT 'SET default_tablespace = no;');
SET default_tablespace = two;
CREATE INDEX ON t (x);
'''
    assert statements.tablespaces(script) == {'one "1"', "two"}


@given(
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40),
    st.text(min_size=1, max_size=20),
)
def test_a_literal_is_never_taken_for_a_name(value: str, name: str) -> None:
    literal = "'" + value.replace("'", "''") + "'"
    script = f"COMMENT ON DATABASE {statements.quoted(name)} IS {literal};"
    assert statements.renamed(script, name, "b") == [f'COMMENT ON DATABASE "b" IS {literal}']


@given(st.lists(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1)))
def test_lists_of_names(items: list[str]) -> None:
    assert statements.list_items(", ".join(map(statements.quoted, items))) == items


def test_search_path_as_it_is_stored() -> None:
    assert statements.list_items('"$user", public, "Odd ""S"""') == ["$user", "public", 'Odd "S"']


# --- names, clients, settings ---------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=63))
def test_names_fit_and_tell_their_run(database: str) -> None:
    run = "1m837nj0qj5e"
    made = {
        make(database, run)
        for make in (restore_plan.load_name, restore_plan.before_name, restore_plan.undone_name)
    }
    assert len(made) == 3
    assert all(len(name.encode()) <= 63 and name.endswith(run) for name in made)


def test_default_name() -> None:
    assert restore_plan.restored_name("goimg", 0) == "goimg_restored_19700101_000000"


@pytest.mark.parametrize(
    ("target", "archive", "chosen"),
    [
        ((16, 1), (16, 2), 16),
        ((17, 0), (15, 0), 17),
        ((15, 0), (17, 0), 17),
        ((18, 0), (15, 0), 17),
        ((14, 0), (14, 0), 15),
    ],
)
def test_client(target: tuple[int, int], archive: tuple[int, int], chosen: int) -> None:
    installed = {major: major for major in (15, 16, 17)}
    assert restore_plan.client_for(target, archive, installed) == chosen
    with pytest.raises(MissingDependency, match=re.escape("pg_dump 18.0")):
        restore_plan.client_for((17, 0), (18, 0), installed)


@pytest.mark.parametrize(
    ("text", "word", "hint", "again"),
    [
        (
            'ERROR:  could not extend file "x": No space left on device',
            "No space left",
            "server's disk",
            False,
        ),
        ("server closed the connection unexpectedly", "server closed", "log", True),
        ("FATAL:  unsupported startup parameter: options", "startup parameter", "pooler", False),
        (
            'from TOC entry 9; 1259 1 TABLE public t joe\nERROR:  role "joe" does not exist',
            "TABLE public t",
            "--globals",
            False,
        ),
        (
            'COPY failed for table "t": ERROR:  bad\nCONTEXT:  COPY t, line 1: "secret"',
            'table "t"',
            "changed",
            False,
        ),
    ],
)
def test_what_pg_restore_said(text: str, word: str, hint: str, again: bool) -> None:
    finished = Finished((), 1, b"", f"pg_restore: error: {text}\nCommand was: secret", 0.1)
    error = load_error(Target(alias="t"), "x.dump", finished)
    assert word in error.message
    assert hint in error.hint
    assert (error.exit_code, error.retryable) == (6, again)
    assert "secret" not in str(error)


def test_order_of_archives() -> None:
    assert restore_plan.phases("d", []) == [(None, ("d",))]
    assert restore_plan.phases("d", ["a", "b"]) == [
        ("pre-data", ("d",)), ("data", ("d", "a", "b")), ("post-data", ("d",)),
    ]  # fmt: skip


def test_session_settings_never_take_memory_away() -> None:
    mib = 2**20
    small = restore_plan.session_settings(4, 128 * mib, 512 * mib)
    assert small["maintenance_work_mem"] == f"{512 * 1024}kB"
    large = restore_plan.session_settings(2, 64 * 1024 * mib, 64 * mib)
    assert large["maintenance_work_mem"] == f"{1024 * 1024}kB"
    assert restore_plan.pgoptions({"a": "b c\\"}) == "-c a=b\\ c\\\\"


@pytest.mark.parametrize(
    ("payload", "asked"),
    [
        ({"backup": "second-backup-20260101-000000"}, "second would be changed"),
        ({"backup": "first-backup-20260101-000000", "database": "second"}, "second would be changed"),
        ({"backup": "first-backup-20260101-000000"}, "first would be changed"),
        ({"backup": "latest"}, "Several databases are configured"),
        ({"backup": "latest", "database": "third"}, "does not allow that a restore replaces"),
    ],
)
def test_the_database_that_a_person_is_asked_about(
    tmp_path: Path, payload: dict[str, object], asked: str
) -> None:
    path = tmp_path / "pgfleet.toml"
    destination = f'[destinations.near]\nkind = "directory"\npath = "{tmp_path}"\n'
    path.write_text(
        destination
        + "".join(
            f"[databases.{name}]\nallow_unencrypted = true\nallow_replace = {allowed}\n"
            for name, allowed in (("first", "true"), ("second", "true"), ("third", "false"))
        )
    )
    path.chmod(0o600)
    settings = load({"PGFLEET_CONFIG": str(path), "PGFLEET_STATE_DIR": str(tmp_path)})
    with pytest.raises(ConfigError, match=asked):
        _confirm(Adapters(settings, Ledger("sqlite://")), {**payload, "replace": True})


@pytest.mark.parametrize(
    ("payload", "file", "said"),
    [
        ({"backup": "latest"}, None, "its latest backup"),
        ({"backup": "latest-proven", "before": "2026-01-01"}, None, "has proven before 2026-01-01"),
        ({"backup": "first-backup-20260101-000000"}, None, "first-backup-20260101-000000"),
        ({"backup": "latest"}, Path("/mnt/x.dump"), "the file /mnt/x.dump"),
    ],
)
def test_a_person_is_told_what_takes_the_place(
    payload: dict[str, object], file: Path | None, said: str
) -> None:
    assert said in _what(payload, file)


def test_which_libraries_a_server_for_a_copy_must_preload() -> None:
    def of(extensions: str, preload: str = "") -> tuple[str, ...]:
        named = dict.fromkeys(extensions.split(), "1")
        return restore_plan.preloads(
            Server(version="17", version_num=170000, extensions=named, preload=tuple(preload.split()))
        )

    assert of("plpgsql hstore") == ()
    assert of("hstore pg_stat_statements", "auto_explain pg_stat_statements") == ("pg_stat_statements",)
    assert of("pg_cron citus plpgsql", "citus $libdir/pg_cron") == ("citus", "pg_cron"), (
        "in the source's order"
    )
    assert of("pg_cron") == ("pg_cron",), "the backup's role could not see the setting"
    assert restore_plan.preload_settings((), "drill") == {}
    settings = restore_plan.preload_settings(("citus", "pg_cron"), "drill")
    assert settings["shared_preload_libraries"] == "citus,pg_cron"
    assert (settings["cron.database_name"], settings["cron.launch_active_jobs"]) == ("drill", "off")
