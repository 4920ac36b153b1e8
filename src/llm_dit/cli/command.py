"""The command line: one entry point, `run.py` or `llm-dit`, over Hydra. Errors are one line and exit code 2."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from llm_dit.base.errors import LabError

# Asked for by the user, before run_hydra sets the variable for Hydra.
SHOW_TRACEBACKS = os.environ.get("HYDRA_FULL_ERROR") == "1"


def main(argv: Sequence[str] | None = None, patience: float | None = None) -> int:
    """Run one task, or with -m one for each combination of the swept values. Returns the exit code.

    patience: seconds after which a stage that lasts is told on stderr; None is 1 s for a command, never for a caller
    that gives argv.
    """
    from llm_dit.base.errors import LabError
    from llm_dit.cli.notices import PATIENCE, told_stages

    arguments = list(sys.argv[1:] if argv is None else argv)
    quiet_libraries()
    tolerate_output()
    try:
        refuse_undecodable(arguments)
        with told_stages(PATIENCE if argv is None and patience is None else patience):
            return run_hydra(arguments)
    except LabError as error:
        return report(error)
    except SystemExit as end:  # Hydra's --help and --version, and argparse's own errors
        return end.code if isinstance(end.code, int) else 2 if end.code else 0
    except KeyboardInterrupt as stop:
        print(stop if stop.args else "stopped; the same command continues a sweep", file=sys.stderr)
        return 130
    except Exception as error:
        return report_fault(error)


def report(error: LabError) -> int:
    """Print an error for a person. Returns the exit code."""
    from llm_dit.base.errors import printable

    print(f"error: {printable(error)}", file=sys.stderr)
    return error.exit_code


def report_fault(error: Exception) -> int:
    """Print an error that is no user's doing as one line, with its traceback in a file. Returns the exit code.

    With HYDRA_FULL_ERROR=1 the traceback is shown instead.
    """
    import tempfile
    import traceback

    from llm_dit.base.errors import printable

    text = "".join(traceback.format_exception(error))
    if SHOW_TRACEBACKS:
        print(text, file=sys.stderr, end="")
        return 1
    with tempfile.NamedTemporaryFile(
        "w", prefix="llm-dit-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
    ) as file:
        file.write(text)
    what = printable(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    print(f"error: a fault of llm-dit, not of the command ({what}); the traceback is in {file.name}", file=sys.stderr)
    return 1


def refuse_undecodable(arguments: list[str]) -> None:
    """Raise ConfigError for an argument of bytes that are no text in the terminal's encoding."""
    from llm_dit.base.errors import ConfigError

    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            shown = argument.encode("ascii", "backslashreplace").decode()[:60]
            encoding = sys.getfilesystemencoding()
            remedy = (
                "write it in UTF-8"
                if encoding == "utf-8"
                else f"the terminal's encoding is {encoding}: set LC_ALL=C.UTF-8 or PYTHONUTF8=1"
            )
            raise ConfigError(f"{shown}: not valid {encoding.upper()}; {remedy}.") from error


def tolerate_output() -> None:
    """What the terminal's encoding lacks is printed as an escape rather than an end to the program."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def run_hydra(arguments: list[str]) -> int:
    """Compose with Hydra's own command line and call the job."""
    import hydra

    from llm_dit.base.errors import LabError
    from llm_dit.compose import HYDRA_ERRORS, conf_dir, explain

    if asks_for_version(arguments):
        from llm_dit.base.versions import versions

        print(f"llm-dit {versions()['llm-dit']}")
        return 0
    sys.argv = ["run.py", *hydra_arguments(arguments)]
    # Hydra prints tracebacks of its own unless told to let errors through; main() prints one line instead.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    decorated = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(job)
    try:
        decorated()
    except LabError:
        raise
    except Exception as error:
        if not raised_by_hydra(error):
            raise
        if isinstance(error, HYDRA_ERRORS):
            raise explain(error) from error
        raise refused_by_hydra(error, arguments) from error
    return 0


def asks_for_version(arguments: list[str]) -> bool:
    """Whether --version, or its beginning, is among the flags."""
    flags = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return any(len(a) > 3 and "--version".startswith(a) for a in flags)


def refused_by_hydra(error: Exception, arguments: list[str]) -> LabError:
    """The error for what Hydra itself could not do: a folder that cannot be made, a class that is not there."""
    from llm_dit.base.errors import ConfigError, told

    given = [a for a in arguments if a.lstrip("+~").startswith(("hydra.", "hydra/", "--"))]
    return ConfigError(f"{', '.join(given) or 'Hydra'}: Hydra cannot do that ({told(error, 200)}).")


