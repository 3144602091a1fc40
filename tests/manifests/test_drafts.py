"""Is an edit made where a reader expects it, and refused where it would change something else?"""

from __future__ import annotations

import pytest

from probe.manifests import editing
from probe.manifests.drafts import Draft
from probe.manifests.errors import ManifestError

TEXT = """\
spec:
  list:
  - name: a
    # about a
      # more about a

  # - name: b
  other: 1  # why
# end
"""


def test_comments_stay_with_what_they_are_about() -> None:
    """What is put in stands behind the comments of what was last; a comment farther out belongs to what follows."""
    draft = Draft(TEXT)
    draft.add_pair(("spec", "list", 0), "key", "x")
    draft.add_item(("spec", "list"), {"name": "c"})
    draft.add_pair(("spec",), "third", {"a": 1})

    assert draft.text == (
        TEXT.replace("      # more about a\n", "      # more about a\n    key: x\n  - name: c\n").replace(
            "# why\n", "# why\n  third:\n    a: 1\n"
        )
    )
    draft.drop(("spec", "third"))
    draft.drop(("spec", "list", 1))
    draft.drop(("spec", "list", 0, "key"))
    assert draft.text == TEXT


def test_what_is_not_there_is_dropped_without_a_word() -> None:
    """And an empty text is no object."""
    draft = Draft(TEXT)
    draft.drop(("spec", "nothing"))

    assert draft.text == TEXT
    with pytest.raises(ManifestError, match="is empty, expected a Kubernetes object"):
        Draft("# nothing\n")


@pytest.mark.parametrize(
    ("edited", "says"),
    [
        (TEXT.replace("other: 1", "other: 2") + "  key: 1\n", "would not read as meant"),
        (TEXT.replace("# why", "") + "  key: 2\n", "would not read as meant"),
        (TEXT + "  key: [\n", "can not be edited safely here"),
        ("", "nothing would be left"),
    ],
)
def test_an_edit_that_does_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch, edited: str, says: str
) -> None:
    """Every edit is read back: the value is there, and nothing else is other than before."""
    monkeypatch.setattr(editing, "insert_pair", lambda *_: edited)

    with pytest.raises(ManifestError, match=says):
        Draft(TEXT).add_pair(("spec",), "key", 1)


def test_what_shares_its_line_is_not_taken_out() -> None:
    """The first key of a list's item stands behind the dash."""
    with pytest.raises(ManifestError, match="something else stands on its line"):
        Draft(TEXT).drop(("spec", "list", 0, "name"))


@pytest.mark.parametrize("path", [("spec", "list"), ("spec", "other")])
def test_a_pair_goes_into_a_mapping_alone(path: tuple[str, ...]) -> None:
    """A list and a number are something else."""
    with pytest.raises(ManifestError, match="is something else, expected a mapping"):
        Draft(TEXT).add_pair(path, "key", 1)
