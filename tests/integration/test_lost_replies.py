"""A commit of which nobody hears: what was accepted stays accepted, with all that it needs."""

import threading

import pytest
from sqlalchemy import event

from fault_proxy import FaultProxy, Mode
from image_processor.bootstrap import build_app
from image_processor.errors import IdempotencyError, UnavailableError
from image_processor.service import Submission
from image_processor.settings import load_settings
from image_processor.testing import sample_images


class Desk:
    """The service on a database behind a line that can fall silent in the moment of a commit."""

    def __init__(self, proxy, url, folder):
        self.proxy = proxy
        settings = load_settings(database_url=url, data_path=folder)
        self.app = build_app(settings)
        self.folder = settings.staging

    def upload(self, picture, key="one"):
        service = self.app.service
        file = service.open_upload("ada", key)
        file.write(picture)
        return service.submit(file.finish(), Submission(user_id="ada", bucket="holiday", idempotency_key=key))

    def staged(self):
        return sorted(path.name for path in self.folder.iterdir())

    def lose_the_next_reply_to_a_commit(self):
        def fall_silent(_connection):
            if self.proxy.mode is Mode.PASS:
                self.proxy.mode = Mode.DEAF
                silence.start()

        silence = threading.Timer(0.3, self.end_the_silence)
        event.listen(self.app.database._engine, "commit", fall_silent, once=True)

    def end_the_silence(self):
        self.proxy.mode = Mode.PASS
        self.proxy.reset_connections()


@pytest.fixture
def desk(postgres, postgres_url, tmp_path):
    with FaultProxy(postgres.port) as proxy:
        desk = Desk(proxy, postgres_url.replace(f":{postgres.port}/", f":{proxy.port}/"), tmp_path)
        yield desk
        desk.app.close()


@pytest.mark.slow
def test_the_original_stays_and_the_repeated_request_finds_its_job(desk):
    picture = sample_images.photo(320, 240)
    desk.lose_the_next_reply_to_a_commit()
    with pytest.raises(UnavailableError):
        desk.upload(picture)
    (kept,) = desk.staged()
    again = desk.upload(picture)
    assert again.replayed
    assert desk.staged() == [kept]
    assert desk.app.jobs.is_staged(kept)


@pytest.mark.slow
def test_what_is_refused_is_not_kept(desk):
    desk.upload(sample_images.photo(320, 240))
    kept = desk.staged()
    with pytest.raises(IdempotencyError):
        desk.upload(sample_images.photo(330, 240))
    assert desk.staged() == kept