def job(composed) -> Any:
    """One job of Hydra: a composed config to a finished task, or to a cell of a sweep and what became of it."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from llm_dit.base.errors import LabError
    from llm_dit.base.stages import STAGES
    from llm_dit.compose import check

    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN:
        STAGES.info("cell %d: loading", int(hydra_config.job.num) + 1)
        from llm_dit.study.axes import numbers_as_written
        from llm_dit.study.job import cell_job, refused_job

        try:
            config = numbers_as_written(check(composed))
        except LabError as error:  # this cell's settings contradict each other; the others go on
            return refused_job(error, hydra_config, composed)
        return cell_job(config, hydra_config)
    try:
        config = check(composed)
        STAGES.info("task=%s: loading PyTorch, then %s", config.task, config.model.path)
        from llm_dit.cli.tasks import run_task

        run_task(config, list(hydra_config.overrides.task))
    except LabError as error:
        raise SystemExit(report(error)) from error
    return None


def hydra_arguments(arguments: list[str]) -> list[str]:
    """Arguments for Hydra: its flags as they are, the bare argument as a quoted prompt, sweep=NAME as a multirun."""
    from hydra._internal.utils import get_args_parser

    from llm_dit.base.errors import ConfigError
    from llm_dit.base.paths import command_name
    from llm_dit.compose import prepare_overrides
    from llm_dit.compose.given import refuse_contradictions

    cut = arguments.index("--") if "--" in arguments else len(arguments)
    before, verbatim = arguments[:cut], arguments[cut:]
    parser = get_args_parser()
    parser.error = refuse_flag
    parsed = parser.parse_intermixed_args(before)
    if parsed.experimental_rerun:
        raise ConfigError("--experimental-rerun: a pickle may run any program and is not read; use from_image=PICTURE.")
    if parsed.help:
        before = [f"hydra.help.app_name={command_name()}", *before]
        parsed = parser.parse_intermixed_args(before)
    refuse_contradictions(parsed.overrides)
    left = list(parsed.overrides)
    flags = []
    for argument in before:
        if argument in left:
            left.remove(argument)
        else:
            flags.append(argument)
    overrides = [f"sweep.file={o[6:]}" if o.startswith("sweep=") else o for o in parsed.overrides]
    study = overrides != parsed.overrides
    # A set of prompts is a sweep of one cell even when nothing else varies.
    other_task = parsed.cfg or any(o.startswith("task=") and o != "task=render" for o in overrides)
    chosen = any(o.startswith(("sweep.file=", "prompts=", "prompts.")) and o != "prompts=none" for o in overrides)
    if chosen and not parsed.multirun and not other_task:
        flags.append("--multirun")
    prepared = prepare_overrides([*overrides, *verbatim], sweep=study or parsed.multirun)
    if any(o.startswith("hydra/sweeper=") and o != "hydra/sweeper=study" for o in prepared):
        prepared += search_settings(prepared)
    return flags + prepared


def refuse_flag(message: str) -> NoReturn:
    """Hydra's parser of flags calls this for one that it cannot read. Raises ConfigError with the nearest flag."""
    from dataclasses import fields

    from llm_dit.base.errors import ConfigError, nearest
    from llm_dit.config import Config

    unknown = message.partition("unrecognized arguments: ")[2].split()
    if not unknown:
        raise ConfigError(f"{message}.")
    flag, _, value = unknown[0].partition("=")
    key = flag.lstrip("-").replace("-", "_")
    if value or key in {f.name for f in fields(Config)}:
        raise ConfigError(f"{unknown[0]}: settings are written without hyphens, as {key}={value or 'VALUE'}.")
    flags = ("--help", "--version", "--multirun", "--cfg", "--resolve", "--package", "--info", "--hydra-help",
             "--config-dir", "--config-name", "--config-path", "--shell-completion", "--run")  # fmt: skip
    raise ConfigError(f"{unknown[0]}: no such flag. {nearest(flag, flags)}")


def search_settings(overrides: list[str]) -> list[str]:
    """What another sweeper than ours needs beside its own settings: it does not say what it varies, nor where it goes.

    Raises ConfigError for settings that only a list of cells known beforehand can follow.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from llm_dit.base.errors import ConfigError
    from llm_dit.compose import HYDRA_ERRORS, explain
    from llm_dit.study.search import refuse_study, search_name, searched_axes

    quiet_optuna()
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HYDRA_ERRORS as error:
        raise explain(error) from error
    fixed = {o.get_key_element(): o.get_value_element_as_str() for o in parsed if not o.is_sweep_override()}
    values = {o.get_key_element(): o.value() for o in parsed if not o.is_sweep_override()}
    if values.get("sweep.file"):
        refuse_study(str(values["sweep.file"]))
    if values.get("dry_run"):
        raise ConfigError("dry_run lists a sweep's cells; a search chooses its cells as it goes.")
    if values.get("resume") is False:
        raise ConfigError(
            "resume=false: a search keeps the pictures of its sweep.name and begins its trials anew anyway; "
            "to draw afresh, give it another sweep.name."
        )
    axes = searched_axes(parsed)
    named = [] if values.get("sweep.name") else [f"sweep.name={search_name(fixed, axes)}"]
    return [f"sweep.axes=[{','.join(axes)}]", *named, "hydra.sweep.dir=${sweep.dir}/${sweep.name}"]


def raised_by_hydra(error: BaseException) -> bool:
    """Whether an exception came out of what Hydra, OmegaConf or Optuna did, rather than a task of this project."""
    trace, ours, theirs = error.__traceback__, -1, -1
    depth = 0
    while trace:
        root = str(trace.tb_frame.f_globals.get("__name__", "")).split(".")[0]
        if root in ("llm_dit", "hydra_plugins"):
            ours = depth
        elif root in ("hydra", "omegaconf", "antlr4", "optuna"):
            theirs = depth
        trace, depth = trace.tb_next, depth + 1
    return theirs > ours


def quiet_libraries() -> None:
    """Libraries speak through this project's own messages; a download's progress is for terminals alone."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def quiet_optuna() -> None:
    """The sweeper's plugin uses what Optuna has deprecated and repeats each failure; Optuna announces each study."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="optuna|hydra_plugins.hydra_optuna_sweeper")
    logging.getLogger("hydra_plugins.hydra_optuna_sweeper").setLevel(logging.CRITICAL)
    with contextlib.suppress(ImportError):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)


def console() -> None:
    """The installed command `llm-dit`."""
    sys.exit(main())


if __name__ == "__main__":
    console()
