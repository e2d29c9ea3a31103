"""Tables of numbers: Wine Quality, SGEMM run times, and any CSV file; a row is a sample, some columns are targets."""

from __future__ import annotations

import csv
import io
import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from spikelfp.data.dataset import ArrayDataset, DataSplits, Standardization, datasets
from spikelfp.data.download import Original, fetch
from spikelfp.data.download import data_dir as data_folder
from spikelfp.data.loader import generator
from spikelfp.data.samples import TargetScale
from spikelfp.errors import DataError, UserError
from spikelfp.options import option
from spikelfp.registry import unknown_name
from spikelfp.scalars import as_number
from spikelfp.terminal import first_line
from spikelfp.untrusted.archives import check_zip, read_entry
from spikelfp.untrusted.bounds import read_regular
from spikelfp.untrusted.text import LONGEST_CSV, MOST_CELLS

Numbers = NDArray[np.float64]

TEST_PART = 0.2
"""Part of the rows (or of the groups of rows) that is held back for testing, where no file says which."""

_SEPARATORS = ",;\t|"
_MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?", "inf", "-inf", "infinity", "-infinity"))
_WRITTEN = re.compile(r"[+\-−]?[$€£¥]?\s?[+\-−]?(\d{1,3}([ ,.'’\u00a0\u202f]\d{3})+|\d+)([.,]\d+)?\s?[%$€£¥]?")
"""A number as people write it: with a decimal comma, a sign for thousands, a currency, a percent sign."""

_TRUTH = {"true": 1.0, "false": 0.0}
_MOST = 1e100
"""Largest number of a table, and one over the least deviation of a column: squares of it are added up."""

_FIRST = 1 << 20
"""Bytes of a table in which its first row is looked for."""

_WHOLE = 2.0**53
"""Largest number of a class: above it float64 does not have every whole number."""

_CLASSES = 10
"""Number of classes of text that any table may have; with more, each must stand in two rows or more on average."""
_NO_TEXT = {
    b"\x1f\x8b": "packed by gzip",
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}
_WINE = {
    "winequality-red.csv": Original("4a402cf041b025d4566d954c3b9ba8635a3a8a01e039005d97d6a710278cf05e", 84_199),
    "winequality-white.csv": Original("76c3f809815c17c07212622f776311faeb31e87610d52c26d87d6e361b169836", 264_426),
}
_WINE_MIRROR = "https://archive.ics.uci.edu/ml/machine-learning-databases/wine-quality/"
_SGEMM = "sgemm_product_dataset.zip"
_SGEMM_ORIGINAL = Original("8d3ee0d82708df11b54debc6a4fbade77c604a047f019fa7940413032eb7b096", 3_186_088)
_SGEMM_MIRROR = "https://archive.ics.uci.edu/ml/machine-learning-databases/00440/"


class Table(NamedTuple):
    """Columns of numbers and of text.

    Attributes:
        columns: names, by the first line of the file.
        values: float64 ``[rows, columns]``; NaN in columns of text.
        texts: cells of each column of text, by its name.
    """

    columns: tuple[str, ...]
    values: Numbers
    texts: dict[str, list[str]]


