"""`sinfer schema`: the JSON schema of a task, for editors and other checks."""

from __future__ import annotations

import json

import click


@click.command()
@click.option(
    "--product", metavar="NAME", help="With the settings that this product adds to its tasks."
)
def schema(product: str | None) -> None:
    """Print the JSON schema of a task: every field with its unit, default and meaning.

    Editors that know YAML schemas complete and check tasks by it, as with a first line
    `# yaml-language-server: $schema=task.schema.json`; for a file of several tasks, it is the
    schema of each entry.

    \b
    Example:
      sinfer schema > task.schema.json
      sinfer schema --product soe
    """
    from sinfer.products.registry import find_product
    from sinfer.products.task import InferTaskConfig
    from sinfer.settings import settings

    task_type: type[InferTaskConfig] = InferTaskConfig
    if product is not None:
        task_type = find_product(product, settings().products).task_type
    found = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **task_type.model_json_schema(),
    }
    click.echo(json.dumps(found, indent=2))
