"""Whole trainings of the tiny model: what they learn, kills and resumes, checkpoints, and what is refused."""

from __future__ import annotations

import json
import os
import signal
from importlib.util import find_spec

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from small_training import MemoryData, log_of, make_data, same, settings, small_start, state_of, without_seconds

from llm_dit.base.errors import LabError, OutputError
from llm_dit.base.lock import locked
from llm_dit.compose import compose, conf_dir
from llm_dit.config import to_dict
from llm_dit.records.picture import identity
from llm_dit.trackers.base import GuardedTracker, NoTracker
from llm_dit.train.checkpoint import checkpoints
from llm_dit.train.task import train
from llm_dit.train.validate import check_validation


def in_child(work):
    """Run work in a forked process. Returns how it ended, as os.waitstatus_to_exitcode says it."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Killing:
    """A data set that kills its process, as kill -9 would, when a step's batch is asked for."""

    def __init__(self, data, step):
        self.data, self.step = data, step

    def __getattr__(self, name):
        return getattr(self.data, name)

    def batch(self, step, *rest):
        if step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.data.batch(step, *rest)


class Interrupting(Killing):
    """A data set that presses Ctrl-C instead."""

    def batch(self, step, *rest):
        if step == self.step:
            os.kill(os.getpid(), signal.SIGINT)
        return self.data.batch(step, *rest)


# Not among the development packages: diffusers imports it with every picture, which takes seconds. CI has it for this.
NEEDS_BITSANDBYTES = pytest.mark.skipif(not find_spec("bitsandbytes"), reason="needs: uv sync --extra adamw8bit")
MIXED = [
    "train.steps=7", "train.checkpoint_every=3", "train.log_every=2", "train.ema_decay=0.9", "train.accumulation=2",
         "train.scheduler=cosine", "train.caption_dropout=0.3"]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("full", ["train.optimizer=muon"]),
        pytest.param("full", ["train.optimizer=adamw8bit"], marks=NEEDS_BITSANDBYTES, id="full-adamw8bit"),
        ("lora", ["train.lora.dropout=0.2", "train.gradient_checkpointing=true"]),
    ],
)
def test_a_killed_training_that_goes_on_equals_an_unbroken_one(method, more, tmp_path):
    overrides = [f"train.method={method}", *MIXED, *more]
    data = make_data(empty=40)  # pads to another length than the captions
    train(settings(tmp_path / "whole", *overrides), dataset=data)
    broken = settings(tmp_path / "broken", *overrides)
    for step in (2, 5, 6):  # before the first checkpoint, between two, after the last
        assert in_child(lambda step=step: train(broken, dataset=Killing(data, step))) == -signal.SIGKILL
    train(broken, dataset=data)
    assert same(state_of(tmp_path / "whole"), state_of(tmp_path / "broken"))
    assert without_seconds(log_of(tmp_path / "whole")) == without_seconds(log_of(tmp_path / "broken"))
    assert [line["step"] for line in log_of(tmp_path / "broken")] == [2, 4, 6, 7]


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    data, config = make_data(), settings(tmp_path, "train.steps=4", "train.checkpoint_every=2", "train.ema_decay=0.5")
    from llm_dit.train import checkpoint

    write, count = checkpoint.write_tensors, []

    def fatal(*arguments):
        write(*arguments)
        count.append(1)
        if len(count) == 5:  # of six: three a checkpoint
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(checkpoint, "write_tensors", fatal)
    assert in_child(lambda: train(config, dataset=data)) == -signal.SIGKILL
    assert [p.name for p in checkpoints(tmp_path / "t" / "checkpoints")] == ["step-00000002"]
    monkeypatch.undo()
    train(config, dataset=data)
    assert [p.name for p in sorted((tmp_path / "t" / "checkpoints").iterdir())] == ["step-00000002", "step-00000004"]


def test_ctrl_c_saves_and_says_so(tmp_path):
    data, config = make_data(), settings(tmp_path, "train.steps=9")
    before = signal.getsignal(signal.SIGINT)  # ignored where the tests run in a shell's background
    with pytest.raises(KeyboardInterrupt, match=r"stopped after step \d of 9, .*the same command continues"):
        train(config, dataset=Interrupting(data, 3))
    stopped = int(checkpoints(tmp_path / "t" / "checkpoints")[-1].name[-1])
    assert stopped < 9
    assert signal.getsignal(signal.SIGINT) == before
    train(config, dataset=data)
    train(settings(tmp_path / "whole", "train.steps=9"), dataset=data)
    assert same(state_of(tmp_path), state_of(tmp_path / "whole"))


