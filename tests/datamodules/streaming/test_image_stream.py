import io
import tarfile
from itertools import islice
from types import SimpleNamespace

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from novum.datamodules import ImageDataModule
from novum.datamodules.sources import decode
from novum.datamodules.streaming import image_stream as stream
from novum.datamodules.streaming import shard_index, shard_sets, shards
from tests.archives import write_tar

N = 60


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), number, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write(folder, numbers, name: str, shards: int = 3, bad: tuple[int, ...] = ()) -> None:
    """Image i is flat gray i, of class i % 2; row groups of five."""
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["even", "odd"])}
    )
    cells = [{"bytes": b"bad" if i in bad else png(i), "path": None} for i in numbers]
    rows = {"image": cells, "label": [i % 2 for i in numbers]}
    table = datasets.Dataset.from_dict(rows, features=features)
    folder.mkdir(exist_ok=True)
    for shard in range(shards):
        part = table.shard(shards, shard)
        part.to_parquet(folder / f"{name}-{shard:05}-of-{shards:05}.parquet", batch_size=5)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Every row group is a block, and few images are held."""
    monkeypatch.setattr(shard_sets, "BLOCK_BYTES", 1)
    monkeypatch.setattr(stream, "SHUFFLE_BUFFER", 16)


@pytest.fixture
def data(tmp_path):
    write(tmp_path / "data", range(N), "train")
    return str(tmp_path / "data")


def images(path: str, **kwargs) -> ImageDataModule:
    kwargs = {"image_size": 8, "batch_size": 4, "memory_budget_gb": 1} | kwargs
    return ImageDataModule("huggingface", path, streaming=True, **kwargs)


def numbers(source) -> list[int]:
    return source[:][:, 0, 0, 0].tolist()


def order(data: ImageDataModule, batches: int, rank=0, world=1, start=0, workers=0) -> list[int]:
    found = data._stream.batches(data.batch_size, data.seed, rank, world, start, workers)
    return [int(n) for batch in islice(found, batches) for n in batch["image"][:, 0, 0, 0]]


def test_train_and_heldout_are_disjoint_and_whole(data):
    one = images(data)
    assert (one.channels, one.num_classes) == (1, 2)
    train, heldout = numbers(one.train_reference()), numbers(one.heldout_reference())
    assert sorted(train + heldout) == list(range(N))
    assert 3 <= len(heldout) <= 24  # a fifth of 60, by a hash of each row
    assert one.train_reference().labels.tolist() == [n % 2 for n in train]
    assert numbers(images(data, split_seed=1).heldout_reference()) != heldout


def test_budget_limits_what_is_kept(data):
    one = images(data, memory_budget_gb=20 * 64 / 1e9)
    assert len(one.train_reference()) == 16 and len(one.heldout_reference()) == 4


def test_official_test_split_is_held_out(tmp_path):
    write(tmp_path / "data", range(20), "train")
    write(tmp_path / "data", range(100, 107), "test", shards=1)
    one = images(str(tmp_path / "data"))
    assert numbers(one.heldout_reference()) == list(range(100, 107))
    assert sorted(numbers(one.train_reference())) == list(range(20))


def test_batches_are_shuffled_passes_over_the_training_images(data):
    one = images(data)
    train = sorted(numbers(one.train_reference()))
    got = order(one, 3 * len(train) // 4)
    passes = [got[i : i + len(train)] for i in range(0, len(got) - len(train) + 1, len(train))]
    assert all(sorted(p) == train for p in passes)
    assert passes[0] != passes[1] and passes[0] != train
    batch = next(iter(one.train_dataloader()))
    assert batch["label"].tolist() == [n % 2 for n in batch["image"][:, 0, 0, 0].tolist()]


def write_unequal(folder, sizes: tuple[int, ...]) -> list[int]:
    """Shards of these sizes, and a held-out one; the numbers of the training images."""
    begin = 0
    for shard, size in enumerate(sizes):
        write(folder, range(begin, begin + size), f"train-{shard}", shards=1)
        begin += size
    write(folder, range(200, 203), "test", shards=1)
    return list(range(begin))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than there are cores
@pytest.mark.parametrize("sizes", [(37, 3, 20), (41,)], ids=["unequal", "fewer than ranks"])
@pytest.mark.parametrize(("world", "workers"), [(1, 2), (1, 3), (2, 0), (2, 2), (3, 0), (4, 0)])
def test_order_is_one_on_any_ranks_and_workers(tmp_path, sizes, workers, world):
    train = write_unequal(tmp_path / "data", sizes)
    one = images(str(tmp_path / "data"), batch_size=12)
    want = order(one, 12)
    assert sorted(want[: len(train)]) == train == sorted(want[len(train) : 2 * len(train)])
    assert want[: len(train)] != want[len(train) : 2 * len(train)]
    part = images(str(tmp_path / "data"), batch_size=12 // world)
    shares = [order(part, 12, rank, world, workers=workers) for rank in range(world)]
    assert [n for together in zip(*shares, strict=True) for n in together] == want


def test_ranks_and_workers_read_blocks_of_their_own(tmp_path, monkeypatch):
    write(tmp_path / "data", range(200), "train", shards=10)
    write(tmp_path / "data", range(200, 203), "test", shards=1)
    read = []
    inner = shard_sets.ShardSet.read

    def noted(self, block, first, last):
        read.append(block)
        return inner(self, block, first, last)

    one = images(str(tmp_path / "data"), batch_size=5)
    monkeypatch.setattr(shard_sets.ShardSet, "read", noted)
    for rank in range(8):  # of eight readers, each its 25 images of the epoch
        order(one, 5, rank, 8)
    assert len(set(read)) == 40
    assert len(read) < 2 * 40  # once each, but for those that lie on both sides of a cut


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start", [3, 11, 40])
def test_resume_continues_the_order(data, start, workers):
    one = images(data)
    assert order(one, start + 3)[4 * start :] == order(images(data), 3, 0, 1, start, workers)


def test_entering_late_reads_what_it_gives_only(tmp_path, monkeypatch):
    write(tmp_path / "data", range(200), "train", shards=10)
    one = images(str(tmp_path / "data"))
    want = order(one, 300 + 2)[-8:]
    inner, read = shard_sets.ShardSet.read, []
    monkeypatch.setattr(
        shard_sets.ShardSet, "read", lambda *args: read.append(args[1]) or inner(*args)
    )
    assert order(one, 2, start=300) == want
    assert len(read) <= 30  # the windows of 16 lanes that 8 images touch; 300 batches are passed


def test_the_loader_goes_on_after_the_batches_done(data):
    def batches(done: int, rank: int):
        one = images(data, horizontal_flip=True, num_workers=2)
        total = SimpleNamespace(
            batch_progress=SimpleNamespace(total=SimpleNamespace(processed=done))
        )
        loop = SimpleNamespace(epoch_loop=total)
        one.trainer = SimpleNamespace(
            global_rank=rank,
            world_size=2,
            fit_loop=loop,
            max_epochs=-1,
            min_epochs=None,
            check_val_every_n_epoch=None,
            overfit_batches=0.0,
            limit_train_batches=1.0,
            val_check_interval=1.0,
        )
        return one.train_dataloader()

    for rank in range(2):
        whole, rest = list(islice(batches(0, rank), 23)), list(islice(batches(20, rank), 3))
        for want, got in zip(whole[20:], rest, strict=True):
            assert set(got) == {"image", "label", "flip"}
            assert all(torch.equal(want[key], got[key]) for key in got)


# damage


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_stops_with_its_name_or_another_stands_in(tmp_path, workers):
    write(tmp_path / "data", range(N), "train", bad=(7, 9))
    path = str(tmp_path / "data")
    with pytest.raises(ValueError, match=r"train-0000.-of-00003\.parquet, row \d+: not a readable"):
        order(images(path), 30, workers=workers)
    one = images(path, on_bad_image="skip")
    with pytest.warns(UserWarning, match=r"skipped 10? images .*00003\.parquet, row \d") as warned:
        got = order(one, 60, workers=workers)
    assert len(warned) == 1 + (one._stream.skipped >= 10)  # the first, and the tenth
    assert not {7, 9} & set(got)
    with pytest.warns(UserWarning):
        assert set(got) == set(range(N)) - {7, 9} - set(numbers(one.heldout_reference()))
        assert got[44:] == order(images(path, on_bad_image="skip"), 49, start=11)


def compress(file) -> None:
    table = pq.read_table(file)
    pq.write_table(table, file, row_group_size=5, compression="zstd", use_dictionary=False)


def damage_row_group(file) -> None:
    """Zeros over the pages of a compressed file's second row group; the footer is whole."""
    column = pq.read_metadata(file).row_group(1).column(0)
    with open(file, "r+b") as opened:
        opened.seek(column.data_page_offset)
        opened.write(bytes(column.total_compressed_size))


