"""A small sweep handed to a tracker, in a process of its own: python sweep_script.py TRACKER FOLDER [SCENARIO].

Own processes, because both libraries keep global state: folders read at import, helper processes, exit hooks. Sockets
are closed before anything is imported; an attempt to connect or to look a name up is written to FOLDER/network.txt.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

tracker_name, folder = sys.argv[1], Path(sys.argv[2])
scenario = sys.argv[3] if len(sys.argv) > 3 else "whole"
real_connect = socket.socket.connect


def refuse(*args, **kwargs):
    with (folder / "network.txt").open("a") as log:
        log.write(f"{args}\n")
    raise OSError("no network in tests")


def connect(self, address):
    # wandb talks to its own helper process over a socket of this machine.
    is_local = self.family == getattr(socket, "AF_UNIX", None) or address[0] in ("127.0.0.1", "localhost")
    return real_connect(self, address) if is_local else refuse(address)


socket.socket.connect = connect
socket.getaddrinfo = refuse

from PIL import Image  # noqa: E402

from llm_dit.trackers.load import make_tracker  # noqa: E402
from llm_dit.trackers.replay import CellRecord, replay  # noqa: E402

SWEEP = "hidden_layer"
CELLS = ("encoder_layer.index=-2", "encoder_layer.index=-8")


def picture(name: str, shade: int) -> Path:
    path = folder / f"{name}.png"
    if not path.exists():
        Image.new("RGB", (16, 16), (shade, 40, 200 - shade)).save(path)
    return path


def images(cell_number: int) -> list:
    values = {"seconds.dit": 0.5, "seconds.total": 1.0 + cell_number, "nfe": 8, "token_count": 12, "clip": None}
    return [
        (
            picture(f"c{cell_number}_{i}", 60 * cell_number + 20 * i),
            f"a fox, seed {i}",
            {**values, "sharpness": float(i)},
        )
        for i in range(2)
    ]


def config(index: int) -> dict:
    return {
        "encoder_layer.index": index,
        "sampler.steps": 8,
        "prompt.text": None,
        "seeds": [0, 1],
        "tiling.enabled": False,
    }


def cell(tracker, number: int, status: str = "complete", upto: int = 2) -> None:
    tracker.start_cell(SWEEP, CELLS[number], config([-2, -8][number]))
    for image in images(number)[:upto]:
        tracker.log_image(*image)
    if status:
        tracker.finish_cell(status, {"nano_judge": 0.25})


sweep_folder = folder / "outputs" / "sweeps" / SWEEP
tracker = make_tracker(tracker_name, sweep_folder, trackio_dir=folder / "outputs" / "trackio")

if scenario == "whole":
    cell(tracker, 0)
    cell(tracker, 1, "failed", upto=1)
    table = [
        {"cell": CELLS[0], "index": -2, "sharpness": 0.5, "sample": folder / "c0_0.png"},
        {"cell": CELLS[1], "index": -8, "sharpness": float("nan"), "axis": "x"},
    ]
    tracker.summary(SWEEP, [picture("grid_1", 1), picture("grid_2", 2)], table)
elif scenario == "again":  # a cell cut off, continued by logging all of it again, then replayed from the records
    cell(tracker, 0, status="", upto=1)
    tracker.close()
    cell(tracker, 0)
    tracker.close()
    again = make_tracker(tracker_name, sweep_folder, trackio_dir=folder / "outputs" / "trackio")
    records = [CellRecord(CELLS[0], config(-2), "complete", [*images(0), (folder / "gone.png", "gone", {})])]
    done = replay(iter(records), again, SWEEP)
    print(done.cells, done.images, [p.name for p in done.missing], done.ok, file=sys.stderr)
elif scenario == "missing":
    sys.modules[tracker_name] = None  # import raises ImportError
    cell(tracker, 0)
    cell(tracker, 1)
elif scenario == "middle":  # the second picture does not exist
    tracker.start_cell(SWEEP, CELLS[0], config(-2))
    tracker.log_image(*images(0)[0])
    tracker.log_image(folder / "nowhere.png", "lost", {})
    tracker.log_image(*images(0)[1])
    tracker.finish_cell("complete")
    cell(tracker, 1)
elif scenario == "vanishes":  # the folder goes away while a cell runs
    import shutil

    tracker.start_cell(SWEEP, CELLS[0], config(-2))
    shutil.rmtree(folder / "outputs")
    (folder / "outputs").write_text("in the way")
    tracker.log_image(*images(0)[0])
    tracker.finish_cell("complete")
    cell(tracker, 1)
elif scenario == "open":  # a process that ends without a word
    cell(tracker, 0, status="")
elif scenario == "two trackers":  # as a sweep and its summary have
    cell(tracker, 0)
    tracker.close()
    tracker = make_tracker(tracker_name, sweep_folder, trackio_dir=folder / "outputs" / "trackio")
    tracker.summary(SWEEP, [picture("grid_1", 1)], [])
elif scenario in ("cell0", "cell1"):  # one of two processes that share a sweep
    cell(tracker, int(scenario[-1]))
elif scenario == "training":
    tracker.start_cell("train", "mine", {"train.steps": 4})
    for step in (2, 4):
        tracker.log_values(step, {"loss": 1.0 / step, "score_clip": None})
        tracker.log_image(picture(f"sheet{step}", step), f"step {step}", {})
    tracker.finish_cell("complete")
    tracker.close()
elif scenario == "odd":  # labels that are no file names, keys that libraries keep for themselves
    label = "prompt=../../a/b, " + "x" * 300
    tracker.start_cell("sweep.one/two", label, {"_private": 1, "a": 1, "a.b": 2}, label="for people")
    tracker.log_image(picture("odd", 3), label, {"step": 3.0, "time": 1.0, "nan": float("nan"), "flag": True})
    tracker.finish_cell("complete")

tracker.close()
if where := tracker.where():
    print(where, file=sys.stderr)
print("end", file=sys.stderr)
