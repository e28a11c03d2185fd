"""Files of the site, as a module gets them: looked up by the static origin, read without a copy."""

from __future__ import annotations

import mmap
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from tux.modules.errors import MisuseError

if TYPE_CHECKING:
    from tux.apps import port


class Object:
    """A file of the site as it was when it was looked up. A context manager; closed when it is forgotten, too."""

    def __init__(self, path: str, found: port.Object, media_type: str | None = None) -> None:
        """media_type: in place of what was found."""
        self.path = path
        """As it was asked for, below the site's root: "/page.html"."""
        self.size = found.size
        self.type = found.media_type.decode("latin-1") if media_type is None else media_type
        """Content-Type."""
        self.etag = found.etag.decode("latin-1")
        self.modified_ns = found.modified
        """Nanoseconds since 1970; 0: unknown."""
        self._fd = found.fd
        self._map: mmap.mmap | None = None
        self._view: memoryview | None = None

    @property
    def modified(self) -> datetime | None:
        """When it was changed."""
        return datetime.fromtimestamp(self.modified_ns / 1e9, UTC) if self.modified_ns else None

    def fileno(self) -> int:
        """Its descriptor, to read from. It stays this object's. MisuseError: it is closed."""
        if self._fd < 0:
            raise MisuseError(f"the object {self.path} is closed")
        return self._fd

    @property
    def memory(self) -> memoryview:
        """Its bytes, read-only, not copied: pages of the file itself. Until `close`."""
        fd = self.fileno()
        if self._view is None:
            if self.size:
                self._map = mmap.mmap(fd, self.size, prot=mmap.PROT_READ)
                self._view = memoryview(self._map)
            else:
                self._view = memoryview(b"")
        return self._view

    def read(self, size: int = -1, offset: int = 0) -> bytes:
        """A copy of its bytes, or of some of them."""
        end = self.size if size < 0 else min(self.size, offset + size)
        pieces = []
        while offset < end:
            piece = os.pread(self.fileno(), end - offset, offset)
            if not piece:
                break  # it has become shorter
            pieces.append(piece)
            offset += len(piece)
        self.fileno()
        return b"".join(pieces)

    def close(self) -> None:
        """Give memory and descriptor back. MisuseError: something still uses its memory."""
        if self._view is not None:
            try:
                self._view.release()
                if self._map is not None:
                    self._map.close()
            except BufferError:
                if self._map is not None:
                    self._view = memoryview(self._map)
                raise MisuseError(f"the object {self.path} is closed while a part of its memory is in use") from None
            self._view = self._map = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            os.close(self._fd)
            self._fd = -1

    def __repr__(self) -> str:
        return f"<Object {self.path} {self.type} {self.size} bytes>"
