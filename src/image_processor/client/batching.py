"""Many uploads at once: in forms of as many files as the service takes, with an outcome for each file."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from image_processor.client.answers import Outcome
from image_processor.client.bodies import Content, OnProgress, Source
from image_processor.client.calls import Caller
from image_processor.client.plans import Plan, Run
from image_processor.client.uploading import Wish, uploaded_together
from image_processor.errors import ImageProcessorError

MAX_FILES = 20
"""Of one form."""


def uploaded_many(
    caller: Caller, sources: Sequence[Source], wish: Wish, key: str, on_progress: OnProgress | None
) -> Plan[tuple[Outcome, ...]]:
    """What became of each source. Raises what the first form is refused with as a whole."""
    outcomes = yield from _opened(sources)
    contents = [one for one in outcomes if isinstance(one, Content)]
    sent: list[Outcome] = []
    for start in range(0, len(contents), MAX_FILES):
        form = contents[start : start + MAX_FILES]
        form_key = f"{key}/{start}" if start else key
        try:
            sent += yield from uploaded_together(caller, form, wish, form_key, on_progress)
        except ImageProcessorError as error:
            if not sent:
                raise
            sent += [Outcome(index=0, error=error)] * (len(contents) - start)
            break
    answers = iter(sent)
    return tuple(
        replace(next(answers) if isinstance(one, Content) else one, index=index)
        for index, one in enumerate(outcomes)
    )


def _opened(sources: Sequence[Source]) -> Plan[list[Content | Outcome]]:
    """What can be sent of each, or why it cannot be read."""
    found: list[Content | Outcome] = []
    for source in sources:
        try:
            found.append((yield Run(partial(Content, source))))
        except ImageProcessorError as error:
            found.append(Outcome(index=0, error=error))
    return found
