"""What is run for which figure, what the papers claim, and the build that knows what is out of date."""

from experiments.tables import agent, load, read, record

__all__ = ["agent", "load", "read", "record"]
