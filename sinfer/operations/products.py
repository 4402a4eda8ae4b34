"""Finding the products, tasks and partitions that a command is about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sinfer.errors import ConfigError, SinferError
from sinfer.products.pipeline import InferPipeline
from sinfer.products.product import Product
from sinfer.products.registry import find_product, load_products, loaded_product
from sinfer.products.task import InferTaskConfig
from sinfer.store.connection import Store
from sinfer.store.schedule import Schedule
from sinfer.windows.ids import Scope


class Tasks:
    """The tasks of all products that can be found, each product asked once.

    Args:
        modules: further modules to look into, as in ``SINFER_PRODUCTS``.
    """

    def __init__(self, modules: Iterable[str]) -> None:
        self._modules = list(modules)
        self._products: dict[str, Product] = {}
        self._listed: dict[str, dict[str, InferTaskConfig]] = {}
        self._broken: dict[str, dict[str, str]] = {}
        self._unlisted: dict[str, ConfigError] = {}

    async def product(self, name: str, *, given: bool = False) -> Product:
        """A product, its tasks listed.

        Args:
            name: its name.
            given: whether an operator gave the name; only then it may be that of a module.

        Raises:
            ConfigError: it cannot be found, or its tasks cannot be listed.
        """
        if name in self._unlisted:
            raise self._unlisted[name]
        if name not in self._products:
            find = find_product if given else loaded_product
            product = find(name, self._modules)
            try:
                listed = await product.list_tasks()
            except SinferError as error:
                self._unlisted[name] = ConfigError(
                    f"product {name!r}: its tasks cannot be listed: {error}"
                )
                raise self._unlisted[name] from error
            finally:
                await product.close_tasks()
            self._listed[product.name] = listed.tasks
            self._broken[product.name] = listed.problems
            self._products[name] = product
        return self._products[name]

    async def task(self, product_name: str, task_id: str) -> InferTaskConfig:
        """A task.

        Raises:
            ConfigError: product or task are not known.
        """
        product = await self.product(product_name)
        tasks = self._listed[product.name]
        if task_id not in tasks:
            raise ConfigError(
                self._broken[product.name].get(task_id)
                or f"product {product.name!r} has no task {task_id!r}"
                f" (it has: {', '.join(sorted(tasks)) or 'none'})"
            )
        return tasks[task_id]

    async def is_gone(self, product_name: str, task_id: str) -> bool:
        """Whether the product's list of tasks has no such task, broken ones included.

        Raises:
            ConfigError: the product cannot be found, or its tasks cannot be listed.
        """
        name = (await self.product(product_name)).name
        return task_id not in self._listed[name] and task_id not in self._broken[name]

    async def pipeline(self, product_name: str, task_id: str) -> InferPipeline[Any, Any]:
        """The product's code, made for a task.

        Raises:
            ConfigError: product or task are not known.
        """
        task = await self.task(product_name, task_id)
        return (await self.product(product_name)).make_pipeline(task)

    async def problems(self, product_name: str | None, task_id: str | None) -> dict[str, str]:
        """What is wrong with products and tasks, by name; with that task alone where one is given.

        Raises:
            ConfigError: a product that is named is not known.
        """
        found = {}
        names = [product_name] if product_name is not None else []
        if product_name is None:
            products, broken = load_products(self._modules)
            found = dict(broken)
            names = sorted(products)
        for name in names:
            try:
                product = await self.product(name, given=product_name is not None)
            except ConfigError as error:
                if product_name is not None:
                    raise
                found[name] = str(error)
                continue
            for id, problem in self._broken[product.name].items():
                if task_id in (None, id):
                    found[f"{product.name}/{id}"] = problem
        return found

    async def names(self, product_name: str | None) -> list[str]:
        """The names of all products that can be found, or of that one.

        Raises:
            ConfigError: a product that is named is not known.
        """
        if product_name is None:
            return sorted(load_products(self._modules)[0])
        return [(await self.product(product_name, given=True)).name]

    async def find(
        self, product_name: str | None, task_id: str | None
    ) -> list[tuple[Product, InferTaskConfig]]:
        """All tasks of that product and id, or of any. Products that are broken are left out.

        Raises:
            ConfigError: a product or task that is named is not known.
        """
        names = [product_name] if product_name is not None else await self.names(None)
        found = []
        for name in names:
            try:
                product = await self.product(name, given=product_name is not None)
            except ConfigError:
                if product_name is not None:
                    raise
                continue
            tasks = self._listed[product.name]
            found += [(product, t) for id, t in tasks.items() if task_id in (None, id)]
        if task_id is not None and not found:
            raise ConfigError(
                f"no product has a task {task_id!r}"
                if product_name is None
                else f"product {product_name!r} has no task {task_id!r}"
            )
        return found


async def known_scopes(store: Store, product: str | None, task: str | None) -> list[Scope]:
    """The partitions that have state in the store."""
    return [
        scope
        for scope in await Schedule(store).partitions()
        if product in (None, scope.product) and task in (None, scope.task)
    ]