def test_one_picture_is_learnt(tmp_path):
    """The loss falls to a tenth (measured: to a 69th), and the sampler then draws that picture's latents from noise."""
    one = make_data(count=1, side=4)
    data = MemoryData(one.latents[:, :4].repeat(8, 1, 1, 1), one.captions * 8, one.empty_embeds)
    start = small_start(tmp_path / "start")
    config = settings(
        tmp_path, f"train.init={start}", "train.steps=150", "train.batch_size=8", "train.optimizer=muon",
        "train.learning_rate=0.01", "train.other_learning_rate=0.01", "train.scheduler=trapezoid",
        "train.warmup_steps=10", "train.shift=2", "train.caption_dropout=0", "train.log_every=10",
    )  # fmt: skip
    train(config, dataset=data)
    losses = [line["loss"] for line in log_of(tmp_path)]
    assert losses[-1] < 0.1 * losses[0]
    assert away(draw_latents(tmp_path / "t", data), data) < 0.1
    assert away(draw_latents(start, data), data) > 0.9


def away(drawn, data):
    """Squared distance of drawn latents from the picture's, as a share of the picture's own."""
    return ((drawn - data.latents[0]).square().mean() / data.latents[0].square().mean()).item()


def draw_latents(path, data):
    """Latents from noise, by the velocity and the sampler that pictures are drawn with."""
    from llm_dit.diffusion.noise import draw_noise, seeded_generator
    from llm_dit.diffusion.samplers import SAMPLERS
    from llm_dit.diffusion.sigmas import flow_sigmas
    from llm_dit.families.z_image.load import load_transformer
    from llm_dit.families.z_image.velocity import ZImageVelocity
    from llm_dit.weights.place import Placement

    transformer = load_transformer(compose(["model=tiny", f"model.path={path}"]).model, Placement("cpu", "float32"))
    with torch.inference_mode():
        start = draw_noise([seeded_generator(12_345)], data.latents.shape[1:])
        velocity = ZImageVelocity(transformer, data.captions[0])
        return SAMPLERS["flow_euler"](velocity, start, flow_sigmas(12, 1.0), None)[0].clone()


def test_the_result_is_a_whole_model_with_its_origin_in_the_header(tmp_path):
    from llm_dit.render.draw import render

    data = make_data()
    saved = train(settings(tmp_path, "train.steps=2", "train.ema_decay=0.9"), dataset=data)
    before = render(compose(["model=tiny", "hardware=cpu", "x"]))[0].record
    after = render(compose(["model=tiny", "hardware=cpu", f"model.path={saved}", "x"]))[0].record
    assert before["model_fingerprint"]["transformer"] != after["model_fingerprint"]["transformer"]
    assert before["model_fingerprint"]["vae"] == after["model_fingerprint"]["vae"]
    assert before["formatted_prompt"] == after["formatted_prompt"]
    with safe_open(saved / "transformer" / "diffusion_pytorch_model.safetensors", "pt") as file:
        told = json.loads(file.metadata()["llm_dit"])
        assert torch.equal(
            file.get_tensor("layers.0.attention.to_q.weight"),
            load_file(checkpoints(saved / "checkpoints")[-1] / "average.safetensors")["layers.0.attention.to_q.weight"],
        )
    assert (told["step"], told["data_fingerprint"], told["settings"]["train.ema_decay"]) == (2, "memory", 0.9)
    record = json.loads((saved / "train.json").read_text())
    assert record["cost"]["pictures_seen"] == 4
    assert record["config"]["train"]["steps"] == 2
    assert (record["problems"], record["notes"]) == ([], ["one was turned"])


def test_what_is_saved_does_not_name_the_folder_it_was_read_from(tmp_path):
    first = train(settings(tmp_path, "train.steps=1"), dataset=make_data())
    again = settings(tmp_path, "train.steps=1", "train.name=again", f"model.path={first}")
    saved = train(again, dataset=make_data())
    assert str(tmp_path) not in (saved / "transformer" / "config.json").read_text()
    assert json.loads((saved / "transformer" / "config.json").read_text())["_class_name"] == "ZImageTransformer2DModel"


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    (tmp_path / "t").mkdir()
    again = settings(tmp_path, "train.steps=1")
    with locked(tmp_path / "t" / "lock"), pytest.raises(OutputError, match="another process trains there"):
        train(again, dataset=make_data())
    assert [p.name for p in (tmp_path / "t").iterdir()] == ["lock"]
    train(again, dataset=make_data())


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    train(settings(tmp_path, "train.steps=6", "train.checkpoint_every=1", "train.keep=2"), dataset=make_data())
    assert [p.name[-1] for p in checkpoints(tmp_path / "t" / "checkpoints")] == ["5", "6"]


