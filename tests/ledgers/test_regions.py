"""What options and names say of regions."""

from __future__ import annotations

import pytest

from probe.ledgers.regions import RegionSizes, looks_like_region, prefixes_of, sizes_of
from tests.worlds import MIB, server

UUID = "051f6f90-7f0c-4e43-9d6a-0a3f5c1d2e3b"


@pytest.mark.parametrize(
    ("name", "prefixes", "expected"),
    [
        (f"triton_python_backend_shm_region_{UUID}", (), True),
        ("triton_python_backend_shm_region_3", (), True),
        (f"triton_vllm_backend_shm_region_{UUID}", (), True),
        (f"prefix0_{UUID}", ("prefix0_",), True),
        ("prefix0_12", ("other_", "prefix0_"), True),
        (f"prefix0_{UUID}", (), False),
        ("prefix0_", ("prefix0_",), False),
        (f"triton_python_backend_shm_region_{UUID}x", (), False),
        ("triton_python_backend_shm_region_", (), False),
        ("triton_python_backend_shm_region_mine", (), False),
        ("input_data", (), False),
        ("sem.loky-1-abc", (), False),
        ("torch_4242_1_0", (), False),
        ("psm_12345678", (), False),
        ("", (), False),
    ],
)
def test_a_region_is_known_by_its_name(name: str, prefixes: tuple[str, ...], expected: bool) -> None:  # noqa: FBT001
    """By a prefix of the backend, or one that an option gave, with a number or a UUID behind it."""
    assert looks_like_region(name, prefixes) is expected


def test_prefixes_are_those_of_the_python_backends_options() -> None:
    """Each once; options of other backends, and other options, are none."""
    told = server(
        "--backend-config=python,shm-region-prefix-name=prefix0_",
        "--backend-config",
        "python,shm-region-prefix-name=b_",
        "--backend-config=python,shm-region-prefix-name=prefix0_",
        "--backend-config=python,shm-region-prefix-name=",
        "--backend-config=onnxruntime,shm-region-prefix-name=c_",
        "--backend-config=python,shm-default-byte-size=1048576",
    )
    assert prefixes_of(told) == ("prefix0_", "b_")
    assert prefixes_of(server()) == ()


@pytest.mark.parametrize(
    ("options", "version", "expected"),
    [
        ((), None, (1, 1)),
        ((), "nonsense", (1, 1)),
        ((), "2.51.0", (1, 1)),
        ((), "2.38.0", (1, 1)),
        ((), "2.37.0", (64, 64)),
        ((), "1.15.0", (64, 64)),
        (("shm-default-byte-size=16777216",), "2.51.0", (16, 1)),
        (("shm-growth-byte-size=8388608",), "2.37.0", (64, 8)),
        (("shm-default-byte-size=1048576", "shm-default-byte-size=2097152"), "2.51.0", (2, 1)),
        (("shm-default-byte-size=much",), "2.51.0", (1, 1)),
        (("shm-default-byte-size=" + "9" * 40,), "2.51.0", (1, 1)),
    ],
)
def test_sizes_are_told_by_options_or_by_the_release(
    options: tuple[str, ...], version: str | None, expected: tuple[int, int]
) -> None:
    """64 MiB before 23.09, 1 MiB since; the last of a repeated option counts, and nonsense is passed over."""
    told = server(*(f"--backend-config=python,{each}" for each in options))
    assert sizes_of(told, version) == RegionSizes(expected[0] * MIB, expected[1] * MIB)


def test_without_a_server_the_release_alone_tells() -> None:
    """Its command line can not be seen."""
    assert sizes_of(None, "2.37.0") == RegionSizes(64 * MIB, 64 * MIB)
