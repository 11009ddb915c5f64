"""Run a silent command and count its seconds: `counted.py WORDS COMMAND...`.

Runs as a script, by the system's Python, before anything is installed.
"""

import subprocess
import sys
import time

SECONDS_BETWEEN_LINES = 15  # without a terminal, so that a log shows the command is alive


def main(words: str, *command: str) -> int:
    """The command's exit code."""
    began = time.monotonic()
    interval = 1 if sys.stdout.isatty() else SECONDS_BETWEEN_LINES
    with subprocess.Popen(command) as process:
        while _is_running(process, interval):
            _say(words, began)
    _say(words, began)
    print(flush=True)
    return process.returncode


def _is_running(process: "subprocess.Popen[bytes]", interval: float) -> bool:
    try:
        process.wait(interval)
    except subprocess.TimeoutExpired:
        return True
    return False


def _say(words: str, began: float) -> None:
    """Overwrites the line on a terminal; prints a new line otherwise."""
    start = "\r" if sys.stdout.isatty() else "\n"
    print(f"{start}{words}: {time.monotonic() - began:.0f} s", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
