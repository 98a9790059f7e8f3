"""Streams of text, splits by protocol, and what is wrong with a user's text."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from novum.datamodules import TextDataModule
from novum.datamodules.sources import text_protocols as splits
from novum.datamodules.sources.text_files import library_files, write_column
from tests.tiny_text import small_text, text_data


def first(loader, n):
    return list(itertools.islice(iter(loader), n))


class TestStreams:
    def test_each_row_goes_on_where_it_ended(self, tmp_path):
        data = text_data(tmp_path)
        apart = len(data.train) // 4
        per_epoch = (len(data.train) - 1 - 3 * apart) // 8
        batches = first(data.train_dataloader(), per_epoch + 1)
        rows = torch.cat([batch["tokens"][:, :-1] for batch in batches[:-1]], 1)
        for b in range(4):
            expected = data.train.tokens[b * apart : b * apart + per_epoch * 8]
            assert rows[b].tolist() == expected.tolist()
        assert all(torch.equal(a["tokens"][:, -1], b["tokens"][:, 0])
                   for a, b in zip(batches[:-1], batches[1:-1], strict=False))  # fmt: skip
        assert [b["restart"] for b in batches] == [True] + [False] * (per_epoch - 1) + [True]
        assert batches[-1]["epoch"] == 1
        assert torch.equal(batches[-1]["tokens"], batches[0]["tokens"])

    def test_two_ranks_share_the_streams_of_one(self, tmp_path):
        whole = first(text_data(tmp_path, batch_size=4).train_dataloader(), 5)
        data = text_data(tmp_path, batch_size=2)
        parts = []
        for rank in range(2):
            data._position = lambda rank=rank: (rank, 2)
            parts.append(first(data.train_dataloader(), 5))
        for batch, a, b in zip(whole, *parts, strict=True):
            assert torch.equal(batch["tokens"], torch.cat([a["tokens"], b["tokens"]]))
            assert batch["restart"] == a["restart"] == b["restart"]

    @pytest.mark.parametrize("validation", ["stateful", "windowed"])
    def test_ranks_share_what_is_validated(self, tmp_path, validation):
        data = text_data(tmp_path, small_text(4000), validation=validation, window=16)

        def targets(rank, ranks, most=None):
            data._position = lambda: (rank, ranks)
            batches = list(data.val_dataloader())
            assert len(batches) == len(data.val_dataloader())
            return sum(x["tokens"][:, 1:].numel() for x in batches[:most] if not x.get("idle"))

        for most in (None, 1):
            whole = targets(0, 1, most)
            assert whole == targets(0, 3, most) + targets(1, 3, most) + targets(2, 3, most)
        dropped = len(data.heldout) - 1 - targets(0, 1)
        assert dropped == 0 if validation == "windowed" else dropped < 50

    def test_a_last_shorter_window_is_read_to_its_end(self, tmp_path):
        data = text_data(tmp_path, small_text(4990), validation="windowed", window=256)
        windows, rest = divmod(len(data.heldout) - 1, 256)
        sizes = [tuple(batch["tokens"].shape) for batch in data.val_dataloader()]
        assert rest and sizes == [(windows, 257), (1, rest + 1)]
        data._position = lambda: (windows, windows + 1)  # has no window of its own
        (batch,) = data.val_dataloader()
        assert batch["idle"]

    def test_heldout_text_is_read_once_in_order(self, tmp_path):
        data = text_data(tmp_path, "abc" * 3001, batch_size=4)
        batches = list(data.val_dataloader())
        rows = torch.cat([batch["tokens"][:, 1:] for batch in batches], 1)
        streams, length = rows.shape
        apart = len(data.heldout) // streams
        for b in range(streams):
            assert rows[b].tolist() == data.heldout.tokens[b * apart + 1 :][:length].tolist()
        assert length >= apart - 1
        assert [batch["restart"] for batch in batches] == [True] + [False] * (len(batches) - 1)


class TestRandomWindows:
    def test_places_are_anywhere_and_targets_follow_inputs(self, tmp_path):
        text = "".join(chr(0x4E00 + i) for i in range(500))
        data = text_data(tmp_path, text, order="random")
        batches = first(data.train_dataloader(), 2500)
        rows = torch.cat([batch["tokens"] for batch in batches])
        assert rows.shape == (10_000, 9) and all(batch["restart"] for batch in batches)
        assert (rows.diff(dim=1) == 1).all()  # the text counts up
        starts = (rows[:, 0] - rows.min()).tolist()
        assert {*starts} == {*range(len(data.train) - 8)}  # the last has a target as well

    def test_batches_depend_on_their_number_and_the_seed(self, tmp_path):
        one, same, other = (
            first(text_data(tmp_path, order="random", seed=seed).train_dataloader(), 5)
            for seed in (0, 0, 1)
        )
        assert all(torch.equal(a["tokens"], b["tokens"]) for a, b in zip(one, same, strict=True))
        assert not any(torch.equal(a["tokens"], b["tokens"])
                       for a, b in zip(one, other, strict=True))  # fmt: skip
        assert not torch.equal(one[0]["tokens"], one[1]["tokens"])

    def test_two_ranks_share_the_windows_of_one(self, tmp_path):
        whole = first(text_data(tmp_path, order="random").train_dataloader(), 5)
        data = text_data(tmp_path, batch_size=2, order="random")
        parts = []
        for rank in range(2):
            data._position = lambda rank=rank: (rank, 2)
            parts.append(first(data.train_dataloader(), 5))
        for batch, a, b in zip(whole, *parts, strict=True):
            assert torch.equal(batch["tokens"], torch.cat([a["tokens"], b["tokens"]]))


class TestBytePairs:
    def test_the_parts_are_those_of_characters(self, tmp_path):
        """Split by characters first, so that figures are of the same held-out text."""
        pairs, plain = text_data(tmp_path, vocabulary="bpe", bpe_tokens=280), text_data(tmp_path)
        for name in ("train", "heldout"):
            own, other = getattr(pairs, name), getattr(plain, name)
            assert own.text() == other.text() and own.fingerprint == other.fingerprint
            assert own.as_characters().text() == other.text()
            assert len(own) < len(other)
        assert pairs.vocab_size == 280 and pairs.alphabet is None
        assert pairs.merges and plain.merges is None
        again = text_data(tmp_path, vocabulary="bpe", bpe_tokens=280)  # out of the cache
        assert np.array_equal(again.train.tokens, pairs.train.tokens)

    def test_they_are_learnt_from_training_text_alone(self, tmp_path):
        text = "ab " * 3000 + "xyz" * 300  # the end is held out
        data = text_data(tmp_path, text, vocabulary="bpe", bpe_tokens=300)
        assert "a b" in data.merges and "x y" not in data.merges
        assert data.heldout.vocabulary.encode("xyz").tolist() == [*b"xyz"]

    def test_a_place_is_in_characters(self, tmp_path):
        for name in ("a.txt", "b.txt"):
            (tmp_path / name).write_text(f"{name} naïve " * 50)
        data = TextDataModule("files", files=f"{tmp_path}/*.txt", vocabulary="bpe", bpe_tokens=280,
                              protocol="torch_rnn", batch_size=2, chunk_length=5)  # fmt: skip
        source = data.heldout
        for token in (0, 7, len(source) - 1):
            name, offset = source.place(token)
            whole = f"{name} naïve " * 50
            rest = source.text(token, token + 3)
            assert whole[offset:].startswith(rest) or not whole[offset + 1 :].startswith(rest)
            assert whole[offset : offset + len(rest)] == rest or len(whole) < offset + len(rest)


class TestSplits:
    @pytest.mark.parametrize("name", splits.PROTOCOLS)
    @given(size=st.integers(60_000, 2_000_000))
    def test_parts_do_not_overlap(self, name, size):
        spans = sorted(span for part in splits.protocol(name).cut(size) for span in part)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
        assert spans[0][0] == 0 and spans[-1][1] <= size

    def test_tinyshakespeare_is_split_as_published(self):
        size = 1_115_394
        assert splits.nanogpt(size)[0] == [(0, 1_003_854)]
        assert splits.nanogpt(size)[1] == [(1_003_854, size)]  # nanoGPT: 111,540 tokens
        train, heldout, test = splits.char_rnn(size)
        # char-rnn prints 423 and 23 batches of 50 x 50 for it
        assert sum(b - a for a, b in train) == 423 * 2500
        assert sum(b - a for a, b in heldout) == 23 * 2500
        assert len(train) == len(heldout) == 50
        assert [b - a for ((a, b),) in splits.torch_rnn(size)] == [892_316, 111_539, 111_539]

    def test_char_rnn_holds_out_the_end_of_every_stream(self, tmp_path):
        text = "".join(chr(0x4E00 + i) for i in range(20_000))
        data = text_data(tmp_path, text, protocol="char_rnn", batch_size=50, chunk_length=50)
        assert len(data.train) == 7 * 2500 and len(data.heldout) == 1 * 2500
        assert data.heldout.text(0, 50) == text[350:400]
        assert data.heldout.place(50)[1] == 400 + 350
        tokens = first(data.train_dataloader(), 1)[0]["tokens"]
        assert np.array_equal(tokens[1, :5], data.train.vocabulary.encode(text[400:405]))

    def test_test_part_is_the_protocols(self, tmp_path):
        data = text_data(tmp_path, small_text(4000), protocol="torch_rnn")
        assert data.tested.text() == data.corpus.source([(0, len(data.corpus.tokens))]).text(
            len(data.train) + len(data.heldout)
        )
        batch = next(iter(data.test_dataloader()))["tokens"]
        assert batch[0].tolist() == data.tested.tokens[: len(batch[0])].tolist()


class TestFiles:
    def test_several_files_keep_their_names(self, tmp_path):
        for name in ("a/x.tex", "b/y.tex", "b/z.txt"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(f"{name} " * 50)
        data = TextDataModule("files", files=f"{tmp_path}/**/*.tex", batch_size=2, chunk_length=5)
        assert sorted(data.corpus.names) == ["a/x.tex", "b/y.tex"]
        name, offset = data.train.place(400)
        assert data.train.text(400, 420) == (f"{name} " * 50)[offset : offset + 20]

    def test_stdlib_is_python_without_tests(self, tmp_path):
        for name in ("os.py", "test/test_os.py", "encodings/cp1252.py", "json/tool.py"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("pass")
        found = sorted(f.relative_to(tmp_path).as_posix() for f in library_files(tmp_path))
        assert found == ["json/tool.py", "os.py"]

    def test_stdlib_is_there(self):
        data = TextDataModule()
        assert len(data.train) > 1_000_000
        assert "import " in data.heldout.text()
        assert data.vocab_size > 90

    def test_unknown_characters_do_not_stop_it(self, tmp_path):
        data = text_data(tmp_path)
        tokens = data.train.vocabulary.encode("la 漢")
        assert tokens[-1] == 0


class TestHuggingFace:
    @pytest.fixture
    def table(self, tmp_path):
        from datasets import Dataset

        rows = [f"row {i} ré\n" for i in range(100)]
        Dataset.from_dict({"text": rows, "n": list(range(100))}).to_parquet(tmp_path / "t.parquet")
        return str(tmp_path / "t.parquet"), rows

    @pytest.mark.parametrize("streaming", [False, True])
    def test_rows_become_one_text(self, table, streaming):
        path, rows = table
        whole = "".join(f"{row}\n\n" for row in rows)
        data = TextDataModule("huggingface", path=path, streaming=streaming, max_characters=500,
                              batch_size=2, chunk_length=5)  # fmt: skip
        assert data.train.text() + data.heldout.text() == whole[:500]

    def test_a_column_that_is_not_there(self, table):
        path, _ = table
        with pytest.raises(ValueError, match="no text column 'n': there are text"):
            write_column(path, "n", None, False, None)


class TestBadInput:
    def message(self, tmp_path, content: bytes, **settings) -> str:
        path = tmp_path / "in.txt"
        path.write_bytes(content)
        with pytest.raises(ValueError) as error:
            data = TextDataModule("files", files=str(path), **settings)
            next(iter(data.train_dataloader()))
        assert "\n" not in str(error.value)
        return str(error.value)

    def test_empty(self, tmp_path):
        assert "in.txt is empty" in self.message(tmp_path, b"")

    def test_binary(self, tmp_path):
        assert "binary file" in self.message(tmp_path, b"PNG\0\1\2" * 100)

    def test_undecodable(self, tmp_path):
        line = self.message(tmp_path, "naïve".encode("latin-1") * 50)
        assert "not utf-8 text: byte 0xef at offset 2" in line

    def test_shorter_than_a_chunk(self, tmp_path):
        line = self.message(tmp_path, b"short text", batch_size=2, chunk_length=50)
        assert "too short: 9 characters, but 2 streams of 50 need 101" in line

    def test_latin_1_is_read_when_named(self, tmp_path):
        path = tmp_path / "in.txt"
        path.write_bytes("naïve ".encode("latin-1") * 50)
        data = TextDataModule("files", files=str(path), encoding="latin-1")
        assert "ï" in data.alphabet

    @pytest.mark.parametrize(
        "settings, message",
        [
            ({"dataset": "stdlibs"}, "unknown dataset 'stdlibs'"),
            ({"dataset": "files"}, "--data.files"),
            ({"dataset": "files", "files": "/no/such"}, "no file matches /no/such"),
            ({"dataset": "huggingface"}, "needs a path"),
            ({"files": "x"}, "files is for"),
            ({"path": "x"}, "are for dataset: huggingface"),
            ({"protocol": "gpt"}, "unknown protocol 'gpt'"),
            ({"batch_size": 0}, "batch_size is 0"),
            ({"order": "shuffled"}, "order is shuffled: choose from streams, random"),
            ({"vocabulary": "words"}, "vocabulary is words: choose from characters, bytes, bpe"),
            ({"vocabulary": "bpe", "bpe_tokens": 256}, "bpe_tokens is 256"),
        ],
    )
    def test_settings(self, settings, message):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            TextDataModule(**settings)
