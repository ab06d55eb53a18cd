"""Bytes that come packed with gzip: unpacked piece by piece, never beyond a bound."""

import zlib
from collections.abc import Iterator

from agent.errors import AgentError, FieldError

GZIP = "gzip"
_PIECE_BYTES = 64 * 1024


class TooLargeError(AgentError):
    """It would unpack to more than its bound; no more than the bound was unpacked."""


class Unpacker:
    """Unpacks one gzip stream, however it is cut into pieces."""

    def __init__(self, largest: int) -> None:
        """Unpack at most `largest` bytes."""
        self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._left = largest

    def pieces(self, packed: bytes) -> Iterator[bytes]:
        """Yield what a further piece unpacks to.

        Raises:
            TooLargeError: it goes over the bound.
            FieldError: it is not gzip, or goes on behind its end.
        """
        while packed:
            try:
                piece = self._inflate.decompress(packed, min(_PIECE_BYTES, self._left + 1))
            except zlib.error as error:
                raise FieldError("body", f"is not gzip: {error}") from error
            self._left -= len(piece)
            if self._left < 0:
                raise TooLargeError("the body unpacks to more than there may be")
            if piece:
                yield piece
            if self._inflate.eof:
                if self._inflate.unused_data:
                    raise FieldError("body", "goes on behind the end of its gzip stream")
                return
            packed = self._inflate.unconsumed_tail

    def finish(self) -> None:
        """Say that nothing more comes; FieldError where the stream is cut off."""
        if not self._inflate.eof:
            raise FieldError("body", "is gzip that breaks off")


def unpacked(body: bytes, largest: int) -> bytes:
    """Return what a gzip body holds.

    Raises:
        TooLargeError: more than `largest` bytes.
        FieldError: it is not one whole gzip stream.
    """
    unpacker = Unpacker(largest)
    whole = b"".join(unpacker.pieces(body))
    unpacker.finish()
    return whole
