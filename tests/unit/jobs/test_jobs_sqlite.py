import pytest

from image_processor.jobs import has_wal_reset_bug, sqlite_version


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 0), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 4), False),
        ((4, 0, 0), False),
    ],
)
def test_versions_with_the_wal_reset_bug(version, affected):
    assert has_wal_reset_bug(version) is affected


def test_the_sqlite_in_use_is_sound():
    pytest.importorskip("pysqlite3", reason="the interpreter's own SQLite is used where there is no wheel")
    assert sqlite_version() >= (3, 51, 3)
    assert not has_wal_reset_bug()