def cut_short(file) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("fault", ["row group", "gone", "tar cut short"])
def test_a_shard_that_breaks_stops_with_its_name_or_is_passed_over(tmp_path, fault, workers):
    if fault.startswith("tar"):
        (tmp_path / "data").mkdir()
        for shard in range(3):
            write_tar(
                tmp_path / "data" / f"{shard}.tar", {f"{i}.png": png(i) for i in range(shard, N, 3)}
            )
        path, file, do = tmp_path / "data", tmp_path / "data" / "1.tar", cut_short
    else:
        write(tmp_path / "data", range(N), "train")
        path, file = tmp_path / "data", tmp_path / "data" / "train-00001-of-00003.parquet"
        do = damage_row_group if fault == "row group" else type(file).unlink
    if fault == "row group":
        compress(file)
    options = {"heldout_fraction": 0.1, "on_bad_image": "skip"}
    strict, lax, again = (
        images(str(path), **options | kw) for kw in ({"on_bad_image": "error"}, {}, {})
    )
    do(file)  # after the index is read
    with pytest.raises(ValueError, match=f"{file.name}, rows .*: not a readable shard .*skip") as e:
        order(strict, 30, workers=workers)
    assert "\n" not in str(e.value)
    with pytest.warns(UserWarning, match=f"skipped 1.* {file.name}|{file.name}, rows"):
        got = order(lax, 60, workers=workers)
        assert order(again, 20, start=40) == got[160:]
        assert order(again, 5, rank=1, world=2, start=7) == got[57:97:2]
    assert len(got) == 240 and len(set(got)) > 30


