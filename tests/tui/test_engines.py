"""The list of vLLM servers, with their engines, and what is told of the one under the cursor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from textual.pilot import Pilot

from monitor.client import engine_queries
from monitor.client.results import Answers
from monitor.tui.app import GpumonApp
from tests.client.engine_story import LENS
from tests.client.story import INSTANCE, SERVER, Story, snapshot
from tests.client.test_replicas import answers
from tests.tui.screen import settle, text_of
from tests.tui.test_travel import Past, run

OTHER = "h200-07:8001"
Press = Callable[..., Awaitable[str]]


def look_at(
    look: Callable[[GpumonApp, Past, Press], Awaitable[None]],
    told: Answers,
    size: tuple[int, int] = (120, 40),
    story: Story | None = None,
) -> None:
    async def main(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.answers = (told,)
        app.take(snapshot(story or Story(), seconds=5))

        async def press(*keys: str) -> str:
            await pilot.press(*keys)
            await settle(app, pilot)
            return "\n".join(text_of(app))

        await look(app, past, press)

    run(main, size)


def here(**more: object) -> dict[str, object]:
    return {"server": SERVER, **more}


def test_engines_are_indented_under_their_server_and_a_slow_one_is_named() -> None:
    told = answers(*(here(engine=str(n)) for n in range(3)), here(engine="3", itl=0.05))
    told = _renamed(told)

    async def look(app: GpumonApp, past: Past, press: Press) -> None:
        lines = (await press("3")).splitlines()
        at = next(n for n, line in enumerate(lines) if SERVER in line)
        assert [line.split()[:2] for line in lines[at + 1 : at + 5]] == [["engine", str(n)] for n in range(4)]
        assert lines[at + 4].split()[2] == "slow"
        assert "ITL 2.5× the others'" in lines[at + 4]
        assert "slow" not in lines[at + 2]
        assert past.watched[-1][0] == tuple(one.id for one in engine_queries.listing(LENS))

    look_at(look, told)


def test_in_another_order_an_engine_says_whose_it_is() -> None:
    told = _renamed(answers(*(here(engine=str(n), running=n) for n in range(3))))

    async def look(app: GpumonApp, past: Past, press: Press) -> None:
        await press("3")
        screen = await press("o")
        assert f"{SERVER} engine" in screen

    look_at(look, told, (120, 40))


def test_a_server_with_one_engine_is_one_line_and_two_models_have_shares() -> None:
    told = _renamed(
        answers(
            here(model="org/small", generation=300),
            {"server": OTHER, "model": "large", "generation": 900},
        )
    )

    async def look(app: GpumonApp, past: Past, press: Press) -> None:
        screen = await press("3")
        assert "tokens by model  large 75 %  small 25 %" in screen
        assert "engine 0" not in screen

    look_at(look, told, story=Story(servers=(SERVER, OTHER)))


def test_a_slow_server_of_several_says_so_in_its_state() -> None:
    told = _renamed(answers(here(), {"server": OTHER, "ttft": 0.9}))

    async def look(app: GpumonApp, past: Past, press: Press) -> None:
        screen = await press("3")
        (line,) = (line for line in screen.splitlines() if line.lstrip("▌ ").startswith(OTHER))
        assert line.split()[1] == "slow"
        assert "tokens by model" not in screen, "there is one"
        assert "slow: TTFT 4.5× the others'" in await press("down")

    look_at(look, told, (80, 24), Story(servers=(SERVER, OTHER)))


@pytest.mark.parametrize(("size", "there", "not_there"), [((80, 24), "ITL", "model"), ((120, 40), "model", "prompt  ")])
def test_columns_give_way(size: tuple[int, int], there: str, not_there: str) -> None:
    async def look(app: GpumonApp, past: Past, press: Press) -> None:
        lines = (await press("3")).splitlines()
        (heading,) = (line for line in lines if line.lstrip().startswith("server"))
        assert there in heading
        assert not_there not in heading
        assert len(heading) <= size[0]

    look_at(look, _renamed(answers(here())), size)


@pytest.mark.parametrize(("size", "least"), [((80, 24), 2), ((120, 40), 6), ((200, 50), 6)])
def test_the_server_under_the_cursor_has_charts_that_fill_the_room(size: tuple[int, int], least: int) -> None:
    async def look(app: GpumonApp, past: Past, press: Press) -> None:
        screen = await press("3")
        lines = screen.splitlines()
        titles = ("generation", "requests running", "first token p95", "KV cache", "prompt", "inter-token p95", "done")
        charts = screen.partition("─────")[2]
        assert sum(f"  {title} " in charts for title in titles) >= least
        empty = sum(not line.strip() for line in lines)
        assert empty <= size[1] // 4

    look_at(look, _renamed(answers(here())), size)


def test_a_server_that_is_down_says_why() -> None:
    async def look(app: GpumonApp, past: Past, press: Press) -> None:
        screen = await press("3")
        assert "DOWN" in screen
        assert "connection refused" in screen

    look_at(look, Answers(0), story=Story(vllm_down="connection refused"))


def test_y_copies_the_promql_of_its_tokens() -> None:
    async def look(app: GpumonApp, past: Past, press: Press) -> None:
        await press("3", "y")
        selector = engine_queries.selector_of(INSTANCE, SERVER)
        assert app.clipboard == f"sum(rate(vllm:generation_tokens_total{selector}[1m]))"

    look_at(look, _renamed(answers(here())))


def _renamed(told: Answers) -> Answers:
    """The same of the node of the story."""
    rows = {
        id: [({**labels, "instance": INSTANCE}, at, value) for labels, at, value in one]
        for id, one in told.instants.items()
    }
    return Answers(told.now_ms, rows)
