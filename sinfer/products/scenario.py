"""What `sinfer demo` has to know of a product: its data, and what must come out of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nats.aio.client import Client

from sinfer.errors import ConfigError
from sinfer.extras import missing_extra
from sinfer.products.product import Product
from sinfer.types.message import Message


class Progress(Protocol):
    """Is told how a demonstration goes."""

    def expect(self, messages: int, results: int) -> None:
        """How many there will be; comes before any of them."""

    def published(self, count: int) -> None:
        """So many more messages are stored."""

    def arrived(self, results: list[Any]) -> None:
        """These results have arrived."""

    def say(self, text: str) -> None:
        """A step begins."""


class Findings(Protocol):
    """What a demonstration found."""

    @property
    def is_right(self) -> bool:
        """Whether all is as it should be."""

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""

    def lines(self) -> list[str]:
        """For people."""


@dataclass(frozen=True, slots=True)
class Publishing:
    """An order to publish samples.

    Attributes:
        client: connected to NATS; the streams are there.
        messages: about how many.
        rate: messages a second; None for as fast as it goes.
        published: is to be called with the number of each few messages that are stored.
    """

    client: Client
    messages: int
    rate: float | None
    published: Callable[[int], None]


def _nothing(environment: Mapping[str, str]) -> None:
    """Nothing has to be prepared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """What all demonstrations have in common; see ``Scenario`` and ``Experiment``.

    Attributes:
        product: name of the product.
        streams: JetStream streams that are made beforehand, with their subjects.
        environment: from the addresses of the model server and of the database, makes the
            environment variables that lead the product to them.
        model_server: the module that is run as the model server, with ``--port``.
        prepare: is called with the environment before sinfer's own processes start.
        publish: publishes samples, for `sinfer publish`; by default a scenario's ``cases``.
        samples: makes that many samples without NATS, for `sinfer publish --print`; by default a
            scenario's ``cases``.
    """

    product: str
    streams: Mapping[str, Sequence[str]]
    environment: Callable[[str, str], Mapping[str, str]]
    model_server: str = "sinfer.embedded.model_server"
    prepare: Callable[[Mapping[str, str]], None] = _nothing
    publish: Callable[[Publishing], Awaitable[None]] | None = None
    samples: Callable[[int], Iterable[Message]] | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario(Demonstration):
    """Messages that are known beforehand, each with the one result that it must have.

    Attributes:
        cases: makes that many cases, the same ones at every call.
        results_subject: where the results appear in JetStream.
        results_table: the table where they appear in the database.
        identify: what tells one result from another.
    """

    cases: Callable[[int], Iterable[Case]]
    results_subject: str
    results_table: str
    identify: Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where an experiment takes place.

    Attributes:
        check: raises ``UnavailableError`` when one of sinfer's processes has ended.
    """

    nats_url: str
    database_url: str
    check: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment(Demonstration):
    """A demonstration that takes its own course, as where messages depend on results.

    Attributes:
        run: publishes about so many messages and finds out what became of them.
    """

    run: Callable[[Surroundings, int, Progress], Awaitable[Findings]]


def demonstration_of(product: Product) -> Demonstration:
    """The demonstration that a product's package ships, as ``demo.scenario``.

    Raises:
        ConfigError: it ships none.
    """
    import importlib

    package = product.pipeline.__module__.rpartition(".")[0]
    try:
        if not package:
            raise ImportError(f"{product.pipeline.__module__} is a module, not a package")
        scenario = importlib.import_module(f"{package}.demo").scenario
    except (ImportError, AttributeError) as error:
        if told := missing_extra(error):
            raise told from error
        raise ConfigError(
            f"product {product.name!r} has nothing to demonstrate: its package needs a module"
            " 'demo' with a Scenario named 'scenario', as sinfer.products.example has"
        ) from error
    if not isinstance(scenario, Demonstration):
        raise ConfigError(f"{package}.demo.scenario must be a Scenario, not {scenario!r}")
    return scenario


def samples_of(scenario: Demonstration, count: int) -> Iterable[Message]:
    """Samples of a product, each with its subject.

    Raises:
        ConfigError: it ships none.
    """
    if scenario.samples is not None:
        return scenario.samples(count)
    if isinstance(scenario, Scenario):
        return (Message(case.data, case.subject) for case in scenario.cases(count))
    raise ConfigError(f"product {scenario.product!r} ships no samples; use --input")
