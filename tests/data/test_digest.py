"""Digests depend on content only."""

import hashlib

from potstill.data.digest import DatasetDigest, input_key, row_digest, shuffle_order


def test_texts_are_the_same_but_for_white_space_and_composition():
    assert input_key("caf\u00e9  au\tlait\n") == input_key(" cafe\u0301 au lait")
    assert input_key("Late") != input_key("late")


def test_row_digest_is_the_sha256_of_length_text_and_label():
    assert row_digest("né", "x") == hashlib.sha256("3:néx".encode()).hexdigest()
    assert row_digest("ab", "c") != row_digest("a", "bc")


def test_shuffle_order_is_fixed_by_seed_and_content():
    contents = [b"a", b"b", b"c"]
    order = shuffle_order(7, contents)

    assert order[0] == int(hashlib.sha256(b"7:a").hexdigest()[:16], 16)
    assert shuffle_order(7, contents[::-1]).tolist() == order[::-1].tolist()
    assert shuffle_order(8, contents).tolist() != order.tolist()


def test_dataset_digest_covers_rows_their_order_their_split_and_the_outcomes_but_not_batches():
    def digest(train_batches, test, outcomes=("a", "b")):
        whole = DatasetDigest(("train", "test"))
        for batch in train_batches:
            whole.add("train", batch)
        whole.add("test", test)
        return whole.hexdigest({"names": outcomes})

    base = digest([["1", "2"]], ["3"])
    assert digest([["1"], [], ["2"]], ["3"]) == base
    assert (
        len({base, digest([["2", "1"]], ["3"]), digest([["1"]], ["2", "3"]), digest([["1", "2"]], ["3"], ("a",))}) == 4
    )
