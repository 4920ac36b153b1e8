"""Finding a model: on the hub (a small one served here), in its cache while offline, in this package."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

from llm_dit.base.errors import ModelError
from llm_dit.weights import folder
from llm_dit.weights.folder import component_folder

COMMIT = "a" * 40

IMAGE_MODEL = {
    "model_index.json": "{}",
    "transformer/config.json": '{"a": 1}',
    "transformer/diffusion_pytorch_model.safetensors": "big",
    "vae/config.json": '{"b": 2}',
    "text_encoder/config.json": '{"c": 3}',
}
LANGUAGE_MODEL = {
    "config.json": "{}",
    "model.safetensors": "big",
    "tokenizer.json": "{}",
    "README.md": "long",
    "consolidated.safetensors": "the same again",
    "original/model.safetensors": "big",
}
REPOS = {"lab/image": IMAGE_MODEL, "lab/llm": LANGUAGE_MODEL}

SCRIPT = """
import json, sys
from llm_dit.base.errors import ModelError
from llm_dit.weights import folder
try:
    print(getattr(folder, sys.argv[1])(*json.loads(sys.argv[2]), **json.loads(sys.argv[3])))
except ModelError as error:
    print("ModelError:", error)
"""


class SmallHub(BaseHTTPRequestHandler):
    """The part of the hub's interface that a download uses."""

    def do_GET(self):
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        repo = "/".join(parts[2:4] if is_api else parts[:2])
        if repo == "lab/gated":
            return self.answer(403, b"terms", {"X-Error-Code": "GatedRepo"})
        if repo not in REPOS:
            return self.answer(401, b"no", {"X-Error-Code": "RepoNotFound"})
        files = REPOS[repo]
        if not is_api:
            content = files["/".join(parts[4:])].encode()
            etag = hashlib.sha1(content).hexdigest()
            return self.answer(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        if parts[5] not in ("main", COMMIT):
            return self.answer(404, b"no", {"X-Error-Code": "RevisionNotFound"})
        if parts[4] == "revision":
            reply = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
        else:
            reply = [
                {"type": "file", "path": k, "size": len(v), "oid": hashlib.sha1(v.encode()).hexdigest()}
                for k, v in files.items()
            ]
        return self.answer(200, json.dumps(reply).encode(), {"Content-Type": "application/json"})

    do_HEAD = do_GET  # noqa: N815 (the name is http.server's)

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), SmallHub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def ask(tmp_path):
    """ask(function, *args, env, **kwargs): what a fresh process prints, where environment variables count."""

    def run(function, *args, env=None, **kwargs) -> str:
        quiet = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1"}
        online = {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}
        no_proxy = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, function, json.dumps(args), json.dumps(kwargs)],
            env=os.environ | quiet | online | no_proxy | (env or {}),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def files_below(folder) -> set[str]:
    return {os.path.relpath(os.path.join(d, f), folder) for d, _, files in os.walk(folder) for f in files}


def test_only_the_asked_component_is_fetched_and_found_again_offline(hub, ask, tmp_path):
    folder = ask("component_folder", "lab/image", "transformer", env={"HF_ENDPOINT": hub})
    assert folder.endswith(f"snapshots/{COMMIT}/transformer")
    root = os.path.dirname(folder)
    assert files_below(root) == {
        "model_index.json", "transformer/config.json", "transformer/diffusion_pytorch_model.safetensors",
    }  # fmt: skip
    assert ask("component_folder", "lab/image", "transformer", env={"HF_HUB_OFFLINE": "1"}) == folder
    missing = ask("component_folder", "lab/image", "vae", env={"HF_HUB_OFFLINE": "1"})
    assert "HF_HUB_OFFLINE is set and its files are not in the cache" in missing


def test_for_a_single_file_the_config_is_fetched_without_the_weights(hub, ask):
    folder = ask("component_folder", "lab/image", "transformer", weights=False, env={"HF_ENDPOINT": hub})
    assert files_below(folder) == {"config.json"}


def test_text_encoder_from_the_hub_is_a_language_model_or_part_of_an_image_model(hub, ask):
    env = {"HF_ENDPOINT": hub}
    llm = ask("language_model_folder", "lab/llm", "tokenizer", env=env)
    assert files_below(llm) == {"config.json", "model.safetensors", "tokenizer.json"}
    part = ask("language_model_folder", "lab/image", "text_encoder", env=env)
    assert files_below(os.path.dirname(part)) == {"model_index.json", "text_encoder/config.json"}


@pytest.mark.parametrize(
    ("repo", "revision", "says"),
    [
        ("lab/absent", None, "(it is not there, or it is private)"),
        ("lab/gated", None, "(its owner lets in only those who accept the terms"),
        ("lab/image", "v9", "(it has no revision v9)"),
    ],
)
def test_the_hubs_refusals_are_named(hub, ask, repo, revision, says):
    said = ask("component_folder", repo, "vae", revision, env={"HF_ENDPOINT": hub})
    assert said.startswith(f"ModelError: model.path={repo}: no folder of that name here")
    assert says in said
    assert len(said.splitlines()) == 1


def test_hub_id_while_offline_is_refused_fast(ask):
    begin = time.perf_counter()
    said = ask("component_folder", "Tongyi-MAI/Z-Image-Turbo", "transformer", env={"HF_HUB_OFFLINE": "1"})
    assert time.perf_counter() - begin < 20  # a whole process on a busy machine; a connection attempt retries longer
    assert said.startswith("ModelError: model.path=Tongyi-MAI/Z-Image-Turbo: no folder of that name here, and it could")
    assert "HF_HUB_OFFLINE is set" in said
    assert "model.path=/path/to/model" in said
    assert len(said.splitlines()) == 1


def test_unreachable_hub_is_refused(ask):
    said = ask("component_folder", "lab/image", "vae", env={"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert said.startswith("ModelError: model.path=lab/image: no folder of that name here")
    assert len(said.splitlines()) == 1


def test_shipped_models_are_suggested():
    with pytest.raises(ModelError, match=r"model\.path=shipped:nanno: no such shipped model"):
        component_folder("shipped:nanno", "vae")


def test_a_shipped_model_without_a_vae_of_its_own_has_nanos(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "SHIPPED", tmp_path)
    for name in ("nano/transformer", "nano/vae", "student/transformer"):
        (tmp_path / name).mkdir(parents=True)
    assert component_folder("shipped:student", "transformer") == tmp_path / "student" / "transformer"
    assert component_folder("shipped:student", "vae") == tmp_path / "nano" / "vae"
    with pytest.raises(ModelError, match="no 'tokenizer' folder in it"):
        component_folder("shipped:student", "tokenizer")


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "z" / "vae").mkdir(parents=True)
    assert component_folder("~/z", "vae") == tmp_path / "z" / "vae"
