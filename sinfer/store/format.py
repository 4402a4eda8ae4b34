"""Which form the records of a partition have, so that no version misreads what another wrote.

The field ``format`` of a partition's ``meta`` says it. Whoever takes the writer lease notes it, and
every script that works on a partition refuses one whose format it does not know: nothing is read,
closed, claimed, completed or given up by a process that is too old for it.

| format | since | what is different |
| --- | --- | --- |
| 1 | 0.1.0 | the first; not noted by the versions before this field |
"""

from __future__ import annotations

from sinfer.errors import FormatError

FORMAT = 1
"""What this version writes, and the newest that it reads."""

FORMAT_FIELD = "format"

REFUSAL = "NEWERFORMAT"
"""How the error of a script begins; the format and the key of ``meta`` follow. See prelude.lua."""


def refusal(meta: str, found: str) -> FormatError:
    """The error for a partition that a newer version has written.

    Args:
        meta: the key that says so.
        found: the format of the partition.
    """
    return FormatError(
        f"{meta} was written by a newer version of sinfer (format {found} of the store; this"
        f" version knows {FORMAT}): upgrade sinfer here, as docs/operations.md says; nothing of it"
        " is touched until then"
    )


def check_format(meta: str, stored: bytes | None) -> None:
    """Make sure that this version may read a partition.

    Args:
        meta: the key of its ``meta``.
        stored: the field there; None where it is not noted.

    Raises:
        FormatError: it may not.
    """
    if stored is not None and int(stored) > FORMAT:
        raise refusal(meta, stored.decode())
