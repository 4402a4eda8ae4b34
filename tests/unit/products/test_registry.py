"""Products are found wherever they are installed, and a broken one disturbs no other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import sinfer.products
from sinfer import ConfigError
from sinfer.errors import ProductNotFoundError
from sinfer.products.registry import (
    DEMONSTRATIONS,
    find_product,
    load_products,
    loaded_product,
    modules_with,
)

PRODUCT = """
from sinfer import InferPipeline, Product, StaticTaskManager

class Pipeline(InferPipeline):
    def preprocess(self, message): ...
    def build_request(self, window): ...
    def build_results(self, window, response): ...

{name} = Product("{product}", tasks=StaticTaskManager([]), pipeline=Pipeline)
"""

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unique: str) -> Iterator[Write]:
    """Writes a module and returns its name, which no other test uses."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def write_one(text: str | None = None, *, product: str, name: str = "product") -> str:
        module = f"{unique}_{product.replace('-', '_')}"
        source = PRODUCT.format(name=name, product=product) if text is None else text
        (tmp_path / f"{module}.py").write_text(source)
        return module

    yield write_one
    for module in set(sys.modules) - before:
        del sys.modules[module]


def install(directory: Path, name: str, module: str) -> None:
    """Make a distribution's metadata, as pip does: it offers the module as a product."""
    info = directory / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[sinfer.products]\n{name} = {module}\n")


@pytest.mark.parametrize("name", DEMONSTRATIONS)
def test_a_demonstration_is_loaded_where_it_is_named_and_nowhere_else(name: str) -> None:
    assert load_products() == ({}, {})
    products, problems = load_products([name])
    assert (set(products), problems) == ({name}, {})
    assert find_product(name) is products[name]
    with pytest.raises(ProductNotFoundError):
        loaded_product(name)


def test_a_product_of_ones_own_may_be_called_like_a_demonstration(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(product="mine")
    (tmp_path / "example.py").write_text(PRODUCT.format(name="product", product="example"))
    assert load_products(["example"])[0]["example"].pipeline.__module__ == "example"


def test_other_processes_find_what_was_found_here(write: Write) -> None:
    module = write(product="by-hand")
    assert modules_with("example", []) == ["example"]
    assert modules_with("by-hand", [module]) == [module]
    assert modules_with(module, ["example"]) == ["example", module]


def test_a_subpackage_of_sinfer_products_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unique: str
) -> None:
    package = tmp_path / unique
    package.mkdir()
    (package / "__init__.py").write_text(PRODUCT.format(name="product", product="shipped"))
    monkeypatch.setattr(sinfer.products, "__path__", [*sinfer.products.__path__, str(tmp_path)])
    assert "shipped" in load_products()[0]


@pytest.mark.parametrize("suffix", ["", ":product"])
def test_an_installed_package_is_found_by_its_entry_point(
    write: Write, tmp_path: Path, suffix: str
) -> None:
    install(tmp_path, "a-product", write(product="installed") + suffix)
    assert find_product("installed").name == "installed"


def test_one_package_offers_several_products(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PRODUCT.format(name="one", product="one") + PRODUCT.format(name="two", product="two")
    module = write(text, product="both")
    install(tmp_path, "first", f"{module}:one")
    install(tmp_path, "second", f"{module}:two")
    install(tmp_path, "third", f"{module}:three")
    products, problems = load_products()
    assert {"one", "two"} <= products.keys()
    assert problems == {
        f"{module}:three": f"product module {module!r} holds no product under the name 'three'"
    }
    assert find_product(f"{module}:two").name == "two"
    assert find_product("one", [f"{module}:one"]).name == "one"


def test_what_is_wrong_with_an_installed_product_is_told_to_who_asks_for_it(
    write: Write, tmp_path: Path
) -> None:
    module = write("1 / 0", product="torn")
    install(tmp_path, "torn", f"{module}:heat")
    for name in (module, "heat"):
        with pytest.raises(ConfigError, match="ZeroDivisionError"):
            loaded_product(name)


def test_a_folder_that_is_no_package_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unique: str
) -> None:
    (tmp_path / unique / unique).mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=rf"is a folder \({tmp_path / unique}\) and no package"):
        find_product(unique)


def test_a_module_is_found_by_its_name(write: Write) -> None:
    module = write(product="by-hand")
    assert find_product(module).name == "by-hand"
    with pytest.raises(ProductNotFoundError):
        find_product("by-hand")
    assert find_product("by-hand", [module]).name == "by-hand"


def test_a_module_in_the_working_directory_is_found(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = write(product="here")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(tmp_path)])
    assert find_product(module).name == "here"


def test_the_product_may_have_any_name_in_its_module(write: Write) -> None:
    assert find_product(write(product="other", name="whatever")).name == "other"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("def :", "cannot be imported: SyntaxError"),
        ("import not_there_at_all", "No module named 'not_there_at_all'"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
        ("product = 5", "holds 0 products; it should hold one"),
        (
            PRODUCT.format(name="one", product="one") + PRODUCT.format(name="two", product="two"),
            "holds 2 products",
        ),
        (PRODUCT.format(name="product", product="no/name"), "use letters, digits"),
    ],
)
def test_a_broken_product_is_told_and_takes_no_other_down(
    write: Write, text: str, told: str
) -> None:
    good, broken = write(product="good"), write(text, product="broken")
    products, problems = load_products([broken, good])
    assert products.keys() == {"good"}
    assert list(problems) == [broken]
    assert told in problems[broken]
    assert broken in problems[broken]
    with pytest.raises(ConfigError, match=broken):
        find_product(broken)
    assert find_product("good", [broken, good]).name == "good"


def test_a_broken_product_is_looked_at_again(write: Write, tmp_path: Path) -> None:
    module = write("1 / 0", product="repaired")
    assert load_products([module])[1]
    path = tmp_path / f"{module}.py"
    path.write_text(PRODUCT.format(name="product", product="repaired") + "# longer than before\n")
    assert "repaired" in load_products([module])[0]


def test_a_name_that_is_taken_is_told(write: Write) -> None:
    module = write(product="twin")
    other = write(PRODUCT.format(name="product", product="twin"), product="twin-2")
    products, problems = load_products([module, other])
    assert products["twin"].pipeline.__module__ == module
    assert "'twin' is taken by another" in problems[other]


def test_an_unknown_product_is_answered_with_the_known_ones(write: Write) -> None:
    with pytest.raises(ProductNotFoundError, match=r"known: .*example.*SINFER_PRODUCTS"):
        find_product("nope")


def test_a_module_that_is_no_product_is_told_as_such() -> None:
    with pytest.raises(ConfigError, match=r"'json' \(.*json/__init__.py\) holds 0 products"):
        find_product("json")
    assert isinstance(sys.modules["json"], ModuleType)
