import re

from index import errors


def test_the_tree_in_the_docstring_names_every_error_once() -> None:
    classes = [name for name, value in vars(errors).items() if isinstance(value, type)]
    drawn = re.findall(r"^[│├└─ ]*(\w+)", errors.__doc__.split("\n\n")[1], flags=re.MULTILINE)
    assert sorted(drawn) == sorted(classes)


def test_every_error_derives_from_the_base() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert all(issubclass(value, errors.SearchError) for value in classes)


def test_a_mismatch_names_both_fingerprints() -> None:
    error = errors.ModelMismatch("aaa", "bbb")
    assert (error.index_fingerprint, error.model_fingerprint) == ("aaa", "bbb")
    assert "aaa" in str(error)
    assert "bbb" in str(error)
