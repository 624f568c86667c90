from image_processor.jobs.states import LIVE, REPLAYABLE, TRANSITIONS, Reason, Status


def test_a_completed_job_stays_completed():
    assert not [new for old, new in TRANSITIONS if old is Status.COMPLETED]


def test_only_a_worker_completes():
    assert [old for old, new in TRANSITIONS if new is Status.COMPLETED] == [Status.PROCESSING]


def test_every_live_job_can_fail_and_a_failed_one_can_only_begin_anew():
    assert {old for old, new in TRANSITIONS if new is Status.FAILED} == LIVE
    assert [new for old, new in TRANSITIONS if old is Status.FAILED] == [Status.PENDING]


def test_no_transition_leads_nowhere():
    assert all(old is not new for old, new in TRANSITIONS)


def test_what_a_user_cancelled_is_not_replayed():
    assert set(Reason) - REPLAYABLE == {Reason.CANCELLED, Reason.REJECTED}
