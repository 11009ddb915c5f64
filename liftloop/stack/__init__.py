"""The embedded stack: object store, Prefect server, worker and bridge on this machine, from pip packages alone."""

from liftloop.stack.initialise import initialise, start
from liftloop.stack.layout import StackError
from liftloop.stack.lifecycle import PartStatus, down, status, up

__all__ = ["PartStatus", "StackError", "down", "initialise", "start", "status", "up"]
