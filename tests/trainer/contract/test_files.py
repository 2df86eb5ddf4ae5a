"""Files are replaced as a whole, or stay what they were."""

import pytest

from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic


def test_nothing_is_left_behind_when_writing_fails(tmp_path):
    (tmp_path / "a.txt").mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(UserError):
        write_atomic(tmp_path / "a.txt", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
