"""Tables: what is read, split, scaled, and what is refused."""

import io
import zipfile

import numpy as np
import pytest
import torch

from spikelfp import data
from spikelfp.data import tabular
from spikelfp.errors import DataError, UnknownNameError, UserError
from spikelfp.training.config import RunConfig


def table_of(rows, columns=4, seed=0):
    numbers = np.random.default_rng(seed).normal(3.0, 2.0, (rows, columns)).round(3)
    head = ",".join("abcdefgh"[:columns])
    return numbers, head + "\n" + "\n".join(",".join(map(str, row)) for row in numbers) + "\n"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_cells_are_parted_as_the_first_line_has_it(separator, end):
    numbers, text = table_of(6)
    text = text.replace(",", separator).replace("\n", end)
    read = tabular.read_table(("\ufeff" + text).encode(), "f.csv")
    assert read.columns == tuple("abcd")
    np.testing.assert_array_equal(read.values, numbers)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no rows"),
        ("a,b\n", "no rows"),
        ("a,a\n1,2\n", "two columns are called 'a'"),
        (",b\n0,2\n", "column 1 has no name"),
        ("1,2\n3,4\n", "line 1 holds numbers"),
        ("a,b\n1,2\n1\n", "row 2 has 1 cells"),
        ("a,b\n1,2,3\n", "rows have 3 cells"),
        ("a,b\n1,\n", "row 1 has no value in column 'b'"),
        ("a,b\n1,2\n1,NA\n", "row 2 has no value in column 'b'"),
        ("a,b\n1,2\nnan,2\n", "row 2 has no finite number in column 'a'"),
        ("a,b\n1,1e999\n", "row 1 has no finite number"),
        ("a,b\n1,2\n2,3\n3,x\n", "row 3 holds 'x' in the column of numbers 'b'"),
        ("a;b\n1,5;2\n", "decimal point"),
    ],
)
def test_damage_is_named_with_its_row_and_column(text, said):
    with pytest.raises(DataError, match=said.replace("(", r"\(")):
        tabular.read_table(text.encode(), "f.csv")


def test_text_that_is_no_utf8_is_refused():
    with pytest.raises(DataError, match="no UTF-8"):
        tabular.read_table("a,b\nä,1\n".encode("latin-1"), "f.csv")


