"""Runs sweep_script.py in a process of its own, and reads back what wandb and trackio wrote."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("sweep_script.py")


class Outcome:
    """A finished process: out, err (without its last line), warnings, network attempts, and the folder it worked in."""

    def __init__(self, folder: Path, code: int, out: str, err: str):
        self.folder, self.out = folder, out
        assert code == 0, err
        *lines, last = err.splitlines()
        assert last == "end", err
        self.err = lines
        self.warnings = [line for line in lines if line.startswith("warning: ")]
        network = folder / "network.txt"
        self.network = network.read_text() if network.exists() else ""
        self.wandb = folder / "outputs" / "sweeps" / "hidden_layer" / "wandb"
        self.trackio = folder / "outputs" / "trackio"

    def outside(self) -> list[str]:
        """Files of HOME and the temporary folder that the process left."""
        return [str(p) for place in ("home", "tmp") for p in (self.folder / place).rglob("*") if p.is_file()]


def start(folder: Path, tracker: str, scenario: str, **variables: str) -> subprocess.Popen:
    for place in ("home", "tmp"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "TRACKIO_", "HF_", "XDG_", "NETRC"))}
    env = {**clean, "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, str(SCRIPT), tracker, str(folder), scenario]
    return subprocess.Popen(command, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(folder: Path, process: subprocess.Popen) -> Outcome:
    out, err = process.communicate(timeout=120)
    return Outcome(folder, process.returncode, out, err)


def wandb_records(run_folder: Path) -> dict:
    """run, config, history (one dict a step), summary and exit_code from an offline run's .wandb file.

    The format: 7 bytes of header, then LevelDB's log framing around protobuf records.
    """
    from wandb.proto import wandb_internal_pb2

    def items(updates) -> dict:
        return {"/".join(u.nested_key) or u.key: json.loads(u.value_json) for u in updates}

    found: dict = {"config": {}, "history": [], "summary": {}, "exit_code": None}
    data = next(run_folder.glob("*.wandb")).read_bytes()
    position, message = 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        message += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind not in (1, 4):  # a record is whole, or this was its last part
            continue
        record = wandb_internal_pb2.Record.FromString(message)
        message = b""
        match record.WhichOneof("record_type"):
            case "run":
                found["run"] = record.run
                found["config"] |= {u.key: json.loads(u.value_json) for u in record.run.config.update}
            case "history":
                found["history"].append(items(record.history.item))
            case "summary":
                found["summary"] |= items(record.summary.update)
            case "exit":
                found["exit_code"] = record.exit.exit_code
    found["config"].pop("_wandb", None)
    return found


def wandb_runs(folder: Path) -> dict[str, dict]:
    """Offline runs by display name."""
    runs = [wandb_records(path) for path in sorted(folder.glob("offline-run-*"))]
    by_name = {found["run"].display_name: found for found in runs}
    assert len(by_name) == len(runs)
    return by_name


def trackio_runs(folder: Path, project: str) -> dict[str, dict]:
    """config and logs (one dict a step) of each run of a project, by name; alerts of all."""
    database = sqlite3.connect(f"file:{folder / (project + '.db')}?mode=ro", uri=True)
    runs: dict[str, dict] = {}
    for run_id, name, config in database.execute("select run_id, run_name, config from configs"):
        assert name not in runs
        logs = database.execute("select metrics from metrics where run_id = ? order by step", (run_id,))
        runs[name] = {"config": json.loads(config), "logs": [json.loads(m) for (m,) in logs], "alerts": []}
    total = sum(len(run["logs"]) for run in runs.values())
    assert database.execute("select count(*) from metrics").fetchone() == (total,)
    for name, title in database.execute("select run_name, title from alerts"):
        runs[name]["alerts"].append(title)
    database.close()
    return runs
