"""The single entry point: uv run experiments/run.py "a red apple, 3d style, blue background" seed=7"""

import sys

from llm_dit.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
