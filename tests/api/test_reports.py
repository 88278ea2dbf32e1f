"""Reports over the API: who may send one, and what is no request of one."""

from __future__ import annotations

import asyncio

import httpx

from monitor.store.head import Head
from tests.api.running import running

BODY = {"receiver": "chat", "start_ms": 0, "end_ms": 60_000}


def test_only_who_may_change_something_may_send_one() -> None:
    async def main() -> None:
        async with running(Head("gpumon", "n1:9519")) as api:
            assert (await api.client.get("/api/gpumon/v1/reports")).json() == {"reports": []}
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}", trust_env=False) as other:
                answer = await other.post("/api/gpumon/v1/reports/send", json=BODY)
                assert answer.status_code == 403
                assert "unix socket" in answer.json()["error"]
            assert (await api.client.post("/api/gpumon/v1/reports/send", json=BODY)).status_code == 404
            for wrong in ({**BODY, "end_ms": 0}, {**BODY, "end_ms": 10**14}, {**BODY, "name": "x" * 200}, {"a": 1}):
                answer = await api.client.post("/api/gpumon/v1/reports/send", json=wrong)
                assert answer.status_code == 400, wrong
            for prices in (["\x01"], ["0.30/kWh", "0.20/kWh"], ["1 EUR/kWh", "1 USD/GPUh"]):
                answer = await api.client.post("/api/gpumon/v1/reports/send", json={**BODY, "prices": prices})
                assert answer.status_code == 400, prices
                assert "price" in answer.json()["error"]

    asyncio.run(main())
