"""Words for made-up documents: goods with prices, labels, categories, sentences. All written for this package."""

# goods of a shop: name and price range in cents
SHOPS: dict[str, tuple[tuple[str, int, int], ...]] = {
    "grocery": (
        ("Whole milk", 89, 249), ("Rye bread", 199, 459), ("Brown eggs", 249, 599), ("Butter", 199, 499),
        ("Cheddar cheese", 349, 899), ("Green apples", 149, 449), ("Bananas", 69, 239), ("Tomatoes", 129, 389),
        ("Basmati rice", 199, 699), ("Olive oil", 499, 1599), ("Orange juice", 199, 499), ("Dark chocolate", 129, 399),
        ("Spaghetti", 89, 259), ("Ground coffee", 399, 1299), ("Black tea", 199, 599), ("Honey", 399, 999),
        ("Yogurt", 59, 199), ("Chicken breast", 499, 1399), ("Salmon fillet", 699, 1999), ("Potatoes", 149, 499),
        ("Carrots", 79, 249), ("Onions", 69, 229), ("Mineral water", 49, 199), ("Oat flakes", 119, 349),
    ),
    "cafe": (
        ("Espresso", 180, 320), ("Cappuccino", 280, 490), ("Flat white", 300, 480), ("Green tea", 220, 390),
        ("Hot chocolate", 290, 470), ("Croissant", 180, 350), ("Blueberry muffin", 220, 390), ("Carrot cake", 320, 590),
        ("Club sandwich", 590, 1190), ("Tomato soup", 450, 890), ("Caesar salad", 690, 1290), ("Lemonade", 250, 450),
        ("Veggie burger", 850, 1490), ("French fries", 300, 590), ("Mushroom pasta", 890, 1590), ("Apple pie", 350,
            650),
    ),
    "hardware": (
        ("Claw hammer", 990, 2990), ("Wood screws", 299, 1199), ("Paint roller", 399, 1299), ("White wall paint", 1599,
            5999),
        ("Masking tape", 199, 599), ("Cordless drill", 4999, 18999), ("Spirit level", 799, 2999), ("Work gloves", 299,
            1499),
        ("Step ladder", 2999, 8999), ("Extension cord", 899, 2999), ("LED bulb", 199, 999), ("Door hinge", 249, 1099),
        ("Garden hose", 1499, 4999), ("Sandpaper", 149, 699), ("Tape measure", 399, 1999), ("Wall plugs", 199, 799),
    ),
    "office": (
        ("Copy paper", 399, 999), ("Desk lamp", 1999, 6999), ("Office chair", 8999, 39999), ("Ring binder", 199, 599),
        ("Ballpoint pens", 199, 999), ("Stapler", 499, 1999), ("Notebook A5", 199, 899), ("Printer toner", 2999, 12999),
        ("Whiteboard", 2999, 14999), ("Envelopes", 299, 1299), ("USB stick", 599, 2999), ("Keyboard", 1999, 9999),
        ("Monitor stand", 1999, 7999), ("Highlighters", 299, 999), ("Paper shredder", 4999, 15999), ("Wall calendar",
            499, 1999),
    ),
    "garden": (
        ("Rose bush", 799, 2499), ("Potting soil", 399, 1299), ("Watering can", 699, 2499), ("Tulip bulbs", 299, 999),
        ("Lawn seed", 599, 1999), ("Pruning shears", 899, 3499), ("Clay pot", 299, 1999), ("Lavender", 349, 999),
        ("Tomato plant", 199, 599), ("Wheelbarrow", 3999, 9999), ("Garden gloves", 299, 1299), ("Bird feeder", 799,
            2999),
    ),
    "services": (
        ("Website design", 45000, 350000), ("Consulting, per day", 60000, 160000), ("Logo design", 20000, 120000),
        ("Window cleaning", 4500, 25000), ("Translation", 8000, 90000), ("Tax advice", 12000, 80000),
        ("Network setup", 15000, 95000), ("Roof inspection", 9000, 45000), ("Staff training", 30000, 180000),
        ("Photo session", 15000, 75000), ("Bookkeeping", 10000, 60000), ("Delivery", 1500, 12000),
        ("Annual support", 24000, 240000), ("Travel costs", 2500, 60000), ("Installation", 8000, 65000),
        ("Data backup", 3000, 30000), ("Garden care", 6000, 40000), ("Editing", 9000, 70000),
    ),
}  # fmt: skip
JOBS = (
    "Sales Manager", "Head of Finance", "Project Lead", "Office Manager", "Chief Engineer", "Director", "Secretary",
    "Marketing Assistant", "Head Teacher", "Librarian", "Site Supervisor", "Accountant", "Customer Service", "Editor",
    "Research Fellow", "Product Designer", "Chair of the Board", "Treasurer", "Head Nurse", "Workshop Leader",
)  # fmt: skip
DEPARTMENTS = (
    "Sales", "Finance", "Marketing", "Research", "Logistics", "Support", "Production", "Legal", "Design", "Purchasing",
    "Training", "Quality", "Security", "Facilities",
)  # fmt: skip
REGIONS = ("North", "South", "East", "West", "Central", "Coast", "Highlands", "Islands", "Valley", "Capital")
COUNTRIES = (
    "Austria", "Belgium", "Brazil", "Canada", "Chile", "Denmark", "Egypt", "Finland", "France", "Germany", "Ghana",
    "Greece", "India", "Ireland", "Italy", "Japan", "Kenya", "Mexico", "Norway", "Peru", "Poland", "Portugal", "Spain",
    "Sweden", "Turkey", "Vietnam",
)  # fmt: skip
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
QUARTERS = ("Q1", "Q2", "Q3", "Q4")
FRUITS = ("Apples", "Pears", "Plums", "Cherries", "Grapes", "Lemons", "Melons", "Peaches", "Berries", "Figs")
SPORTS = ("Football", "Tennis", "Swimming", "Cycling", "Running", "Rowing", "Hockey", "Judo", "Skiing", "Golf")
TRANSPORT = ("Bus", "Train", "Car", "Bicycle", "Tram", "Ferry", "Walking", "Metro", "Taxi")
ENERGY = ("Wind", "Solar", "Hydro", "Gas", "Coal", "Nuclear", "Biomass")
SUBJECTS = ("Maths", "Physics", "History", "Biology", "Music", "Art", "Geography", "Chemistry", "Latin", "English")
DEVICES = ("Phones", "Laptops", "Tablets", "Cameras", "Printers", "Watches", "Speakers", "Monitors")
PETS = ("Dogs", "Cats", "Rabbits", "Hamsters", "Parrots", "Goldfish", "Turtles")
PLANS = ("Basic", "Standard", "Plus", "Premium", "Family", "Student")
CITIES = ("Oakford", "Millbrook", "Ashby", "Eastport", "Redhill", "Lakeside", "Stonebridge", "Fairview", "Newtown")
# what a chart shows: title, axis of the values, categories, lowest and highest usual value
TOPICS: tuple[tuple[str, str, tuple[str, ...], int, int], ...] = (
    ("Sales by region", "Sales (thousand)", REGIONS, 10, 100), ("Visitors per weekday", "Visitors", WEEKDAYS, 100,
        1000),
    ("Rainfall by month", "Rainfall (mm)", MONTHS, 10, 120), ("Orders per month", "Orders", MONTHS, 50, 600),
    ("Staff by department", "Employees", DEPARTMENTS, 5, 60), ("Fruit harvest", "Tonnes", FRUITS, 10, 90),
    ("Club members by sport", "Members", SPORTS, 20, 220), ("Trips by means of transport", "Trips (thousand)",
        TRANSPORT, 5, 80),
    ("Power by source", "Output (GWh)", ENERGY, 20, 300), ("Average marks", "Points", SUBJECTS, 20, 100),
    ("Devices sold", "Units", DEVICES, 100, 2000), ("Pets in town", "Number", PETS, 20, 400),
    ("Subscribers by plan", "Subscribers", PLANS, 100, 3000), ("Tourists by country", "Tourists (million)", COUNTRIES,
        2, 50),
    ("Revenue by city", "Revenue (million)", CITIES, 5, 60), ("Quarterly profit", "Profit (million)", QUARTERS, 5, 80),
    ("Library loans", "Loans", MONTHS, 200, 2400), ("Hours of sunshine", "Hours", MONTHS, 30, 300),
    ("Waste collected", "Tonnes", CITIES, 10, 120), ("Survey answers by country", "Answers", COUNTRIES, 50, 900),
)  # fmt: skip
SENTENCES = (
    "The {team} met {when} to discuss the {thing}.", "We ask all {people} to return the {thing} {when}.",
    "A total of {n} {people} took part, which is more than last year.",
    "The {thing} will be closed {when} for repairs.",
    "Our {team} has finished the {quality} {thing} ahead of schedule.", "Please send the {thing} to the {team} {when}.",
    "The cost of the {thing} rose by {n} percent.", "Nobody expected the {thing} to be so {quality}.",
    "Most {people} said that the {thing} was {quality}.", "The {team} recommends a {quality} {thing} for all {people}.",
    "There are {n} reasons to look at the {thing} again.", "It took {n} days to repair the {thing}.",
    "In spite of the weather, {n} {people} came {when}.", "The {thing} belongs to the {team} and may not be moved.",
    "A {quality} {thing} saves time and money.", "Thank you for your letter about the {thing}.",
    "We are sorry that the {thing} did not arrive {when}.", "The next visit of the {team} takes place {when}.",
)  # fmt: skip
SLOTS: dict[str, tuple[str, ...]] = {
    "team": ("board", "committee", "garden group", "town council", "sales team", "school", "museum", "harbour office"),
    "when": ("on Monday", "next week", "in March", "before the holidays", "at noon", "every Friday", "in the evening"),
    "thing": ("library", "new bridge", "report", "old mill", "swimming pool", "timetable", "contract", "water pump",
        "map"),
    "people": ("members", "visitors", "parents", "drivers", "students", "customers", "neighbours", "volunteers"),
    "quality": ("simple", "careful", "modern", "popular", "quiet", "solid", "beautiful", "useful", "generous"),
}  # fmt: skip
HEADINGS = (
    "Notice of Meeting", "A New Bridge for {city}", "Changes to the Timetable", "The Old Mill Reopens",
    "Summer Programme",
    "How to Save Water", "Report on the Harvest", "Rules of the Library", "Help for New Members", "Walks around {city}",
    "The Market Moves", "Minutes of the Board", "Repairs in {city}", "A Letter to Our Readers", "News from the Harbour",
    "Opening Hours", "Safety in the Workshop", "Plans for {year}", "Looking Back on {year}", "The History of {city}",
)  # fmt: skip
SUBJECT_LINES = (
    "Your order {code}", "Offer for {thing}", "Delay of delivery {code}", "Invitation to {city}", "Your application",
    "Change of contract {code}", "Repair of the {thing}", "Meeting in {city}", "Complaint {code}",
    "Renewal of membership",
)  # fmt: skip
