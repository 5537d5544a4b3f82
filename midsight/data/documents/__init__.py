"""Made-up documents with exact questions and answers: pages, tables, invoices, forms, charts, infographics, cards.

Needs the extra `documents` (typst, pypdfium2, Faker, matplotlib). `midsight.data.documents.write` writes a data set,
`midsight.data.documents.make` makes single documents; this module itself imports neither.
"""

from midsight.data.documents.config import KINDS, SPLITS, DocumentsConfig, documents_of

__all__ = ["KINDS", "SPLITS", "DocumentsConfig", "documents_of"]
