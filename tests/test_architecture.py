"""The shape of the package: who may import whom, what no module may use, no option without help or without a reader."""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import pytest

import rlrun

PACKAGE = Path(rlrun.__file__).parent

# The floors of the house, the ground first. A room is a folder of the package, or a file at its top; it imports from
# itself and from lower floors, never from a neighbour on its own floor or from above.
GROUND = [
    *("types", "registry", "errors", "checks", "state", "blocks", "schedules", "seeding", "interrupt", "text", "talk"),
    *("custom", "footprint", "files", "lazy", "offspring", "ranks"),
]
FLOORS: list[set[str]] = [
    {"ops"},
    {"networks", "compute"},
    {"agents", "buffers", "envs", "loggers", "rundir"},
    {"experience", "algos", "report"},
    {"config"},
    {"run"},
    {"sweeps"},
    {"commands"},
    {"cli"},
    {"testing", "notebook"},
    {"__main__", "worker"},
]
FLOOR_OF = dict.fromkeys(GROUND, 0) | {room: floor for floor, rooms in enumerate(FLOORS, 1) for room in rooms}

# Only these, and `config`, may know Hydra; everything else works in a notebook without it.
HYDRA_SIDE = {"commands.sweep", "sweeps.preflight"}


class Import(NamedTuple):
    module: str  # dotted
    line: int


def part(module: str) -> str:
    """`rlrun.buffers.replay` -> `buffers`; the package itself has no part."""
    return f"{module}.".split(".")[1]


