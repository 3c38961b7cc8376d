"""The tree of kept blocks against a list of all texts: what is found, pinned and given up."""

import random

import pytest

from pyqwen.engine.prefix_tree import PrefixTree

POSITIONS = 4


class Blocks:
    """Numbers of blocks, each with the text up to its end: the tree may not mix them up."""

    def __init__(self):
        self.tree = PrefixTree(POSITIONS, self.drop)
        self.text_of = {}
        self.next = 0

    def drop(self, number):
        del self.text_of[number]

    def insert(self, salt, tokens):
        def keep(i):
            self.next += 1
            self.text_of[self.next] = (salt, tokens[: (i + 1) * POSITIONS])
            return self.next

        return self.tree.insert(salt, tokens, keep)

    def check(self, salt, tokens, path, length):
        for i, block in enumerate(path):
            owner, text = self.text_of[block.number]
            end = min((i + 1) * POSITIONS, length)
            assert owner == salt
            assert list(text[:end]) == list(tokens[:end])

    def longest(self, salt, tokens):
        """The longest beginning that any block, and so all before it, holds."""
        most = 0
        for owner, text in self.text_of.values():
            same = 0
            while (
                owner == salt and same < min(len(text), len(tokens)) and text[same] == tokens[same]
            ):
                same += 1
            most = max(most, same)
        return most


def _text(rng, texts):
    known = rng.choice(texts) if texts and rng.random() < 0.8 else []
    start = list(known[: rng.randrange(len(known) + 1)])
    return start + [rng.choice((0, 1, 255, 256, 70_000)) for _ in range(rng.randrange(9))]


@pytest.mark.parametrize("seed", range(12))
def test_random_texts(seed):
    rng = random.Random(seed)
    blocks, texts, pinned = Blocks(), [], []
    for _ in range(400):
        salt = rng.choice((None, "a"))
        tokens = _text(rng, texts)
        action = rng.randrange(6)
        if action < 2 and tokens:
            path, length = blocks.insert(salt, tokens), len(tokens)
            assert len(path) == -(-length // POSITIONS)
            blocks.check(salt, tokens, path, length)
            texts.append(tokens)
            if rng.random() < 0.3 and len(pinned) < 3:
                expected = blocks.tree.pinned_with(salt, tokens, [])
                blocks.tree.pin(path)
                assert blocks.tree.pinned == expected
                pinned.append((salt, tokens, path))
        elif action == 2:
            path, length = blocks.tree.match(salt, tokens)
            assert length == blocks.longest(salt, tokens)
            assert len(path) == -(-length // POSITIONS)
            blocks.check(salt, tokens, path, length)
            blocks.tree.touch(path)
        elif action == 3 and pinned:
            blocks.tree.unpin(pinned.pop(rng.randrange(len(pinned)))[2])
        elif action == 4:
            before = len(blocks.tree)
            assert blocks.tree.evict() is (len(blocks.tree) < before)
        for salt, tokens, path in pinned:
            blocks.check(salt, tokens, path, len(tokens))
        assert len(blocks.tree) == len(blocks.text_of)
    for _, _, path in pinned:
        blocks.tree.unpin(path)
    while blocks.tree.evict():
        pass
    assert not blocks.text_of
    assert not blocks.tree._roots


def test_the_end_of_a_text_is_replaced_when_it_goes_on():
    blocks = Blocks()
    blocks.insert(None, [1, 2])
    blocks.insert(None, [1, 2, 3])
    blocks.insert(None, [1, 2, 4, 5, 6])
    assert sorted(text for _, text in blocks.text_of.values()) == [
        [1, 2, 3], [1, 2, 4, 5], [1, 2, 4, 5, 6],
    ]  # fmt: skip


def test_pins_are_told_before():
    blocks = Blocks()
    path = blocks.insert(None, list(range(10)))  # blocks of 4, 4, 2
    blocks.tree.pin(path)
    tree = blocks.tree
    assert tree.pinned == 3
    assert tree.pinned_with(None, list(range(10)), []) == 3
    assert tree.pinned_with(None, list(range(12)), []) == 4
    assert tree.pinned_with(None, list(range(12)), path) == 3
    assert tree.pinned_with(None, list(range(9)), path) == 3
    assert tree.pinned_with(None, [7] * 9, path) == 3
    assert tree.pinned_with("other", list(range(10)), []) == 6


def test_what_fails_in_the_middle_leaves_the_tree_in_order():
    blocks = Blocks()

    def keep(i):
        if i == 2:
            raise MemoryError
        blocks.text_of[i] = (None, list(range(12))[: (i + 1) * POSITIONS])
        return i

    with pytest.raises(MemoryError):
        blocks.tree.insert(None, list(range(12)), keep)
    assert blocks.tree.match(None, list(range(12)))[1] == 8
    with pytest.raises(MemoryError):
        blocks.tree.insert("b", [1], lambda _: (_ for _ in ()).throw(MemoryError()))
    assert list(blocks.tree._roots) == [None]
