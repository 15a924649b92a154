"""Streams are part of every cell's identity: their bytes are fixed for good."""

import hashlib

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.streams import forked_torch_generator, permutation, stream


def test_raw_draws_are_the_bytes_they_have_always_been():
    # Golden, because every stored cell depends on them: if they change, the same cell_id means
    # another result, and nothing else would notice. Philox4x64-10 keyed by SHA-256 of the JSON.
    draws = stream("digits", 7, "shard").bit_generator.random_raw(4)
    assert [f"{draw:016x}" for draw in draws] == [
        "d683fdb51d1e72c3",
        "cd602c7937385467",
        "2782069266f9534c",
        "c4f69d41a06d17ca",
    ]


def test_permutations_are_the_ones_they_have_always_been():
    # The same reason; the digest covers the argsort of a length at which ties would show.
    assert permutation(10, "digits", 0, "batches", 3).tolist() == [7, 1, 4, 2, 8, 6, 9, 3, 0, 5]
    order = permutation(65_536, "teacher", 1, "shard").astype("<i8")
    assert hashlib.sha256(order.tobytes()).hexdigest()[:16] == "3bcf399bb78cd45f"


def test_a_philox_block_agrees_with_its_published_definition():
    # An independent oracle of the generator behind the golden values: the reference's
    # known-answer vector of Philox4x64-10 for counter 0 and key 0 (Salmon et al. 2011, Random123
    # kat_vectors). NumPy raises the counter before it draws, hence the start at -1.
    everything = 2**256 - 1
    generator = np.random.Philox(key=0, counter=everything)
    assert [f"{word:016x}" for word in generator.random_raw(4)] == [
        "16554d9eca36314c",
        "db20fe9d672d0fdc",
        "d7e772cee186176b",
        "7e68b68aec7ba23b",
    ]


@given(n=st.integers(0, 300), seed=st.integers(0, 10**9))
@settings(max_examples=50, deadline=None)
def test_a_permutation_holds_every_index_once(n: int, seed: int):
    assert sorted(permutation(n, "x", seed)) == list(range(n))


def test_different_parts_give_different_streams():
    parts = [("a", 1), ("a", 2), ("b", 1), ("a", "1"), ("a", 1, "x"), ("a1",)]
    draws = {stream(*part).bit_generator.random_raw() for part in parts}
    assert len(draws) == len(parts)


def test_the_forked_generator_repeats_itself_and_restores_the_global_one():
    torch.manual_seed(5)
    undisturbed = torch.rand(3)

    torch.manual_seed(5)
    with forked_torch_generator("a", 1):
        first = torch.rand(3)
    with forked_torch_generator("a", 1):
        second = torch.rand(3)
    with forked_torch_generator("a", 2):
        other = torch.rand(3)

    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.rand(3), undisturbed)
