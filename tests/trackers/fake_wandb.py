"""A server on this machine that takes what wandb uploads: enough of the protocol for runs, files and finished tables.

Not a copy of W&B: it shows what the client sends, not what the page makes of it.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FakeWandb:
    """runs: id to the fields of its first upsert. history: id to steps. files: (id, name) to bytes. stall: hang."""

    def __init__(self) -> None:
        self.runs: dict[str, dict] = {}
        self.history: dict[str, list[dict]] = {}
        self.summary: dict[str, dict] = {}
        self.exit_codes: dict[str, int] = {}
        self.files: dict[tuple[str, str], bytes] = {}
        self.stall = False
        self._stopped = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args) -> None:
                pass

            def do_POST(self) -> None:
                self.answer(fake.post(self.path, self.body()))

            def do_PUT(self) -> None:
                body = self.body()
                if fake.stall:
                    fake._stopped.wait(60)
                _, _, run, name = self.path.split("/", 3)
                fake.files[run, name] = body
                self.answer({})

            def body(self) -> bytes:
                data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

            def answer(self, value: dict) -> None:
                data = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address) -> None:
                pass  # a client that hung up

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._stopped.set()
        self.server.shutdown()
        self.server.server_close()

    def post(self, path: str, body: bytes) -> dict:
        given = json.loads(body)
        if path == "/graphql":
            return {"data": self.graphql(given["query"], given.get("variables") or {})}
        run = path.split("/")[-2]
        for name, part in given.get("files", {}).items():
            lines = [json.loads(line) for line in part["content"]]
            if name == "wandb-history.jsonl":
                steps = self.history.setdefault(run, [])
                steps[part["offset"] :] = lines
            elif name == "wandb-summary.json":
                self.summary[run] = lines[-1]
        if given.get("complete"):
            self.exit_codes[run] = given["exitcode"]
        return {"exitcode": None, "limits": {}}

    def graphql(self, query: str, variables: dict) -> dict:
        operation = re.search(r"(?:query|mutation)\s+(\w+)", query)[1]
        if operation == "UpsertBucket":
            run = variables["name"]
            self.runs.setdefault(run, variables)
            project = {"id": "P", "name": variables["project"], "entity": {"id": "E", "name": "somebody"}}
            bucket = {
                "id": "B", "name": run, "displayName": variables["displayName"], "description": "",
                "config": variables["config"] or "{}", "sweepName": None, "project": project, "historyLineCount": 0,
            }  # fmt: skip
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if operation == "CreateRunFiles":
            run = variables["run"]
            files = [{"name": name, "uploadUrl": f"{self.url}/up/{run}/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "B", "uploadHeaders": [], "files": files}}
        if operation == "CreateArtifact":  # already there, so nothing more is sent
            artifact = {"id": "A", "state": "COMMITTED", "artifactSequence": {"latestArtifact": {"id": "A"}}}
            return {"createArtifact": {"artifact": artifact}}
        viewer = {"id": "U", "username": "somebody", "email": "", "flags": "{}", "entity": "somebody"}
        return {
            "viewer": {**viewer, "teams": {"edges": []}},
            "serverInfo": {"cliVersionInfo": {"max_cli_version": "9"}, "latestLocalVersionInfo": None, "features": []},
            "project": None,
            "useArtifact": {"artifact": {"id": "A"}},
        }
