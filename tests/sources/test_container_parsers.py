"""Properties of the parsers of the container source: no bytes are too strange, no number is changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from probe.sources.container import cgroups, files


@given(st.binary(max_size=400))
def test_no_bytes_make_a_parser_raise(text: bytes) -> None:
    """The parsers take whatever the kernel, or what stands in its place, says."""
    known = cgroups.memberships(text)
    mounted = cgroups.mounts(text)
    for controller in (*known, b"memory"):
        cgroups.place(known, mounted, controller)
    cgroups.device_at(text, b"/dev/shm")
    files.whole(text)
    files.signed(text)
    files.entry(text, b"oom_kill")
    files.stalled_microseconds(text)
    files.readable(text).encode()


NAMES = st.lists(st.sampled_from([b"a", b"b", b"kubepods", b"x y"]), max_size=4)


@given(ups=st.integers(0, 3), root=NAMES, below=NAMES)
def test_the_names_below_a_root_are_found_again(ups: int, root: list[bytes], below: list[bytes]) -> None:
    """Joining a mount's root and the names below it gives the cgroup's path."""
    start = b"/" + b"/".join([b".."] * ups + root)
    path = b"/" + b"/".join([b".."] * ups + root + below)
    assert cgroups.names_below(path, start) == tuple(below)
    assert cgroups.names_below(path, b"/.." + start) is None


@given(st.integers(0, (1 << 64) - 1), st.sampled_from([b"\n", b"", b" \n"]))
def test_every_number_of_the_kernel_is_read_as_it_is(number: int, end: bytes) -> None:
    """Numbers up to 64 bits come back unchanged, alone or behind their name."""
    text = b"%d" % number
    assert files.whole(text + end) == number
    assert files.signed(b"-" + text + end) == (-number if number <= 1 << 63 else None)
    assert files.entry(b"other 1\nname_longer 2\nname " + text + end, b"name") == number
