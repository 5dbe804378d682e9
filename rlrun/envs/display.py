"""Whether there is a display, and drawing without one."""

from __future__ import annotations

import os
import sys


def has_display() -> bool:
    """Whether a window can be opened here, as far as the environment variables tell."""
    return sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def without_display() -> None:
    """Where there is none, let pygame do without: it opens a display even to draw into memory."""
    if not has_display():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
