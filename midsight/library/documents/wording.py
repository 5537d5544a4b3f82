"""What people call things in questions, and what documents call them.

People ask "How heavy is it?" where the page says "Weight". Words that stand for each other are groups here; nothing
in them is about one document. Of other languages there is what invoices and forms are made of.
"""

import re

from midsight.library.documents.retrieval import terms

# one entry serves in all directions
_ALIKE = (
    ("total", "sum", "balance", "payable", "amount"),
    ("due", "deadline", "pay", "payable", "expire", "until", "by"),
    ("date", "dated", "issued", "day", "when"),
    ("number", "no", "nr", "num", "#", "id", "code", "reference", "ref"),
    ("phone", "telephone", "tel", "mobile", "call"),
    ("email", "mail", "e-mail"),
    ("customer", "client", "buyer", "bill", "billed", "sold", "recipient", "addressed", "ship", "to"),
    ("sender", "from", "seller", "vendor", "supplier", "company", "firm", "organisation", "employer"),
    ("signed", "signature", "sincerely", "regards", "yours", "wrote", "author", "by"),
    ("price", "rate", "cost", "unit", "fee", "charge"),
    ("quantity", "qty", "units", "pieces", "amount", "count"),
    ("tax", "vat", "gst"),
    ("item", "article", "product", "description", "goods"),
    ("address", "street", "residence"),
    ("payment", "paid", "method", "pay"),
    ("job", "position", "occupation", "title", "role", "profession"),
    ("birth", "born"),
    ("subject", "re", "concern", "regarding"),
    ("arrive", "arrival", "arr", "land", "reach", "destination"),
    ("depart", "departure", "dep", "leave", "origin"),
    ("cashier", "till", "served", "operator", "clerk"),
    ("operate", "operator", "run", "company"),
    ("landlord", "owner", "lessor", "proprietor"),
    ("tenant", "renter", "lessee", "occupier"),
    ("employer", "employ", "company", "payroll"),
    ("receive", "net", "payout"),
    ("deduct", "deduction", "withheld", "off"),
    ("doctor", "physician", "gp", "dr", "requested", "referred"),
    ("normal", "reference", "range", "interval", "limits"),
    ("temperature", "warm", "hot", "cold", "degrees", "temp"),
    ("absent", "apologies", "excused", "missing", "missed", "absence"),
    ("turnout", "voters", "votes"),
    ("party", "candidate", "elected"),
    ("allergen", "allergens", "allergy", "contains"),
    ("expiry", "expires", "expiration", "best", "use", "until", "good", "valid"),
    ("closed", "closes", "closing", "shut"),
    ("open", "opens", "opening", "hours"),
    ("duration", "long", "minutes", "length", "time"),
    ("salary", "wage", "earnings", "pay", "gross"),
    ("departs", "gate", "boarding"),
    ("child", "children", "kids", "junior"),
    ("win", "won", "winner", "first", "1st"),
    ("fund", "funded", "funding", "supported", "grant"),
    ("work", "affiliation", "department", "employer"),
    ("colour", "color"),
    ("calories", "energy", "kcal"),
    ("breakfast", "board", "meals"),
    ("weight", "weigh", "heavy", "kg", "net"),
    ("likely", "chance", "probability", "risk"),
    ("running", "run"),
    ("swimming", "swim"),
    ("cycling", "bike", "bicycle", "cycle", "cyclist"),
    ("staff", "employees", "people", "headcount"),
    ("remaining", "left", "remain", "rest"),
    ("speed", "fast", "km/h", "mph"),
    ("distance", "far", "km", "miles"),
    ("height", "tall", "high"),
    ("size", "dimensions", "measurements", "big", "large"),
    ("width", "wide"),
    ("depth", "deep"),
    ("power", "watt", "watts", "output"),
    ("voltage", "volt", "volts"),
    ("capacity", "volume", "litres", "holds"),
    ("age", "old", "aged"),
    # contracts, cover, vehicles
    ("contract", "agreement", "term", "minimum", "subscription", "plan"),
    ("warranty", "guarantee", "guaranteed"),
    ("insurance", "cover", "coverage", "insured", "policy"),
    ("policyholder", "insured", "holder"),
    ("excess", "deductible"),
    ("car", "vehicle", "automobile", "van"),
    ("plate", "registration", "reg", "vehicle"),
    ("fine", "penalty", "ticket", "charge"),
    ("deposit", "prepaid", "advance"),
    ("discount", "reduction", "rebate", "saving"),
    ("instalment", "installment", "monthly", "month"),
    ("rent", "rental", "monthly"),
    ("interest", "apr", "rate"),
    ("refund", "reimbursement", "return"),
    ("forbidden", "excluded", "prohibited", "allowed", "permitted"),
    ("bank", "account", "iban"),
    ("usage", "used", "consumption", "use"),
    # parcels and travel
    ("parcel", "package", "shipment", "consignment"),
    ("deliver", "delivery", "arrive", "eta"),
    ("delay", "delayed", "expected", "late"),
    ("cancel", "cancelled", "canceled"),
    ("platform", "track", "gate"),
    ("bus", "coach", "shuttle"),
    ("passenger", "traveller", "traveler"),
    ("guest", "visitor"),
    # schools, meetings, matches
    ("teach", "teacher", "instructor", "tutor", "trainer", "coach", "lecturer"),
    ("talk", "speaker", "keynote", "presentation", "lecture", "speech"),
    ("room", "location", "venue", "hall", "place"),
    ("mark", "grade", "result", "score"),
    ("exam", "test", "examination"),
    ("supervise", "invigilator", "supervisor", "supervision", "watches"),
    ("spectators", "attendance", "crowd", "audience"),
    ("team", "club", "side"),
    ("dinner", "supper", "evening", "meal"),
    ("wifi", "wi-fi", "wireless", "network", "wlan"),
    ("password", "passcode", "code", "pin", "key"),
    ("boss", "manager", "head", "director", "chief", "lead", "chair", "responsible"),
    ("minutes", "recorded", "secretary", "taken"),
    ("founded", "established", "since", "est"),
    ("holiday", "vacation", "closed"),
    ("survey", "answered", "respondents", "responses", "polled"),
    ("share", "percentage", "percent", "proportion"),
    ("average", "mean"),
    ("borrow", "borrowed", "lent", "loan", "loans", "lend"),
    # people
    ("education", "degree", "university", "college", "studied", "school"),
    ("nationality", "citizenship", "country"),
    ("language", "languages", "speak", "spoken"),
    ("adult", "grown-up", "grown"),
    ("phone", "hotline", "helpline", "line"),
    ("website", "web", "www", "online"),
    # things to eat, medicines, animals, devices
    ("ingredient", "contains", "contents", "made"),
    ("serves", "servings", "portions", "feeds", "yield", "people"),
    ("dose", "dosage", "take"),
    ("store", "storage", "keep", "keeps"),
    ("dog", "pet", "patient"),
    ("cat", "pet", "patient"),
    ("vet", "veterinarian", "veterinary", "doctor"),
    ("return", "follow-up", "recheck", "revisit", "next"),
    ("manufacturer", "maker", "producer", "brand"),
    ("free", "trial", "complimentary", "included"),
    # the same in other languages
    ("total", "gesamt", "gesamtbetrag", "summe", "totale", "importe", "montant", "betrag"),
    ("invoice", "rechnung", "facture", "factura", "fattura"),
    ("date", "datum", "fecha", "data"),
    ("number", "nummer", "numero", "rechnungsnummer"),
    ("due", "fallig", "zahlbar", "echeance", "vencimiento", "scadenza", "entro"),
    ("customer", "kunde", "client", "cliente", "rechnungsempfanger"),
    ("vat", "mwst", "ust", "tva", "iva"),
    ("hours", "stunden", "std", "heures", "horas", "ore"),
    ("minutes", "minuten", "min"),
    ("price", "preis", "prix", "precio", "prezzo"),
    ("quantity", "menge", "quantite", "cantidad", "quantita"),
    ("name", "nom", "nombre", "nome"),
    ("address", "adresse", "direccion", "indirizzo", "anschrift"),
    ("phone", "telefon", "telephone", "telefono"),
    ("room", "raum", "salle", "aula", "sala"),
    ("duration", "dauer", "duree", "durata"),
    ("supervisor", "aufsicht", "surveillant"),
    ("maths", "math", "mathematics", "mathe", "mathematik"),
    ("english", "englisch", "anglais"),
    ("german", "deutsch", "allemand"),
    ("french", "franzosisch", "francais"),
    ("salt", "salz", "sale", "sel", "sal"),
    ("sugar", "zucker", "sucre", "azucar", "zuccheri"),
    ("day", "days", "tage", "giorni", "jours", "dias"),
    *((day, day[:3]) for day in ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")),
    *((month, month[:3]) for month in (
        "january", "february", "march", "april", "june", "july", "august", "september", "october", "november",
        "december",
    )),
)  # fmt: skip
# what questions say in small words, which `terms` leaves out, and documents in a label
_PHRASES = (
    (r"\b(fly|flying|going|travel\w*|sent|addressed|delivered) to\b|^where\b.*\b(to|go|goes|going)$", "to destination"),
    (r"\bwho (sent|wrote|writes)\b|\b(comes?|coming|fly\w*|travel\w*) from\b", "from sender"),
    (r"^who\b.*\b(is|are) (this|it|the \w+) for$", "to recipient"),
    (r"\bget (in|to|there)\b", "arrival arrives"),
    (r"\bset (off|out)\b", "departure departs"),
    (r"(\bnot|n't) (come|attend|be there)\b", "apologies absent"),
    (r"\b(take home|actually|paid out)\b", "net"),
    (r"\bin the end\b|\baltogether\b|\bin all\b", "total"),
    (r"\b(still|left to|yet to) (have to )?(pay|owe|be paid)\b|\bowes?\b", "balance due"),
    (r"\balready (paid|pay)\b|\bpaid already\b|\bpaid so far\b", "deposit paid received"),
    (r"\b(taken|took) off\b", "deductions"),
    (r"\brun(s|ning)? out\b", "expires valid until"),
    (r"\bsigns? for\b", "signature"),
    (r"\bfor (nothing|free)\b", "free trial"),
    (r"\bin charge\b|\blooks? after\b", "manager head responsible"),
    (r"\btakes? place\b|\bheld\b", "venue location"),
    (r"\b(next|come|brought|bring) (time|back)\b", "return next appointment"),
    (r"\bhow late\b|\bhow early\b", "hours open"),
    (r"\bhow old\b", "age"),
    (r"\bsun\b.*\b(down|sets?)\b", "sunset"),
    (r"\bsun\b.*\b(up|rises?)\b", "sunrise"),
    (r"\bhow (warm|hot)\b", "high maximum"),
    (r"\bhow cold\b", "low minimum"),
    (r"^where\b.*\b(works?|worked|employed)\b", "employer university institute"),
    (r"^where\b.*\b(lives?|stay|staying)\b", "address hotel"),
    (r"\bhow many days\b|\bhow long\b", "duration days"),
)
_LABELS = frozenset(("by", "from", "to"))
_ALIASES: dict[str, set[str]] = {}
for _group in _ALIKE:
    _stems = {stem for word in _group for stem in terms(word) or (word,)}
    for _stem in _stems:
        _ALIASES.setdefault(_stem, set()).update(_stems - {_stem})


def alike(term: str) -> set[str]:
    """What documents call one of the question's words, as stems."""
    return _ALIASES.get(term, set())


def expanded(question: str) -> set[str]:
    """The words of a question, and what documents call them."""
    asked = terms(question)
    return set(asked).union(*map(alike, asked))


def in_small_words(question: str) -> list[str]:
    """What documents would say for phrases of a question."""
    asked = question.lower().rstrip(" ?")
    return [
        term
        for phrase, said in _PHRASES
        if re.search(phrase, asked)
        for word in said.split()
        for term in label_terms(word)
    ]


def label_terms(text: str) -> list[str]:
    """As `terms`, with the small words that are labels where they stand alone."""
    bare = text.strip(" :.").lower()
    found = [bare] if bare in _LABELS else terms(text)
    return [*found, "#"] if "#" in text else found
