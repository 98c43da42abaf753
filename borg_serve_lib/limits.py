"""Every limit of the protocol and of the files, with its origin, in one place."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

ID_SIZE: Final = 32
"""Bytes of an object id and of a repository id (spec: repository-format.md section 4.1)."""

MANIFEST_ID: Final = bytes(ID_SIZE)
"""The id of the manifest: 32 zero bytes (spec: repository-format.md, 'Words')."""

MAX_ENTRY_SIZE: Final = 20 * 1024 * 1024
"""Bytes of the largest segment entry, header included (spec: repository-format.md section 4.2)."""

MAX_DATA_SIZE: Final = MAX_ENTRY_SIZE - 41
"""Bytes of the largest data of a PUT (spec: repository-format.md section 4.2)."""

MAX_TAG: Final = 15
"""The highest entry tag that repair takes for an entry (spec: repository-format.md section 4.2)."""

MAX_SEGMENT_NUMBER: Final = 2**32 - 1025
"""The highest segment number an index value can hold (spec: repository-format.md section 5.1)."""

MAX_SEGMENT_SIZE_LIMIT: Final = 2**32 - MAX_ENTRY_SIZE
"""`max_segment_size` must be below this, so that each offset fits 32 bits (spec: repository-format.md section 3.2)."""

DEFAULT_SEGMENT_SIZE: Final = 500 * 1024 * 1024
"""Bytes: `max_segment_size` of a new repository (spec: repository-format.md section 3.2)."""

DEFAULT_SEGMENTS_PER_DIR: Final = 1000
"""`segments_per_dir` of a new repository (spec: repository-format.md section 3.2)."""

MIN_STORAGE_QUOTA: Final = 10_000_000
"""Bytes: the smallest storage quota except 0, which is no quota (spec: serve-command.md section 2.4)."""

MAX_MEMORY: Final = 240_000_000
"""Bytes of data that the kernel gives a server process, unless the host says otherwise. With what does not count as
data, 10 MB of program and libraries and an index of up to 50 MB that is mapped, it stays below 300 MB."""

MIN_MAX_MEMORY: Final = 64_000_000
"""Bytes: the smallest such limit that a host may set; small calls need no more."""

MAX_MESSAGE_SIZE: Final = 60 * 1024 * 1024
"""Bytes of the largest request accepted (spec: rpc.md section 1.2)."""

MAX_COLLECTION_LENGTH: Final = 100
"""Items of the longest array or map in a request (spec: rpc.md section 1.2, servers 1.0 to 1.2)."""

MAX_NESTING: Final = 8
"""Depth of arrays and maps in a request; the deepest real one, a positional negotiate, has 4 (spec: rpc.md 2)."""

MAX_MESSAGE_OBJECTS: Final = 1000
"""Parts of a request, down to the last key and value: the largest real one, an open, has 20. Finding where a message
of 60 MiB ends would take minutes if it could be made of single bytes."""

MAX_METHOD_NAME: Final = 100
"""Bytes of the longest method name a client may use; the longest real one has 24 (spec: rpc.md section 3)."""

MAX_KEPT_BUFFER: Final = 9 << 20
"""Bytes of the receive buffer that a connection keeps between messages, and of the room that a message gets before more
of it has come. The largest chunks of borg's default chunkers, 8 MiB, stay below it."""

MAX_NIL_REPLY: Final = 11
"""Bytes of the longest reply without result to a call whose id is a number below 2^32, as those of clients are."""

MAX_GATHERED_REPLIES: Final = 1 << 17
"""Bytes of replies that are gathered while more calls wait; they go out before the next read in any case."""

MAX_REPLY_IDS: Final = MAX_MESSAGE_SIZE // (3 + ID_SIZE)
"""Object ids of the longest list in a reply: clients take replies of 60 MiB (spec: rpc.md section 1.2), and ask for
100,000 ids at once at most."""

MAX_ANNOUNCED_GETS: Final = 64
"""Waiting gets that are announced to the storage at once; clients 1.1 to 1.4 keep up to 100 on their way."""

MAX_UNREAD_LOG: Final = 1 << 16
"""Bytes of log lines that wait for a client to read them, as many as a pipe usually holds; beyond that they are
dropped."""

MAX_ARGUMENT_NAME: Final = 100
"""Bytes of the longest name of an argument; the longest real one has 17 (spec: rpc.md section 3). What is text is
decoded, and takes four times the room if a single character of it is far from ASCII."""

MAX_TEXT_ARGUMENT: Final = 100
"""Bytes of the longest argument that is text; the longest real one has 16 (spec: rpc.md section 3.7)."""

MAX_TEXT_MSGID: Final = 100
"""Bytes of the longest message id that is no number. Clients send numbers; their echo is copied into each reply."""

MAX_KEYDATA_SIZE: Final = 1024 * 1024
"""Bytes of the largest repokey accepted; a real one has about 500 (spec: rpc.md section 3.5)."""

MAX_SMALL_FILE_SIZE: Final = 4 * 1024 * 1024
"""Bytes of the largest config, nonce or integrity file that is read: a config with the largest repokey has 2.1 MB."""

MAX_UNVERIFIED_HINTS_SIZE: Final = 64 * 1024 * 1024
"""Bytes of the largest hints file that is read without a digest to verify it by; real ones of 10 TB have about 2 MB."""

MAX_WAIT: Final = 10 * 365 * 86400
"""Seconds that a client may ask for; a longer wait is for ever as far as anybody can tell."""

MAX_ORIGINAL_COMMAND: Final = 64 * 1024
"""Characters of the longest client command looked at; real ones have about 100 (spec: serve-command.md section 1)."""

MAX_PATH_SIZE: Final = 4096
"""Bytes of the longest repository path a client may name: PATH_MAX of Linux, above which no file can be opened."""

MAX_RECORDS_OF_A_KIND: Final = 100
"""Records of one kind of event that a session is worth; what a client repeats further is counted, not written."""

MAX_SYMLINKS: Final = 40
"""Symlinks on the way of a path that a restricted client names: MAXSYMLINKS of Linux, above which nothing is opened."""
