"""Keys as products give them, checked before they become part of names."""

from __future__ import annotations

from sinfer.errors import InvalidItemError


def checked_key(key: object, max_length: int) -> str:
    """The key of an item, as a plain ``str``.

    Args:
        key: what ``key`` returned. Of a subclass of ``str``, such as numpy's, its text counts.
        max_length: most characters.

    Raises:
        InvalidItemError: it is no text, too long, or text that UTF-8 cannot hold.
    """
    if type(key) is not str:
        if not isinstance(key, str):
            raise InvalidItemError(f"key() returned {type(key).__name__}, not str")
        # Not str(key): a subclass may say something else there, and what it says may be one again.
        key = str.__str__(key)
    if len(key) > max_length:
        raise InvalidItemError(
            f"key of {len(key)} characters is above limits.max_key_length ({max_length})"
        )
    try:
        key.encode()
    except UnicodeEncodeError:
        raise InvalidItemError(f"key {key!a} holds half of a surrogate pair") from None
    return key
