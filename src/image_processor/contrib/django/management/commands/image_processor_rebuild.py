"""`manage.py image_processor_rebuild`: variants are made anew, or for pictures that have none yet."""

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from image_processor.contrib.django.fields import ImageField
from image_processor.contrib.django.inventory import Row, count_rows, picture_columns, read_rows
from image_processor.contrib.django.rebuilding import Chosen, Outcome, is_wanted, rebuild
from image_processor.contrib.django.shown import progress
from image_processor.errors import ImageProcessorError, NotFoundError, UnavailableError

FAILED = "failed"
INTERRUPTED = 130


class Command(BaseCommand):
    """Goes through the rows one by one; it may be stopped at any moment and started again."""

    help = (
        "Makes the variants of stored pictures, from the upload where it was kept and otherwise from the "
        "variant 'original'. Exit code 1 where some could not be made."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """See BaseCommand."""
        parser.add_argument("labels", nargs="*", metavar="app[.Model[.field]]", help="By default all.")
        for chosen, words in CHOICES.items():
            parser.add_argument(f"--{chosen}", action="store_true", help=words)
        parser.add_argument("--dry-run", action="store_true", help="Only name the pictures.")
        parser.add_argument("--batch-size", type=int, default=500, help="Rows read at once; 500 by default.")
        parser.add_argument("--after", help="Begin behind this primary key; needs one field.")

    def handle(self, *_: Any, **options: Any) -> None:
        """See BaseCommand."""
        fields = _fields(options)
        counts: Counter[str] = Counter()
        self._last: Row | None = None
        try:
            with progress(
                "Pictures", sum(count_rows(field, options["after"]) for field in fields)
            ) as advance:
                for row in chain.from_iterable(_wanted(field, options, advance) for field in fields):
                    counts[self._treat(row, is_dry=options["dry_run"])] += 1
                    self._last = row
        except UnavailableError as error:
            raise CommandError(f"{error} {self._summary(counts)}") from error
        except KeyboardInterrupt:
            raise CommandError(self._how_to_go_on(counts), returncode=INTERRUPTED) from None
        self.stdout.write(self._summary(counts))
        if counts[FAILED]:
            raise CommandError("Some pictures could not be rebuilt.")

    def _treat(self, row: Row, *, is_dry: bool) -> str:
        if is_dry:
            self.stdout.write(f"{row} {row.name}")
            return "to be rebuilt"
        try:
            outcome = rebuild(row)
        except UnavailableError:
            raise
        except (ImageProcessorError, ValidationError) as error:
            self.stderr.write(f"{row}: {error}")
            return FAILED
        if outcome is Outcome.CHANGED:
            self.stdout.write(f"{row}: changed meanwhile, left alone.")
        return outcome.value

    def _summary(self, counts: Counter[str]) -> str:
        told = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
        return f"Pictures: {told or 'none to rebuild'}."

    def _how_to_go_on(self, counts: Counter[str]) -> str:
        last = (
            f" The last was {self._last}: --after {self._last.pk} goes on from there." if self._last else ""
        )
        return f"Stopped. {self._summary(counts)}{last}"


CHOICES = {
    Chosen.PENDING: "Those that wait for their variants.",
    Chosen.MISSING: "Those without details, or without a variant that their preset has by now.",
    Chosen.FAILED: "Those that were refused.",
    Chosen.ALL: "Every one.",
}


def _chosen(options: dict[str, Any]) -> frozenset[Chosen]:
    return frozenset(chosen for chosen in Chosen if options[chosen])


def _fields(options: dict[str, Any]) -> list[ImageField]:
    if not _chosen(options):
        raise CommandError("Say which pictures: --pending, --missing, --failed or --all.")
    if options["batch_size"] < 1:
        raise CommandError("--batch-size is at least 1.")
    try:
        fields = picture_columns(options["labels"])
    except NotFoundError as error:
        raise CommandError(str(error)) from error
    if options["after"] is not None and len(fields) != 1:
        raise CommandError("--after needs the label of one field: app.Model.field.")
    return fields


def _wanted(field: ImageField, options: dict[str, Any], advance: Any) -> Iterator[Row]:
    chosen, preset = _chosen(options), field.preset
    for row in read_rows(field, options["batch_size"], options["after"]):
        if is_wanted(row, chosen, preset):
            yield row
        advance()
