"""Both clients with one face for tests: what the async one gives is awaited at once."""

import asyncio
import inspect
from functools import partial

from image_processor.client import AsyncImageProcessorClient, ImageProcessorClient

FACES = ("waiting", "awaiting")


class AwaitedClient:
    """Looks like an ImageProcessorClient, and asks an AsyncImageProcessorClient."""

    def __init__(self, *args, **options):
        self._new = partial(AsyncImageProcessorClient, *args, **options)

    def __getattr__(self, name):
        return lambda *args, **options: asyncio.run(self._ask(name, args, options))

    async def _ask(self, name, args, options):
        async with self._new() as client:
            asked = getattr(client, name)(*args, **options)
            return await asked if inspect.isawaitable(asked) else [value async for value in asked]

    def close(self):
        """Nothing: each question had a client of its own."""


def new_client(face, *args, **options):
    return (ImageProcessorClient if face == "waiting" else AwaitedClient)(*args, **options)
