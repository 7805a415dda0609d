"""Whatever a database can hold comes back as it was: definitions by pg_dump, content by checksum."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PostgresOf
from tests.restore_scene import Scene, content_of, copy_by_hand, drop_zoo, make_roles, make_zoo, schema_of
from tests.services import KeyPair


def _same(scene: Scene, restored: str, expected: str = "") -> None:
    """`expected`: a database of the target that has it as that server spells it, when the majors differ."""
    source, name = (scene.target, expected) if expected else (scene.source, scene.database)
    before = schema_of(scene.target, source, name)
    after = schema_of(scene.target, scene.target, restored)
    if expected:
        before, after = ([line for line in lines if "THE_DATABASE" not in line] for lines in (before, after))
    assert len(before) > 300
    assert "\n".join(difflib.unified_diff(before, after, lineterm="", n=1)) == ""
    assert content_of(scene.source, scene.database) == content_of(scene.target, restored)


@pytest.fixture(
    params=[(15, 15), (16, 16), (17, 17), (18, 18), (16, 17), (15, 18)], ids=lambda p: f"{p[0]}to{p[1]}"
)
def zoo(
    request: pytest.FixtureRequest, postgres_of: PostgresOf, tmp_path: Path, gpg_keys: KeyPair
) -> Iterator[Scene]:
    source, target = (postgres_of(major) for major in request.param)
    scene = Scene(tmp_path, source, target, "menagerie", gpg_keys)
    make_zoo(source, "menagerie")
    with target.connect() as connection:
        make_roles(connection)
    for folder in ("near", "far"):
        (tmp_path / folder).mkdir()
    yield scene
    drop_zoo(source, "menagerie")
    for name in scene.databases():
        drop_zoo(target, name)


def test_every_kind_of_object(zoo: Scene) -> None:
    zoo.backup()
    result = zoo.restored(as_name='Back "home" ✓')
    assert result["notes"] == []
    by_hand = ""
    if zoo.source.major != zoo.target.major:
        by_hand = "by_hand"
        zoo.target.createdb(by_hand, template="template0")
        copy_by_hand(zoo, by_hand)
    _same(zoo, 'Back "home" ✓', by_hand)
    assert not zoo.litter()