def test_damage_found_when_images_are_held_out_stops_at_once_or_is_passed_over(tmp_path):
    write(tmp_path / "data", range(N), "train")
    file = tmp_path / "data" / "train-00001-of-00003.parquet"
    compress(file)
    damage_row_group(file)
    with pytest.raises(ValueError, match=f"{file.name}, rows 5 to 9: not a readable shard"):
        images(str(tmp_path / "data"))
    with pytest.warns(UserWarning, match=f"{file.name}, rows"):
        got = order(images(str(tmp_path / "data"), on_bad_image="skip"), 40)
    assert len(got) == 160 and not set(got) & set(range(25, 30))


def test_a_shard_without_an_index_stops_at_once_or_is_left_out(tmp_path):
    write(tmp_path / "data", range(N), "train")
    cut_short(tmp_path / "data" / "train-00000-of-00003.parquet")
    with pytest.raises(ValueError, match=r"train-00000-of-00003\.parquet: not a readable shard"):
        images(str(tmp_path / "data"))
    with pytest.warns(UserWarning, match=r"left out .*train-00000-of-00003\.parquet: "):
        one = images(str(tmp_path / "data"), on_bad_image="skip")
    assert len(one._stream.train) + len(one._stream.heldout) == 40


def test_a_damaged_archive_stops_at_once_or_gives_what_is_before_the_damage(tmp_path):
    write_tar(tmp_path / "x.tar", {f"{i:03}.png": png(i) for i in range(N)})
    whole = (tmp_path / "x.tar").read_bytes()
    spoilt = bytearray(whole)
    spoilt[20 * 1024 : 20 * 1024 + 512] = b"x" * 512  # the header of the 21st member
    for content, left in ((whole[: 30 * 1024 - 500], 29), (bytes(spoilt), 20)):
        (tmp_path / "x.tar").write_bytes(content)
        with pytest.raises(
            ValueError, match=r"x\.tar: not a readable shard \((no header|unexpected)"
        ):
            images(str(tmp_path / "x.tar"))
        with pytest.warns(UserWarning, match=f"x.tar: only the first {left} images"):
            one = images(str(tmp_path / "x.tar"), on_bad_image="skip")
        assert len(one._stream.train) + len(one._stream.heldout) == left


