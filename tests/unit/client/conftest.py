"""Servers that say what a test wants, and both clients to ask them."""

import pytest

from client_faces import FACES, new_client
from client_stub import HASTY, JOB
from web_server import WebServer


@pytest.fixture
def serve():
    servers = []

    def start(**answers):
        server = WebServer({path.replace("JOB", JOB): answers[path] for path in answers})
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture(params=FACES)
def client_of(request):
    clients = []

    def new(server, **options):
        options.setdefault("retries", HASTY)
        url = server if isinstance(server, str) else f"http://127.0.0.1:{server.port}"
        clients.append(new_client(request.param, url, options.pop("token", "token"), **options))
        return clients[-1]

    yield new
    for client in clients:
        client.close()
