# Commands and flags of the protocol at their corners, on an export of 8 MiB
# that reads as zeros at first. For nbdsh, which has made the handle h.
import errno
import os

h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
h.set_uri_allow_local_file(True)
h.connect_uri(os.environ["URI"])
h.set_strict_mode(0)  # what libnbd would refuse is sent all the same
size = h.get_size()
assert size == 8 << 20
MIB = 1 << 20


def refused(number, f, *args):
    try:
        f(*args)
    except nbd.Error as e:
        assert e.errnum == number, (e.errnum, e.string, args)
        return
    raise AssertionError("not refused: %r" % (args,))


def status(length, offset, flags=0):
    found = []

    def extent(context, start, entries, err):
        assert context == "base:allocation" and start == offset
        found.extend(zip(entries[0::2], entries[1::2]))

    h.block_status(length, offset, extent, flags)
    return found


# FUA is accepted by every command.
h.pwrite(b"a" * 4096, 0, nbd.CMD_FLAG_FUA)
h.zero(4096, 4096, nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_NO_HOLE)
h.trim(4096, 8192, nbd.CMD_FLAG_FUA)
h.flush()
h.cache(65536, 0)
assert h.pread(8192, 0) == b"a" * 4096 + bytes(4096)

# DF: a long read over data and holes in one piece.
pieces = []


def piece(buf, offset, kind, err):
    pieces.append((offset, len(buf), kind))


h.pread_structured(65536, 0, piece, nbd.CMD_FLAG_DF)
assert len(pieces) == 1 and pieces[0][1] == 65536, pieces
pieces.clear()
got = h.pread_structured(2 * MIB, 0, piece)
assert sum(n for _, n, _ in pieces) == 2 * MIB and got[:1] == b"a"
assert any(kind == nbd.READ_HOLE for _, _, kind in pieces), pieces

# Fast zero either works or changes nothing.
h.pwrite(b"b" * 8192, MIB)
try:
    h.zero(8192, MIB, nbd.CMD_FLAG_FAST_ZERO)
    assert h.pread(8192, MIB) == bytes(8192)
except nbd.Error as e:
    assert e.errnum == errno.ENOTSUP, e.string
    assert h.pread(8192, MIB) == b"b" * 8192

# NO_HOLE leaves zeros that are allocated, trim and zero give holes.
h.pwrite(b"c" * MIB, 2 * MIB)
assert status(MIB, 2 * MIB) == [(MIB, 0)]
h.zero(MIB, 2 * MIB)
assert status(MIB, 2 * MIB) == [(MIB, 3)], status(MIB, 2 * MIB)
assert h.pread(MIB, 2 * MIB) == bytes(MIB)

# REQ_ONE gives one extent that is not longer than asked.
h.pwrite(b"d" * 65536, 3 * MIB)
one = status(5 * MIB, 3 * MIB, nbd.CMD_FLAG_REQ_ONE)
assert one == [(65536, 0)], one
assert status(100, 3 * MIB + 100, nbd.CMD_FLAG_REQ_ONE) == [(100, 0)]
assert sum(n for n, _ in status(5 * MIB, 3 * MIB)) == 5 * MIB

# Zero length is no harm, whatever the answer.
for f in (
    lambda: h.pread(0, 0),
    lambda: h.pwrite(b"", 0),
    lambda: h.zero(0, 0),
    lambda: h.trim(0, 0),
    lambda: h.cache(0, 0),
):
    try:
        f()
    except nbd.Error as e:
        assert e.errnum == errno.EINVAL, e.string

# The end of the disk. The payload of a refused write is consumed.
assert h.pread(1, size - 1) == b"\0"
h.pwrite(b"z", size - 1)
for number, f, *args in (
    (errno.EINVAL, h.pread, 2, size - 1),
    (errno.EINVAL, h.pread, 512, size),
    (errno.EINVAL, h.pread, 512, 2**64 - 512),
    (errno.ENOSPC, h.pwrite, b"xx", size - 1),
    (errno.ENOSPC, h.pwrite, b"x" * 65536, 2**64 - 512),
    (errno.ENOSPC, h.zero, 2, size - 1),
    (errno.EINVAL, h.trim, 2, size - 1),
    (errno.EINVAL, h.cache, 2, size - 1),
    # Flags that do not belong there.
    (errno.EINVAL, h.pwrite, b"x", 0, nbd.CMD_FLAG_DF),
    (errno.EINVAL, h.pread, 1, 0, nbd.CMD_FLAG_NO_HOLE),
    (errno.EINVAL, h.trim, 512, 0, 1 << 14),
    (errno.EINVAL, h.flush, 1 << 14),
):
    refused(number, f, *args)
    assert h.pread(1, size - 1) == b"z"

# The longest read and write that are allowed.
assert h.get_block_size(nbd.SIZE_MAXIMUM) >= size
h.pwrite(bytes(range(256)) * (size // 256), 0)
assert h.pread(size, 0) == bytes(range(256)) * (size // 256)

# Commands in flight when the client says goodbye are done.
for i in range(16):
    h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b"q" * 4096)), i * 4096)
h.shutdown()
again = nbd.NBD()
again.set_uri_allow_local_file(True)
again.connect_uri(os.environ["URI"])
assert again.pread(65536, 0) == b"q" * 65536
again.shutdown()
print("done")