def test_inputs_and_targets_are_standardised_by_the_training_rows_alone(tmp_path):
    numbers, text = table_of(50)
    (tmp_path / "t.csv").write_text(text)
    splits = data.load(f"csv:{tmp_path / 't.csv'}", target="b")
    assert (len(splits.train), len(splits.test), splits.shape, splits.names) == (40, 10, (3,), ("b",))
    held = tabular.held_back(50, "csv:t.csv")
    train, test = numbers[~held], numbers[held]
    inputs, mean, std = [0, 2, 3], train.mean(0), train.std(0)
    x, y = splits.train.__getitems__(range(40))
    np.testing.assert_allclose(x.numpy(), ((train - mean) / std)[:, inputs], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(y.numpy(), ((train - mean) / std)[:, [1]], rtol=1e-5, atol=1e-6)
    x, y = splits.test.__getitems__(range(10))
    np.testing.assert_allclose(x.numpy(), ((test - mean) / std)[:, inputs], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(splits.target_scale.values(y).numpy(), test[:, [1]], rtol=1e-5)


def test_a_constant_column_stays_finite(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,y\n" + "".join(f"7,{i},{i * i}\n" for i in range(10)))
    x, _ = data.load(f"csv:{tmp_path / 't.csv'}").train.__getitems__(range(8))
    assert torch.isfinite(x).all()
    assert (x[:, 0] == 0).all()


def test_several_targets(tmp_path):
    numbers, text = table_of(20)
    (tmp_path / "t.csv").write_text(text)
    splits = data.load(f"csv:{tmp_path / 't.csv'}", target="d, a")
    assert splits.names == ("d", "a")
    held = tabular.held_back(20, "csv:t.csv")
    values = splits.target_scale.values(splits.train.labels)
    np.testing.assert_allclose(values.numpy(), numbers[~held][:, [3, 0]], rtol=1e-5)


def test_a_target_of_text_is_a_class_and_numbers_are_if_asked(tmp_path):
    rows = "".join(f"{i},{('cat', 'dog')[i % 2]},{i % 11}\n" for i in range(40))
    (tmp_path / "t.csv").write_text("a,kind,grade\n" + rows)
    with pytest.raises(DataError, match="'kind' is text, such as 'cat'"):
        data.load(f"csv:{tmp_path / 't.csv'}")
    (tmp_path / "u.csv").write_text("a,kind\n" + "".join(line.rpartition(",")[0] + "\n" for line in rows.split()))
    splits = data.load(f"csv:{tmp_path / 'u.csv'}")
    assert (splits.kind, splits.class_names) == ("classes", ("cat", "dog"))
    (tmp_path / "v.csv").write_text("a,grade\n" + "".join(f"{i},{i % 11}\n" for i in range(40)))
    graded = data.load(f"csv:{tmp_path / 'v.csv'}", target_classes=True)
    assert [int(name) for name in graded.class_names] == list(range(11))
    assert data.load(f"csv:{tmp_path / 'v.csv'}").kind == "values"
    (tmp_path / "w.csv").write_text("a,grade\n1,0.5\n2,1\n")
    with pytest.raises(DataError, match=r"row 1 holds 0\.5"):
        data.load(f"csv:{tmp_path / 'w.csv'}", target_classes=True)


def test_a_folder_of_two_files_says_which_rows_are_for_testing(tmp_path):
    train, text = table_of(9, seed=1)
    (tmp_path / "train.csv").write_text(text)
    (tmp_path / "test.csv").write_text(table_of(3, seed=2)[1])
    splits = data.load(f"csv:{tmp_path}")
    assert (len(splits.train), len(splits.test)) == (9, 3)
    np.testing.assert_allclose(splits.target_scale.mean, train[:, 3].mean())
    (tmp_path / "test.csv").write_text("a,b,c,z\n1,2,3,4\n")
    with pytest.raises(DataError, match=r"not those of train\.csv"):
        data.load(f"csv:{tmp_path}")


@pytest.mark.parametrize(
    ("name", "options", "kind", "said"),
    [
        ("csv", {}, UserError, "csv:"),
        ("csv:", {}, UserError, "csv:"),
        ("csv:{}/none.csv", {}, DataError, "No such file"),
        ("csv:{}/t.csv", {"target": "q"}, UnknownNameError, "choose from a, b, c, d"),
        ("csv:{}/t.csv", {"target": "a,b,c,d"}, DataError, "none is left"),
        ("csv:{}/t.csv", {"test_part": 1.0}, UserError, "below 1"),
        ("csv:{}/one.csv", {}, DataError, "one row"),
    ],
)
def test_refused(tmp_path, name, options, kind, said):
    (tmp_path / "t.csv").write_text(table_of(10)[1])
    (tmp_path / "one.csv").write_text("a,b\n1,2\n")
    with pytest.raises(kind, match=said):
        data.load(name.format(tmp_path), **options)


def test_the_test_part_is_the_same_at_every_call_and_never_all_or_nothing():
    assert (tabular.held_back(1000, "x") == tabular.held_back(1000, "x")).all()
    assert (tabular.held_back(1000, "x") != tabular.held_back(1000, "y")).any()
    assert tabular.held_back(1000, "x").sum() == 200
    assert [int(tabular.held_back(n, "x", 0.01).sum()) for n in (2, 3)] == [1, 1]
    assert int(tabular.held_back(2, "x", 0.99).sum()) == 1


def made_up_wine(folder):
    names = [f"m{i}" for i in range(11)]
    for count, file in ((6, "winequality-red.csv"), (4, "winequality-white.csv")):
        rows = [";".join([*(str(i + k) for k in range(11)), str(3 + i)]) for i in range(count)]
        (folder / file).write_text(";".join(f'"{name}"' for name in [*names, "quality"]) + "\n" + "\n".join(rows))


@pytest.mark.parametrize("spelling", ["wine-quality", "wine_quality"])
def test_wines_of_both_kinds_are_told_apart_by_a_column(tmp_path, spelling):
    (tmp_path / spelling).mkdir()
    made_up_wine(tmp_path / spelling)
    splits = data.load("wine-quality", tmp_path)
    assert (splits.shape, splits.names, len(splits.train) + len(splits.test)) == ((12,), ("quality",), 10)
    white = torch.cat([splits.train.images, splits.test.images])[:, 0]
    assert int(white.sum()) == 4


def test_runs_of_a_kernel_stay_together(tmp_path):
    (tmp_path / "sgemm").mkdir()
    head = [f"P{i}" for i in range(14)] + [f"Run{i} (ms)" for i in range(1, 5)]
    rows = [[k] * 14 + [10 * k + r for r in range(4)] for k in range(20)]
    text = "\n".join(",".join(map(str, row)) for row in [head, *rows])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Readme.txt", "words")
        archive.writestr("sgemm_product.csv", text)
    (tmp_path / "sgemm" / "sgemm_product_dataset.zip").write_bytes(content.getvalue())
    splits = data.load("sgemm", tmp_path)
    assert (len(splits.train), len(splits.test), splits.shape) == (64, 16, (14,))
    trained, tested = (set(part.images[:, 0].tolist()) for part in (splits.train, splits.test))
    assert not trained & tested
    times = splits.target_scale.values(splits.test.labels)[:, 0].reshape(-1, 4)
    kernels = splits.test.images[:, 0].reshape(-1, 4)
    torch.testing.assert_close(times, 10 * kernels + torch.arange(4.0))
    (tmp_path / "sgemm" / "sgemm_product.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(DataError, match="14 parameters"):
        data.load("sgemm", tmp_path)


def test_a_zip_that_is_none(tmp_path):
    (tmp_path / "sgemm").mkdir()
    path = tmp_path / "sgemm" / "sgemm_product_dataset.zip"
    path.write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="no zip archive"):
        data.load("sgemm", tmp_path)


@pytest.mark.parametrize("cell", ["1,100", "1,234,100", "1 234", "1'234.5", "$12", "12 %", "-€3.50", "1\u202f234"])
def test_numbers_written_for_people_are_no_words(tmp_path, cell):
    rows = "".join(f"{row};{cell}\n" for row in range(30))
    (tmp_path / "t.csv").write_text("a;y\n" + rows)
    with pytest.raises(DataError, match=r"row 1 holds .* in column 'y': write numbers with a decimal point"):
        data.load(f"csv:{tmp_path}/t.csv")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([f"2020-01-{day:02d}" for day in range(1, 31)], "30 rows have 30 different words in 'y'"),
        (["same"] * 30, "all rows have 'same' in 'y'"),
    ],
)
def test_words_that_tell_no_classes_apart_are_refused(tmp_path, words, said):
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{row},{word}\n" for row, word in enumerate(words)))
    with pytest.raises(DataError, match=said):
        data.load(f"csv:{tmp_path}/t.csv")


def test_names_of_classes_that_are_numbers_are_sorted_by_number(tmp_path):
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{row},{(2, 10, -1)[row % 3]}\n" for row in range(30)))
    splits = data.load(f"csv:{tmp_path}/t.csv", target_classes=True)
    assert splits.names == ("-1", "2", "10")
    rows = (splits.train.images[:, 0] % 3).long()
    torch.testing.assert_close(splits.train.labels, torch.tensor([1, 2, 0])[rows])


@pytest.mark.parametrize("offset", [0, 1_600_000_000, 2**24, -(2**40)])
def test_inputs_far_from_zero_keep_what_tells_them_apart(tmp_path, offset):
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{offset + row},{row}.5\n" for row in range(40)))
    splits = data.load(f"csv:{tmp_path}/t.csv")
    x, y = splits.train.__getitems__(range(32))
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)  # both are the number of the row, standardised