def test_wrong_options(data, tmp_path):
    for options in ({"label_column": "lable"}, {"image_column": "img"}, {"split": "tain"}):
        with pytest.raises(ValueError, match="(no column|no split) '.*there are"):
            images(data, **options)
    with pytest.raises(ValueError, match="streaming needs a path, and takes no subset"):
        images(data, subset=3)
    write_tar(tmp_path / "x.tar", {"1.png": png(1), "1.cls": b"cat"})
    with pytest.raises(ValueError, match=r"member 1\.cls is not a whole number: b'cat'"):
        images(str(tmp_path / "x.tar"))


def test_a_stream_without_training_images_ends(data):
    with pytest.raises(ValueError, match="streams no training image; change heldout_fraction"):
        images(data, heldout_fraction=1 - 1e-12)


def test_what_is_held_out_stays_so_when_shards_are_added(data, tmp_path):
    before = numbers(images(data).heldout_reference())
    write(tmp_path / "data", range(100, 130), "train-new", shards=1)
    assert [n for n in numbers(images(data).heldout_reference()) if n < 100] == before


def test_copies_of_an_image_are_on_one_side_wherever_they_are(tmp_path):
    write(tmp_path / "data", [*range(30), *range(30)], "train", shards=4)
    write_tar(tmp_path / "x.tar", {f"{i}.png": png(i % 30) for i in range(60)})
    sides = {}
    for path in (tmp_path / "data", tmp_path / "x.tar"):
        one = images(str(path), heldout_fraction=0.3)
        heldout, train = numbers(one.heldout_reference()), numbers(one.train_reference())
        assert sorted(heldout + train) == sorted([*range(30), *range(30)])
        assert not set(heldout) & set(train)
        sides[path] = set(heldout)
    assert 2 <= len(sides[path]) <= 18
    assert len(set(map(frozenset, sides.values()))) == 1  # in either form


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("form", ["cls", "numbers", "names"])
def test_labels_without_class_names(tmp_path, form, workers):
    """Of an archive's members, of a column of numbers, and of one of names."""
    if form == "cls":
        members = {f"{i:02}.{k}": v for i in range(N) for k, v in a_sample(i).items()}
        path = write_tar(tmp_path / "x.tar", members)
    else:
        kinds = [i % 3 for i in range(N)] if form == "numbers" else ["abc"[i % 3] for i in range(N)]
        rows = {"image": [png(i) for i in range(N)], "label": kinds}
        path = tmp_path / "x.parquet"
        datasets.Dataset.from_dict(rows).to_parquet(path)
    one = images(str(path))
    assert one.num_classes == 3
    assert one._stream.class_names == (["a", "b", "c"] if form == "names" else None)
    for batch in islice(one._stream.batches(4, 0, 0, 1, 0, workers), 12):
        assert batch["label"].tolist() == [int(n) % 3 for n in batch["image"][:, 0, 0, 0]]
    for side in (one.train_reference(), one.heldout_reference()):
        assert side.labels.tolist() == [n % 3 for n in numbers(side)]


def a_sample(i: int) -> dict[str, bytes]:
    return {"cls": f"{i % 3}\n".encode(), "png": png(i)}


