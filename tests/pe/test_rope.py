"""RoPE against its definition, written out as 2 x 2 rotations."""

import math

import torch

from midsight.pe.rope import MAX_TABLES, RopeTables

CPU = torch.device("cpu")


def rotated_by_hand(x: torch.Tensor, column: int, row: int) -> torch.Tensor:
    """One head's channels (D) at a patch: the first half turns with the column, the second with the row."""
    out, half = x.clone(), len(x) // 2
    for start, position in ((0, column), (half, row)):
        for i in range(0, half, 2):
            angle = position * 10_000.0 ** (-i / half)
            a, b = x[start + i], x[start + i + 1]
            out[start + i] = a * math.cos(angle) - b * math.sin(angle)
            out[start + i + 1] = b * math.cos(angle) + a * math.sin(angle)
    return out


def test_rotation_is_the_definition_with_a_class_token() -> None:
    x = torch.randn(1, 1, 1 + 3 * 5, 16, dtype=torch.float32)
    turned = RopeTables(16, class_token=True).get(3, 5, CPU).rotate(x)
    assert torch.equal(turned[0, 0, 0], x[0, 0, 0]), "a class token does not turn"
    for row in range(3):
        for column in range(5):
            n = 1 + row * 5 + column
            expected = rotated_by_hand(x[0, 0, n], column + 1, row + 1)
            torch.testing.assert_close(turned[0, 0, n], expected, rtol=1e-5, atol=1e-5)


def test_without_a_class_token_positions_start_at_zero() -> None:
    x = torch.randn(1, 1, 4, 8)
    turned = RopeTables(8, class_token=False).get(2, 2, CPU).rotate(x)
    assert torch.equal(turned[0, 0, 0], x[0, 0, 0])
    torch.testing.assert_close(turned[0, 0, 3], rotated_by_hand(x[0, 0, 3], 1, 1), rtol=1e-5, atol=1e-5)


def test_a_table_made_in_inference_serves_training() -> None:
    tables = RopeTables(8, class_token=False)
    x = torch.randn(1, 1, 4, 8, requires_grad=True)
    with torch.inference_mode():
        tables.get(2, 2, CPU).rotate(x)
    tables.get(2, 2, CPU).rotate(x).sum().backward()
    assert x.grad is not None


def test_tables_are_kept_and_bounded() -> None:
    tables = RopeTables(8, class_token=False)
    assert tables.get(2, 3, CPU) is tables.get(2, 3, CPU)
    for columns in range(1, 3 * MAX_TABLES):
        tables.get(1, columns, CPU)
    assert len(tables._tables) == MAX_TABLES


def test_half_precision_turns_in_float32() -> None:
    x = torch.randn(1, 1, 64 * 64, 8).bfloat16()
    rope = RopeTables(8, class_token=False).get(64, 64, CPU)
    torch.testing.assert_close(rope.rotate(x), rope.rotate(x.float()).bfloat16(), rtol=0, atol=0)
