"""`manage.py image_processor_verify`: whether every file that a row names is there, and as the row says."""

import json
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from image_processor.contrib.django.fields import ImageField
from image_processor.contrib.django.inventory import Row, count_rows, picture_columns, read_rows
from image_processor.contrib.django.shown import progress
from image_processor.contrib.django.verification import Fault, find_faults
from image_processor.errors import ImageProcessorError, NotFoundError

PLAIN = "without details"


class Command(BaseCommand):
    """Reads rows and storage, and changes neither."""

    help = (
        "Looks whether the files of all pictures are there and have the sizes that their rows tell. "
        "Exit code 1 where something is wrong."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """See BaseCommand."""
        parser.add_argument("labels", nargs="*", metavar="app[.Model[.field]]", help="By default all.")
        parser.add_argument("--deep", action="store_true", help="Open each variant and compare its pixels.")
        parser.add_argument("--json", action="store_true", help="One JSON object a line; the last sums up.")
        parser.add_argument("--batch-size", type=int, default=500, help="Rows read at once; 500 by default.")

    def handle(self, *_: Any, **options: Any) -> None:
        """See BaseCommand."""
        try:
            fields = picture_columns(options["labels"])
            counts, faults = self._look(fields, options)
        except NotFoundError as error:
            raise CommandError(str(error)) from error
        except ImageProcessorError as error:
            raise CommandError(f"{error} Not everything was looked at.") from error
        self._sum_up(counts, faults, as_json=options["json"])
        if faults:
            raise CommandError("Some pictures are not as their rows say.")

    def _look(self, fields: list[ImageField], options: dict[str, Any]) -> tuple[Counter[str], int]:
        counts: Counter[str] = Counter()
        faults = 0
        with progress("Pictures", sum(map(count_rows, fields))) as advance:
            for row in _rows(fields, options["batch_size"]):
                counts[row.state.value if row.state else PLAIN] += 1
                for fault in find_faults(row, is_deep=options["deep"]):
                    faults += 1
                    self._tell(fault, as_json=options["json"])
                advance()
        return counts, faults

    def _tell(self, fault: Fault, *, as_json: bool) -> None:
        self.stdout.write(json.dumps(asdict(fault)) if as_json else str(fault))

    def _sum_up(self, counts: Counter[str], faults: int, *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps({"pictures": counts.total(), "states": counts, "faults": faults}))
            return
        told = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        self.stdout.write(f"Pictures: {told or 'none'}. Faults: {faults}.")


def _rows(fields: list[ImageField], batch_size: int) -> Iterator[Row]:
    for field in fields:
        yield from read_rows(field, batch_size)
