"""What is typed wrong is told in one line that names it as typed, instead of being dropped or ending in a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llm_dit.compose import compose

ROOT = Path(__file__).parents[1]
TWICE = "seed is given twice; leave one out"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "x", "seed=1,2", "seed=5,6"], f"seed=1,2 and seed=5,6: {TWICE}"),
        (["x", "seed=1", "seed=5"], f"seed=1 and seed=5: {TWICE}"),
        (["-m", "x", "seed=1,2", "++seed=5"], f"seed=1,2 and ++seed=5: {TWICE}"),
        (["-m", "x", "seed=1,2", "+seed=5"], f"seed=1,2 and +seed=5: {TWICE}"),
        (["x", "model=nano", "model=tiny"], "model=nano and model=tiny: model is given twice"),
        (["x", "seed=1", "seeds=[2]"], "seed=1 and seeds=[2]: seed and seeds are both given; leave one out."),
        (["x", "num_images=2", "seeds=[2]"], "num_images=2 and seeds=[2]: num_images and seeds are both given"),
        (["-m", "x", "prompt.text=y"], "two prompts: 'x' and 'prompt.text=y'; leave one out."),
        (["x", "prompt.text=y"], "two prompts: 'x' and 'prompt.text=y'; leave one out."),
        (["x", "model=[nano,tiny]"], "model=[nano,tiny]: model takes one option, not a list"),
        (["-m", "x", "guidance=[none,cfg]"], "to draw with each, -m guidance=none,cfg."),
        (["x", "~guidance"], "~guidance: a group is chosen, not taken away"),
        (["-m", "x", "~seed"], "~seed: a setting is not taken away; leave it out"),
        (["x", "~sampler.steps=3"], "~sampler.steps=3: a setting is not taken away"),
        (["sweep=twice.yaml"], "twice.yaml: settings: seed=1 and seed=2: seed is given twice"),
        (["prompts=starter", "lora=typo.safetensors"], "lora=typo.safetensors: there is no such file"),
        (["prompts=starter", "prompts.count=1", "init_image=nope.png"], "nope.png: there is no such picture"),
        (["-m", "x", "seed=1,2", "lora=nope.safetensors"], "lora=nope.safetensors: there is no such file"),
        (["x", "init_image='a\0b'"], "init_image='a\\x00b': a path or a name cannot hold a NUL character."),
        (["x", "lora=a\0b"], "cannot hold a NUL character."),
        (["-m", "x", "seed=1", "sweep.dir=a\0b"], "sweep.dir='a\\x00b': a path or a name cannot hold a NUL"),
        (["caf\udce9"], "caf\\udce9: not valid UTF-8; write it in UTF-8."),
        (["x", "prompt.negative=\udce9"], "prompt.negative=\\udce9: not valid UTF-8"),
        (["-m", "x", "seed=1", "hydra.launcher._target_=no.Such"], "hydra.launcher._target_=no.Such: a class cannot"),
        (["-m", "x", "seed=1", "hydra.sweeper._target_=no.Such"], "hydra.sweeper._target_=no.Such: a class cannot"),
        (["x", "hydra.run.dir=/proc/x"], "hydra.run.dir=/proc/x: Hydra cannot do that"),
        (["x", "hydra.nope=3"], "unknown key 'hydra.nope': Hydra has no such setting."),
        (["x", "hydra.mode=X"], "hydra.mode: Hydra refuses the value"),
        (["-m", "x", "sampler.steps=4,"], "sampler.steps=4,': a comma at the end has no value beside it"),
        (["x", "seeds=[1,2,]"], "seeds=[1,2,]': a comma at the end has no value beside it"),
        (["x", "sampler.steps=,4"], "sampler.steps=,4': a comma at the beginning"),
        (["x", "seeds=3"], "seeds=3: must be a list, each item a whole number. Write seeds=[3]."),
        (["x", "seeds=abc"], "seeds=abc: must be a list, each item a whole number."),
        (["x", "sampler.sigmas=0.5"], "sampler.sigmas=0.5: must be a list, each item a number."),
        (["-m", "x", "seed=1,2", "sweep.dir=/proc/x"], "sweep.dir=/proc/x: cannot be written"),
        (["-m", "x", "strength=range(0,1,0)"], "strength=range(0,1,0): a range needs finite numbers and a step"),
        (["-m", "x", "seed=range(10000000)"], "seed=range(10000000): a range of 10,000,000 values; at most 100,000"),
        (["-m", "x", "strength=interval(0.1,1)"], "strength=interval(0.1,1): an interval has no values to list"),
        (["--hlep"], "--hlep: no such flag. Did you mean '--help'?"),
        (["--multirn", "x"], "--multirn: no such flag. Did you mean '--multirun'?"),
        (["--seed=3", "x"], "--seed=3: settings are written without hyphens, as seed=3."),
        (["--cfg", "x"], "argument --cfg/-c: invalid choice: 'x'"),
        (["--experimental-rerun", "x"], "--experimental-rerun: a pickle may run any program and is not read"),
    ],
)
def test_a_mistake_is_named_as_it_was_typed(run_main, tmp_path, arguments, message):
    (tmp_path / "twice.yaml").write_text("{settings: [seed=1, seed=2], axes: {sampler.steps: [1]}}")
    model = [] if any(a.startswith("model=") for a in arguments) else ["model=tiny"]
    code, out, err, written = run_main(*arguments, *model, "tracker=none")
    assert (code, out, written) == (2, "", [])
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_key_written_twice_alike_or_with_a_plus_is_itself(run_main):
    _, once, _, _ = run_main("x", "model=tiny", "seed=3", "dry_run=true")
    assert run_main("x", "model=tiny", "seed=3", "seed=3", "dry_run=true")[1] == once
    assert run_main("x", "model=tiny", "++seed=3", "dry_run=true")[1] == once
    code, swept, _, _ = run_main("-m", "x", "model=tiny", "++sampler.steps=1,2", "dry_run=true")
    assert (code, swept.count("sampler.steps=")) == (0, 2)


@pytest.mark.parametrize("name", ["epoch=3.png", "old (1).png", "v1#2.png", "[a].png", "it's.png"])
def test_an_axis_of_paths_takes_any_name(run_main, tmp_path, name):
    from PIL import Image

    for file, grey in ((name, 10), ("plain.png", 200)):
        Image.new("RGB", (64, 64), (grey, grey, grey)).save(tmp_path / file)
    code, out, _, _ = run_main("-m", "x", "model=tiny", f"init_image={name},plain.png", "dry_run=true")
    assert code == 0
    assert f"init_image={name}: 1 of 1 pictures" in out
    assert "init_image=plain.png: 1 of 1 pictures" in out


@pytest.mark.parametrize(
    "value",
    ["epoch=3.safetensors,none", "'epoch=3.safetensors',none", "[epoch=3.safetensors],[]", "none,old (1).safetensors"],
)
def test_an_axis_of_loras_takes_any_name(run_main, value):
    err = run_main("-m", "x", "model=tiny", f"lora={value}", "dry_run=true")[2]
    name = "old (1)" if "old" in value else "epoch=3"
    assert f"lora={name}.safetensors: there is no such file" in err


@pytest.mark.parametrize("text", ['"a", "b"', "'a' and 'b'", '"', "it's", "a, b", "\\"])
def test_a_text_is_text_whatever_quotes_it_begins_and_ends_with(text):
    assert compose([f"prompt.negative={text}"]).prompt.negative == text


def test_a_text_in_one_pair_of_quotes_is_what_is_in_them():
    assert compose(['prompt.negative="a, b"']).prompt.negative == "a, b"


def test_the_version_is_this_projects(run_main):
    from importlib.metadata import version

    assert run_main("--version")[:2] == (0, f"llm-dit {version('llm-dit')}\n")


def test_the_installed_command_speaks_of_itself():
    names = {}
    for name, start in (("run.py", [ROOT / "experiments" / "run.py"]), ("llm-dit", [])):
        script = [sys.executable, *start] if start else [Path(sys.executable).with_name("llm-dit")]
        if not Path(script[0]).exists():
            pytest.skip("the package's own command is not installed here")
        said = subprocess.run([*script, "--help"], capture_output=True, text=True, check=True).stdout
        names[name] = (f'  {name} "a red apple, 3d style' in said, said.count("run.py"))
    assert names["run.py"][0]
    assert names["llm-dit"] == (True, 0)


def test_a_terminal_without_utf_8_is_told_how_to_be_understood(tmp_path):
    import os

    plain = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONIOENCODING"))}
    done = subprocess.run(
        [sys.executable, ROOT / "experiments" / "run.py", "\u72d0\u72f8".encode(), "model=tiny"],
        env=plain | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"set LC_ALL=C.UTF-8 or PYTHONUTF8=1" in done.stderr
