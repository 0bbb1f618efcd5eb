"""Tokens are copied to a device once, and leave it when others need the room or their photo's are gone."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from unposed.pipeline.artifacts import Tokens
from unposed.plugins.matching.device_tokens import DeviceTokens

ELSEWHERE = "meta"
"""A device that is not main memory."""
BYTES = 4 * 6 * 8 * 2


def made_up(seed: int) -> Tokens:
    values = np.random.default_rng(seed).standard_normal((4, 6, 8)).astype(np.float16)
    values.flags.writeable = False  # as the store gives them
    return Tokens(values, 16, (0.5, 0.5), (1.0, 1.0), "encoder")


def test_they_are_copied_once() -> None:
    cache, tokens = DeviceTokens(), made_up(0)
    first = cache.of(tokens, ELSEWHERE, 10 * BYTES)
    assert first.shape == (24, 8)
    assert cache.of(tokens, ELSEWHERE, 10 * BYTES) is first
    assert cache.of(made_up(0), ELSEWHERE, 10 * BYTES) is not first
    assert cache.held_bytes >= BYTES


def test_those_used_last_stay() -> None:
    cache, tokens = DeviceTokens(), [made_up(k) for k in range(4)]
    held = [cache.of(each, ELSEWHERE, 2 * BYTES) for each in tokens[:2]]
    cache.of(tokens[0], ELSEWHERE, 2 * BYTES)
    cache.of(tokens[2], ELSEWHERE, 2 * BYTES)
    assert cache.held_bytes == 2 * BYTES
    assert cache.of(tokens[0], ELSEWHERE, 2 * BYTES) is held[0]
    assert cache.of(tokens[1], ELSEWHERE, 2 * BYTES) is not held[1]
    assert cache.of(tokens[3], ELSEWHERE, 0).shape == (24, 8)  # the newest is held in any case
    assert cache.held_bytes == BYTES


def test_they_are_forgotten_with_what_they_were_made_of() -> None:
    cache, tokens = DeviceTokens(), made_up(0)
    cache.of(tokens, ELSEWHERE, 10 * BYTES)
    del tokens
    gc.collect()
    assert cache.held_bytes == 0


def test_main_memory_is_no_device() -> None:
    cache, tokens = DeviceTokens(), made_up(0)
    np.testing.assert_array_equal(cache.of(tokens, "cpu", 10 * BYTES).numpy().reshape(4, 6, 8), tokens.values)
    assert cache.held_bytes == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_has_the_same_numbers() -> None:
    tokens = made_up(0)
    there = DeviceTokens().of(tokens, "cuda", 10 * BYTES)
    np.testing.assert_array_equal(there.cpu().numpy().reshape(4, 6, 8), tokens.values)
