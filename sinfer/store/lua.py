"""The scripts that Redis runs: where they are, what each begins with, and times that they keep."""

from __future__ import annotations

from importlib.resources import files
from typing import TypeAlias

from sinfer.store.format import FORMAT

HINT_MS = 5_000
"""How long a Celery message counts as on its way; then beat sends another."""

KEPT_MS = 10_000
"""How long an answer can be asked for again: longer than all tries of the client take."""

Argument: TypeAlias = str | int | bytes

_ROOM = files(__package__)

SCRIPTS = {
    path.name.removesuffix(".lua"): path.read_text()
    for folder in (_ROOM / "scripts").iterdir()
    for path in folder.iterdir()
}
"""The Lua files by their names, whichever folder they are in."""

_PRELUDE, _KEPT_ANSWER = ((_ROOM / name).read_text() for name in ("prelude.lua", "kept_answer.lua"))


def script_texts(source: str) -> tuple[str, str]:
    """What Redis is given of a script: as it is, and so that its answer is kept for a while.

    Args:
        source: the Lua file. Its first line says how Redis is to run it.
    """
    how, _, body = source.partition("\n")
    prelude = _PRELUDE.replace("FORMAT_VERSION", str(FORMAT))
    kept = _KEPT_ANSWER.replace("KEPT_MS", str(KEPT_MS))
    return (
        f"{how}\n{prelude}\n{body}",
        f"{how}\n{prelude}\nlocal function body()\n{body}\nend\n{kept}",
    )
