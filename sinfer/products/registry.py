"""Finding products: in ``sinfer.products``, under entry points, and in modules named by hand."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import pkgutil
import sys
from collections.abc import Iterable, Mapping
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from operator import attrgetter
from pathlib import Path

import sinfer.products
from sinfer.errors import ConfigError, HookError, ProductNotFoundError
from sinfer.extras import missing_extra
from sinfer.hooks.call import Hook
from sinfer.products.product import Product

ENTRY_POINT_GROUP = "sinfer.products"

DEMONSTRATIONS = ("example", "soe")
"""Products that ship with sinfer to be tried and read; loaded only where they are named."""

_LONGEST_SHOWN = 200
"""Characters of a name that is not known."""

_log = logging.getLogger(__name__)


def product_in(reference: str) -> Product:
    """The product that a module holds, as ``product`` or under any one name.

    Args:
        reference: the module, or module and name as entry points have them:
            ``package.module:product``.

    Raises:
        ConfigError: the module cannot be imported, or does not hold such a product, or several.
    """
    module_name, _, attribute = reference.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:  # a script that ends by itself ends nobody else
        module = Hook("setup", module_name, importlib.import_module)(module_name)
    except HookError as error:
        raise ConfigError(
            f"product module {module_name!r} cannot be imported:"
            f" {missing_extra(error) or error.text}"
        ) from error
    try:
        named = attrgetter(attribute or "product")(module)
    except AttributeError:
        named = None
    if isinstance(named, Product):
        return named
    if attribute:
        raise ConfigError(
            f"product module {module_name!r} holds no product under the name {attribute!r}"
        )
    found = {id(value): value for value in vars(module).values() if isinstance(value, Product)}
    if not found and getattr(module, "__file__", None) is None:
        folder = next(iter(getattr(module, "__path__", ())), module_name)
        raise ConfigError(
            f"{module_name!r} is a folder ({folder}) and no package; if it is the project of the"
            " product, go into it (cd) or install it (pip install)"
        )
    if len(found) != 1:
        raise ConfigError(
            f"product module {module_name!r} ({getattr(module, '__file__', 'no file')}) holds"
            f" {len(found)} products; it should hold one, as in:"
            " product = Product('name', tasks=..., pipeline=...)"
        )
    return next(iter(found.values()))


def load_products(modules: Iterable[str] = ()) -> tuple[dict[str, Product], dict[str, str]]:
    """All products that can be found, and what is wrong with those that cannot be loaded.

    Demonstrations are not among them unless they are named.

    Args:
        modules: further modules to look into, as in ``SINFER_PRODUCTS``.

    Returns:
        Products by name, and problems by what names the module.
    """
    candidates = [
        _shipped(info.name)
        for info in pkgutil.iter_modules(sinfer.products.__path__)
        if info.ispkg and info.name not in DEMONSTRATIONS
    ]
    candidates += [point.value for point in entry_points(group=ENTRY_POINT_GROUP)]
    candidates += map(reference_of, modules)
    products: dict[str, Product] = {}
    problems: dict[str, str] = {}
    for reference in dict.fromkeys(candidates):
        try:
            product = product_in(reference)
        except ConfigError as error:
            problems[reference] = str(error)
            continue
        known = products.setdefault(product.name, product)
        if known is not product:
            problems[reference] = (
                f"product module {reference!r}: the name {product.name!r} is taken by another"
            )
    return products, problems


def find_product(name: str, modules: Iterable[str] = ()) -> Product:
    """The product of that name, or the one in the module of that name: for names that an operator
    gives. Names that come over the network are for ``loaded_product``.

    Raises:
        ProductNotFoundError: there is none; the message lists the known ones.
        ConfigError: it is there but broken.
    """
    try:
        return loaded_product(name, modules)
    except ConfigError:
        reference = reference_of(name)
        if _is_module(reference.partition(":")[0]):
            return product_in(reference)
        raise


def modules_with(name: str, modules: Iterable[str]) -> list[str]:
    """What ``SINFER_PRODUCTS`` has to be for other processes to find what ``find_product`` found.

    Args:
        name: as it was given to ``find_product``.
        modules: likewise.
    """
    modules = list(modules)
    return modules if name in load_products(modules)[0] else [*modules, name]


def reference_of(name: str) -> str:
    """What a name in ``SINFER_PRODUCTS`` or after ``--product`` stands for.

    It is the module of that name, or else a demonstration.
    """
    if name in DEMONSTRATIONS and not _is_module(name):
        return _shipped(name)
    return name


def _shipped(name: str) -> str:
    return f"{sinfer.products.__name__}.{name}"


def loaded_product(name: str, modules: Iterable[str] = ()) -> Product:
    """The product of that name among those that this process loads whatever is asked of it.

    Raises:
        ProductNotFoundError: there is none; the message lists the known ones.
        ConfigError: it is there but broken.
    """
    products, problems = load_products(modules)
    if name in products:
        return products[name]
    raise not_loaded(name, products, problems)


def not_loaded(name: str, products: Iterable[str], problems: Mapping[str, str]) -> ConfigError:
    """The error for a product that is not among those that ``load_products`` found."""
    for reference, text in problems.items():
        module, _, attribute = reference.partition(":")
        if name in (reference, module, module.rpartition(".")[2], attribute):
            return ConfigError(text)
    return ProductNotFoundError(
        f"product {name[:_LONGEST_SHOWN]!r} is not known"
        f" (known: {', '.join(sorted(products)) or 'none'}; to try: {', '.join(DEMONSTRATIONS)});"
        " name a module as in --product package.module, or set SINFER_PRODUCTS"
    )


def _is_module(name: str) -> bool:
    """Whether there is such a module, here or among what is installed. Nothing is imported."""
    first, *rest = name.split(".")
    try:
        spec = PathFinder.find_spec(first, [str(Path.cwd())]) or importlib.util.find_spec(first)
        for part in rest:
            if spec is None or spec.submodule_search_locations is None:
                return False
            name_so_far = f"{spec.name}.{part}"
            spec = PathFinder.find_spec(name_so_far, spec.submodule_search_locations)
    except (ImportError, ValueError):
        return False
    return spec is not None
