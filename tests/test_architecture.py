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

# A module imports from its own level or from one above it in this list, never from below.
LEVELS: list[set[str]] = [
    {
        "types",
        "registry",
        "errors",
        "checks",
        "seeding",
        "interrupt",
        "custom",
        "footprint",
        "lazy",
        "talk",
        "text",
        "files",
        "plainyaml",
        "processes",
        "tether",
    },
    {"ops", "schedules", "noise", "selectors", "inference", "agents", "device", "optim"},
    {"networks", "buffers", "envs"},
    {"experience", "algos", "loggers"},
    {
        "evaluation",
        "checkpoint",
        "callbacks",
        "report",
        "claim",
        "rundir",
        "runs",
        "trust",
        "jobs",
        "board",
        "pool",
        "lease",
    },
    {"runner"},
    {"record"},
    {
        "config",
        "words",
        "cautions",
        "tuned",
        "memory",
        "choices",
        "explain",
        "compose",
        "hints",
        "plugins",
        "settings",
        "unresolved",
        "configfile",
        "build",
        "sources",
        "launcher",
    },
    {"warmstart"},
    {"launch", "trial", "review", "inspection", "listing", "sweep", "preflight", "help", "completion", "verbs", "menu"},
    {"cli"},
    {"__main__", "worker"},
]
LEVEL_OF = {part: level for level, parts in enumerate(LEVELS) for part in parts}

# Only these may know Hydra; everything else works in a notebook without it.
HYDRA_SIDE = {
    "config",
    "settings",
    "unresolved",
    "configfile",
    "words",
    "tuned",
    "choices",
    "sources",
    "explain",
    "compose",
    "plugins",
    "help",
    "launcher",
    "preflight",
    "sweep",
    "cli",
}


class Import(NamedTuple):
    module: str  # dotted
    line: int


def part(module: str) -> str:
    """`rlrun.buffers.replay` -> `buffers`; the package itself has no part."""
    return f"{module}.".split(".")[1]


def imports(tree: ast.AST) -> Iterator[Import]:
    """Every module a source imports at run time, wherever the statement stands; not those for type checkers only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if base == "rlrun":  # `from rlrun import registry` names a module
                yield from (Import(f"rlrun.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield Import(base, node.lineno)
        yield from imports(node)


def layer_breaks(module: str, tree: ast.AST) -> list[str]:
    """The imports of `module` that reach down the list of levels."""
    own = LEVEL_OF.get(part(module), len(LEVELS))
    return [
        f"{module}:{line} imports {name}"
        for name, line in imports(tree)
        if name.startswith("rlrun.") and part(name) in LEVEL_OF and LEVEL_OF[part(name)] > own
    ]


def sources() -> dict[str, ast.Module]:
    """Dotted name -> parsed source of every module in the package."""
    trees = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        trees[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text())
    return trees


SOURCES = sources()


def test_every_module_has_a_level() -> None:
    homeless = {name for name in SOURCES if name != "rlrun" and part(name) not in LEVEL_OF}
    assert not homeless, "give it a place in LEVELS"


def test_imports_point_one_way() -> None:
    assert [broken for name, tree in SOURCES.items() if name != "rlrun" for broken in layer_breaks(name, tree)] == []


def test_the_layer_check_sees_a_breach() -> None:
    tree = ast.parse("def late():\n    from rlrun.runner import train\n")
    assert layer_breaks("rlrun.algos.dqn", tree) == ["rlrun.algos.dqn:2 imports rlrun.runner"]
    assert layer_breaks("rlrun.cli", tree) == []
    assert layer_breaks("rlrun.algos.dqn", ast.parse("if TYPE_CHECKING:\n    import rlrun.runner")) == []


@pytest.mark.parametrize("name", [name for name in SOURCES if part(name) == "algos"])
def test_algorithms_know_no_environment_source_or_logger(name: str) -> None:
    """`algos/__init__` only gathers the modules, so it is held to the same rule."""
    forbidden = {"envs", "experience", "loggers", "callbacks"}
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
        part(name)
        for name, tree in SOURCES.items()
        if any(imported.split(".")[0] in {"hydra", "omegaconf"} for imported, _ in imports(tree))
    }
    assert users <= HYDRA_SIDE


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
    from rlrun import config, plugins, registry

    plugins.load_installed()
    waiting: list[Any] = [config.RunConfig]
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
    from rlrun.help import field_comments

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
