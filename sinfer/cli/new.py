"""`sinfer new`: a product that runs at once, to make your own of."""

from __future__ import annotations

import shlex
from pathlib import Path

import click


@click.command()
@click.argument("name")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where it goes; here by default.",
)
def new(name: str, directory: Path) -> None:
    """Write a product: a task, a task manager, a pipeline, a test, a pyproject.toml, an image.

    It runs at once, and its test passes. Change what is in it piece by piece. Within a package that
    is there already, only the package of the product is written.

    \b
    Example:
      sinfer new pumps
      sinfer new pumps --directory sinfer/products
    """
    from sinfer.templates.new_product import write_product

    written = write_product(name, directory)
    for file in written:
        click.echo(f"  {file}")
    project = directory / name
    is_project = (project / "pyproject.toml") in written
    place = Path(name) if is_project else project
    samples = place / "samples.jsonl"
    lines = [
        f"cd {shlex.quote(str(project))}" if is_project else None,
        "pytest" if is_project else f"pytest {place}",
        f"sinfer run --product {name} --input {samples} --virtual-time",
        f"sinfer up --product {name}",
        f"sinfer publish --product {name} --input {samples} --rate 10",
        "pip install ." if is_project else None,
    ]
    click.echo("\nReady. Try:\n" + "\n".join(f"  {line}" for line in lines if line))
