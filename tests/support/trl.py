"""TRL as an oracle: imported without the warnings of its experimental parts, and without loading vLLM."""

import warnings
from importlib import import_module
from typing import Any

import pytest


def import_trl(module: str = "trl") -> Any:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(import_module("trl.import_utils"), "is_vllm_available", lambda **_: False)
        return import_module(module)
