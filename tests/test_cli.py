"""The command line as a user meets it: pictures, replays, sweeps of one line, and one clear line for a mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llm_dit.encoders.tiny import save_tiny_folder
from llm_dit.records.picture import Picture, read_record, save_picture
from llm_dit.render.draw import render

ROOT = Path(__file__).parents[1]


def test_a_prompt_becomes_a_picture_and_its_path_is_printed(run_main):
    code, out, err, written = run_main("a red apple, 3d style", "model=tiny", "seed=7")
    assert (code, err) == (0, "")
    assert out.strip() == written[1]
    assert [w.rsplit(".", 1)[1] for w in written] == ["json", "png"]
    assert read_record(written[1])["config"]["prompt"]["text"] == "a red apple, 3d style"


def test_command_line_python_and_replay_draw_the_same_bytes(run_main, tiny):
    _, out, _, _ = run_main("a, b = c", "model=tiny", "seed=3", "guidance.guidance_scale=2", "prompt.negative=x")
    by_cli = np.array(Image.open(out.strip()))
    config = tiny("seed=3", "guidance.guidance_scale=2", "prompt.negative=x", prompt="a, b = c")
    assert np.array_equal(np.array(render(config)[0].image), by_cli)
    code, again, _, _ = run_main(f"from_image={out.strip()}", "output.dir=again")
    path, verdict = again.splitlines()
    assert (code, verdict) == (0, "the same pixels as the original")
    assert np.array_equal(np.array(Image.open(path)), by_cli)
    assert Path(path).parent.name == "again"


def test_a_replay_takes_changes_and_says_what_differs(run_main):
    _, out, _, _ = run_main("x", "model=tiny", "seeds=[4,5]")
    first = out.splitlines()[1]
    _, again, _, _ = run_main(f"from_image={first}", "sampler.steps=2", "seed=6", "num_images=2", "output.dir=b")
    *paths, verdict = again.splitlines()
    assert verdict == "not the same pixels as the original; different: seed, sampler.steps"
    assert [read_record(p)["seed"] for p in paths] == [6, 7]
    assert read_record(paths[0])["nfe"] == 2
    _, again, _, _ = run_main(f"from_image={first}", "output.name=new", "prompt.text=y")
    assert again.splitlines() == [
        "outputs/images/new.png",
        "not the same pixels as the original; different: prompt.text",
    ]
    assert read_record("outputs/images/new.png")["seed"] == 5


def test_a_replay_leaves_its_original_and_is_compared_with_it(run_main):
    _, out, _, _ = run_main("x", "model=tiny", "seed=3")
    original = Path(out.strip())
    record = read_record(original) | {"pixels_sha256": "of another machine", "device": "cuda"}
    save_picture(Picture(Image.open(original), record, None), original.parent, original.stem)
    before = original.read_bytes()
    _, again, _, written = run_main(f"from_image={original}")
    assert again.splitlines() == [
        str(original.with_stem(original.stem + "_again")),
        "not the same pixels as the original; different: device",
    ]
    assert (len(written), original.read_bytes()) == (2, before)
    for source in (original, again.splitlines()[0]):
        _, planned, _, _ = run_main(f"from_image={source}", "dry_run=true")
        assert planned.splitlines()[0] == again.splitlines()[0]


def test_a_replay_with_another_template_wears_that_template(run_main):
    _, first, _, _ = run_main("x", "model=tiny", "prompt.template=photograph")
    _, fresh, _, _ = run_main("x", "model=tiny", "prompt.template=watercolor", "output.name=fresh")
    _, again, _, _ = run_main(f"from_image={first.strip()}", "prompt.template=watercolor", "output.name=again")
    fresh, again = read_record(fresh.strip()), read_record(again.splitlines()[0])
    assert again["formatted_prompt"] == fresh["formatted_prompt"]
    assert again["pixels_sha256"] == fresh["pixels_sha256"]


def test_a_prompt_file_is_the_prompt(run_main, tmp_path):
    (tmp_path / "p.txt").write_text("first line\nsecond, line\n", encoding="utf-8")
    _, out, _, _ = run_main("prompt_file=p.txt", "model=tiny")
    recorded = read_record(out.strip())["config"]
    assert (recorded["prompt"]["text"], recorded["prompt_file"]) == ("first line\nsecond, line", None)


def test_one_line_sweeps_values_and_keeps_the_prompt_whole(run_main):
    prompt = "a, b = [c] 'd' \"e\" {f} ${g}\nnew line"
    code, _, _, written = run_main("-m", prompt, "model=tiny", "seed=1,2", "sampler.steps=1,2", "tracker=none")
    assert code == 0
    records = [read_record(p) for p in written if "/images/" in p]
    assert sorted((r["seed"], r["nfe"]) for r in records) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert {r["config"]["prompt"]["text"] for r in records} == {prompt}


def test_preview_shows_the_exact_text_without_drawing(run_main):
    code, out, err, written = run_main("task=preview", "a cat", "model=tiny", "prompt=think")
    assert (code, written) == (0, [])
    assert out == "<|im_start|>user\na cat<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n\n"
    assert "--- 30 tokens, padded to 32; limit 512" in err


def test_text_after_two_hyphens_is_the_prompt_whatever_it_looks_like(run_main):
    _, out, _, _ = run_main("model=tiny", "--", "seed=5")
    record = read_record(out.strip())
    assert (record["config"]["prompt"]["text"], record["seed"]) == ("seed=5", 0)


def test_progress_bars_stay_quiet_when_nobody_watches(run_main):
    assert run_main("x", "model=tiny", "num_images=2")[2] == ""


@pytest.fixture(scope="module")
def cut_model(tmp_path_factory):
    """A model folder whose transformer was cut off in the middle, as by a broken download."""
    folder = tmp_path_factory.mktemp("model")
    save_tiny_folder(folder)
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "seeed=3"], "unknown key 'seeed'. Did you mean 'seed'?"),
        (["x", "+slg.scael=2"], "unknown key 'slg.scael'. Did you mean 'slg.scale'?"),
        (["x", "seed=abc"], "must be a whole number"),
        (["x", "sampler.steps=0"], "out of range; 1 to 1000"),
        (["x", "width=100"], "not a multiple of 16"),
        (["x", "model.path=/not/there"], "model.path=/not/there: there is no such folder"),
        (["x", "model=tiny", "model.path=cut"], "cut short, damaged"),
        (["x", "model=tiny", "init_image=text.png"], "not a picture"),
        (["x", "model=tiny", "init_image=gone.png"], "there is no such picture"),
        (["prompt_file=big.txt", "model=tiny"], "a prompt has at most 100,000 characters"),
        (["prompt_file=latin.txt", "model=tiny"], "not UTF-8"),
        (["x", "model=tiny", "output.dir=text.png/below"], "output.dir=text.png/below: cannot be written"),
        (["x", "model=tiny", "hardware.dtype=fp16"], "black pictures"),
        (["x", "model=tiny", "hardware.device=cuda"], "Present: cpu"),
        (["x", "model=tiny", "encoder_layer.index=9"], "hidden states -5 to 4"),
        (["model=tiny"], "no prompt"),
        (["two", "prompts", "model=tiny"], "two prompts"),
        (["from_image=text.png"], "not a picture"),
        (["x", "prompt.template=photgraph"], "Did you mean 'photograph'?"),
    ],
)
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(run_main, tmp_path, cut_model, arguments, message):
    (tmp_path / "text.png").write_text("this is no picture")
    (tmp_path / "cut").symlink_to(cut_model)
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    (tmp_path / "big.txt").write_text("x" * 10_000_000)
    code, out, err, written = run_main(*arguments)
    assert code == 2
    assert (out, written) == ("", [])
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "outputs").exists()


def test_a_full_disk_is_one_line_and_leaves_it_empty(run_main, small_disk):
    code, out, err, _ = run_main("x", "model=tiny", f"output.dir={small_disk}", "width=256")
    assert (code, out) == (2, "")
    assert err == f"error: {small_disk}: cannot be written (No space left on device).\n"
    assert list(small_disk.iterdir()) == []


def test_a_fault_of_the_program_is_one_line_with_its_traceback_in_a_file(run_main, monkeypatch):
    import llm_dit.cli.tasks

    monkeypatch.setitem(llm_dit.cli.tasks.TASKS, "render", lambda config: [][1])
    code, out, err, _ = run_main("x", "model=tiny")
    *_, line = err.splitlines()
    assert (code, out) == (1, "")
    assert line.startswith("error: a fault of llm-dit, not of the command (IndexError: list index out of range)")
    log = Path(line.rpartition("the traceback is in ")[2])
    assert "IndexError" in log.read_text()
    log.unlink()


@pytest.mark.parametrize("arguments", [["--help"], ["seeed=3"], ["--cfg", "job", "a cat"], ["x", "sampler.steps=0"]])
def test_help_and_errors_do_not_wait_for_heavy_imports(arguments):
    code = (
        "import sys; from llm_dit.cli import main; main(sys.argv[1:]);"
        "heavy = {'torch', 'transformers', 'diffusers', 'numpy', 'PIL'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


def test_help_shows_examples_and_the_groups():
    done = subprocess.run(
        [sys.executable, ROOT / "experiments" / "run.py", "--help"], capture_output=True, text=True, check=True
    )
    assert 'run.py "a red apple, 3d style, blue background" seed=7' in done.stdout
    assert "model: nano, nano_turbo, tiny, z_image, z_image_turbo" in done.stdout
