"""Registrations: the name is the config's, what is declared is typed, and the earlier form is answered with the new."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from rlrun import registry
from rlrun.registry import Needs, register


@dataclass
class IdleConfig:
    """Does nothing."""

    name: str = "idle"
    batch_size: int = 1


class Base:
    smoke = {"batch_size": 32, "learning_starts": 64}  # noqa: RUF012


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is forgotten afterwards."""
    monkeypatch.setattr(registry, "_ENTRIES", {kind: dict(known) for kind, known in registry._ENTRIES.items()})
    yield


def test_the_name_is_the_config_s() -> None:
    @register("algo", IdleConfig, needs=Needs(action={"box"}), network="mlp", weights=("q",))
    class Idle(Base):
        """Does nothing at all."""

    entry = registry.get("algo", "idle")
    assert (entry.factory, entry.config, entry.network, entry.weights) == (Idle, IdleConfig, "mlp", ("q",))
    assert entry.needs == Needs(action={"box"}, obs={"discrete", "box"}, memory=None, model=False, one_step=False)
    assert entry.summary == "Does nothing at all."
    assert not entry.ours and "idle" in registry.foreign("algo")


def test_what_a_smoke_run_shrinks_begins_with_the_base() -> None:
    register("algo", IdleConfig, smoke={"batch_size": 8})(Base)
    assert registry.get("algo", "idle").smoke == {"batch_size": 8, "learning_starts": 64}


def test_a_kind_without_options_has_a_name_of_its_own() -> None:
    register("callback", name="early")(Base)
    assert registry.get("callback", "early").config is None


def test_a_name_is_taken_once() -> None:
    register("algo", IdleConfig)(Base)
    register("algo", IdleConfig)(Base)  # the module was loaded again
    with pytest.raises(ValueError, match=r"algo 'idle' is already registered by .*\.Base"):
        register("algo", IdleConfig)(type("Other", (), {}))


@pytest.mark.parametrize(
    ("args", "declared", "answer"),
    [
        (
            ("algo", "x"),
            {"config": IdleConfig, "action": {"discrete"}, "obs": {"box"}, "memory": None},
            'register("algo", "x", config=…) is written '
            "register(\"algo\", IdleConfig, needs=Needs(action={'discrete'}, obs={'box'})): the name is the config's",
        ),
        (
            ("network", "x"),
            {"config": IdleConfig},
            'register("network", "x", config=…) is written register("network", IdleConfig): the name is the config\'s',
        ),
        (("callback", "early"), {}, 'register("callback", "early") is written register("callback", name="early")'),
        (("algo", IdleConfig), {"wieghts": ("q",)}, "register has no 'wieghts': did you mean 'weights'?"),
        (("algo", IdleConfig), {"memory": "replay"}, "register has no 'memory': write needs=Needs(memory=…)"),
        (("algo", object), {}, 'register("algo", …): its config has no field `name` with the name as its default'),
        (("callback",), {}, 'register("callback", …): its config has no field `name` with the name as its default'),
    ],
)
def test_a_registration_in_another_form_is_answered_with_ours(
    args: tuple[Any, ...], declared: dict[str, Any], answer: str
) -> None:
    with pytest.raises(TypeError) as refused:
        register(*args, **declared)
    assert str(refused.value) == answer


def test_a_mistyped_need_is_an_error() -> None:
    with pytest.raises(TypeError, match="memmory"):
        Needs(memmory="replay")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"no space of kind 'discret'; did you mean 'discrete'\?"):
        Needs(action={"discret"})
