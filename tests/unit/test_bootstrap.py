"""What must not be served is refused before anything starts, wherever it would be wired."""

import pytest

from image_processor.bootstrap import check_file_roots, check_webhook_secret, open_locations, open_outbound
from image_processor.cli.serve import serve
from image_processor.errors import ConfigurationError
from image_processor.settings import load_settings


@pytest.fixture
def settings_with(tmp_path):
    def make(**overrides):
        return load_settings(data_path=tmp_path / "data", **overrides)

    return make


@pytest.mark.parametrize(
    "inside", [".", "data", "data/staging", "data/storage/tests", "data/processor.db", "link"]
)
def test_no_job_reads_or_replaces_what_the_service_keeps(settings_with, tmp_path, inside):
    (tmp_path / "data" / "storage").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "data" / "storage")
    settings = settings_with(file_roots=(tmp_path / "fine", tmp_path / inside))
    for check in (check_file_roots, lambda given: open_locations(given, open_outbound(given))):
        with pytest.raises(ConfigurationError, match="FILE_ROOTS"):
            check(settings)


def test_folders_beside_our_own_are_fine(settings_with, tmp_path):
    check_file_roots(settings_with(file_roots=(tmp_path / "data" / "in", tmp_path / "database")))


def test_a_secret_that_is_none_is_refused_without_being_told(settings_with):
    check_webhook_secret(settings_with())
    with pytest.raises(ConfigurationError) as refusal:
        check_webhook_secret(settings_with(webhook_secret="hunter2"))
    assert "hunter2" not in str(refusal.value)


def test_nothing_is_started_that_would_die_of_its_settings_again_and_again(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEBHOOK_SECRET", "hunter2")
    with pytest.raises(ConfigurationError, match="webhook secret"):
        serve(dev=True)
