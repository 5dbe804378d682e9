"""Whether a run directory may make rlrun do things: this user's own may, a foreign one only if the user says so.

What rlrun writes into a run's config it signs with a secret key of this user on this machine, so a run stays known
when it is moved or copied, and nobody else can make one that is. A foreign config is plain data, bounded in size and
depth. It just works if all it names is part of rlrun and of what is installed; one that would import a module, fetch
something or look into the environment is refused, and `--trust` obeys it once.

Where there is no home there is no key: then every run is foreign.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rlrun import files
from rlrun.errors import ConfigError, RlrunError, printable
from rlrun.rundir import older, plainyaml
from rlrun.rundir.layout import RunDir

SIGNATURE = ".signature"  # in a run directory: a line for each config.yaml that is this user's
KEY_BYTES = 32
LIMIT = 2**18  # bytes of a foreign config
SHOWN = 3  # demands that an error lists
LONGEST = 60  # characters of each

_ENV_ID = re.compile(r"([^:]+):.+-v\d+")  # module:Name-v0, which Gymnasium imports the module for
_OWN_CODE = re.compile(r"(callbacks|env\.wrappers)(\.\d+)?|network\.torso")  # dotted paths


class NotTrusted(RlrunError):
    """A foreign run whose config asks for what only the user can allow."""


def signature(config: str) -> dict[str, str]:
    """The file that makes a run with this `config.yaml` known, as text by name; nothing where there is no key."""
    key = _key()
    return {SIGNATURE: _sign(key, config.encode()) + "\n"} if key else {}


def read_config(run_dir: RunDir, trust: bool = False) -> dict[str, Any]:
    """The config of a run as plain data.

    Args:
        trust: obey a foreign one, too.

    Raises:
        ConfigError: it is damaged, or not the plain data that a config is.
        NotTrusted: it is foreign, and names what it would import, fetch or look at.
    """
    text = files.read(run_dir.config, root=run_dir.path)
    known = is_signed(run_dir.path, text)
    if not known and len(text) > LIMIT:
        raise ConfigError(
            str(run_dir.config), f"has {len(text):,} bytes; a config from elsewhere has {LIMIT:,} at most"
        )
    try:
        data = plainyaml.load(text.decode())
    except ValueError as error:
        raise ConfigError(str(run_dir.config), f"cannot be read: {printable(str(error))}") from error
    if not isinstance(data, dict):
        raise ConfigError(str(run_dir.config), "cannot be read: it is no mapping")
    if not (known or trust) and (asked := list(dict.fromkeys(demands(data)))):
        more = [f"… and {len(asked) - SHOWN} more"] if len(asked) > SHOWN else []
        raise NotTrusted(
            f"{run_dir.path} was not made by you on this machine, or its config.yaml was changed; it would\n"
            + "\n".join([*asked[:SHOWN], *more])
            + "\n--trust lets it, this once; do so only if you know its code"
        )
    return older.config(data)


def change_config(run_dir: RunDir, config: str) -> None:
    """Replace a run's `config.yaml`; a known run stays known, even if this is cut off half-way."""
    before = files.read(run_dir.config, root=run_dir.path)
    signed = signature(config).get(SIGNATURE, "") if is_signed(run_dir.path, before) else ""
    if signed:
        path = run_dir.path / SIGNATURE
        files.replace(path, files.read(path).decode() + signed)
    run_dir.write_text(run_dir.config, config)
    if signed:
        files.replace(path, signed)


def demands(data: Mapping[str, Any]) -> Iterator[str]:
    """What a config asks for beyond rlrun itself, a line each: modules, addresses, interpolations."""
    modules = data.get("imports") or []
    for module in modules if isinstance(modules, list) else [modules]:
        yield f"import {_short(module)}"
    for key, value in _leaves(data):
        text = str(value)
        if key.rpartition(".")[2] == "_target_" or (_OWN_CODE.fullmatch(key) and "." in text):
            yield f"import {_short(text)} ({_short(key)})"
        elif "://" in text:
            yield f"fetch {_short(text)} ({_short(key)})"
        elif key == "init_from" and value is not None:
            yield f"read {_short(text)} ({key})"
        elif "${" in text:
            yield f"look up {_short(text)} ({_short(key)})"
        elif _ENV_ID.fullmatch(text) or (key == "env.id" and ":" in text):
            yield f"import {_short(text.partition(':')[0])} ({_short(key)})"


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of all that is not a mapping or a list."""
    entries = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else None
    if entries is None:
        yield prefix, node
        return
    for name, value in entries:
        if isinstance(node, Mapping) and isinstance(name, str) and "${" in name:
            yield prefix, name
        yield from _leaves(value, f"{prefix}.{name}" if prefix else str(name))


def _short(value: Any) -> str:
    text = printable(str(value))[: LONGEST + 1]
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def is_signed(folder: Path, config: bytes) -> bool:
    """Whether a directory's signature says that this config is the user's own."""
    key = _key()
    if key is None:
        return False
    with suppress(OSError, ValueError):
        lines = files.read(folder / SIGNATURE, limit=2**12).split()
        return any(hmac.compare_digest(line, _sign(key, config).encode()) for line in lines)
    return False


def _sign(key: bytes, config: bytes) -> str:
    return hmac.new(key, config, hashlib.sha256).hexdigest()


def _key() -> bytes | None:
    """The user's secret, made when it is first needed; None if there is no place for it."""
    folder = _folder()
    if folder is None:
        return None
    path = folder / "key"
    with suppress(OSError, RlrunError):
        if not path.exists():
            folder.mkdir(parents=True, mode=0o700, exist_ok=True)
            temporary = folder / f".key.{os.getpid()}-{files.letters()}"
            with open(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
            with suppress(FileExistsError):  # another process was faster
                files.move_new(temporary, path)
            temporary.unlink(missing_ok=True)
        if path.stat().st_uid == os.geteuid():  # under sudo, HOME may be somebody else's
            key = files.read(path, limit=KEY_BYTES)
            return key if len(key) == KEY_BYTES else None
    return None


def _folder() -> Path | None:
    """Where programs keep what they remember of a user (XDG); None where there is no home."""
    state, home = os.environ.get("XDG_STATE_HOME", ""), os.environ.get("HOME", os.path.expanduser("~"))
    if os.path.isabs(state):
        return Path(state) / "rlrun"
    return Path(home) / ".local" / "state" / "rlrun" if os.path.isabs(home) else None
