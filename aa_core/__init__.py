"""Games, credit and losses of two papers on opponent shaping.

AA is *Advantage Alignment Algorithms* (arXiv 2406.14662); LLM is *Learning Robust Social Strategies with Large
Language Models* (arXiv 2511.19405).

Letters in shape comments: B batch (games), S seeds, P players, N games of one seed, T time, K states of a table.
Player 1 is "own" or `policy`, the other one `co_player`. Actions: C = 0, D = 1.
"""

import os

__version__ = "0.1.0"
HEADLESS = bool(os.environ.get("AA_HEADLESS"))  # no progress bars and no widgets: their output would be kept
