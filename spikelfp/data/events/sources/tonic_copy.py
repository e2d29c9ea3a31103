"""Data set classes of tonic over a copy that is on disk, or is downloaded without harm to what is there.

tonic looks for an archive of the right name and for a number of unpacked files beside it, and downloads where either is
missing, over what is there. Here unpacked files alone are enough, and a download is unpacked in a folder beside, which
takes its place when it is complete.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spikelfp.data.download import data_dir as data_folder
from spikelfp.data.events.sources.tonic_classes import Options
from spikelfp.errors import DataError

_ARCHIVES = (".zip", ".tar.gz", ".tar", ".tgz", ".tar.xz")


def place_of(name: str, data_dir: Path | None) -> Path:
    """The folder in which tonic looks for the folder ``name``: the data folder if it is there, else ``tonic`` in it."""
    root = data_folder(data_dir)
    return root if os.path.isdir(root / name) else root / "tonic"


def open_copy(kind: type, place: Path, options: Options) -> Any:
    """An object of the data set class ``kind`` on the files in ``place``.

    Raises:
        DataError: for files that are missing and cannot be had from the network, and for those that tonic cannot open;
            it says which are expected where.
    """
    import numpy.lib.recfunctions  # noqa: F401  (tonic uses it without importing it)

    name = kind.__name__
    # of the same name, because tonic calls its folder by the name of the class
    copy = type(name, (_Copy, kind), {"__module__": __name__})
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return copy(str(place), **options)
    except DataError:
        raise
    except (Exception, SystemExit) as error:  # what tonic raises differs from class to class
        raise DataError(
            f"tonic:{name}: cannot be opened ({_reason(error)}): {_expected(kind, place, options)}"
        ) from error


class _Copy:
    """What decides about downloads, before a data set class of tonic."""

    location_on_system: str

    def _check_exists(self) -> bool:
        data = getattr(self, "data_filename", None)
        if isinstance(data, str) and not data.endswith(_ARCHIVES):  # of the part asked for, which tonic does not check
            return os.path.isfile(os.path.join(self.location_on_system, data))
        return bool(super()._check_exists())  # type: ignore[misc]

    def _is_file_present(self) -> bool:
        """Archives are not needed beside what they hold."""
        return str(getattr(self, "filename", "")).endswith(_ARCHIVES) or bool(super()._is_file_present())  # type: ignore[misc]

    def _folder_contains_at_least_n_files_of_type(self, n_files: int, file_type: str) -> bool:
        """Any number will do: a part of a data set is one, too."""
        return bool(super()._folder_contains_at_least_n_files_of_type(1, file_type))  # type: ignore[misc]

    def download(self) -> None:
        with _staged(self):
            super().download()  # type: ignore[misc]


@contextlib.contextmanager
def _staged(dataset: Any) -> Iterator[None]:
    """Whatever ``dataset`` writes goes to a folder beside its own, which is put in place in the end."""
    place = Path(dataset.location_on_system)
    archive, md5 = str(getattr(dataset, "filename", "")), getattr(dataset, "file_md5", None)
    present = bool(archive) and os.path.isfile(place / archive)
    if present and md5 is not None:
        from tonic.download_utils import check_integrity

        if not check_integrity(str(place / archive), md5):
            raise DataError(
                f"{place / archive}: damaged or not the original (its md5 is not {md5}): remove or replace it"
            )
    stage = place.with_name(f".{place.name}.{secrets.token_hex(8)}.part")
    missing = [folder for folder in stage.parents if not os.path.exists(folder)]
    try:
        stage.mkdir(parents=True)
        if present:
            os.symlink(place / archive, stage / archive)
        dataset.location_on_system = str(stage)
        yield
        _move(stage, place)
    finally:
        dataset.location_on_system = str(place)
        shutil.rmtree(stage, ignore_errors=True)
        for folder in missing:  # those that were made for nothing
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def _move(stage: Path, place: Path) -> None:
    """What lies in ``stage`` to ``place``, without what is there already."""
    place.mkdir(parents=True, exist_ok=True)
    for found in sorted(stage.iterdir()):
        with contextlib.suppress(OSError):
            os.rmdir(place / found.name)  # an empty folder
        if not found.is_symlink() and not os.path.exists(place / found.name):
            os.replace(found, place / found.name)


def _expected(kind: Any, place: Path, options: Options) -> str:
    part = "test" if options.get("train") is False else options.get("split", "train")
    names = [getattr(kind, key, None) for key in ("filename", f"{part}_filename", f"{part}_zip", f"{part}_images_file")]
    files = [name for name in names if isinstance(name, str)]
    folder = place / ("smnist" if kind.__name__ == "SMNIST" else kind.__name__)
    what = f"put {files[0]}, or what is in it," if files else "put its files"
    return f"{what} into {folder} or choose a folder with --data-dir"


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    lines = str(reason).strip().splitlines()
    if isinstance(error, SystemExit):
        return "it must be downloaded by hand"
    return lines[0] if lines else type(error).__name__
