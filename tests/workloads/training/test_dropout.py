import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.utils.checkpoint import checkpoint

from workloads.errors import WorkloadError
from workloads.streams import stream_key
from workloads.training.dropout import CellDropout, own_dropouts, set_step

PLACES = 20_000


def mask(layer: CellDropout, step: int = 0, places: int = PLACES) -> Tensor:
    """Return which of `places` the layer keeps at `step`."""
    set_step(layer, step)
    return layer(torch.ones(places)) != 0


def splitmix64(state: int) -> int:
    """Return the output of SplitMix64 whose state was `state`, in Python's unbounded integers.

    Source: Steele, Lea and Flood 2014, figure 17 (mix64 with the constants of `nextSeed`, variant
    13 of Stafford).
    """
    everything = 2**64 - 1
    bits = (state + 0x9E3779B97F4A7C15) & everything
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & everything
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & everything
    return bits ^ (bits >> 31)


def finalized(bits: int) -> int:
    """Return SplitMix64's finalizer of `bits`."""
    return splitmix64((bits - 0x9E3779B97F4A7C15) % 2**64)


def test_the_oracle_is_splitmix64():
    # Published first outputs for seed 1234567 (Rosetta Code, "Pseudo-random numbers/Splitmix64").
    state, outputs = 1234567, []
    for _ in range(3):
        outputs.append(splitmix64(state))
        state += 0x9E3779B97F4A7C15
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("key", [0, 1, 2**63 - 1, 0x123456789ABCDEF])
@pytest.mark.parametrize("step", [0, 1, 123_456_789])
def test_masks_are_those_of_splitmix64_in_unbounded_integers(key: int, step: int):
    golden, share = 0x9E3779B97F4A7C15, 0.4
    start = finalized((key + step * golden) % 2**64)
    expected = [
        (finalized((start + place * golden) % 2**64) >> 11) / 2**53 >= share for place in range(99)
    ]
    assert mask(CellDropout(share, key), step, 99).tolist() == expected


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_dropped_share_is_binomial_and_the_rest_scaled_to_keep_the_mean(share: float):
    layer = CellDropout(share, stream_key("dropout", "share"))
    steps = []
    for step in range(9):
        set_step(layer, step)
        steps.append(layer(torch.full((PLACES,), 3.0)))
    draws = torch.stack(steps)
    dropped = (draws == 0).double().mean().item()
    # Four standard errors of a binomial share.
    assert abs(dropped - share) < 4 * math.sqrt(share * (1 - share) / draws.numel())
    # Float32 rounds the scale at 6e-8.
    assert draws.unique().tolist() == pytest.approx([0.0, 3.0 / (1 - share)], rel=1e-6)
    assert draws.mean().item() == pytest.approx(3.0 * (1 - dropped) / (1 - share), rel=1e-5)


def test_nothing_is_dropped_at_zero_and_everything_at_one():
    inputs = torch.arange(1.0, 8.0)
    assert torch.equal(CellDropout(0.0, 5)(inputs), inputs)
    assert torch.equal(CellDropout(1.0, 5)(inputs), torch.zeros(7))


def test_masks_of_other_steps_layers_seeds_and_calls_are_unrelated():
    def layers(seed: int) -> nn.Module:
        model = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5), nn.Linear(1, 1), nn.Dropout(0.5))
        return own_dropouts(model, "workload", seed)

    first, other = layers(0), layers(1)
    masks = [mask(first[1]), mask(first[1], 1), mask(first[1], 2), mask(first[3]), mask(other[1])]
    set_step(first[1], 0)
    first[1](torch.ones(PLACES))
    masks.append(first[1](torch.ones(PLACES)) != 0)  # the second call of one step
    for i, one in enumerate(masks):
        for another in masks[:i]:
            # They agree in half of the places: four standard errors of a fair coin.
            agreement = (one == another).double().mean().item()
            assert abs(agreement - 0.5) < 4 * 0.5 / math.sqrt(PLACES)


def test_neighbouring_places_are_dropped_independently():
    kept = mask(CellDropout(0.5, 77)).double() - 0.5
    for lag in (1, 2, 3, 8, 64):
        # Products of independent signs: mean 0, standard error 1/4 over the root of their number.
        assert abs((kept[lag:] * kept[:-lag]).mean()) < 4 * 0.25 / math.sqrt(PLACES - lag)