def test_a_checkpoint_of_an_adapter_holds_the_adapter_alone(tmp_path):
    train(settings(tmp_path, "train.method=lora", "train.steps=1"), dataset=make_data())
    names = load_file(checkpoints(tmp_path / "t" / "checkpoints")[0] / "weights.safetensors").keys()
    assert len(names) == 3 * 4 * 2
    assert all("lora_" in name for name in names)


def test_other_settings_or_data_are_refused_by_name(tmp_path):
    data = make_data()
    train(settings(tmp_path, "train.steps=1"), dataset=data)
    with pytest.raises(LabError, match=r"train\.seed was 42, is 7.*train\.name"):
        train(settings(tmp_path, "train.steps=2", "train.seed=7"), dataset=data)
    data.fingerprint = "other"
    with pytest.raises(LabError, match=r"data\.path"):
        train(settings(tmp_path, "train.steps=2"), dataset=data)
    data.fingerprint = "memory"
    train(settings(tmp_path, "train.steps=2", "train.keep=5"), dataset=data)  # longer is no other training
    assert len(log_of(tmp_path)) == 2
    train(settings(tmp_path, "train.steps=1", "train.seed=7", "resume=false"), dataset=data)
    assert (tmp_path / "t-2" / "train.json").is_file()


def test_a_full_disk_is_one_line_and_leaves_no_half_checkpoint(small_disk):
    with pytest.raises(LabError, match=r"the checkpoint cannot be written \(.*; earlier ones are whole"):
        train(settings(small_disk, "train.steps=1"), dataset=make_data())
    assert not [p for p in (small_disk / "t" / "checkpoints").iterdir() if "step" in p.name]


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    train(settings(tmp_path, "train.steps=1"), dataset=make_data())
    path = checkpoints(tmp_path / "t" / "checkpoints")[0] / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(LabError, match=r"damaged.*Delete the checkpoint"):
        train(settings(tmp_path, "train.steps=2"), dataset=make_data())


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path):
    data = make_data()

    class Broken(Killing):
        def batch(self, step, *rest):
            batch = self.data.batch(step, *rest)
            if step >= self.step:
                batch.latents = batch.latents * float("nan")
            return batch

    config = settings(tmp_path, "train.steps=9", "train.checkpoint_every=2", "train.log_every=100")
    with pytest.raises(LabError, match="the loss of step 4 is not finite; the last checkpoint is kept"):
        train(config, dataset=Broken(data, 3))
    assert [p.name[-1] for p in checkpoints(tmp_path / "t" / "checkpoints")] == ["2"]


@pytest.mark.parametrize("name", sorted(p.stem for p in conf_dir().glob("experiment/*.yaml")))
def test_every_experiment_composes_and_is_no_part_of_a_picture(name):
    config = compose(["task=train", f"experiment={name}"])
    check_validation(config)
    assert "experiment" not in to_dict(config)
    if name == "none":
        assert identity(config) == identity(compose([]))


def test_validation_draws_with_the_average_and_changes_nothing(tmp_path):
    data, shared = make_data(), ["train.steps=4", "train.ema_decay=0.9", "prompts.set=starter", "prompts.count=2"]
    validated = ["train.validate_every=2", "metrics=[sharpness,entropy]", "seeds=[3,4]", "sampler.steps=2"]
    train(settings(tmp_path, *shared, *validated), dataset=data)
    train(settings(tmp_path / "plain", *shared), dataset=data)
    assert same(state_of(tmp_path), state_of(tmp_path / "plain"))
    scores = [line.get("score_sharpness") for line in log_of(tmp_path)]
    assert [score is None for score in scores] == [True, False, True, False]
    folder = tmp_path / "t" / "validation"
    assert sorted(p.name for p in folder.glob("*.png")) == ["step-00000002.png", "step-00000004.png"]
    records = [json.loads(line) for line in (folder / "cells/step-00000004/records.jsonl").read_text().splitlines()]
    assert [(r["seed"], r["axes"]) for r in records] == [(s, {"train.step": "4"}) for _ in range(2) for s in (3, 4)]
    # The pictures are those of the model that was saved, which is the average.
    again = ["model=tiny", "hardware=cpu", f"model.path={tmp_path / 't'}", "sampler.steps=2", "seed=3"]
    from llm_dit.render.draw import render

    assert render(compose(again, prompt=records[0]["prompt"]))[0].record["pixels_sha256"] == records[0]["pixels_sha256"]
    # and the folder is a sweep like any other
    from llm_dit.cli.tasks import run_task

    run_task(compose(["model=tiny", "task=grid", f"sweep.dir={tmp_path / 't'}", "sweep.name=validation"]))
    assert list((folder / "grids").glob("*.png"))


