"""``python -m sinfer``: the command ``sinfer``, where its script is not on the path."""

from sinfer.cli import main

main(prog_name="python -m sinfer")
