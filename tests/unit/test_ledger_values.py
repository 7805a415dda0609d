"""The ledger's rules that need no database."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import ConfigError
from worker.ledger import Ledger
from worker.ledger.due import _ancestors
from worker.ledger.runs import _new_id

paths = st.lists(st.sampled_from(["a", "b", "ab", "copy"]), min_size=1, max_size=4).map(
    lambda p: "/".join(p) + "/"
)


@given(group=paths, needs=paths)
def test_the_groups_a_path_waits_for_are_its_prefixes(group: str, needs: str) -> None:
    assert (group in _ancestors(needs)) == needs.startswith(group)


@given(st.floats(0, 3e10), st.floats(0.001, 1e9))
def test_ids_sort_by_time(at: float, later: float) -> None:
    first, second = _new_id(at), _new_id(at + later + 0.001)
    assert len(first) == len(second) == 12
    assert first < second


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ledger.sqlite",
        "mysql://ann:s3cret@host/fleet",
        "postgresql+asyncpg://ann:s3cret@host/fleet",
        "postgresql://ann:s3cret@host:port/fleet",
        "sqlite+aiosqlite:///x",
    ],
)
def test_other_urls_are_refused_without_telling_the_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Ledger(url)
    assert caught.value.hint
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "url", ["postgres://h/d", "postgresql://h/d", "postgresql+psycopg://h/d", "sqlite://"]
)
def test_urls_as_people_write_them(url: str) -> None:
    Ledger(url).close()
