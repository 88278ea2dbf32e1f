"""A vLLM server: scrapes its ``/metrics``.

One connection is kept open, without compression: decompressing 50 kB costs more than reading them.
"""

from __future__ import annotations

import re
import ssl

import httpx

from monitor.samples import NAME, Family, Labels, Scrape, Shape, label, make_labels
from monitor.sources.exposition import ExpositionError, ExpositionReader
from monitor.sources.source import SourceDown

MAX_BYTES = 16 * 1024 * 1024
"""A larger answer is given up: a real server's has 50 kB."""

_SHARE = Family(
    "gpumon_engine_gpu_memory_utilization_ratio",
    "gauge",
    "Share of each GPU's memory that the engine was configured to take (gpu_memory_utilization).",
)
_ERRNO = re.compile(r"\[Errno -?\d+\]\s*")


class VllmSource:
    """Implements ``monitor.sources.source.Source`` for the server at ``url`` (without ``/metrics``).

    ``server`` becomes the label of the same name. Beside what the server sends there is
    ``gpumon_engine_gpu_memory_utilization_ratio{server, engine}``, from the labels of ``vllm:cache_config_info``.
    """

    name = "vllm"

    def __init__(
        self,
        url: str,
        server: str,
        *,
        interval: float = 1.0,
        deadline: float = 2.0,
        api_key: str | None = None,
    ) -> None:
        self.server = server
        self.interval = interval
        self.deadline = deadline
        self._url = url.rstrip("/") + "/metrics"
        self._api_key = api_key
        self._reader = ExpositionReader({"server": server})
        self._shape_read = self._reader.shape
        self._shape = self._reader.shape
        self._derived: list[float] = []
        self._facts: dict[str, str] = {"url": url}
        self._client: httpx.AsyncClient | None = None

    async def open(self) -> None:
        """Build the HTTP client; nothing is sent yet."""
        headers = {"Accept-Encoding": "identity", "Accept": "text/plain;version=0.0.4", "User-Agent": "gpumon"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=self.deadline,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=60),
            # Without TLS there is nothing to verify, and loading the certificates costs megabytes.
            verify=ssl.create_default_context() if self._url.startswith("https:") else False,
            trust_env=False,
            follow_redirects=False,
        )

    async def poll(self, now_ms: int) -> Scrape:
        """One scrape. Raises ``SourceDown`` with the reason in a few words."""
        try:
            body = await self._get()
        except httpx.TimeoutException:
            raise SourceDown(f"no answer in {self.deadline:g} s") from None
        except httpx.ConnectError as error:
            raise SourceDown(_connect_reason(error)) from None
        except httpx.HTTPError as error:
            raise SourceDown(f"the connection broke: {_reason(error)}") from None
        try:
            values = self._reader.read(body)
        except ExpositionError as error:
            raise SourceDown(str(error)) from None
        if not values:
            raise SourceDown("no samples in the answer")
        if self._reader.shape is not self._shape_read:
            self._shape_read = self._reader.shape
            self._derive()
        values.extend(self._derived)
        return Scrape(now_ms, self._shape, values, facts=self._facts)

    async def close(self) -> None:
        """End the connection."""
        if self._client is not None:
            await self._client.aclose()

    async def _get(self) -> bytes:
        if self._client is None:
            raise SourceDown("the source is not open")
        async with self._client.stream("GET", self._url) as response:
            if response.status_code != 200:
                raise SourceDown(f"HTTP {response.status_code}")
            chunks, size = [], 0
            async for chunk in response.aiter_raw():
                size += len(chunk)
                if size > MAX_BYTES:
                    raise SourceDown(f"the answer has more than {MAX_BYTES >> 20} MiB")
                chunks.append(chunk)
            return b"".join(chunks)

    def _derive(self) -> None:
        """What follows from the labels of the series, worked out once while they stay the same."""
        series: list[Labels] = []
        self._derived = []
        models: dict[str, None] = {}
        for labels in self._shape_read.series:
            if model := label(labels, "model_name"):
                models[model] = None
            if label(labels, NAME) == "vllm:cache_config_info":
                try:
                    share = float(label(labels, "gpu_memory_utilization"))
                except ValueError:
                    continue
                series.append(make_labels(_SHARE.name, server=self.server, engine=label(labels, "engine")))
                self._derived.append(share)
        families = dict(self._shape_read.families)
        if series:
            families[_SHARE.name] = _SHARE
        self._shape = Shape((*self._shape_read.series, *series), families)
        self._facts = {"url": self._facts["url"]}
        if models:
            self._facts["model"] = ", ".join(models)


def _connect_reason(error: httpx.ConnectError) -> str:
    text = _reason(error)
    if "Connection refused" in text or "All connection attempts failed" in text:
        return "connection refused"
    return f"cannot connect: {text}"


def _reason(error: Exception) -> str:
    return _ERRNO.sub("", str(error)) or type(error).__name__
