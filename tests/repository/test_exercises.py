"""Checks of exercises let the solution pass, and answers that look right and are wrong do not pass."""

from __future__ import annotations

import ast
from typing import Any

import nbformat
import pytest

from experiments import registry
from experiments.course import exercises

# (notebook, exercise): an answer that a student may well give, and names of the notebook that the check needs
WRONG = {
    ("00", 2): (
        "def just_in_time(A1, A2, beta, gamma):  # the past without the present round\n"
        "    past = [sum(gamma ** (t - k) * A1[k] for k in range(t)) for t in range(len(A1))]\n"
        "    return [A1[t] + beta * past[t] * A2[t] for t in range(len(A1))]",
        ("A1", "A2", "gamma"),
    ),
    ("01", 1): (
        "def kind_of_game(R, S, T, P):  # greed and fear alone\n"
        "    names = {(1, 1): \"prisoner's dilemma\", (1, 0): 'chicken', (0, 1): 'stag hunt', (0, 0): 'no dilemma'}\n"
        "    return names[int(T > R), int(P > S)]",
        (),
    ),
    ("02", 4): (
        "def final_reward(step_size, logits, co_logits, learning_rate=0.3):  # the other one is naive\n"
        "    mine = lambda x, y: exact.lola_gradient(x, y, game, gamma, step_size)\n"
        "    other = lambda x, y: exact.naive_gradient(x, y, game, gamma)\n"
        "    ends = [p[-1].sigmoid() for p in exact.ascend(mine, other, logits, co_logits, 150, learning_rate, 150)]\n"
        "    return exact.values(*ends, game, gamma, per_round=True).mean().item()",
        ("game", "gamma"),
    ),
    ("03", 3): (
        "def flipping_beta(own, other, gamma):  # read off the slider\n    return 0.51",
        ("gamma",),
    ),
    ("04", 1): (
        "def reward_with_slips(name, slip):  # another discount\n"
        "    noisy = (1 - slip) * strategy(name) + slip * (1 - strategy(name))\n"
        "    return exact.values(noisy, noisy, matched, 0.9, per_round=True)[0].item()",
        ("matched",),
    ),
    ("05", 3): (
        "def answered(met, within=4):  # without the control\n"
        "    stolen = (met.reward_1 == 1) & (met.reward_2 == -2)\n"
        "    ahead = [stolen.groupby(met.game).shift(-k, fill_value=False) for k in range(1, within + 1)]\n"
        "    return float(pd.concat(ahead, axis=1).any(axis=1)[met.reward_1 == -2].mean()), 0.0",
        (),
    ),
    ("06", 1): (
        "amounts = np.linspace(0, 5, 51)\nearned = 0.3 * amounts / 5  # a straight line",
        ("profile", "size", "game", "expected", "exact"),
    ),
    ("06", 3): (
        "def greed(met, player):\n"
        "    return met[f'claim_{player}_1']\n"
        "def echo(met, lag):  # what both drift to is left in\n"
        "    return float(greed(met, 1).corr(greed(met, 2).groupby(met.game).shift(lag)))",
        (),
    ),
    ("07", 1): (
        "def keeps(patch):  # the other way round\n"
        "    by_keep = patch.set_index('keep')\n"
        "    return int(by_keep.at_random.idxmax()), int(by_keep.chosen.idxmax())",
        (),
    ),
    ("07", 2): ("ring = torch.eye(7).roll(-1, 1)  # for the one to the left", ()),
    ("09", 2): (
        "def leave_one_out(returns):  # the mean of all\n"
        "    return [g - sum(returns) / len(returns) for g in returns]",
        (),
    ),
    ("10", 1): (
        "def first_round_credits(own, other, beta, gamma):  # with the leading discount\n"
        "    return own[0].item(), (own[0] + beta * gamma * own[0] * other[0]).item()",
        (),
    ),
    ("10", 2): (
        "def cooperation_with_slips(probabilities, slip, rounds=2000):  # the other one sees CD as CD\n"
        "    p = torch.tensor(probabilities, dtype=torch.float64) * (1 - 2 * slip) + slip\n"
        "    total, joint = 0.0, torch.stack([p[0]**2, p[0] * (1 - p[0]), (1 - p[0]) * p[0], (1 - p[0])**2])\n"
        "    for _ in range(rounds):\n"
        "        total += (joint[0] + (joint[1] + joint[2]) / 2).item()\n"
        "        q = p[1:]\n"
        "        joint = torch.stack([(joint * b).sum() for b in (q * q, q * (1 - q), (1 - q) * q, (1 - q) ** 2)])\n"
        "    return total / rounds",
        (),
    ),
    ("10", 4): ("def threshold(own, alignment):  # whoever is greedy\n    return abs(own / alignment)", ()),
    ("11", 1): ("def joint_points(claim):  # a straight line\n    return 100 - 4.5 * claim", ()),
}  # fmt: skip


def run(source: str, space: dict[str, Any]) -> None:
    exec(compile(source, "<cell>", "exec"), space)


def before(cells: list[nbformat.NotebookNode], names: tuple[str, ...]) -> dict[str, Any]:
    """What code cells import, and these names: nothing is trained or drawn."""
    space: dict[str, Any] = {"__name__": "notebook"}
    for cell in cells:
        if cell.cell_type != "code" or "BEGIN SOLUTION" in cell.source:
            continue
        for part in ast.parse(cell.source).body:
            named = {
                node.id for node in ast.walk(part) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            }
            named = named if isinstance(part, ast.Assign) else {getattr(part, "name", "")}
            if named & set(names) or isinstance(part, ast.Import | ast.ImportFrom):
                run(ast.unparse(part), space)
    return space


@pytest.mark.parametrize(("number", "count"), WRONG, ids=lambda value: str(value))
def test_a_likely_mistake_is_refused(number: str, count: int) -> None:
    cells = nbformat.read(registry.NOTEBOOKS[number].path, as_version=4).cells
    answer, check = exercises(nbformat.v4.new_notebook(cells=cells))[count - 1]
    wrong, names = WRONG[number, count]
    parts = ast.parse(cells[check].source).body
    last = max(index for index, part in enumerate(parts) if any(isinstance(x, ast.Assert) for x in ast.walk(part)))
    checked = ast.unparse(ast.Module(parts[: last + 1], []))
    space = before(cells[:answer], names)
    run(f"{cells[answer].source}\n{checked}", dict(space))
    with pytest.raises(AssertionError):
        run(f"{wrong}\n{checked}", dict(space))
