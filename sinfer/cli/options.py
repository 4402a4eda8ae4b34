"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    _MomentType = click.ParamType[int]
    _SequencesType = click.ParamType[tuple[int, int]]
else:  # generic only in newer versions of click
    _MomentType = _SequencesType = click.ParamType

F = TypeVar("F", bound=Callable[..., Any])


def _product_or_only(ctx: click.Context, _: click.Parameter, value: str | None) -> str | None:
    """The product that is named, or the only one of ``SINFER_PRODUCTS`` or else of those that are
    installed."""
    if value is not None or ctx.resilient_parsing:
        return value
    from sinfer.errors import ConfigError
    from sinfer.products.registry import load_products, product_in, reference_of
    from sinfer.settings import settings

    if modules := settings().products:
        names = [product_in(reference_of(module)).name for module in modules]
        where = "SINFER_PRODUCTS names"
    else:
        products, problems = load_products()
        if problems and not products:
            raise ConfigError("; ".join(problems.values()))
        names = sorted(products)
        where = "There are the products"
    if not names:
        raise click.UsageError(
            "Name the product with --product, set SINFER_PRODUCTS, or install one.", ctx
        )
    if len(names) > 1:
        raise click.UsageError(f"{where} {', '.join(names)}: say which one with --product.", ctx)
    return names[0]


one_product_option = click.option(
    "--product",
    metavar="NAME",
    callback=_product_or_only,
    help="Name of the product, or a module that has it; by default the one of SINFER_PRODUCTS, or"
    " the one that is installed.",
)
product_option = click.option(
    "--product", metavar="NAME", default=None, help="Only this product; all by default."
)
task_option = click.option(
    "--task", metavar="ID", default=None, help="Only this task; all by default."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class Moment(_MomentType):
    """A point in time: ISO 8601, or how long ago as ``90s``, ``15m``, ``2h``, ``1d``. In ms."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from sinfer.config.units import parse_duration

        if isinstance(value, int):
            return value
        try:
            ago = parse_duration(value)
        except ValueError:
            pass
        else:
            return round((datetime.now(UTC) - ago).timestamp() * 1000)
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither a time such as 2026-01-31T12:00 nor such as 15m ago")
        return round(moment.astimezone(UTC).timestamp() * 1000)


class Sequences(_SequencesType):
    """Stream sequences: ``5``, or ``5-9`` with both ends."""

    name = "sequences"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        first, dash, last = value.partition("-")
        try:
            found = (int(first), int(last if dash else first))
        except ValueError:
            self.fail(f"{value!r} is no stream sequence such as 5, and no range such as 5-9")
        if found[0] > found[1]:
            self.fail(f"{value!r} is an empty range")
        return found
