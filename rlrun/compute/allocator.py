"""What becomes of memory that a tensor has freed: the process keeps it for the next one.

glibc hands blocks of a megabyte and more back to the system as soon as they are free and fetches them anew for the next
update, page by page, each of them filled with zeros first. Convolutions on batches of pictures spent a tenth of their
CPU time so.
"""

from __future__ import annotations

import ctypes
import sys

# Of glibc's malloc.h, and bytes. What is larger than MAPPED, such as a replay, goes back when it is freed.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT, MAPPED = 2**28, 2**25


def keep_freed() -> None:
    """Keep up to 256 MiB of what was freed in blocks below 32 MiB; nothing where the C library is another."""
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(M_MMAP_THRESHOLD, MAPPED)
        library.mallopt(M_TRIM_THRESHOLD, KEPT)