def test_a_step_repeats_its_masks():
    layer, seen = CellDropout(0.5, 3), []
    for _ in range(2):
        set_step(layer, 7)
        seen.append(torch.stack([layer(torch.ones(50)) for _ in range(3)]))
    assert torch.equal(*seen)


def test_masks_are_the_same_in_a_stack_as_alone():
    layer, keys = CellDropout(0.3, 0), torch.tensor([5, 2**62 + 1, 9])

    def one(key: Tensor, inputs: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"key": key}, (inputs,))

    stacked = vmap(one)(keys, torch.ones(3, 4, 25))
    alone = [CellDropout(0.3, int(key))(torch.ones(4, 25)) for key in keys]
    assert torch.equal(stacked, torch.stack(alone))


def test_evaluation_drops_nothing_and_draws_nothing():
    layer = CellDropout(0.5, 3)
    expected = mask(layer)
    set_step(layer, 0)
    layer.eval()
    assert torch.equal(layer(torch.ones(PLACES)), torch.ones(PLACES))
    layer.train()
    assert torch.equal(layer(torch.ones(PLACES)) != 0, expected)


def test_a_dropout_layer_under_two_names_is_replaced_under_both():
    shared = nn.Dropout(0.5)
    model = own_dropouts(nn.Sequential(shared, nn.Linear(2, 2), shared), "workload", 0)
    assert [type(layer) for layer in model] == [CellDropout, nn.Linear, CellDropout]


def test_a_gradient_passes_where_the_input_did():
    layer, inputs = CellDropout(0.25, 3), torch.ones(100, requires_grad=True)
    outputs = layer(inputs)
    outputs.sum().backward()
    assert torch.equal(inputs.grad, outputs.detach())


class Checkpointed(nn.Module):
    """Two blocks with dropout, computed again in the backward pass or not."""

    def __init__(self, again: bool | None, calls: int = 1) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 6), nn.Tanh(), CellDropout(0.5, key)) for key in (1, 2)
        )
        self.again, self.calls = again, calls

    def forward(self, inputs: Tensor) -> Tensor:
        for block in self.blocks:
            for _ in range(self.calls):
                if self.again is None:
                    inputs = block(inputs)
                else:
                    inputs = checkpoint(block, inputs, use_reentrant=self.again)
        return inputs


def gradients(model: nn.Module) -> list[Tensor]:
    inputs = torch.linspace(-1, 1, 24).view(4, 6).requires_grad_()
    set_step(model, 3)
    model(inputs).square().sum().backward()
    return [inputs.grad, *(parameter.grad for parameter in model.parameters())]


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_mask_that_is_computed_again_is_the_same(reentrant: bool):
    plain = Checkpointed(None)
    again = Checkpointed(reentrant)
    again.load_state_dict(plain.state_dict())
    for _ in range(2):  # the second step draws what the first did
        for one, other in zip(gradients(plain), gradients(again), strict=True):
            assert torch.equal(one, other)


def test_a_mask_of_several_calls_is_not_guessed_when_computed_again():
    with pytest.raises(WorkloadError, match="calls 2 times a step is computed again"):
        gradients(Checkpointed(False, calls=2))
    gradients(Checkpointed(None, calls=2))


def test_a_part_of_a_batch_has_its_part_of_the_mask():
    layer = CellDropout(0.5, 7)
    whole = mask(layer, places=80)
    for first, end in ((0, 3), (3, 8)):
        set_step(layer, 0)
        layer.part = first, end, 8
        part = layer(torch.ones(end - first, 10)) != 0
        assert torch.equal(part, whole.view(8, 10)[first:end])


@pytest.mark.parametrize("shape", [(10, 3), (30,)])
def test_a_part_whose_first_dimension_is_not_the_example_is_refused(shape: tuple[int, ...]):
    layer = CellDropout(0.5, 7)
    layer.part = 3, 6, 8
    with pytest.raises(WorkloadError, match=r"3 examples of a batch of 8.*batch_first=True"):
        layer(torch.ones(*shape))
