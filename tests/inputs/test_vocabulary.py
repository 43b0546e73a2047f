from ecliptic.inputs import TokenizerSpec, written_merges, written_vocabulary


def test_the_written_vocabulary_has_one_token_per_id() -> None:
    for merges in (0, 10, TokenizerSpec().merges):
        spec = TokenizerSpec(merges=merges)
        written = written_vocabulary(merges)
        assert len(written) == spec.vocabulary == len(set(written))
        assert written[spec.end_of_text] == "<|endoftext|>"


def test_known_ids_of_the_reference_vocabulary() -> None:
    written = written_vocabulary()
    assert written[0] == "!"
    assert written[256] == "!</w>"
    assert written[320] == "a</w>"
    assert written[2368] == "cat</w>"
    assert written_merges(1) == ["i n"]
