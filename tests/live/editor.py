"""An editor's side of the Language Server Protocol: opens files, asks for completions and explanations, takes marks."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 30.0


class Editor:
    """Speaks with a language server over its standard input and output."""

    def __init__(self, process: subprocess.Popen[bytes], settings: Mapping[str, object]) -> None:
        self._process = process
        self._settings = settings
        self._number = 0
        self._answers: dict[int, queue.Queue[Any]] = {}
        self._marks: dict[str, queue.Queue[list[dict[str, Any]]]] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ask(self, method: str, **params: object) -> Any:
        """The answer to a request. Raises ``TimeoutError``, and ``RuntimeError`` for an error."""
        self._number += 1
        waiting = self._answers.setdefault(self._number, queue.Queue())
        self._send({"id": self._number, "method": method, "params": params})
        try:
            answer = waiting.get(timeout=SECONDS)
        except queue.Empty:
            raise TimeoutError(f"no answer to {method} in {SECONDS:g} s") from None
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer.get("result")

    def tell(self, method: str, **params: object) -> None:
        """Send a notification."""
        self._send({"method": method, "params": params})

    def open(self, path: Path, text: str) -> list[dict[str, Any]]:
        """Open a file that holds a text, and give the marks on it: its diagnostics."""
        path.write_text(text, encoding="utf-8")
        uri = path.as_uri()
        waiting = self._marks.setdefault(uri, queue.Queue())
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self.tell("textDocument/didOpen", textDocument=document)
        try:
            return waiting.get(timeout=SECONDS)
        except queue.Empty:
            raise TimeoutError(f"{path.name} was not looked at in {SECONDS:g} s") from None

    def completions(self, path: Path, line: int, column: int) -> dict[str, str]:
        """What may stand at a place, counted from 0: labels, each with what is said of it."""
        answer = self.ask("textDocument/completion", **_at(path, line, column))
        items = answer["items"] if isinstance(answer, dict) else answer or []
        return {item["label"]: _text(item.get("documentation", "")) for item in items}

    def hover(self, path: Path, line: int, column: int) -> str:
        """What is said of what stands at a place, counted from 0; "" for nothing."""
        answer = self.ask("textDocument/hover", **_at(path, line, column))
        return _text(answer["contents"]) if answer else ""

    def _send(self, message: dict[str, object]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._process.stdin.flush()

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        while True:
            length = 0
            while (line := stream.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            if not length:
                return
            message = json.loads(stream.read(length))
            if "method" not in message:
                self._answers[message["id"]].put(message)
            elif message["method"] == "textDocument/publishDiagnostics":
                params = message["params"]
                self._marks.setdefault(params["uri"], queue.Queue()).put(params["diagnostics"])
            elif "id" in message:  # it asks for settings, or to register something
                items = (message.get("params") or {}).get("items", [])
                settings = [self._settings.get(item.get("section"), {}) for item in items]
                self._send({"id": message["id"], "result": settings or None})


def _at(path: Path, line: int, column: int) -> dict[str, object]:
    return {"textDocument": {"uri": path.as_uri()}, "position": {"line": line, "character": column}}


def _text(content: Any) -> str:
    return str(content["value"]) if isinstance(content, dict) else str(content)


@contextmanager
def editor(command: Sequence[str], folder: Path, schemas: Mapping[str, str]) -> Iterator[Editor]:
    """A language server with an editor on it, which has opened a folder. ``schemas`` are of the editor's settings:
    patterns of files' names, by the schema that they have."""
    # Nothing is got from the network.
    settings = {"yaml": {"schemaStore": {"enable": False, "url": ""}, "validate": True, "schemas": schemas}}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder) as process:
        one = Editor(process, settings)
        try:
            capabilities = {
                "textDocument": {
                    "completion": {"completionItem": {"documentationFormat": ["markdown"], "snippetSupport": True}},
                    "hover": {"contentFormat": ["markdown"]},
                    "publishDiagnostics": {},
                },
                "workspace": {"configuration": True},
            }
            where = {"uri": folder.as_uri(), "name": "folder"}
            one.ask(
                "initialize",
                processId=None,
                rootUri=folder.as_uri(),
                workspaceFolders=[where],
                capabilities=capabilities,
            )
            one.tell("initialized")
            one.tell("workspace/didChangeConfiguration", settings=settings)
            yield one
            one.ask("shutdown")
            one.tell("exit")
            process.wait(SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
