"""Pages of mapped files: dropped where that loses nothing, and only there."""

import mmap
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from midsight import checkpoints, pages
from midsight.pe.linear import PackedLinear, available

COUNT = 1 << 20  # float32 values, 4 MiB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which pages are a file's")


@pytest.fixture
def mapped(tmp_path: Path) -> dict[str, Tensor]:
    """Two tensors of a file."""
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(COUNT, generator=generator) for name in ("first", "second")}
    checkpoints.write_safetensors(tmp_path / "some.safetensors", weights)
    return dict(checkpoints.read_tensors(tmp_path / "some.safetensors"))


def resident(tensor: Tensor) -> int:
    """Bytes of the pages around a tensor that this process has in memory, as /proc/self/smaps counts them."""
    start, found = tensor.data_ptr(), 0
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, _, rest = line.partition("-")
        if rest and " " in rest and all(letter in "0123456789abcdef" for letter in first):
            inside = int(first, 16) <= start < int(rest.split()[0], 16)
        elif inside and line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024
    return found


def test_read_pages_go_and_can_be_read_again(mapped: dict[str, Tensor]) -> None:
    first, second = mapped["first"], mapped["second"]
    before = first.sum(), second.sum()
    held = resident(first)
    assert held >= first.nbytes
    assert pages.release([first]) == first.nbytes
    assert resident(first) <= held - first.nbytes + 64 * mmap.PAGESIZE
    assert (first.sum(), second.sum()) == before


def test_what_was_written_stays(mapped: dict[str, Tensor]) -> None:
    first = mapped["first"]
    first[COUNT // 2] = 7.0
    assert pages.release([first]) == 0
    assert first[COUNT // 2] == 7.0


def test_memory_without_a_file_stays() -> None:
    own = torch.full((COUNT,), 3.0)
    assert pages.release([own, own[:5], own.view(1024, -1).T, torch.empty(0), torch.empty(5, device="meta")]) == 0
    assert own.eq(3).all()


def test_neighbours_keep_the_pages_they_share(mapped: dict[str, Tensor]) -> None:
    whole, middle = mapped["first"], mapped["first"][100:-100]
    held = whole.sum()
    assert pages.release([middle]) == middle.nbytes
    assert whole.sum() == held


def test_cast(mapped: dict[str, Tensor]) -> None:
    first = mapped["first"]
    assert pages.cast(first, torch.float32) is first
    expected = first.clone().bfloat16()
    held = resident(first)
    assert torch.equal(pages.cast(first, torch.bfloat16), expected)
    assert resident(first) <= held - first.nbytes + 64 * mmap.PAGESIZE


@pytest.mark.skipif(not available(), reason="without oneDNN nothing is laid out anew")
def test_packing_leaves_one_copy(mapped: dict[str, Tensor]) -> None:
    weight = mapped["first"].view(1024, 1024)
    x = torch.randn(3, 1024)
    expected = x @ weight.T
    held = resident(weight)
    packed = PackedLinear(weight, None, torch.float32)
    assert resident(weight) <= held - weight.nbytes + 64 * mmap.PAGESIZE
    torch.testing.assert_close(packed(x), expected, atol=1e-3, rtol=1e-4)


def test_importing_it_needs_no_torch() -> None:
    code = "import sys, midsight.pages; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
