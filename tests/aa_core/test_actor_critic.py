from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor
from torch.distributions import AffineTransform, Normal, TanhTransform, TransformedDistribution

from aa_core.actor_critic import ActorCritic, Network, Seen, Spaces, load, save
from aa_core.games.coin import CoinGame
from aa_core.games.harvest import HarvestGame
from aa_core.games.matrix import CLASSIC_PAYOFFS, MatrixGame
from aa_core.games.negotiation import NegotiationGame

GAMES = {"coin": CoinGame(), "negotiation": NegotiationGame(), "harvest": HarvestGame("pond", window=(2, 1, 1))}
every_network = pytest.mark.parametrize(
    ("name", "network"),
    [
        ("coin", Network(8)),
        ("coin", Network(8, shared=True, feedback=True)),
        ("negotiation", Network(8)),
        ("negotiation", Network(8, feedback=True)),
        ("harvest", Network(8, filters=3, feedback=True, shared=True)),
        ("harvest", Network(8, filters=3)),
    ],
)
CHOICES = Spaces((1,), 4, None)
CLAIMS = Spaces((1,), 3, (0.0, 5.0))


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def seen(spaces: Spaces, time: int, rows: int) -> Seen:
    observations = torch.randint(3, (time, rows, *spaces.obs_shape), generator=seeded(5)).double()
    actions = torch.randint(spaces.choices, (time, rows), generator=seeded(6))
    if spaces.bounds is not None:
        actions = normal(time, rows, spaces.choices, seed=6)
    return Seen(observations, actions, normal(time, rows, seed=7))


def mind_of(name: str, network: Network, seed: int = 0) -> ActorCritic:
    return ActorCritic(Spaces.of(GAMES[name]), network, seeded(seed))


def by_hand(mind: ActorCritic, trunk: str, looks: Seen, hidden: Tensor) -> Tensor:
    """What a trunk remembers, `(T, R, H)`, from its state dict, with every gate written out."""
    w = {name.removeprefix(f"{trunk}."): x.double() for name, x in mind.state_dict().items() if name.startswith(trunk)}
    remembered = []
    for observation, action, reward in zip(*looks, strict=True):
        x = observation.double()
        if mind.network.filters is not None:
            patches = x.unfold(2, 3, 1).unfold(3, 3, 1)  # (R, channels, rows, columns, 3, 3)
            x = torch.einsum("rcyxij,fcij->rfyx", patches, w["convolution.weight"])
            x = (x + w["convolution.bias"][:, None, None]).clamp(min=0)
        x = (x.flatten(1) @ w["dense.weight"].T + w["dense.bias"]).clamp(min=0)
        if mind.network.feedback:
            last = torch.eye(mind.spaces.choices)[action] if mind.spaces.bounds is None else action
            x = torch.cat([x, last.double(), reward[:, None].double()], 1)
        entering = (x @ w["memory.weight_ih_l0"].T + w["memory.bias_ih_l0"]).chunk(3, 1)
        kept = (hidden @ w["memory.weight_hh_l0"].T + w["memory.bias_hh_l0"]).chunk(3, 1)
        reset, update = (1 / (1 + torch.exp(-entering[gate] - kept[gate])) for gate in (0, 1))
        candidate = torch.tanh(entering[2] + reset * kept[2])
        hidden = (1 - update) * candidate + update * hidden
        remembered.append(hidden)
    return torch.stack(remembered)


def test_an_observation_that_is_one_index_is_seen_as_a_one_hot_vector() -> None:
    spaces = Spaces.of(MatrixGame(CLASSIC_PAYOFFS["chicken"]))
    assert spaces == Spaces((5,), 2, None)
    mind, states = ActorCritic(spaces, Network(8), seeded()), torch.tensor([[0, 3], [4, 1], [2, 2]])
    looks = Seen(states, torch.zeros(3, 2).long(), torch.zeros(3, 2))
    for ours, expected in zip(mind(looks), mind(looks._replace(observations=torch.eye(5)[states])), strict=True):
        torch.testing.assert_close(ours, expected)


@every_network
@torch.no_grad()
def test_a_network_is_what_its_equations_say(name: str, network: Network) -> None:
    mind = mind_of(name, network)
    looks, hidden = Seen(*(x if x.dtype == torch.long else x.float() for x in seen(mind.spaces, 4, 5))), normal(5, 8)
    outputs, values = mind(looks, hidden.float())
    remembered = by_hand(mind, "actor", looks, hidden)
    valued = remembered if network.shared else by_hand(mind, "critic", looks, torch.zeros_like(hidden))
    w = {key: x.double() for key, x in mind.state_dict().items()}
    expected = remembered @ w["policy.weight"].T + w["policy.bias"]
    torch.testing.assert_close(outputs[..., : mind.spaces.choices].double(), expected, atol=1e-5, rtol=1e-4)
    expected = (valued @ w["value.weight"].T + w["value.bias"])[..., 0]
    torch.testing.assert_close(values.double(), expected, atol=1e-5, rtol=1e-4)
    if not network.shared:
        torch.testing.assert_close(mind.values(looks), values)


@every_network
@torch.no_grad()
def test_a_network_remembers_step_by_step_what_it_remembers_at_once(name: str, network: Network) -> None:
    mind = mind_of(name, network)
    looks = Seen(*(x if x.dtype == torch.long else x.float() for x in seen(mind.spaces, 6, 3)))
    outputs, last = mind.act(looks, None)
    hidden = None
    for t in range(6):
        step, hidden = mind.act(Seen(*(x[t : t + 1] for x in looks)), hidden)
        torch.testing.assert_close(step[0], outputs[t])
    torch.testing.assert_close(hidden, last)


