"""A laboratory for image models whose text encoder is an LLM.

from llm_dit.compose import compose
from llm_dit.render import render

picture = render(compose(["a red apple, 3d style, blue background", "seed=7"]))[0]
"""
