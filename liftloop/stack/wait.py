"""Wait until a web address answers, then become another command: `wait.py URL COMMAND...`.

Runs as a script, so that the wait needs neither this package nor its dependencies.
"""

import os
import sys
import time
import urllib.request

LIMIT_SECONDS = 90


def answers(url: str, timeout_seconds: float = 5.0) -> bool:
    """Whether a request to `url` succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds):
            return True
    except OSError:  # refused, too slow, or an HTTP error
        return False


def main(url: str, *command: str) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not answers(url):
        if time.monotonic() > deadline:
            sys.exit(f"{url} did not answer within {LIMIT_SECONDS} s")
        time.sleep(0.2)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
