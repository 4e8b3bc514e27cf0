"""Adapters are never switched between a forward with gradient and its backward."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.training import make_base
from trainer.model import Base, adapter_parameters, attach_adapter, using
from trainer.switch import SwitchRefused, UnknownAdapter, turn_unguarded

IDS = torch.tensor([[3, 45, 78, 1, 4]])


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return make_base(tmp_path, adapters=("policy", "reward"))


def loss_of(base: Base) -> Tensor:
    loss: Tensor = base.model(IDS).logits.square().mean()
    return loss


def gradient_size(base: Base, name: str) -> float:
    return sum(
        float(parameter.grad.abs().sum()) for parameter in adapter_parameters(base, name) if parameter.grad is not None
    )


def fail_before_the_backward(base: Base) -> Tensor:
    """What a step leaves behind that breaks between its forward and its backward."""
    losses: list[Tensor] = []

    def step() -> None:
        with using(base, "policy"):
            losses.append(loss_of(base))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        step()
    return losses[0]


def test_peft_s_own_switch_before_a_backward_silently_leaves_no_gradient(base: Base) -> None:
    turn_unguarded(base.model, "policy")
    loss = loss_of(base)
    turn_unguarded(base.model, "reward")
    loss.backward()
    assert gradient_size(base, "policy") == 0


def test_a_switch_before_the_backward_is_refused_and_the_gradient_survives(base: Base) -> None:
    with using(base, "policy"):
        loss = loss_of(base)
        with pytest.raises(SwitchRefused, match="'reward' can't replace 'policy'"), using(base, "reward"):
            raise AssertionError("unreachable")
        loss.backward()
    assert gradient_size(base, "policy") > 0


def test_turning_adapters_off_before_the_backward_is_refused_too(base: Base) -> None:
    with using(base, "policy"):
        loss = loss_of(base)
        with pytest.raises(SwitchRefused), using(base, None):
            raise AssertionError("unreachable")
        loss.backward()


def test_attaching_an_adapter_before_the_backward_is_refused(base: Base) -> None:
    with using(base, "policy"):
        loss = loss_of(base)
        with pytest.raises(SwitchRefused):
            attach_adapter(base, "third", rank=4, alpha=8, seed=0)
        loss.backward()
    assert gradient_size(base, "policy") > 0


def test_leaving_the_block_before_the_backward_is_refused(base: Base) -> None:
    with pytest.raises(SwitchRefused), using(base, "policy"):
        loss = loss_of(base)
    assert loss.requires_grad


def test_after_the_backward_the_switch_is_free(base: Base) -> None:
    with using(base, "policy"):
        loss_of(base).backward()
        with using(base, "reward"):
            loss_of(base).backward()
    assert gradient_size(base, "policy") > 0
    assert gradient_size(base, "reward") > 0


def test_every_one_of_several_forwards_must_be_backpropagated(base: Base) -> None:
    with using(base, "policy"):
        first, second = loss_of(base), loss_of(base)
        first.backward()
        with pytest.raises(SwitchRefused), using(base, None):
            raise AssertionError("unreachable")
        second.backward()


def test_a_forward_without_gradient_or_one_thrown_away_holds_nothing_up(base: Base) -> None:
    with using(base, "policy"):
        with torch.no_grad():
            kept = loss_of(base)
        loss_of(base)
        with using(base, None):
            assert torch.equal(loss_of(base), kept)  # B is zero


def test_using_the_same_adapter_again_is_no_switch(base: Base) -> None:
    with using(base, "policy"):
        loss = loss_of(base)
        with using(base, "policy"):
            loss.backward()


def test_an_error_inside_the_block_comes_out_as_it_is(base: Base) -> None:
    loss = fail_before_the_backward(base)
    assert base.switch.active is None
    assert loss.requires_grad


def test_a_later_step_is_not_held_up_by_one_that_failed(base: Base) -> None:
    loss = fail_before_the_backward(base)
    with using(base, "reward"):
        loss_of(base).backward()
    assert loss.requires_grad


def test_only_the_adapter_that_is_on_gets_gradients(base: Base) -> None:
    with using(base, "policy"):
        loss_of(base).backward()
    assert gradient_size(base, "reward") == 0
    assert all(weight.grad is None for name, weight in base.model.named_parameters() if "lora_" not in name)


def test_an_adapter_that_is_not_there_is_not_taken_for_the_base(base: Base) -> None:
    with pytest.raises(UnknownAdapter, match="'polcy'"), using(base, "polcy"):
        raise AssertionError("unreachable")