@pytest.mark.parametrize(
    ("scale", "column", "said"),
    [(1e200, "a", "more than 1e"), (1e200, "y", "more than 1e"), (1e-200, "a", "smaller"), (1e-200, "y", "smaller")],
)
def test_numbers_out_of_range_are_named_by_their_column(tmp_path, scale, column, said):
    rows = "".join(
        f"{row * (scale if column == 'a' else 1)},{row * (scale if column == 'y' else 1)}\n" for row in range(9)
    )
    (tmp_path / "t.csv").write_text("a,y\n" + rows)
    with pytest.raises(DataError, match=f"'{column}'.*{said}"):
        data.load(f"csv:{tmp_path}/t.csv")


@pytest.mark.parametrize("content", [b"\x1f\x8b123", b"PK\x03\x04123", "a,y\n1,2\n".encode("utf-16")])
def test_packed_files_are_named(content):
    with pytest.raises(DataError, match="save it as one"):
        tabular.read_table(content, "f.csv")


def test_lines_may_end_as_on_old_machines():
    assert tabular.read_table(b"a,y\r1,2\r3,4\r", "f.csv").values.tolist() == [[1, 2], [3, 4]]


def test_true_and_false_are_inputs_and_a_name_may_hold_a_comma(tmp_path):
    rows = "".join(f"{row % 2 == 0},{row}\n" for row in range(10))
    (tmp_path / "t.csv").write_text('a,"y, kg"\n' + rows)
    splits = data.load(f"csv:{tmp_path}/t.csv", target="y, kg")
    assert splits.names == ("y, kg",)
    assert set(splits.train.images.flatten().tolist()) == {0.0, 1.0}
    with pytest.raises(UserError, match="named twice"):
        data.load(f"csv:{tmp_path}/t.csv", target="a,a")


def test_a_class_number_beyond_what_floats_tell_apart_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{row},{10**17 + row % 3}\n" for row in range(30)))
    with pytest.raises(DataError, match="no class number"):
        data.load(f"csv:{tmp_path}/t.csv", target_classes=True)


@pytest.mark.parametrize(
    ("text", "options", "task"),
    [
        ("a,y\n1,2\n", {}, "regression"),
        ("a,y\r1,no\r", {}, "classification"),
        ("a,y\n1,no\n", {"target": "a"}, "regression"),
        ("a,y\n1,2\n", {"target_classes": True}, "classification"),
        ('\ufeffa;"y, kg"\nno;1\n', {"target": "y, kg"}, "regression"),
        ("a,y\n", {}, "regression"),
    ],
)
def test_the_task_is_that_of_the_target(tmp_path, text, options, task):
    (tmp_path / "train.csv").write_text(text, encoding="utf-8")
    for path in (tmp_path, tmp_path / "train.csv"):
        assert RunConfig(data=f"csv:{path}", **options).task.name == task
    assert RunConfig(data=f"csv:{tmp_path}/none.csv", **options).task.name in (task, "regression")


def test_a_file_without_its_kind_is_told_how_it_is_named(tmp_path):
    (tmp_path / "train.csv").write_text("a,y\n1,2\n")
    for path in (tmp_path, tmp_path / "train.csv"):
        with pytest.raises(UnknownNameError, match=f"write csv:{path}"):
            data.load(str(path))
