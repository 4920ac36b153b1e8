"""Hydra's way in for sweeps: `hydra/sweeper=study`, the default. Finds the plugin, hands over to llm_dit.study.run."""

# No `from __future__ import annotations`: Hydra loads plugins outside sys.modules, where dataclasses cannot resolve it.
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class StudySweeperConf:
    _target_: str = "hydra_plugins.llm_dit_sweeper.StudySweeper"


ConfigStore.instance().store(group="hydra/sweeper", name="study", node=StudySweeperConf, provider="llm-dit")


class StudySweeper(Sweeper):
    """Combinations, zipped axes and single cells, from the command line or a study's file, through any launcher."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from hydra.core.override_parser.overrides_parser import OverridesParser

        from llm_dit.study.run import run_sweep

        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return run_sweep(parser, arguments, self.config, lambda jobs: self.launcher.launch(jobs, initial_job_idx=0))
