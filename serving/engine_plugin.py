"""Loaded by vLLM in the engine's own processes (`vllm.general_plugins`); nothing of ours imports it.

On a CPU vLLM takes a request without an adapter, whose slot is -1, for one of the last slot wherever it shares a batch
with an adapter's (`vllm.lora.ops.torch_ops`, 0.32): once all slots are taken the base answers by somebody's weights.
Each layer gets one slot more than vLLM counts; nothing is ever put there, so that -1 adds zeros.
"""

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any

MAKERS = ("from_layer", "from_layer_logits_processor", "from_layer_classification")
Maker = Callable[..., Any]


def register() -> None:
    """vLLM may call it more than once in a process."""
    from vllm.lora import model_manager
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    for name in MAKERS:
        maker: Maker = getattr(model_manager, name)
        if not hasattr(maker, "__wrapped__"):
            setattr(model_manager, name, with_empty_slot(maker))


def with_empty_slot(maker: Maker) -> Maker:
    """`max_loras` is how many slots the layer gets."""
    parameters = signature(maker)

    @wraps(maker)
    def make(*arguments: Any, **named: Any) -> Any:
        given = parameters.bind(*arguments, **named)
        given.arguments["max_loras"] += 1
        return maker(*given.args, **given.kwargs)

    return make
