"""How the API's process stops: streams that would hold it up are ended first."""

import socket

import uvicorn

from image_processor.api.events import JobWatcher


class Server(uvicorn.Server):
    """A server that waits for requests when it stops, and not for event streams: these it ends."""

    def __init__(self, config: uvicorn.Config, watcher: JobWatcher) -> None:
        super().__init__(config)
        self._watcher = watcher

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, within the grace that the configuration gives to requests."""
        self._watcher.close()
        await super().shutdown(sockets)