def read_table(content: bytes, where: str) -> Table:
    """Read a CSV file: names in its first line; cells separated by comma, semicolon, tab or ``|``, as in that line.

    Args:
        content: the file, UTF-8.
        where: its name, for messages.

    Raises:
        DataError: for a file without rows or of another form, a name that stands twice, or a cell that is missing or no
            finite number in a column of numbers, with its row and column.
    """
    if len(content) > LONGEST_CSV:
        raise DataError(f"{where}: {len(content)} bytes, more than the {LONGEST_CSV} that a table may have")
    for start, kind in _NO_TEXT.items():
        if content.startswith(start):
            raise DataError(f"{where}: is {kind}, and a table is a CSV file in UTF-8: unpack it, or save it as one")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: is no UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8") from None
    head, _, body = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\n").partition("\n")
    separator = max(_SEPARATORS, key=head.count)
    columns = tuple(name.strip() for name in next(csv.reader([head], delimiter=separator), []))
    if not body.strip():
        raise DataError(f"{where}: has no rows: a table has the names of its columns in line 1 and rows after it")
    if "" in columns:
        raise DataError(
            f"{where}: column {columns.index('') + 1} has no name in line 1: an index is no input, write the table "
            "without one (pandas: to_csv(…, index=False)), or name the column"
        )
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise DataError(f"{where}: two columns are called {twice[:60]!r}")
    if all(_is_number(name) for name in columns):
        raise DataError(f"{where}: line 1 holds numbers, and names of columns are expected there: add such a line")
    try:
        values = np.loadtxt(io.StringIO(body), delimiter=separator, quotechar='"', comments=None, ndmin=2)
    except ValueError:  # text in some column, or damage
        return _read_slowly(columns, body, separator, where)
    if values.shape[1] != len(columns):
        raise DataError(f"{where}: rows have {values.shape[1]} cells, line 1 names {len(columns)} columns")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        raise DataError(
            f"{where}: row {row + 1} has no finite number in column {columns[column]!r} ({len(bad)} cells lack one): "
            "leave such rows out, or fill them in"
        )
    _check_size(columns, values, where)
    return Table(columns, values, {})


def _check_size(columns: Sequence[str], values: Numbers, where: str) -> None:
    """Refuse numbers so large that their squares cannot be added up."""
    large = np.argwhere(np.abs(values) > _MOST)
    if len(large):
        row, column = large[0]
        raise DataError(
            f"{where}: row {row + 1} holds {values[row, column]:g} in column {columns[column]!r}, more than {_MOST:g}: "
            "write it in a larger unit"
        )


def _read_slowly(columns: tuple[str, ...], body: str, separator: str, where: str) -> Table:
    """Read a table of text columns too, and name the first cell that is wrong."""
    count = body.count(separator) + body.count("\n")
    if count > MOST_CELLS:
        raise DataError(f"{where}: has {count} cells, more than the {MOST_CELLS} that a table with text may have")
    cells: list[list[str]] = [[] for _ in columns]
    try:
        for number, row in enumerate(filter(None, csv.reader(io.StringIO(body), delimiter=separator)), 1):
            if len(row) != len(columns):
                raise DataError(f"{where}: row {number} has {len(row)} cells, line 1 names {len(columns)} columns")
            for column, cell in zip(cells, row, strict=True):
                column.append(cell.strip())
    except csv.Error as error:
        raise DataError(f"{where}: {first_line(error)}") from None
    values = np.full((len(cells[0]), len(columns)), np.nan)
    texts = {}
    for index, (name, column) in enumerate(zip(columns, cells, strict=True)):
        missing = next((row for row, cell in enumerate(column) if cell.lower() in _MISSING), None)
        if missing is not None:
            raise DataError(
                f"{where}: row {missing + 1} has no value in column {name!r} ({column[missing]!r}): leave such rows "
                "out, or fill them in"
            )
        known = [_is_number(cell) for cell in column]
        written = next((row for row, cell in enumerate(column) if not known[row] and _WRITTEN.fullmatch(cell)), None)
        if written is not None:
            raise DataError(
                f"{where}: row {written + 1} holds {column[written][:40]!r} in column {name!r}: write numbers with a "
                "decimal point, and without signs for thousands, %, and currencies"
            )
        if all(known):
            values[:, index] = [float(cell) for cell in column]
        elif sum(known) > len(known) // 2:
            odd = known.index(False)
            raise DataError(f"{where}: row {odd + 1} holds {column[odd][:40]!r} in the column of numbers {name!r}")
        else:
            texts[name] = column
    _check_size(columns, values, where)
    return Table(columns, values, texts)


def _is_number(cell: str) -> bool:
    try:
        return "_" not in cell and bool(np.isfinite(float(cell)))  # 1_2 is a number to Python only
    except ValueError:
        return False