def test_the_first_policy_is_nearly_uniform_and_seeded() -> None:
    before = torch.get_rng_state()
    mind = mind_of("coin", Network())
    assert torch.get_rng_state().equal(before)
    outputs, _ = mind(Seen(torch.ones(2, 3, 4, 3, 3), torch.zeros(2, 3).long(), torch.zeros(2, 3)))
    assert outputs.softmax(-1).sub(1 / 4).abs().max() < 0.05
    same, other = mind_of("coin", Network()), mind_of("coin", Network(), 1)
    for one, two, three in zip(mind.parameters(), same.parameters(), other.parameters(), strict=True):
        assert one.equal(two)
        assert not one.equal(three)
    assert sum(map(len, mind.parts())) == len(list(mind.parameters()))


# --- actions


def test_log_prob_of_a_squashed_action_is_that_of_torch() -> None:
    outputs = torch.cat([normal(50, 3), 0.3 * normal(50, 3, seed=1)], -1)
    actions = CLAIMS.draw(outputs, seeded())
    gaussian = Normal(2 * outputs[:, :3].tanh(), outputs[:, 3:].exp())
    squashed = TransformedDistribution(gaussian, [TanhTransform(), AffineTransform(2.5, 2.5)])
    expected = squashed.log_prob(CLAIMS.to_game(actions)).sum(-1)
    torch.testing.assert_close(CLAIMS.log_probs(outputs, actions), expected)


def test_squashed_actions_are_finite_far_out_and_within_bounds() -> None:
    actions = torch.tensor([[-60.0, 0.0, 60.0]]).requires_grad_()
    log_prob = CLAIMS.log_probs(torch.zeros(1, 6), actions)
    assert log_prob.isfinite().all()
    assert torch.autograd.grad(log_prob.sum(), actions)[0].isfinite().all()
    assert CLAIMS.to_game(actions).tolist() == [[0.0, 2.5, 5.0]]


def test_categorical_actions_are_drawn_from_the_softmax() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5])
    drawn = CHOICES.draw(logits.expand(40_000, 4), seeded())
    torch.testing.assert_close(drawn.bincount(minlength=4) / 40_000, logits.softmax(-1), atol=0.01, rtol=0)
    expected = logits[drawn] - logits.exp().sum().log()
    torch.testing.assert_close(CHOICES.log_probs(logits.expand(40_000, 4), drawn), expected)
    p = logits.softmax(-1)
    torch.testing.assert_close(CHOICES.entropies(logits[None], drawn[:1])[0], -(p * p.log()).sum())


def test_entropy_of_squashed_actions_is_that_of_their_density() -> None:
    mean, log_std = torch.tensor([0.3, -0.8, 0.0]), torch.tensor([-0.5, 0.2, 0.0])
    outputs = torch.cat([mean, log_std]).expand(200_000, 6)
    actions = CLAIMS.draw(outputs, seeded())
    expected = -CLAIMS.log_probs(outputs, actions).mean()
    torch.testing.assert_close(CLAIMS.entropies(outputs, actions).mean(), expected, atol=0.02, rtol=0)


def test_entropy_of_squashed_actions_has_the_gradient_of_the_entropy() -> None:
    # by quadrature over the noise: H = E[-log N(x) + log slope(x)], x = mean + std noise
    point = torch.tensor([0.4, -0.3], dtype=torch.float64, requires_grad=True)
    noise = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    weights = torch.exp(-noise.square() / 2) / math.sqrt(2 * math.pi) * (noise[1] - noise[0])
    std, mean = point[1].exp(), 2 * point[0].tanh()
    slope = 2.5 * (1 - (mean + std * noise).tanh().square())
    entropy = 0.5 * math.log(2 * math.pi * math.e) + point[1] + (weights * slope.log()).sum()
    expected = torch.autograd.grad(entropy, point)[0]
    spaces = Spaces((1,), 1, (0.0, 5.0))
    outputs = point.expand(200_000, 2)
    sampled = spaces.entropies(outputs, spaces.draw(outputs.detach(), seeded())).mean()
    torch.testing.assert_close(torch.autograd.grad(sampled, point)[0], expected, atol=0.01, rtol=0)


# --- files


@every_network
def test_an_actor_critic_survives_the_disk(name: str, network: Network, tmp_path: Path) -> None:
    mind, path = mind_of(name, network), tmp_path / "agents" / "agent.safetensors"
    before = torch.get_rng_state()
    save(mind, path)
    loaded = load(path)
    assert torch.get_rng_state().equal(before)
    assert (loaded.spaces, loaded.network) == (mind.spaces, mind.network)
    assert all(x.equal(mind.state_dict()[key]) for key, x in loaded.state_dict().items())
    assert [file.name for file in path.parent.iterdir()] == ["agent.safetensors"]


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mind, path = mind_of("coin", Network(8)), tmp_path / "agent.safetensors"
    save(mind, path)
    old = path.read_bytes()

    def broken(*files: Path) -> None:
        raise OSError(28, "disk full")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        save(mind_of("coin", Network(8), 1), path)
    assert path.read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_without_settings_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"path must hold a whole agent: restore or train .*other"):
        load(tmp_path / "other.safetensors")


def test_bad_networks_are_named() -> None:
    with pytest.raises(ValueError, match="hidden must be a positive integer, got 0"):
        Network(0)
    with pytest.raises(ValueError, match="filters must be a positive integer, got 0"):
        Network(filters=0)
