"""What `--help` prints. The help of an option is the comment behind its field."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from rlrun import text
from rlrun.checks import Bound, bounds, one_of, types_of
from rlrun.commands.table import TRAIN, VERBS, found
from rlrun.config import compose, dialects, plugins, validate, values
from rlrun.config import folders as choices
from rlrun.config.comments import field_comments
from rlrun.config.folders import GROUPS
from rlrun.config.schema import KINDS, RunConfig, SweepConfig
from rlrun.config.values import from_yaml, literal, to_yaml
from rlrun.errors import ConfigError
from rlrun.registry import did_you_mean


def show_help(usage: str, words: Sequence[str]) -> int:
    """Usage, the choices, and every key of the run that the words describe."""
    composed = compose.compose(words)
    print(usage)
    print("\nChoices: group=choice; `rlrun list GROUP` and `rlrun list GROUP CHOICE` say more\n")
    print("\n".join(f"  {group:<10}  {compact(group)}" for group in GROUPS))
    print("\nOptions: key=value, as they are in", shlex.join(["rlrun", *words]))
    for title, keys in options(composed.data, composed.hydra.runtime.choices):
        print("\n".join(["", title, *([text.table(keys)] if keys else [])]))
    return 0


def compact(group: str, indent: int = 14) -> str:
    """The names of a group's choices, algorithms by family; of those of a folder, what they share stands once."""
    if group == "algo":
        lines = ([f"{family}:", *names] for family, names in choices.families().items())
        return ("\n" + " " * indent).join(text.words(line, indent + 2) for line in lines)
    if group == "tuned":
        found = "found by itself for an algo and an env that have a pair: `rlrun list tuned`; '~tuned' leaves it out"
        return text.words([found], indent)
    inside: dict[str, list[str]] = {}
    for name in choices.options(group):
        folder, _, leaf = name.rpartition("/")
        inside.setdefault(folder, []).append(leaf)
    names = [
        f"{folder}/{{{', '.join(leaves)}}}" if folder and len(leaves) > 1 else "/".join(filter(None, (folder, leaf)))
        for folder, leaves in inside.items()
        for leaf in (leaves[:1] if folder and len(leaves) > 1 else leaves)
    ]
    return text.words(names, indent)


def show_config(flags: Sequence[str], words: Sequence[str]) -> int:
    """The composed config as YAML, for `--cfg job|hydra|all [--package NODE] [--resolve]`.

    Raises:
        ConfigError: a part or a node that does not exist, or a value that its key refuses.
    """
    given = dict(itertools.pairwise([*flags, ""]))
    which, node = given["--cfg"], given.get("--package", "")
    one_of("--cfg", which, ("job", "hydra", "all"))
    composed = compose.compose(words)
    validate.parsed(composed.data)
    shown: Any = {}
    if which in ("job", "all"):
        shown |= composed.data if "--resolve" in flags else from_yaml(composed.written)
    if which in ("hydra", "all"):
        shown["hydra"] = values.plain(composed.hydra, resolve="--resolve" in flags)
    for part in filter(None, node.split(".")):
        if not isinstance(shown, Mapping) or part not in shown:
            raise ConfigError("--package", f"there is no {node}", did_you_mean(part, map(str, shown)))
        shown = shown[part]
    print(to_yaml(shown) if isinstance(shown, (Mapping, list)) else f"{literal(shown)}\n", end="")
    return 0


def unknown_verb(word: str) -> ConfigError:
    """The error for a first word that is neither a verb nor an option."""
    problem = "is neither a verb nor an option=value"
    if word == "train":
        return ConfigError(word, problem, "leave it out: rlrun algo=dqn env=cartpole")
    if word == "help":
        return ConfigError(word, problem, "write rlrun --help, rlrun VERB --help, or rlrun list GROUP CHOICE")
    for group in GROUPS:
        if word in choices.options(group):
            return ConfigError(word, problem, f"did you mean {'+' if group == 'smoke' else ''}{group}={word}?")
    return ConfigError(word, problem, did_you_mean(word, VERBS))


def unknown_flag(flag: str, following: str, words: Sequence[str], flags: Iterable[str]) -> ConfigError:
    """The error for a flag that nobody knows: the option of this command that was meant.

    Args:
        flag: as it was typed, and the word that follows it.
        words: all words that are no flags, a verb first if there is one.
        flags: those that there are.
    """
    verb = next((word for word in words[:1] if word in VERBS), "")
    name = flag.strip("-").partition("=")[0]
    if name in VERBS and not verb:
        return ConfigError(flag, "is no flag", f"write rlrun {name}")
    otherwise = f"rlrun {verb} --help lists its options" if verb else "rlrun --help lists all options"
    return dialects.unknown_flag(
        flag, following, keys_of(verb, words), [*flags, *VERBS.get(verb, TRAIN).flags], otherwise
    )


def keys_of(verb: str, words: Sequence[str]) -> set[str]:
    """The keys that a command takes."""
    if verb and VERBS[verb].options:
        return set(asdict(found(VERBS[verb].options)()))
    if verb == "resume":
        return {key for key in _keys_of_run([]) if key.split(".")[0] in found("commands.resume.CHANGEABLE")}
    return set() if verb else _keys_of_run([word for word in words if "=" in word])


def _keys_of_run(words: Sequence[str]) -> set[str]:
    """The keys of the run that the words describe; of the default run if they describe none."""
    try:
        return values.keys(compose.compose(words).data)
    except ConfigError:
        return values.keys(compose.compose([]).data)


def options(data: Mapping[str, Any], choices: Mapping[str, str]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The keys of a composed config: per node its title and rows of `key=value` and help.

    Args:
        data: nested plain data with the keys of RunConfig.
        choices: group -> option.
    """
    top = field_comments(RunConfig)
    plain = {key: value for key, value in data.items() if key not in KINDS}
    yield "run", list(rows(RunConfig, plain, ""))
    yield f"sweep: {top['sweep']}", list(rows(SweepConfig, asdict(SweepConfig()), "sweep"))
    for kind in KINDS:
        node = data.get(kind)
        if node:
            schema = plugins.entry_of(kind, node).config
            fields = {key: value for key, value in node.items() if key not in ("name", "_target_")}
            yield f"{kind}={choices[kind]}: {top[kind]}", list(rows(schema, fields, kind))


def rows(
    schema: Any, values: Mapping[str, Any], prefix: str = "", around: Sequence[Bound] = ()
) -> Iterator[tuple[str, str]]:
    """`key=value` of the fields of a config dataclass, and their help: the comment and the bounds.

    Args:
        around: bounds of the field that holds the dataclass, if it is a schedule.
    """
    comments, types, found = field_comments(schema), types_of(schema), bounds(schema)
    for name, value in values.items():
        key = f"{prefix}.{name}" if prefix else name
        own = found.get(name, ())
        if is_dataclass(types.get(name)) and isinstance(value, Mapping):
            yield from rows(types[name], value, key, own)
        else:
            own = (*own, *around) if name in getattr(schema, "extremes", ()) else own
            yield f"{key}={literal(value)}", described(comments.get(name, ""), own)


def described(comment: str, own: Iterable[Bound]) -> str:
    """A comment and the bounds that it does not tell itself."""
    untold = "; ".join(str(bound) for bound in own if not all(word in comment for word in bound.words))
    return f"{comment} ({untold})" if untold else comment
