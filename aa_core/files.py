"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file that takes the place of `path`, or raise OSError naming it: what is there is whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        raise OSError(getattr(error, "errno", errno.EIO), f"path cannot be written: {error}", str(path)) from error
    finally:
        if partial.is_file():
            partial.unlink()