def is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def imports(tree: ast.AST, types: bool = False) -> Iterator[Import]:
    """Every module a source imports at run time, wherever the statement stands; with `types` for annotations, too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not types:
            continue
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            for name in (f"{base}.{alias.name}" for alias in node.names):
                yield Import(name if is_module(name) else base, node.lineno)
        yield from imports(node, types)


def layer_breaks(module: str, tree: ast.AST) -> list[str]:
    """The imports of `module` from its own floor or from above. In the ground files may know each other."""
    own = FLOOR_OF.get(part(module), len(FLOORS) + 1)
    return [
        f"{module}:{line} imports {name}"
        for name, line in imports(tree)
        if part(name) in FLOOR_OF and part(name) != part(module) and FLOOR_OF[part(name)] >= max(own, 1)
    ]


def arrows() -> dict[str, set[str]]:
    """Module -> modules that it imports, or gets from the registry by naming their kind."""
    from rlrun.config.plugins import MODULES

    found: dict[str, set[str]] = {}
    for module, tree in SOURCES.items():
        found[module] = {name for name, _ in imports(tree) if name in SOURCES}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "registry.get":
                kind = node.args[0].value if isinstance(node.args[0], ast.Constant) else ""
                found[module] |= {f"rlrun.{name}" for name in MODULES.get(kind, ())}
    return found


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """A way that comes back to where it began; [] if there is none."""
    done: set[str] = set()

    def walk(module: str, way: list[str]) -> list[str]:
        if module in way:
            return way[way.index(module) :]
        if module in done:
            return []
        for other in sorted(arrows.get(module, ())):
            if found := walk(other, [*way, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(arrows) if (found := walk(module, []))), [])


def sources() -> dict[str, ast.Module]:
    """Dotted name -> parsed source of every module in the package."""
    trees = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        trees[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text())
    return trees


SOURCES = sources()


def test_every_module_has_a_floor() -> None:
    homeless = {name for name in SOURCES if name != "rlrun" and part(name) not in FLOOR_OF}
    assert not homeless, "give its room a floor"


def test_imports_point_down() -> None:
    assert [broken for name, tree in SOURCES.items() if name != "rlrun" for broken in layer_breaks(name, tree)] == []


def test_no_circle() -> None:
    assert circle(arrows()) == []


def test_no_circle_of_annotations() -> None:
    """Nor do two files name each other's types. A package's `__init__` only hands names on."""
    named = {name: {module for module, _ in imports(tree, types=True)} for name, tree in SOURCES.items()}
    faces = {name for name in SOURCES if any(other.startswith(f"{name}.") for other in SOURCES)}
    assert circle({name: found - faces for name, found in named.items() if name not in faces}) == []


def test_the_checks_see_a_breach() -> None:
    tree = ast.parse("def late():\n    from rlrun.run.loop import train\n")
    assert layer_breaks("rlrun.algos.value.dqn", tree) == ["rlrun.algos.value.dqn:2 imports rlrun.run.loop"]
    assert layer_breaks("rlrun.cli", tree) == []
    assert layer_breaks("rlrun.algos.value.dqn", ast.parse("if TYPE_CHECKING:\n    import rlrun.run.loop")) == []
    assert layer_breaks("rlrun.buffers.replay", ast.parse("import rlrun.envs.make")) != []  # a neighbour
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


@pytest.mark.parametrize("name", [name for name in SOURCES if part(name) == "algos"])
def test_algorithms_know_no_environment_source_or_logger(name: str) -> None:
    """`algos/__init__` only gathers the modules, so it is held to the same rule."""
    forbidden = {"envs", "experience", "loggers", "rundir"}
    for imported, line in imports(SOURCES[name]):
        top = imported.split(".")[0]
        assert top not in {"gymnasium", "hydra", "omegaconf"}, f"{name}:{line}"
        assert not (top == "rlrun" and part(imported) in forbidden), f"{name}:{line} imports {imported}"


@pytest.mark.parametrize("name", [name for name in SOURCES if part(name) == "ops"])
def test_ops_are_plain_maths(name: str) -> None:
    allowed = {"torch", "numpy"} | set(sys.stdlib_module_names)
    for imported, line in imports(SOURCES[name]):
        known = imported.split(".")[0] in allowed or imported.startswith("rlrun.ops")
        assert known, f"{name}:{line} imports {imported}"


def test_hydra_stops_at_the_door() -> None:
    users = {
        name.removeprefix("rlrun.")
        for name, tree in SOURCES.items()
        if any(imported.split(".")[0] in {"hydra", "omegaconf"} for imported, _ in imports(tree))
    }
    assert {name for name in users if not name.startswith("config.")} <= HYDRA_SIDE


def test_importing_rlrun_does_not_import_torch() -> None:
    code = "import sys, rlrun; assert 'torch' not in sys.modules and 'hydra' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)


UNSAFE_MODULES = {"pickle", "_pickle", "dill", "shelve", "marshal"}
UNSAFE_CALLS = {"eval", "exec", "compile", "torch.load", "torch.save", "np.load", "numpy.load", "yaml.load"}


def unsafe(tree: ast.AST) -> list[str]:
    """What could run code hidden in data: unpickling and evaluating strings."""
    found = [f"import {name}" for name, _ in imports(tree) if name.split(".")[0] in UNSAFE_MODULES]
    calls = (ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))
    return found + [f"{call}()" for call in calls if call in UNSAFE_CALLS]


def test_data_is_never_executed() -> None:
    assert {name: found for name, tree in SOURCES.items() if (found := unsafe(tree))} == {}


def test_the_safety_check_sees_a_breach() -> None:
    assert unsafe(ast.parse("import pickle\nx = torch.load(f)\neval(s)\nmodel.eval()")) == [
        "import pickle",
        "torch.load()",
        "eval()",
    ]


def config_classes() -> dict[str, type]:
    """Every dataclass that types a part of the configuration, bases and nested ones included, by qualified name."""
    from rlrun import registry
    from rlrun.config import plugins
    from rlrun.config.schema import RunConfig

    plugins.load_installed()
    waiting: list[Any] = [RunConfig]
    waiting += [registry.get(kind, name).config for kind in registry.kinds() for name in registry.names(kind)]
    found: dict[str, type] = {}
    while waiting:
        cls = waiting.pop()
        if not dataclasses.is_dataclass(cls) or not cls.__module__.startswith("rlrun.") or cls in found.values():
            continue
        found[f"{cls.__module__}.{cls.__qualname__}"] = cls
        hints = get_type_hints(cls).values()
        waiting += [*cls.__bases__, *hints, *(part for hint in hints for part in get_args(hint))]
    return found


def test_every_option_has_help() -> None:
    from rlrun.config.comments import field_comments

    assert [
        f"{name}.{field.name}"
        for name, cls in config_classes().items()
        for field in dataclasses.fields(cls)
        if field.name != "name" and not field_comments(cls).get(field.name)
    ] == []


def attributes_read(skip: set[str]) -> set[str]:
    """Names read as an attribute anywhere in the package, outside the bodies of the classes in `skip`."""
    read: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.ClassDef) and node.name in skip:
            return
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            read.add(node.attr)
        for child in ast.iter_child_nodes(node):
            visit(child)

    for tree in SOURCES.values():
        visit(tree)
    return read


def test_every_option_is_read_somewhere() -> None:
    """A range check in `__post_init__` is not a use. `imports` is obeyed while the config is still plain data."""
    classes = config_classes()
    read = {"imports"} | attributes_read(skip={cls.__name__ for cls in classes.values()})
    assert [
        f"{name}.{field.name}"
        for name, cls in classes.items()
        for field in dataclasses.fields(cls)
        if field.name not in read
    ] == []
