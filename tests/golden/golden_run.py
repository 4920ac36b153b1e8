"""Make the golden set, or compare two commits by it, picture by picture to the bit.

    python tests/golden/golden_run.py write            writes tests/golden/golden.json from this checkout
    python tests/golden/golden_run.py compare COMMIT   draws everything by COMMIT and by this checkout, on this machine

compare puts COMMIT into a git worktree and lists what differs; exit code 1 if anything does. It reaches the code
through llm_dit.compose.compose, llm_dit.render.render and llm_dit.cli.main alone, which both sides have.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "golden.json"
SAMPLES = 8  # pixels a side that are kept of a picture, for machines whose kernels round otherwise

sys.path[:0] = [str(HERE), str(HERE.parent)]


def summary(picture) -> dict:
    """What is kept of a picture: a hash of its pixels, 8 x 8 of them, and the count of forwards."""
    import numpy as np

    pixels = np.asarray(picture.image)
    height, width = pixels.shape[:2]
    rows, columns = ([(2 * i + 1) * side // (2 * SAMPLES) for i in range(SAMPLES)] for side in (height, width))
    sample = pixels[rows][:, columns]
    return {
        "pixels": hashlib.sha256(pixels.tobytes()).hexdigest()[:16],
        "size": [width, height],
        "sample": base64.b64encode(sample.tobytes()).decode(),
        "nfe": picture.record["nfe"],
    }


def largest_difference(one: dict, other: dict) -> int:
    """The largest difference of a channel among the kept pixels of two summaries, of 255."""
    import numpy as np

    a, b = (np.frombuffer(base64.b64decode(s["sample"]), np.uint8).astype(int) for s in (one, other))
    return int(np.abs(a - b).max()) if a.shape == b.shape else 255


def stored() -> dict:
    """The golden set of this checkout."""
    return json.loads(GOLDEN.read_text())


def draw_case(overrides: list[str]) -> list[dict] | str:
    """The summaries of a case's pictures, or the type of the error that refuses it."""
    from llm_dit.compose import compose
    from llm_dit.render import render

    try:
        return [summary(picture) for picture in render(compose(overrides))]
    except Exception as error:
        if "LabError" in (base.__name__ for base in type(error).__mro__):  # where it is defined differs between commits
            return type(error).__name__
        raise


def sweep_facts(root: Path) -> dict:
    """A sweep's pictures by cell, prompt and seed, its table's columns, and one column of each kind."""
    from pyarrow import parquet

    from llm_dit.cli import main

    arguments = [
        "-m", "model=tiny", "hardware=cpu", "prompts=starter", "prompts.ids=[starter_001,starter_002]", "seed=0,1",
        "sampler.steps=1,2", "slg=none,block", "tracker=none", f"sweep.dir={root}", "sweep.name=golden",
        "metrics=[sharpness,entropy]",
    ]  # fmt: skip
    if code := main(arguments):
        raise SystemExit(f"the golden sweep ended with exit code {code}")
    table = parquet.read_table(root / "golden" / "table.parquet")
    rows = sorted(table.to_pylist(), key=lambda r: (r["cell"], r["prompt_id"], r["seed"]))
    kept = ("cell", "prompt_id", "seed", "sampler.steps", "nfe", "pixels_sha256", "sharpness", "entropy")
    return {"columns": sorted(table.column_names), "rows": [[r.get(key) for key in kept] for r in rows]}


def training_facts(root: Path) -> dict:
    """Hashes of the tensors that short trainings leave, by training and file."""
    import numpy as np
    from PIL import Image
    from safetensors.numpy import load_file

    from llm_dit.cli import main

    data = root / "data"
    data.mkdir()
    for number in range(4):
        noise = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(data / f"{number}.png")
        (data / f"{number}.txt").write_text(f"picture {number}")
    found = {}
    for kind in ("full", "lora", "distill", "vae"):
        arguments = [
            "task=train", f"train={kind}", "model=tiny", "hardware=cpu", f"data={data}", "data.size=64",
            f"data.cache={root / 'cache'}", f"train.dir={root}", f"train.name={kind}", "train.steps=3",
            "train.batch_size=2", "tracker=none",
        ]  # fmt: skip
        if code := main(arguments):
            raise SystemExit(f"the golden training train={kind} ended with exit code {code}")
        for path in sorted((root / kind).rglob("*.safetensors")):
            digest = hashlib.sha256()
            for name, tensor in sorted(load_file(path).items()):
                digest.update(name.encode() + tensor.tobytes())
            found[f"{kind}: {path.relative_to(root / kind)}"] = digest.hexdigest()[:16]
    return found


def make(workplace: Path, names: list[str] | None = None) -> dict:
    """The whole golden set, drawn by the code on sys.path."""
    from golden_cases import all_cases

    os.chdir(workplace)
    found = {}
    for name, overrides in all_cases().items():
        if names is None or name in names:
            found[name] = draw_case(overrides)
            if len(found) % 50 == 0:
                print(f"{len(found)} cases drawn", file=sys.stderr, flush=True)
    if names is None:
        for name, facts in (("a sweep", sweep_facts), ("trainings", training_facts)):
            with tempfile.TemporaryDirectory() as folder:
                found[name] = facts(Path(folder))
    return found


def compare(commit: str) -> int:
    """Draw the set by a commit and by this checkout in one folder of inputs, and list what differs."""
    from perturbations import make_workplace

    root = HERE.parents[1]
    with tempfile.TemporaryDirectory() as folder:
        workplace, tree = Path(folder, "workplace"), Path(folder, "tree")
        workplace.mkdir()
        make_workplace(workplace)
        subprocess.run(["git", "-C", root, "worktree", "add", "--detach", "--quiet", tree, commit], check=True)
        try:
            sides = []
            for source in (tree, root):
                out = Path(folder, "out.json")
                environment = os.environ | {"PYTHONPATH": str(source / "src"), "OMP_NUM_THREADS": "1"}
                command = [sys.executable, __file__, "make", str(workplace), str(out)]
                subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
                sides.append(json.loads(out.read_text()))
        finally:
            subprocess.run(["git", "-C", root, "worktree", "remove", "--force", tree], check=True)
    old, new = sides
    different = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    print(f"{len(new)} cases, {len(different)} differ from {commit}", *different, sep="\n  ")
    return 1 if different else 0


def run(arguments: list[str]) -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    match arguments:
        case ["make", workplace, out]:
            Path(out).write_text(json.dumps(make(Path(workplace))))
        case ["write"]:
            from perturbations import make_workplace

            with tempfile.TemporaryDirectory() as folder:
                make_workplace(Path(folder))
                made = make(Path(folder))
            lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in made.items())
            GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        case ["compare", commit]:
            return compare(commit)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