def test_a_validation_that_fails_is_one_warning(tmp_path, monkeypatch, capsys):
    from llm_dit.train import validate

    def refuse(*_):
        raise LabError("no such word")

    monkeypatch.setattr(validate, "score_cell", refuse)
    drawn = ["prompt.text=x", "sampler.steps=1", "train.validate_every=1", "metrics=sharpness"]
    train(settings(tmp_path, "train.steps=1", *drawn), dataset=make_data())
    assert "warning: the validation of step 1 failed, training goes on: no such word" in capsys.readouterr().err


def test_a_tracker_is_told_the_log_once_also_of_a_training_that_goes_on(tmp_path, monkeypatch):
    from llm_dit.train import tracking

    told = []

    class Noting(NoTracker):
        def start_cell(self, sweep, cell, config, label=""):
            told.append((sweep, cell))

        def log_values(self, step, values):
            told.append((step, sorted(values)[:2]))

        def finish_cell(self, status, scores=None):
            told.append(status)

    monkeypatch.setattr(tracking, "make_tracker", lambda *a: GuardedTracker("x", Noting()))
    config = settings(tmp_path, "train.steps=3", "train.checkpoint_every=1", "tracker=trackio")
    with pytest.raises(KeyboardInterrupt):
        train(config, dataset=Interrupting(make_data(), 2))
    first = [step for step, _ in told[1:-1]]
    assert (told[0], told[-1]) == (("train", "t"), "failed")
    told.clear()
    train(config, dataset=make_data())
    assert first in ([1], [1, 2])
    assert told[1:-1] == [(step, ["grad_norm", "learning_rate"]) for step in (1, 2, 3)]
    assert told[-1] == "complete"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["long_prompt=extend", "long_prompt.positions=ntk"], "plain positions"),
        (["train.name=a/b"], "train.name='a/b': not a plain name"),
        (["train.trainable=layer.0.*"], r"train.trainable=layer.0.*: nothing to train"),
        (["train.trainable=layers"], r"must match whole names, such as 'layers\.0\.\S+'"),
        (["train.trainable='('"], "not a regular expression"),
        (
            ["train.method=lora", "train.lora.targets=adaLN"],
            r"whole names, such as '\S+adaLN_modulation\.\d'",
        ),
        (["train.validate_every=1"], "needs something to draw"),
        (["train.batch_size=5"], "the data have 4 pictures"),
        (["train.init=nowhere"], "train.init=nowhere: there is no such folder"),
        (["train.precision=fp16"], "float16 overflows"),
        (["train.method=ful"], "Did you mean 'full'"),
        (["lora=somewhere.safetensors"], "training starts from the model without LoRAs"),
        (["emphasis=attention"], "captions are trained on as they stand; leave it out, or take emphasis=none"),
        (["mix=slerp", "mix.text=pears"], "mix=none"),
        (["diversity.embed_strength=1"], "diversity=none"),
    ],
)
def test_what_is_refused(overrides, message, tmp_path):
    with pytest.raises(LabError, match=message):
        train(settings(tmp_path, *overrides), dataset=make_data())


def test_without_data_there_is_one_line(run_main):
    code, _, error, written = run_main("task=train", "model=tiny", "hardware=cpu")
    assert code == 2
    assert "needs data: data=PATH" in error
    assert error.count("\n") == 1
    assert written == []


def test_a_random_start_and_another_architecture(tmp_path):
    from llm_dit.families.z_image.tiny import tiny_transformer

    data = make_data()
    train(settings(tmp_path / "a", "train.start=random", "train.steps=1"), dataset=data)
    train(settings(tmp_path / "b", "train.start=random", "train.steps=1"), dataset=data)
    train(settings(tmp_path / "c", "train.steps=1"), dataset=data)
    a, b, c = (load_file(tmp_path / x / "t/transformer/diffusion_pytorch_model.safetensors") for x in "abc")
    name = "layers.0.attention.to_q.weight"
    assert torch.equal(a[name], b[name])
    assert not torch.allclose(a[name], c[name], atol=0.05)
    smaller = type(tiny_transformer()).from_config({**tiny_transformer().config, "n_layers": 1})
    smaller.save_pretrained(tmp_path / "small" / "transformer")
    for init in ("small", "small/transformer"):
        saved = train(
            settings(tmp_path / init.replace("/", "_"), f"train.init={tmp_path / init}", "train.steps=1"), dataset=data
        )
        assert "layers.1.attention.to_q.weight" not in load_file(
            saved / "transformer/diffusion_pytorch_model.safetensors"
        )


def test_a_training_shorter_than_log_every_tells_its_loss_at_both_ends(tmp_path, capsys):
    train(settings(tmp_path, "train.steps=3", "train.log_every=100"), dataset=make_data())
    told = [line.split()[1] for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    assert told == ["1/3", "3/3"]
    assert [line["step"] for line in log_of(tmp_path)] == [3]
