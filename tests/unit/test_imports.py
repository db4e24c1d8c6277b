"""Imports: no circle in either package, and no library is loaded before it is used."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import subprocess
import sys
import tomllib
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "taskfleet": ROOT / "worker/taskfleet",
    "taskfleet_operator": ROOT / "operator/taskfleet_operator",
    "taskfleet_dashboard": ROOT / "dashboard/taskfleet_dashboard",
}

# By module, the modules that it imports and the line of the first import of each.
Imports = Mapping[str, Mapping[str, int]]


def modules_of(name: str, folder: Path) -> dict[str, str]:
    """The source of every module of a package, by name; that of a package ends with `.__init__`."""
    return {
        ".".join([name, *path.relative_to(folder).with_suffix("").parts]): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*.py"))
    }


def imports_of(sources: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Every import of another of these modules, wherever it stands: at the top, in a function, under TYPE_CHECKING."""
    names = {file.removesuffix(".__init__") for file in sources}
    found: dict[str, dict[str, int]] = {}
    for file, source in sources.items():
        module = file.removesuffix(".__init__")
        imported = found[module] = {}
        for line, name in _imported_names(ast.parse(source), package=file.rpartition(".")[0]):
            while name and name not in names:  # a name in a module, or another package
                name = name.rpartition(".")[0]
            if name and name != module:
                imported.setdefault(name, line)
    return found


def _imported_names(tree: ast.Module, package: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def shortest_circle(imports: Imports) -> list[str]:
    """The modules of a circle, first and last the same; empty when there is none."""
    circles = [circle for module in imports if (circle := _way_back(module, imports))]
    return min(circles, key=len, default=[])


def _way_back(start: str, imports: Imports) -> list[str]:
    before: dict[str, str] = {}
    waiting = deque([start])
    while waiting:
        module = waiting.popleft()
        for imported in imports[module]:
            if imported == start:
                way = [start, module]
                while way[-1] != start:
                    way.append(before[way[-1]])
                return way[::-1]
            if imported not in before:
                before[imported] = module
                waiting.append(imported)
    return []


def described(circle: list[str], imports: Imports) -> str:
    """One line for each import of a circle."""
    pairs = itertools.pairwise(circle)
    return "\n".join(f"{module}, line {imports[module][imported]}, imports {imported}" for module, imported in pairs)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_circle(package: str) -> None:
    imports = imports_of(modules_of(package, PACKAGES[package]))
    circle = shortest_circle(imports)
    assert not circle, f"the shortest import circle of {package}:\n{described(circle, imports)}"


@pytest.mark.parametrize(
    "back",
    [
        "from shop.orders import Order",
        "import shop.orders",
        "def late():\n    from shop import orders",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from shop.orders import Order",
        "from . import orders",
        "from .orders import Order",
    ],
)
def test_a_circle_is_found_wherever_the_import_stands(back: str) -> None:
    sources = {
        "shop.__init__": "from shop.orders import Order",
        "shop.orders": "from shop import prices\nfrom shop.stock import Stock",
        "shop.prices": "from shop.stock import Stock",
        "shop.stock": back,
    }
    imports = imports_of(sources)
    circle = shortest_circle(imports)
    assert circle == ["shop.orders", "shop.stock", "shop.orders"]
    assert described(circle, imports).startswith("shop.orders, line 2, imports shop.stock\nshop.stock, line ")


def test_modules_in_layers_have_no_circle() -> None:
    sources = {
        "shop.__init__": "from shop.orders import Order",
        "shop.orders": "import shop.stock",
        "shop.stock": "import json",
    }
    assert shortest_circle(imports_of(sources)) == []


def test_the_layers_hold_for_imports_of_types_too() -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    assert not configuration.get("exclude_type_checking_imports", False)
    assert configuration["root_packages"] == list(PACKAGES)
    assert not any("ignore_imports" in contract for contract in configuration["contracts"])


@pytest.mark.parametrize(
    ("program", "unused"),
    [
        ("import taskfleet", "redis prometheus_client typer yaml cronsim uvloop kopf kubernetes"),
        (
            "import taskfleet; taskfleet.TaskQueue('memory://')",
            "redis prometheus_client typer yaml cronsim uvloop typing_extensions ctypes",
        ),
        ("import taskfleet; taskfleet.TaskQueue('redis://a')", "prometheus_client typer yaml cronsim uvloop"),
        ("import taskfleet.process.worker_process", "prometheus_client typer yaml cronsim kopf"),
    ],
)
def test_a_library_is_loaded_when_it_is_used(program: str, unused: str) -> None:
    code = f"{program}\nimport sys\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(unused.split()) & set(loaded)


def test_no_source_of_a_script_stays_in_memory() -> None:
    """The sources of all of them take as much as a library."""
    code = (
        "import gc\n"
        "from taskfleet.redis import scripts\n"
        "from taskfleet.runtime import worker\n"
        "held = [each for each in gc.get_objects() if isinstance(each, (dict, list, tuple))]\n"
        "texts = [v for each in held for v in (each.values() if isinstance(each, dict) else each)]\n"
        "print(sum(isinstance(text, str) and text.count('redis.call') > 3 for text in texts))\n"
        "print(scripts.STEP.source.count('redis.call') > 3)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert done == ["0", "True"]
