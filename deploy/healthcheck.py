"""Asks a server of this container how it is: `healthcheck.py [port [path]]`; 0 for a 200."""  # noqa: INP001

import http.client
import os
import sys

TIMEOUT_SECONDS = 9
"""The service itself gives its storage 5; what asks for our health waits 10."""


def main(port: str = "", path: str = "/api/v1/health") -> int:
    """0 if the answer is 200, 1 if it is another or there is none."""
    # Not urllib: it would go through a proxy that the environment names.
    connection = http.client.HTTPConnection(
        "127.0.0.1", int(port or os.environ.get("PORT", "8000")), timeout=TIMEOUT_SECONDS
    )
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        sys.stdout.write(f"{answer.status} {answer.read(1000).decode(errors='replace')}\n")
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"No answer: {error}\n")
        return 1
    finally:
        connection.close()
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
