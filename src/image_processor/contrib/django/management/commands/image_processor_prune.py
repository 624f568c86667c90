"""`manage.py image_processor_prune`: files that no row names are removed, once they are old enough."""

from argparse import ArgumentParser
from typing import Any

from django.core.files.storage import default_storage
from django.core.management.base import BaseCommand, CommandError

from image_processor.contrib.django.fields import ImageField
from image_processor.contrib.django.inventory import picture_columns
from image_processor.contrib.django.pruning import (
    Folder,
    folders_of,
    names_anything,
    remove_files,
    unnamed_files,
)
from image_processor.contrib.django.shown import progress
from image_processor.errors import ImageProcessorError


class Command(BaseCommand):
    """Asks every FileField of every model in the project before it removes a file."""

    help = (
        "Removes the pictures that no row names and that are older than IMAGE_PROCESSOR['PRUNE_SECONDS']. "
        "Exit code 1 where some could not be removed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """See BaseCommand."""
        parser.add_argument("labels", nargs="*", metavar="app[.Model[.field]]", help="By default all.")
        parser.add_argument("--dry-run", action="store_true", help="Only name the files.")
        parser.add_argument(
            "--folder",
            help="Look below this folder alone, such as profile_pictures for ImageStorageService; of the "
            "storage of the fields that are named, or of the default storage.",
        )
        parser.add_argument(
            "--force", action="store_true", help="Remove also where no row names any file at all."
        )
        parser.add_argument(
            "--any-name",
            action="store_true",
            help="Take files too whose names are not of this package's making; needs --folder.",
        )

    def handle(self, *_: Any, **options: Any) -> None:
        """See BaseCommand."""
        try:
            folders = _folders(options)
            if not (options["dry_run"] or options["force"]):
                _refuse_an_empty_database(folders)
            counts = [self._prune(folder, is_dry=options["dry_run"]) for folder in folders]
        except ImageProcessorError as error:
            raise CommandError(str(error)) from error
        gone, left = sum(one for one, _ in counts), sum(one for _, one in counts)
        verb = "would be removed" if options["dry_run"] else "removed"
        self.stdout.write(f"Files that nothing names: {gone} {verb}, {left} could not be removed.")
        if left:
            raise CommandError("Some files could not be removed; the log tells why.")

    def _prune(self, folder: Folder, *, is_dry: bool) -> tuple[int, int]:
        gone = left = 0
        names = unnamed_files(folder)
        with progress(folder.path or "All files") as advance:
            for name, is_gone in ((name, True) for name in names) if is_dry else remove_files(folder, names):
                self.stdout.write(name if is_gone else f"{name}: could not be removed.")
                gone, left = gone + is_gone, left + (not is_gone)
                advance()
        return gone, left


def _folders(options: dict[str, Any]) -> list[Folder]:
    fields = picture_columns(options["labels"])
    if options["folder"] is None:
        if options["any_name"]:
            raise CommandError("--any-name needs --folder: nobody else knows what lies there.")
        return folders_of(fields)
    path = options["folder"].strip("/")
    if not path or ".." in path.split("/"):
        raise CommandError("--folder names a folder within the storage.")
    return [
        Folder(storage, path, has_service=True, takes_any_name=options["any_name"])
        for storage in _storages(fields if options["labels"] else [])
    ]


def _refuse_an_empty_database(folders: list[Folder]) -> None:
    for folder in folders:
        if not names_anything(folder) and next(unnamed_files(folder), None) is not None:
            raise CommandError(
                f"No row of this database names any file, yet there are pictures below {folder.path!r}. "
                "Is it the right database? --force removes them all the same."
            )


def _storages(fields: list[ImageField]) -> list[Any]:
    if not fields:
        return [default_storage]
    return list({id(field.storage): field.storage for field in fields}.values())
