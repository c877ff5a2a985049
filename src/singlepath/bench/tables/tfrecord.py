"""TFRecord files and the protobuf wire format, read without TensorFlow.

A TFRecord file is a row of records: length (uint64, little endian), masked CRC-32C of these 8 bytes (uint32), the data,
masked CRC-32C of the data. masked(c) = rotate_right(c, 15) + 0xa282ead8 mod 2^32.

A protobuf message is a row of (key, value), key = field number << 3 | wire type, and all that is needed of it are
whole numbers (type 0, varint), doubles (type 1) and bytes (type 2: text, messages).
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from singlepath.errors import user_error

__all__ = ["fields", "masked_crc32c", "records"]

LONGEST = 1 << 20  # bytes of a record that are believed
TOGETHER = 16_384  # records whose checksums are computed at once
WIRE_VARINT, WIRE_64, WIRE_BYTES, WIRE_32 = 0, 1, 2, 5


def _crc_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1).astype(np.uint32)
    return table


TABLE = _crc_table()


def masked_crc32c(texts: Sequence[bytes]) -> np.ndarray:
    """The masked CRC-32C (Castagnoli) of many byte strings at once, [K] uint32."""
    order = np.argsort([-len(t) for t in texts], kind="stable")
    lengths = np.array([len(texts[i]) for i in order])
    width = int(lengths[0]) if len(texts) else 0
    padded = np.frombuffer(b"".join(texts[i].ljust(width, b"\0") for i in order), np.uint8).reshape(len(texts), width)
    crc = np.full(len(texts), 0xFFFFFFFF, np.uint32)
    for j, column in enumerate(padded.T):
        live = int(np.searchsorted(-lengths, -j, side="left"))  # the texts with more than j bytes come first
        part = crc[:live]
        crc[:live] = TABLE[(part ^ column[:live]) & 0xFF] ^ (part >> np.uint32(8))
    crc = ~crc
    out = np.empty_like(crc)
    out[order] = ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)
    return out


def records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file, checksums verified.

    Raises:
        UserError: the file is missing, cut off or damaged; says at which record.
    """
    if not path.is_file():
        raise user_error(f"{path} does not exist", "needed: a TFRecord file", "give its path")
    number = 0
    with open(path, "rb") as file:
        while batch := list(itertools.islice(_framed(file, path, number), TOGETHER)):
            lengths, sums, data, ends = zip(*batch, strict=True)
            wrong = (masked_crc32c(lengths) != np.array(sums)) | (masked_crc32c(data) != np.array(ends))
            if wrong.any():
                raise _damaged(path, number + int(np.argmax(wrong)), "its checksum is wrong")
            yield from data
            number += len(batch)


def _framed(file: Any, path: Path, number: int) -> Iterator[tuple[bytes, int, bytes, int]]:
    """(length's bytes, their checksum, data, its checksum) of the records from here on."""
    while head := file.read(12):
        length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else LONGEST + 1
        if length > LONGEST:
            raise _damaged(path, number, "its head is cut off or its length is not believable")
        body = file.read(length + 4)
        if len(body) < length + 4:
            raise _damaged(path, number, "the file ends inside it")
        yield head[:8], struct.unpack("<I", head[8:])[0], body[:-4], struct.unpack("<I", body[-4:])[0]
        number += 1


def _damaged(path: Path, number: int, why: str) -> Exception:
    return user_error(f"record {number} of {path}: {why}", "needed: the file as it was published", "fetch it again")


def fields(message: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """(field number, value) of a message, in order; varints as whole numbers >= 0, 64-bit values as doubles.

    Raises:
        ValueError: the message is cut off or uses groups.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == WIRE_VARINT:
            value, at = _varint(message, at)
        elif kind in (WIRE_64, WIRE_32):
            value = struct.unpack_from("<d" if kind == WIRE_64 else "<f", message, at)[0]
            at += 8 if kind == WIRE_64 else 4
        elif kind == WIRE_BYTES:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        else:
            raise ValueError(f"wire type {kind}")
        if at > len(message):
            raise ValueError("a message that is cut off")
        yield number, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends): seven bits a byte, least first, the eighth says that more follow."""
    value = shift = 0
    while shift < 70:
        if at >= len(message):
            raise ValueError("a message that is cut off")
        value |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if message[at - 1] < 0x80:
            return value, at
    raise ValueError("a varint of more than ten bytes")
