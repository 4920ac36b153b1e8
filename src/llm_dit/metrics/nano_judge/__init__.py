"""nano's judge: network, arithmetic on what it sees, words of prompts, and the metric made of them."""

from llm_dit.metrics.nano_judge.metric import WEIGHTS, NanoJudge
from llm_dit.metrics.nano_judge.words import KINDS, Vocabulary

__all__ = ["KINDS", "WEIGHTS", "NanoJudge", "Vocabulary"]
