"""`sinfer new`: a product that runs at once, to make your own of."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("name")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where the package goes; here by default.",
)
def new(name: str, directory: Path) -> None:
    """Write a product: a task, a task manager, a pipeline and a test.

    It runs at once, and its test passes. Change what is in it piece by piece.

    \b
    Example:
      sinfer new pumps
      sinfer new pumps --directory sinfer/products
    """
    from sinfer.templates.writing import write_product

    written = write_product(name, directory)
    target = written[0].parent
    for file in written:
        click.echo(f"  {file}")
    inside = (directory / "__init__.py").exists()  # of a package, which is found from here
    place = target if inside else Path(name)
    lines = [] if inside or directory == Path() else [f"cd {directory}"]
    samples = place / "samples.jsonl"
    lines += [
        f"pytest {place}",
        f"sinfer run --product {name} --input {samples} --virtual-time",
        f"sinfer up --product {name}",
        f"sinfer publish --product {name} --input {samples} --rate 10",
    ]
    click.echo("\nReady. Try:\n" + "\n".join(f"  {line}" for line in lines))