def splits_of(
    name: str,
    table: Table,
    targets: Sequence[str],
    test: NDArray[np.bool_],
    where: str,
) -> DataSplits:
    """Make a data set of a table: its target columns are to be predicted, all others are inputs.

    Inputs are shifted and scaled to mean 0 and deviation 1, and so are targets that are numbers, by the mean and
    deviation over the training rows; scores that have a unit (RMSE) are given in that of the file. An input column that
    holds only ``True`` and ``False`` becomes 1 and 0.

    Args:
        name: of the data set.
        table: the rows.
        targets: names of columns; one of text is a column of classes.
        test: mask of the rows that are for testing, ``[rows]``.
        where: the file, for messages.

    Raises:
        DataError: for inputs that are text, tables without inputs, and text that is no class.
        UnknownNameError: for a target that there is not.
        UserError: for a target that is named twice.
    """
    for target in targets:
        if target not in table.columns:
            raise unknown_name(f"column of {where}", target, table.columns)
        if list(targets).count(target) > 1:
            raise UserError(f"{where}: the target {target!r} is named twice")
    inputs = [column for column in table.columns if column not in targets]
    table = _truth_as_numbers(table, inputs)
    if not inputs:
        hint = "" if len(table.columns) > 1 else "; cells are parted by , ; tab or |"
        raise DataError(f"{where}: all of its columns are targets: none is left to predict them from{hint}")
    text = [column for column in inputs if column in table.texts]
    if text:
        raise DataError(
            f"{where}: the column {text[0]!r} is text, such as {table.texts[text[0]][0][:40]!r}: make numbers of it (a "
            "column of 0 and 1 for each word), or leave it out"
        )
    places = [table.columns.index(column) for column in inputs]
    held, raw = torch.from_numpy(test), table.values[:, places]
    mean, std = _statistics(raw[~test], inputs, where)
    x = torch.from_numpy(_stored(raw, mean, std))
    standardization = Standardization(tuple(mean.tolist()), tuple(std.tolist()))
    worded = [target for target in targets if target in table.texts]
    if worded:
        if len(targets) > 1:
            raise UserError(f"{where}: the target {worded[0]!r} is text, which is one column of classes: name it only")
        labels, names = _numbered(table.texts[worded[0]], worded[0], where)
        whole = ArrayDataset(x, labels, classes=len(names), standardization=standardization)
    else:
        y, names = table.values[:, [table.columns.index(target) for target in targets]], tuple(targets)
        middle, width = _statistics(y[~test], targets, where)
        scale = TargetScale(tuple(middle.tolist()), tuple(width.tolist()))
        labels = torch.from_numpy(((y - middle) / width).astype(np.float32))
        whole = ArrayDataset(x, labels, standardization=standardization, target_scale=scale)
    return DataSplits(
        name=name,
        train=whole.subset((~held).nonzero()[:, 0]),
        test=whole.subset(held.nonzero()[:, 0]),
        outputs=len(names),
        shape=(len(inputs),),
        names=names,
        statistics=standardization,
    )


def _truth_as_numbers(table: Table, inputs: Sequence[str]) -> Table:
    """Table with 1 and 0 in place of the text of inputs that are only ``True`` and ``False``."""
    found = {name for name in inputs if {word.lower() for word in table.texts.get(name, [""])} <= _TRUTH.keys()}
    if not found:
        return table
    values = table.values.copy()
    for name in found:
        values[:, table.columns.index(name)] = [_TRUTH[word.lower()] for word in table.texts[name]]
    return Table(table.columns, values, {name: cells for name, cells in table.texts.items() if name not in found})


