"""The election, with a clock and an API server of the test. With real ones: tests/controlplane/test_leadership.py"""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from taskfleet_operator.control.api.kubernetes_api import ApiError
from taskfleet_operator.control.leading import leadership
from taskfleet_operator.control.leading.leadership import Leadership
from taskfleet_operator.control.leading.lease import Lease


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Server:
    """One Lease, with the preconditions of an API server."""

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.version = 0
        self.down = False
        self.unheard = False  # the call takes effect, and its answer is lost

    async def read(self, seconds: float) -> Lease | None:
        if self.down:
            raise OSError("unreachable")
        return copy.deepcopy(self.lease)

    async def create(self, lease: Lease, seconds: float) -> Lease:
        if self.down:
            raise OSError("unreachable")
        if self.lease is not None:
            raise ApiError(409, "exists")
        lease["metadata"]["uid"] = f"uid-{self.version}"
        return self._put(lease)

    async def replace(self, lease: Lease, seconds: float) -> Lease:
        if self.down:
            raise OSError("unreachable")
        if self.lease is None:
            raise ApiError(404, "gone")
        if lease["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ApiError(409, "changed")
        return self._put(lease)

    def edit(self, **spec: Any) -> None:
        """A user's hand."""
        assert self.lease is not None
        self._put({**self.lease, "spec": {**self.lease["spec"], **spec}})

    def _put(self, lease: Lease) -> Lease:
        self.version += 1
        self.lease = copy.deepcopy(lease)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        if self.unheard:
            raise TimeoutError
        return copy.deepcopy(self.lease)

    @property
    def spec(self) -> dict[str, Any]:
        assert self.lease is not None
        spec: dict[str, Any] = self.lease["spec"]
        return spec


class Election:
    """Two operators. `play` lets seconds pass, and asserts at each tenth of one that at most one of them leads."""

    def __init__(self) -> None:
        self.clock, self.server = Clock(), Server()
        self.a, self.b = (Leadership(self.server, name, clock=self.clock) for name in ("a_1", "b_1"))
        self.deaf: set[Leadership] = set()  # stopped, or cut off

    async def play(self, seconds: float) -> None:
        for tenth in range(round(seconds * 10)):
            self.clock.now += 0.1
            assert not (self.a.is_leading() and self.b.is_leading())
            for one, every in ((self.a, 20), (self.b, 10)):
                if tenth % every == 0 and one not in self.deaf:
                    await one.turn()
                    assert not (self.a.is_leading() and self.b.is_leading())

    async def led_by_a(self) -> None:
        await self.a.turn()
        await self.play(6)
        assert self.a.is_leading()
        assert self.server.spec["holderIdentity"] == "a_1"


@pytest.fixture
async def election() -> Election:
    found = Election()
    await found.led_by_a()
    return found


async def test_a_silent_leader_stops_after_ten_seconds_and_is_followed_after_fifteen(election: Election) -> None:
    election.deaf.add(election.a)
    await election.play(8)
    assert election.a.is_leading()
    await election.play(3)
    assert not election.a.is_leading()
    assert not election.b.is_leading()
    await election.play(6)
    assert election.b.is_leading()
    assert election.server.spec["leaseTransitions"] == 1


async def test_a_leader_that_was_stopped_knows_that_it_does_not_lead_before_it_asks_anybody(election: Election) -> None:
    election.deaf.add(election.a)
    await election.play(30)
    assert election.b.is_leading()
    assert not election.a.is_leading()
    election.deaf.clear()
    await election.play(10)
    assert election.b.is_leading()


async def test_a_released_lease_is_followed_at_the_next_look(election: Election) -> None:
    await election.a.release()
    election.deaf.add(election.a)
    assert not election.a.is_leading()
    await election.play(1.1)
    assert election.b.is_leading()
    annotations = (election.server.lease or {})["metadata"].get("annotations")
    assert not annotations


async def test_who_has_released_never_leads_again(election: Election) -> None:
    await election.a.release()
    await election.a.turn()
    assert not election.a.is_leading()


@pytest.mark.parametrize(
    "edit",
    [
        {"holderIdentity": "b_1"},
        {"holderIdentity": "somebody"},
        {"holderIdentity": None},
        {"leaseDurationSeconds": 1},
        {"renewTime": "2001-01-01T00:00:00.000000Z", "leaseDurationSeconds": 1},
        {"leaseTransitions": 99},
        {"leaseDurationSeconds": 1_000_000},
    ],
    ids=str,
)
async def test_an_edited_lease_never_gives_two_leaders_and_heals(election: Election, edit: dict[str, Any]) -> None:
    election.server.edit(**edit)
    await election.play(75)
    assert election.a.is_leading() or election.b.is_leading()


async def test_a_deleted_lease_never_gives_two_leaders_and_heals(election: Election) -> None:
    for _ in range(10):
        election.server.lease = None
        await election.play(3.3)
    await election.play(20)
    assert election.a.is_leading() or election.b.is_leading()


async def test_a_lease_deleted_under_a_holder_that_a_newcomer_never_saw_gives_no_two_leaders(
    election: Election,
) -> None:
    election.b = Leadership(election.server, "c_1", clock=election.clock)
    election.server.lease = None
    await election.b.turn()
    assert election.server.spec["holderIdentity"] == "c_1"
    await election.play(20)
    assert election.b.is_leading()


async def test_a_network_that_is_down_for_both_ends_the_term_and_comes_back(election: Election) -> None:
    election.server.down = True
    await election.play(12)
    assert not election.a.is_leading()
    election.server.down = False
    await election.play(5)
    assert election.a.is_leading() or election.b.is_leading()


async def test_a_renewal_whose_answer_is_lost_is_no_renewal_and_no_loss(election: Election) -> None:
    election.server.unheard = True
    await election.play(4)
    election.server.unheard = False
    await election.play(8)
    assert election.a.is_leading()
    assert election.server.spec["leaseTransitions"] == 0


async def test_a_standby_s_clock_does_not_count_the_times_in_the_lease(election: Election) -> None:
    """An hour off: the holder's times are those of its own clock."""
    renew = election.server._put

    def late(lease: Lease) -> Lease:
        lease["spec"]["renewTime"] = f"2001-01-01T00:00:{election.server.version % 60:02}.000000Z"
        return renew(lease)

    election.server._put = late  # type: ignore[method-assign]
    await election.play(40)
    assert election.a.is_leading()


async def test_the_next_container_of_a_pod_follows_the_dead_one_at_once() -> None:
    server, clock = Server(), Clock()
    first = Leadership(server, "pod-1_aaa", pod="pod-1", clock=clock)
    await first.turn()
    clock.now += 2
    await first.turn()
    assert first.is_leading()
    second = Leadership(server, "pod-1_bbb", pod="pod-1", clock=clock)
    await second.turn()
    assert second.is_leading()
    other = Leadership(server, "pod-11_ccc", pod="pod-11", clock=clock)
    await other.turn()
    assert not other.is_leading()


async def test_a_first_lease_is_led_from_its_first_renewal_on() -> None:
    server, clock = Server(), Clock()
    only = Leadership(server, "a_1", clock=clock)
    await only.turn()
    assert not only.is_leading()
    clock.now += 2
    await only.turn()
    assert only.is_leading()
    assert only.seconds_left() == pytest.approx(15)
    clock.now += 9.9
    assert only.is_leading()
    clock.now += 0.1
    assert not only.is_leading()
    assert only.seconds_left() == pytest.approx(5)


async def test_labels_of_users_on_the_lease_stay_and_are_no_sign_of_life(election: Election) -> None:
    election.deaf.add(election.a)
    assert election.server.lease is not None
    election.server.lease["metadata"]["labels"] = {"team": "shop"}
    for _ in range(17):
        election.server.edit()
        await election.play(1)
    assert election.b.is_leading()
    assert election.server.lease["metadata"]["labels"] == {"team": "shop"}


async def test_a_term_that_does_not_end_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leadership, "_STOP_SECONDS", 0.01)
    server, clock = Server(), Clock()
    only = Leadership(server, "a_1", clock=clock)
    await only.turn()
    clock.now += 2

    async def stopped() -> None:
        await asyncio.Event().wait()

    def started() -> None:
        server.edit(holderIdentity="somebody")
        clock.now += 11

    with pytest.raises(leadership.StuckTermError):
        async with asyncio.timeout(30):
            await only.run(started, stopped)


async def test_without_an_election_this_process_leads_at_once() -> None:
    alone = Leadership(None, "a_1")
    began = asyncio.Event()

    async def stopped() -> None:
        raise AssertionError

    running = asyncio.create_task(alone.run(began.set, stopped))
    await asyncio.wait_for(began.wait(), 30)
    assert alone.is_leading()
    alone.close()
    assert not alone.is_leading()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
