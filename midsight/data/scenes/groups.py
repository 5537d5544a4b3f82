"""Groups of things: the few classes that small heads learn, and which of the catalogue's names belong to each.

Chosen here so that a group is one word that people use, and has models enough to learn it and others to judge it.
What is in no group is an "object".
"""

OBJECT = "object"
GROUPS: dict[str, tuple[str, ...]] = {
    "person": ("man", "woman", "boy", "girl"),
    "animal": ("cat", "dog", "horse", "deer", "rabbit", "chicken"),
    "car": ("car", "van"),
    "truck or bus": ("truck", "bus", "forklift", "shipping container"),
    "cycle": ("bicycle", "motorbike", "scooter", "tricycle", "exercise bike"),
    "seat": (
        "chair", "armchair", "stool", "bar stool", "bench", "piano bench", "high chair", "deck chair", "pouf",
        "armchair ottoman", "wheelchair", "pool lounge",
    ),
    "sofa": ("sofa", "futon"),
    "bed": ("bed", "bunk bed", "crib", "hospital bed", "air mattress", "sleeping bag"),
    "table": (
        "table", "coffee table", "desk", "dressing table", "workbench", "pool table", "table tennis table",
        "football table",
    ),
    "cabinet": (
        "cabinet", "cupboard", "wardrobe", "bookcase", "shelves", "vertical shelves", "chest of drawers",
        "dresser with drawers", "locker", "filing cabinet", "bedside table", "TV stand", "television cabinet", "vanity",
        "double vanity", "sink cabinet", "safe",
    ),
    "lamp": (
        "lamp", "desk lamp", "street light", "candle", "camping lamp", "japanese lantern", "stone lantern",
        "pedestal vase lamp", "flashlight",
    ),
    "plant": (
        "plant", "bamboo", "bonsai tree", "bush", "cactus", "ficus", "orchids", "bunch of flowers", "bunch of tulips",
        "flower box", "plant box", "spider plant", "succulent plant",
    ),
    "tree": ("tree", "palm tree", "snowy tree", "Christmas tree"),
    "bathroom fixture": ("bath", "bidet", "sink", "washbasin", "urinal", "jacuzzi", "potty"),
    "appliance": (
        "refrigerator", "oven", "stove", "cooktop", "microwave", "washing machine", "dryer machine", "chest freezer",
        "radiator", "furnace", "water cooler", "deep fryer", "camping stove",
    ),
    "electronics": (
        "television", "computer", "laptop", "tablet", "phone", "printer", "screen", "keyboard", "camera", "radio",
        "speaker", "stereo", "game console", "joystick", "headphones", "DVD player", "video projector",
        "remote control", "pinball machine",
    ),
    "dish": (
        "cup", "coffee cup", "plastic cup", "glass", "beer glass", "cocktail glass", "plate", "bowl", "pan", "teapot",
        "espresso kettle", "coffee press", "creamer", "squeezer", "mixer", "blender", "toaster", "coffee machine",
        "fork", "knife", "spoon", "kitchen tools", "utensils pot", "knife stand", "salt shaker", "chopping board",
        "tray",
    ),
    "bottle": (
        "bottle", "beer bottle", "wine bottle", "baby bottle", "spray bottle", "medicine bottle", "jar", "vase",
        "cosmetics pot",
    ),
    "food": (
        "apples", "birthday cake", "bowl of fruit", "bowl of salad", "carton of milk", "cupcake", "french fries",
        "hamburger", "hot dog", "loaf of bread", "roasted chicken", "steak", "sushi tray",
    ),
    "box": (
        "box", "cardboard box", "crate", "barrel", "briefcase", "suitcase", "trunk", "trash can", "recycling bin",
        "clothes basket", "shopping basket", "bread box", "medicine box", "letter tray", "mailbox", "handbag", "gift",
    ),
    "clothes": (
        "boot", "shoe", "sneakers", "women's shoes", "cap", "hat", "helmet", "glasses", "sunglasses", "watch",
        "folded clothes",
    ),
    "tool": (
        "hammer", "saw", "drill", "screwdriver", "cutting pliers", "tape measure", "shovel", "broom", "brush",
        "step ladder", "lawn mower", "scissors", "grinder", "fire extinguisher",
    ),
    "toy": (
        "doll", "doll house", "teddy bear", "toy", "toy train", "rocking horse", "xylophone", "football", "basketball",
        "chessboard", "puzzle", "Rubik's cube", "skateboard", "tennis racket", "table tennis racket",
    ),
}  # fmt: skip
NAMES = (*GROUPS, OBJECT)
_OF = {name: group for group, names in GROUPS.items() for name in names}


def group_of(name: str) -> str:
    """The group of a catalogue name (`FurnitureModel.name`)."""
    return _OF.get(name, OBJECT)
