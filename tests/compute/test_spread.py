"""Updates of two ranks on halves of a batch against one process on the whole, and what ranks tell each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.ranks import as_ranks
from torch import Tensor, nn

from rlrun.compute import spread
from rlrun.compute.device import Device, DeviceConfig
from rlrun.compute.device import _own as own_device
from rlrun.compute.rules import SGD, Adam, Rule
from rlrun.compute.spread import Alone, Group, SpreadUpdate
from rlrun.compute.update import Update
from rlrun.errors import ConfigError, Interrupted, RankFailed, RanksLost
from rlrun.networks.nets import Nets
from rlrun.ranks import Place

BATCH = 24


def nets(seed: int) -> Nets:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Nets(net=nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)))


def loss(nets: Nets, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    error = nets.net(batch["x"]) - batch["y"]
    return error.square().mean(), {"error": error.abs().mean()}


def stack(updates: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {key: torch.randn(updates, BATCH, size, generator=generator) for key, size in (("x", 3), ("y", 2))}


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("max_grad_norm", [None, 0.05])
@pytest.mark.parametrize("rule", [SGD(), Adam()])
def test_ranks_on_shares_of_a_batch_are_one_process_on_the_whole(rule: Rule, max_grad_norm: float | None) -> None:
    """Clipping bounds the mean gradient: ranks that clipped their own would take another step."""
    alone, data = nets(0), stack(5)
    update = Update(loss, alone, "net", rule, max_grad_norm=max_grad_norm)
    for _ in update.burst(data, learning_rate=0.05):
        pass

    begins = [nets(0), nets(1)]  # here: threads that seed torch disturb each other

    def rank(group: Group) -> Tensor:
        own, device = begins[group.rank], Device(DeviceConfig(accelerator="cpu"), group)
        share = {key: value.chunk(group.size, 1)[group.rank] for key, value in data.items()}
        for _ in device.update(loss, own, "net", rule, max_grad_norm=max_grad_norm).burst(share, learning_rate=0.05):
            pass
        return weights(own)

    first, second = as_ranks(rank)
    assert torch.equal(first, second)
    assert not torch.equal(first, weights(nets(0)))
    torch.testing.assert_close(first, weights(alone), rtol=1e-5, atol=1e-6)


def test_parameters_of_any_layout_take_the_mean_as_it_is_meant() -> None:
    """It is one row of numbers, and the weights of convolutions have their channels last."""

    def pictures(seed: int) -> Nets:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            conv = nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last)
            return Nets(net=nn.Sequential(conv, nn.Flatten(), nn.Linear(16, 2)))

    data = {"x": torch.randn(BATCH, 3, 3, 3), "y": torch.randn(BATCH, 2)}
    alone = pictures(0)
    Update(loss, alone, "net", Adam())(data, learning_rate=0.01)
    begins = [pictures(0), pictures(1)]

    def rank(group: Group) -> Tensor:
        own = begins[group.rank]
        share = {key: value.chunk(2)[group.rank] for key, value in data.items()}
        SpreadUpdate(loss, own, "net", Adam(), group=group)(share, learning_rate=0.01)
        return weights(own)

    for found in as_ranks(rank):
        torch.testing.assert_close(found, weights(alone), rtol=1e-5, atol=1e-6)


def test_a_single_rank_makes_plain_updates() -> None:
    assert type(Device(DeviceConfig(accelerator="cpu", compile="false")).update(loss, nets(0), "net", SGD())) is Update


def test_what_ranks_tell_each_other() -> None:
    def rank(group: Group) -> Any:
        rows = np.arange(2.0 * group.rank).reshape(-1, 2)
        return (
            [a.tolist() for a in group.every(rows, [0, 1])],
            [a.tolist() for a in group.every(rows[:0], [0, 0])],
            group.same({"a": "ö"} if group.leads else None),
            list(group.share(6)),
            group.mean(torch.tensor([4.0 * group.rank])).item(),
        )

    told = ([[], [[0.0, 1.0]]], [[], []], {"a": "ö"})
    assert as_ranks(rank) == [(*told, [0, 1, 2], 2.0), (*told, [3, 4, 5], 2.0)]


def fails(group: Group, error: BaseException, where: int = 1) -> BaseException | None:
    """What a rank ends with, of which one fails while the other waits for it."""
    try:
        with group.together():
            if group.rank == where:
                raise error
            group.meet()
    except BaseException as found:
        return found
    return None


def test_a_rank_that_fails_is_told_of() -> None:
    waiting, failed = as_ranks(lambda group: fails(group, ZeroDivisionError("of ours")))
    assert isinstance(failed, ZeroDivisionError)
    assert isinstance(waiting, RankFailed)
    assert (str(waiting), waiting.exit_code, waiting.state) == ("rank 1: ZeroDivisionError: of ours", 1, "failed")


def test_a_rank_that_is_gone_without_a_word_is_told_of() -> None:
    def rank(group: Group) -> BaseException | None:
        return None if group.rank == 1 else fails(group, KeyError())

    assert isinstance(as_ranks(rank)[0], RanksLost)


def test_nobody_does_anything_before_all_are_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[int] = []
    monkeypatch.setattr(spread, "end_with_torchrun", lambda: None)
    monkeypatch.setattr(torch.distributed, "rendezvous", lambda *words: iter([(torch.distributed.HashStore(), 0, 1)]))
    monkeypatch.setattr(Group, "meet", lambda group: met.append(group.size))
    with spread.joined(Place(0, 1, 0, 1)):
        assert met == [1]


def test_ranks_that_are_stopped_together_are_not_each_others_failure() -> None:
    def rank(group: Group) -> None:
        with group.together():
            raise Interrupted(15)

    def stopped(group: Group) -> BaseException | None:
        try:
            rank(group)
        except Interrupted as error:
            return error
        return None

    assert [type(error) for error in as_ranks(stopped)] == [Interrupted, Interrupted]


def test_alone_nothing_is_told() -> None:
    alone, x = Alone(), torch.ones(2)
    alone.copy([x])
    alone.meet()
    assert alone.mean(x) is x and alone.same("a") == "a" and list(alone.share(3)) == [0, 1, 2]
    assert alone.leads and alone.each(np.ones(1)) == [np.ones(1)] and alone.every(np.ones(1), [1]) == [np.ones(1)]


@pytest.mark.parametrize(
    ("accelerator", "gpus", "says"),
    [("cuda:0", 8, "'cuda:0' is one GPU"), ("cuda", 1, "there are 2 ranks"), ("auto", 1, "there are 2 ranks")],
)
def test_each_rank_takes_a_gpu_of_its_own(
    accelerator: str, gpus: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    group = Group(None, None, Place(3, 4, 1, 2))
    with pytest.raises(ConfigError, match=says):
        own_device(accelerator, group)
    gpus = 2
    assert own_device("auto", group) == torch.device("cuda", 1) and chosen == [1]
    gpus = 0
    assert own_device("auto", group) == torch.device("cpu")
