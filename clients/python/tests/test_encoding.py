"""What the client writes, beside the golden files."""

from __future__ import annotations

import unittest

from golden_rows import GOLDEN, ROWS, SCHEMA, row

from icecore_client import Field, Schema
from icecore_client.batch import check_row, encode_batch


class Schemas(unittest.TestCase):
    def test_the_canonical_form_is_the_golden_one(self) -> None:
        self.assertEqual(SCHEMA.canonical, (GOLDEN / "schema.bin").read_bytes())
        self.assertEqual(SCHEMA.id.hex(), "c9a0d337a3feb2989ed1eeff618c1762")

    def test_fields_that_break_a_rule_are_refused(self) -> None:
        for fields in (
            (),
            (Field("Seq", "i64"),),
            (Field("a", "i64"), Field("A", "i64")),
            (Field("", "i64"),),
            (Field("a", "i32"),),
            (Field("a", "i16[0]"),),
            (Field("a", "f32[16385]"),),
            (Field("a", "i64", kind="x"),),
            (Field("a\n", "i64"),),
            (Field("a", "i64", unit="m" * 65),),
        ):
            with self.subTest(fields), self.assertRaises(ValueError):
                Schema("s", 1, fields)


class Batches(unittest.TestCase):
    def test_a_batch_is_the_golden_one_to_the_byte(self) -> None:
        rows = [row(i) for i in range(ROWS)]
        for one in rows:
            check_row(SCHEMA, one)
        self.assertEqual(encode_batch(SCHEMA, 1000, rows), (GOLDEN / "batch_plain.bin").read_bytes())

    def test_values_that_do_not_fit_are_refused(self) -> None:
        for type_, value in (
            ("i64", 2**63),
            ("u64", -1),
            ("f32", 1e39),
            ("bool", 1),
            ("text", b"x"),
            ("text", "\ud800"),
            ("bytes", 5),
            ("i16[2]", (1,)),
            ("i16[1]", (40_000,)),
            ("f64", "1"),
            ("f64", None),
        ):
            with self.subTest(type=type_, value=value), self.assertRaises(ValueError):
                check_row(Schema("s", 1, (Field("x", type_),)), (0, (value,)))