def test_an_archive_whose_member_claims_more_than_an_image_has(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MOST_BYTES", 2000)
    monkeypatch.setattr(decode, "MOST_BYTES", 2000)
    members = {f"{i}.png": png(i) for i in range(N)} | {"bomb.png": bytes(5000)}
    write_tar(tmp_path / "x.tar", members)
    one = images(str(tmp_path / "x.tar"), heldout_fraction=0.2, on_bad_image="error")
    with pytest.raises(ValueError, match=r"member bomb\.png: .*5,000 bytes, more than an image"):
        order(one, 30)
    one = images(str(tmp_path / "x.tar"), heldout_fraction=0.2, on_bad_image="skip")
    with pytest.warns(UserWarning, match=r"skipped .*bomb\.png"):
        assert set(order(one, 60)) <= set(range(N))


def test_a_row_group_that_unpacks_to_far_more_than_it_says(tmp_path, monkeypatch):
    """A dictionary of one value, named by every row."""
    monkeypatch.setattr(shards, "MOST_UNPACKED", 100_000)
    cells = [{"bytes": png(1) + bytes(20_000), "path": None}] * 300
    rows = pa.table(
        {"image": pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()}))}
    )
    pq.write_table(rows, tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"x\.parquet, rows .*unpacks to far more than the"):
        images(str(tmp_path / "x.parquet"))


@pytest.mark.parametrize("kind", ["saved", "imagefolder", "webdataset"])
def test_other_formats(kind, tmp_path, tree):
    if kind == "imagefolder":
        path = tree
    elif kind == "saved":
        path = tmp_path / "saved"
        datasets.Dataset.from_dict({"image": [png(i) for i in range(10)]}).save_to_disk(path)
    else:
        path = write_tar(tmp_path / "x.tar", {f"{i}.png": png(i) for i in range(10)})
    one = images(str(path), heldout_fraction=0.4)
    total = len(one.train_reference()) + len(one.heldout_reference())
    assert total == 10 and one.train_reference()[0].dtype == torch.uint8


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_members_of_an_archive(tmp_path, form):
    """Any image of a sample by any name; nothing is written anywhere."""
    long = "a" * 60 + "/" + "b" * 90
    members = {
        "../../0.PNG": png(0),
        "/tmp/1.png": png(1),
        f"{long}/2.png": png(2),
        "x/3.jpg": png(3),
        "x/3.cls": b"1",
        "x/._4.png": b"not an image",
        "x/5.txt": b"a text",
    }
    write_tar(tmp_path / "x.tar", members, format=form)
    before = sorted(tmp_path.rglob("*"))
    one = images(str(tmp_path / "x.tar"), heldout_fraction=0.3)
    both = numbers(one.train_reference()) + numbers(one.heldout_reference())
    assert sorted(both) == [0, 1, 2, 3] and one.num_classes == 0
    made = [f for f in tmp_path.rglob("*") if f not in before and not {"cache", "hf"} & {*f.parts}]
    assert not made
    assert "member x/3.jpg" in one._stream.train.shards[0].name(3)


def test_several_images_a_sample(tmp_path):
    members = {
        f"{i}.{kind}": png(i + 20 * (kind != "jpg"))
        for i in range(9)
        for kind in ("jpg", "seg.png")
    }
    write_tar(tmp_path / "x.tar", members)
    with pytest.raises(ValueError, match="choose image_column from"):
        images(str(tmp_path / "x.tar"))
    one = images(str(tmp_path / "x.tar"), image_column="seg.png")
    assert sorted(numbers(one.train_reference()) + numbers(one.heldout_reference())) == list(
        range(20, 29)
    )


def test_files_behind_a_url(tmp_path):
    write(tmp_path / "data", range(20), "train", shards=2)
    one = images(f"file://{tmp_path}/data/*.parquet")
    assert len(one._stream.train) + len(one._stream.heldout) == 20
    assert {n // 10 for n in order(one, 5)} == {0, 1}


def test_an_index_is_kept_until_the_file_changes(tmp_path, monkeypatch):
    write_tar(tmp_path / "x.tar", {f"{i}.png": png(i) for i in range(9)})
    images(str(tmp_path / "x.tar"), heldout_fraction=0.3)
    inner, scanned = shard_index.tar_images, []
    monkeypatch.setattr(shard_index, "tar_images", lambda *a: scanned.append(a) or inner(*a))
    images(str(tmp_path / "x.tar"), heldout_fraction=0.3)
    assert not scanned
    write_tar(tmp_path / "x.tar", {f"{i}.png": png(i) for i in range(12)})
    assert len(images(str(tmp_path / "x.tar"), heldout_fraction=0.3)._stream.train) > 0 and scanned
