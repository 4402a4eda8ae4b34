"""`sinfer schema`: the JSON schema of tasks, for editors and other checks."""

from __future__ import annotations

import json

import click


@click.command()
@click.option(
    "--product", metavar="NAME", help="With the settings that this product adds to its tasks."
)
def schema(product: str | None) -> None:
    """Print the JSON schema of a file of tasks: every field with its unit, default and meaning.

    Editors that know YAML schemas complete and check tasks by it, as with a first line
    `# yaml-language-server: $schema=tasks.schema.json` in the file.

    \b
    Example:
      sinfer schema > tasks.schema.json
      sinfer schema --product soe
    """
    from sinfer.products.registry import find_product
    from sinfer.products.task import InferTaskConfig
    from sinfer.products.task_schema import task_schema
    from sinfer.settings import settings

    task_type: type[InferTaskConfig] = InferTaskConfig
    if product is not None:
        task_type = find_product(product, settings().products).task_type
    click.echo(json.dumps(task_schema(task_type), indent=2))
