"""What `sinfer demo` has to know of a product: its data, and what must come out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sinfer.errors import ConfigError
from sinfer.products.product import Product


@dataclass(frozen=True, slots=True)
class Case:
    """One message to publish, and the one result that it must have in each sink.

    Attributes:
        subject: where to publish it.
        data: the message.
        id: what ``Scenario.identify`` returns for its result; no other case has it.
        result: the result; numbers may differ by a millionth part.
    """

    subject: str
    data: bytes
    id: Any
    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A demonstration of a product. A product package has one as ``demo.scenario``.

    Attributes:
        product: name of the product.
        streams: JetStream streams that are made beforehand, with their subjects.
        cases: makes that many cases, the same ones at every call.
        results_subject: where the results appear in JetStream.
        results_table: the table where they appear in the database.
        environment: from the addresses of the model server and of the database, makes the
            environment variables that lead the product to them.
        identify: what tells one result from another.
    """

    product: str
    streams: Mapping[str, Sequence[str]]
    cases: Callable[[int], Iterable[Case]]
    results_subject: str
    results_table: str
    environment: Callable[[str, str], Mapping[str, str]]
    identify: Callable[[Mapping[str, Any]], Any]


def scenario_of(product: Product) -> Scenario:
    """The demonstration that a product's package ships.

    Raises:
        ConfigError: it ships none.
    """
    import importlib

    package = product.pipeline.__module__.rpartition(".")[0]
    try:
        scenario = importlib.import_module(f"{package}.demo").scenario
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"product {product.name!r} has nothing to demonstrate: its package needs a module"
            " 'demo' with a Scenario named 'scenario', as sinfer.products.example has"
        ) from error
    if not isinstance(scenario, Scenario):
        raise ConfigError(f"{package}.demo.scenario must be a Scenario, not {scenario!r}")
    return scenario
