"""Questions about documents: pages and their words, the pages that matter, the prompt, the answer and where it stands.

reader = Reader()                                     pages of PDFs and pictures, their words, each read once
asker = Asker(open_smollm2(), reader)
reply = asker.ask(["report.pdf"], "What is the total?")
reply.answer, reply.pages, reply.boxes
"""