def _numbered(cells: Sequence[str], target: str, where: str) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Number the cells of a column of text: labels int64 ``[rows]``, sorted names (by number if all are numbers)."""
    found, labels = np.unique(np.asarray(cells), return_inverse=True)
    if len(found) < 2:
        raise DataError(f"{where}: all rows have {str(found[0])[:40]!r} in {target!r}: there is nothing to tell apart")
    if len(found) > max(_CLASSES, len(cells) // 2):
        raise DataError(
            f"{where}: {len(cells)} rows have {len(found)} different words in {target!r}, such as "
            f"{str(found[0])[:40]!r}, which are no classes: make numbers of them, or choose another target"
        )
    if all(map(_is_number, found)):
        order = np.argsort([float(word) for word in found], kind="stable")
        found, labels = found[order], np.argsort(order)[labels]
    return torch.from_numpy(labels.astype(np.int64)), tuple(map(str, found))


def _statistics(rows: Numbers, columns: Sequence[str], where: str) -> tuple[Numbers, Numbers]:
    """Mean and deviation of each column; a column that is constant keeps its unit."""
    mean, std = rows.mean(0), rows.std(0)
    small = np.flatnonzero((np.ptp(rows, 0) > 1e-11 * np.abs(mean)) & (std < 1 / _MOST))
    if len(small):
        raise DataError(
            f"{where}: the numbers of {columns[small[0]]!r} differ by {np.ptp(rows, 0)[small[0]]:.2g} only: write "
            "them in a smaller unit"
        )
    return mean, np.where(std > 1e-12 * np.maximum(np.abs(mean), 1e-300), std, 1.0)


def _stored(raw: Numbers, mean: Numbers, std: Numbers) -> NDArray[np.float32] | Numbers:
    """Inputs in float32, in float64 where float32 would change the standardised values, as of seconds since 1970."""
    exact = (raw - mean) / std
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        small = (raw.astype(np.float32) - mean.astype(np.float32)) / std.astype(np.float32)
        close = np.abs(small - exact) <= 1e-4 * (1 + np.abs(exact))
    return raw.astype(np.float32) if bool(close.all()) else raw


def held_back(groups: int, name: str, part: float = TEST_PART) -> NDArray[np.bool_]:
    """Choose the groups of rows that are for testing, independently of anything else that is drawn.

    Args:
        groups: number of groups, or of rows.
        name: of the data set.
        part: share of them that is held back; at least one group, and never all.

    Returns:
        Mask ``[groups]``.
    """
    count = min(max(1, round(part * groups)), groups - 1)
    test = np.zeros(groups, dtype=bool)
    test[torch.randperm(groups, generator=generator(f"test part of {name}", 0))[:count].numpy()] = True
    return test


@datasets.register("wine-quality", task="regression")
def wine_quality(data_dir: Path | None = None) -> DataSplits:
    """Load 6,497 wines: 11 measurements and whether it is a white one, and the quality that tasters gave it, 3 to 9.

    The files are ``<data_dir>/wine-quality/winequality-{red,white}.csv`` (or ``wine_quality/``), which are downloaded
    where they are missing. A fixed fifth of the wines is for testing; a wine that stands in the files several times may
    be in both parts.

    Source: P. Cortez et al., Modeling wine preferences by data mining from physicochemical properties, Decision
    Support Systems 47(4), 2009, pp. 547-553; UCI 186, CC BY 4.0.

    Args:
        data_dir: the data folder; ``None``: that of :func:`spikelfp.data.data_dir`.

    Raises:
        DataError: for files that are damaged, or missing and not to be had from the network.
    """
    parts = []
    for kind, (file, original) in enumerate(_WINE.items()):
        path = _file(data_dir, "wine-quality", file, _WINE_MIRROR + file, original)
        table = read_table(read_regular(path, LONGEST_CSV), str(path))
        if "quality" not in table.columns:
            raise DataError(f"{path}: has no column 'quality'")
        white = np.full((len(table.values), 1), float(kind))
        parts.append(Table(("white", *table.columns), np.hstack([white, table.values]), table.texts))
    red, white_wine = parts
    if red.columns != white_wine.columns:
        raise DataError(f"{path}: its columns are not those of the other file: {', '.join(white_wine.columns[1:])}")
    both = Table(red.columns, np.vstack([red.values, white_wine.values]), {})
    return splits_of("wine-quality", both, ["quality"], held_back(len(both.values), "wine-quality"), str(path))


@datasets.register("sgemm", task="regression")
def sgemm(data_dir: Path | None = None) -> DataSplits:
    """Load 966,400 run times (ms) of a matrix product on a GPU, and the 14 parameters of the kernel of each.

    Each of 241,600 kernels was run four times: four samples of equal inputs. A fixed fifth of the kernels is for
    testing, with all of their runs. The file is ``<data_dir>/sgemm/sgemm_product_dataset.zip`` (or the
    ``sgemm_product.csv`` that is in it), which is downloaded where it is missing.

    Source: R. Ballester-Ripoll, E. G. Paredes, R. Pajarola, Sobol tensor trains for global sensitivity analysis,
    Reliability Engineering & System Safety 183, 2019, pp. 311-322; UCI 440, CC BY 4.0.

    Args:
        data_dir: the data folder; ``None``: that of :func:`spikelfp.data.data_dir`.

    Raises:
        DataError: for files that are damaged, or missing and not to be had from the network.
    """
    unpacked = data_folder(data_dir) / "sgemm" / "sgemm_product.csv"
    if os.path.exists(unpacked):
        content, where = read_regular(unpacked, LONGEST_CSV), str(unpacked)
    else:
        path = _file(data_dir, "sgemm", _SGEMM, _SGEMM_MIRROR + _SGEMM, _SGEMM_ORIGINAL)
        content, where = _unzipped(path, "sgemm_product.csv"), f"{path}, sgemm_product.csv"
    table = read_table(content, where)
    runs = [column for column in table.columns if column.startswith("Run")]
    if len(runs) != 4 or len(table.columns) != 18 or table.texts:
        raise DataError(f"{where}: expected 14 parameters and Run1 to Run4, found {', '.join(table.columns)}")
    times = [table.columns.index(run) for run in runs]
    inputs = [index for index in range(len(table.columns)) if index not in times]
    kernels = np.repeat(np.arange(len(table.values)), len(runs))
    melted = np.hstack([table.values[kernels][:, inputs], table.values[:, times].reshape(-1, 1)])
    columns = (*(table.columns[index] for index in inputs), "run time (ms)")
    test = held_back(len(table.values), "sgemm")[kernels]
    return splits_of("sgemm", Table(columns, melted, {}), ["run time (ms)"], test, where)


def _task(path: str, target: Any = None, target_classes: Any = False, **others: Any) -> str:
    """Name of the task of a table: by the first cell of its target, of text classification."""
    file = Path(path) / "train.csv" if os.path.isdir(path) else Path(path)
    if target_classes:
        return "classification"
    if not os.path.isfile(file):
        return "regression"
    try:
        with open(file, "rb") as opened:
            first = opened.read(_FIRST)
        lines = first.decode("utf-8-sig", "replace").replace("\r", "\n").split("\n")
        head, row, *_ = [line for line in lines if line.strip()]
        separator = max(_SEPARATORS, key=head.count)
        names, cells = (
            [cell.strip() for cell in next(csv.reader([line], delimiter=separator))] for line in (head, row)
        )
        cell = cells[-1 if target is None else names.index(target)]
    except (OSError, ValueError, IndexError, csv.Error):  # loading it says what is wrong
        return "regression"
    return "regression" if _is_number(cell) or _WRITTEN.fullmatch(cell) else "classification"


@datasets.register("csv", by_path=True, task=_task)
def csv_table(
    data_dir: Path | None = None,
    *,
    path: str | Path = "",
    target: str | None = None,
    target_classes: bool = False,
    test_part: Annotated[float, option(within="(0, 1)")] = TEST_PART,
) -> DataSplits:
    """Load a user's CSV file, ``csv:PATH``, or a folder with ``train.csv`` and ``test.csv``.

    The first line names the columns. A target of numbers is a value to be predicted (regression), one of text a class.

    Args:
        data_dir: not used.
        path: the file, or the folder.
        target: column to predict, or several separated by commas; by default the last one.
        target_classes: the numbers of the target stand for classes, as words do.
        test_part: part of the rows of a single file that is for testing, a fixed choice.

    Raises:
        DataError: for files that are missing, damaged, or no tables of numbers.
        UserError: for a part out of range and a target that there is not.
    """
    if not str(path):
        raise UserError("a table is named by its path: csv:wine.csv, or the folder of train.csv and test.csv")
    part = as_number(test_part)
    if part is None or not 0 < part < 1:
        raise UserError(
            f"test_part is the part of the rows that are for testing, above 0 and below 1, got {test_part!r}"
        )
    path = Path(path)
    if path.is_dir() and not (path / "train.csv").exists():
        raise DataError(f"{path}: is a folder without train.csv: it holds train.csv and test.csv, or name a file")
    files = [path / "train.csv", path / "test.csv"] if path.is_dir() else [path]
    tables = [read_table(read_regular(file, LONGEST_CSV), str(file)) for file in files]
    table = tables[0]
    if len(tables) == 2:
        table = _joined(tables[0], tables[1], files[1])
        test = np.arange(len(table.values)) >= len(tables[0].values)
    else:
        if len(table.values) < 2:
            raise DataError(f"{path}: has one row, and at least two are needed to train and to test")
        test = held_back(len(table.values), f"csv:{path.name}", part)
    targets = [table.columns[-1]] if target is None else [target]
    if target is not None and target not in table.columns:  # a name may hold a comma
        targets = [name.strip() for name in target.split(",")]
    if target_classes:
        table = _as_words(table, targets, str(path))
    return splits_of(f"csv:{path}", table, targets, test, str(path))


def _as_words(table: Table, targets: Sequence[str], where: str) -> Table:
    """Table with its target as text, so that each of its numbers is a class."""
    if len(targets) != 1 or targets[0] not in table.columns:
        raise UserError(f"{where}: target_classes is for one column, the targets are {', '.join(targets)}")
    values = table.values[:, table.columns.index(targets[0])]
    if targets[0] in table.texts:
        return table
    wrong = (values != np.round(values)) | (np.abs(values) > _WHOLE)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"{where}: row {row + 1} holds {values[row]:g} in {targets[0]!r}, which is no class number")
    return table._replace(texts={**table.texts, targets[0]: [str(int(value)) for value in values]})


def _joined(train: Table, test: Table, where: Path) -> Table:
    """The rows of two files as one table."""
    if train.columns != test.columns or set(train.texts) != set(test.texts):
        raise DataError(f"{where}: its columns are not those of train.csv, or not of numbers and text as there")
    texts = {name: train.texts[name] + test.texts[name] for name in train.texts}
    return Table(train.columns, np.vstack([train.values, test.values]), texts)


def _file(data_dir: Path | None, name: str, file: str, url: str, original: Original) -> Path:
    """The path of a file of a data set, in its folder by either spelling, downloaded first where it is in neither."""
    base = data_folder(data_dir)
    for folder in (name, name.replace("-", "_")):
        if os.path.exists(base / folder / file):
            return base / folder / file
    return fetch([url], base / name / file, original)


def _unzipped(path: Path, name: str) -> bytes:
    """The entry ``name`` of a zip archive, in whichever folder of it."""
    try:
        with zipfile.ZipFile(io.BytesIO(read_regular(path, LONGEST_CSV))) as archive:
            check_zip(archive, os.path.getsize(path), str(path))
            for entry in archive.infolist():
                if entry.filename.rpartition("/")[2] == name:
                    return read_entry(archive, entry, str(path))
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: is no zip archive, or a damaged one ({first_line(error)})") from None
    raise DataError(f"{path}: holds no {name}")
