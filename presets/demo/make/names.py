"""Which emoji are drawn, and what they are called: Unicode names, tidied where they read badly as a caption.

Flags, keycaps, skin tones, clock faces, letters, arrows and most signs are left out: they teach a small model little.
"""

import re
import unicodedata
from collections.abc import Iterator

BLOCKS = (range(0x2300, 0x2400), range(0x2600, 0x27C0), range(0x2B00, 0x2C00), range(0x1F000, 0x1FB00))

DROPPED = frozenset(
    code
    for first, last in (
        (0x2328, 0x2328), (0x23CF, 0x23EF), (0x23F8, 0x23FA), (0x2611, 0x2611), (0x2622, 0x2653), (0x2660, 0x2660),
        (0x2663, 0x2663), (0x2666, 0x2668), (0x267B, 0x267F), (0x2692, 0x2692), (0x2695, 0x2695), (0x269B, 0x269C),
        (0x26A7, 0x26A7), (0x26CE, 0x26CE), (0x26D4, 0x26D4), (0x270D, 0x270D), (0x2712, 0x2712), (0x2714, 0x271D),
        (0x2721, 0x2721), (0x2733, 0x2734), (0x2747, 0x274E), (0x2754, 0x2755), (0x2763, 0x2763), (0x2795, 0x27BF),
        (0x2B05, 0x2B07), (0x1F170, 0x1F251), (0x1F30D, 0x1F30D), (0x1F30F, 0x1F310), (0x1F38C, 0x1F38C),
        (0x1F39A, 0x1F39B), (0x1F3A6, 0x1F3A6), (0x1F3E7, 0x1F3E7), (0x1F3FB, 0x1F3FF), (0x1F4A4, 0x1F4A4),
        (0x1F4AE, 0x1F4AE), (0x1F4B1, 0x1F4B2), (0x1F4C8, 0x1F4CA), (0x1F4F3, 0x1F4F6), (0x1F500, 0x1F507),
        (0x1F509, 0x1F509), (0x1F50E, 0x1F50F), (0x1F515, 0x1F515), (0x1F518, 0x1F524), (0x1F52F, 0x1F530),
        (0x1F532, 0x1F533), (0x1F538, 0x1F549), (0x1F54B, 0x1F54E), (0x1F550, 0x1F567), (0x1F595, 0x1F595),
        (0x1F5C2, 0x1F5C2), (0x1F5FE, 0x1F5FE), (0x1F6AB, 0x1F6AB), (0x1F6AD, 0x1F6B1), (0x1F6B3, 0x1F6B3),
        (0x1F6B7, 0x1F6BC), (0x1F6BE, 0x1F6BE), (0x1F6C2, 0x1F6C5), (0x1F6D0, 0x1F6D0), (0x1F6D7, 0x1F6DC),
        (0x1F7F0, 0x1F7F0), (0x1F9B0, 0x1F9B3), (0x1FAAC, 0x1FAAC), (0x1FAAF, 0x1FAAF), (0x1F68F, 0x1F68F),
    )
    for code in range(first, last + 1)
)  # fmt: skip

# Names too new for some versions of unicodedata, and names that read badly as a caption.
RENAMED = {
    0x2600: "sun", 0x2603: "snowman in the snow", 0x260E: "red telephone", 0x261D: "finger pointing up",
    0x2639: "frowning face", 0x263A: "smiling face with blushing cheeks", 0x265F: "chess pawn", 0x2665: "heart suit",
    0x26A0: "warning triangle", 0x26A1: "lightning bolt", 0x26AA: "white circle", 0x26AB: "black circle",
    0x26C4: "snowman", 0x26D1: "rescue helmet", 0x26E9: "torii gate", 0x26F9: "person bouncing a ball",
    0x2702: "scissors", 0x2705: "check mark", 0x270A: "raised fist", 0x2753: "question mark",
    0x2757: "exclamation mark", 0x2764: "red heart", 0x2B1B: "black square", 0x2B1C: "white square", 0x2B50: "star",
    0x2B55: "red ring", 0x1F0CF: "joker card", 0x1F004: "mahjong tile", 0x1F30E: "globe",
    0x1F324: "sun with small cloud", 0x1F325: "sun behind large cloud", 0x1F326: "sun behind rain cloud",
    0x1F346: "eggplant", 0x1F35C: "bowl of noodles", 0x1F369: "donut", 0x1F385: "santa claus", 0x1F3A7: "headphones",
    0x1F3C0: "basketball", 0x1F3C3: "person running", 0x1F3C4: "person surfing", 0x1F3CA: "person swimming",
    0x1F3CB: "person lifting weights", 0x1F3CC: "person golfing", 0x1F3D4: "snowy mountain", 0x1F3E0: "house",
    0x1F3DA: "derelict house", 0x1F3D8: "houses", 0x1F3DB: "greek temple", 0x1F3E3: "japanese post office",
    0x1F3E4: "post office", 0x1F3F0: "castle", 0x1F41E: "ladybug", 0x1F446: "hand pointing up",
    0x1F447: "hand pointing down", 0x1F448: "hand pointing left", 0x1F449: "hand pointing right",
    0x1F44A: "punching fist", 0x1F46E: "police officer", 0x1F473: "person with turban",
    0x1F477: "construction worker", 0x1F478: "princess", 0x1F479: "ogre", 0x1F47A: "goblin", 0x1F47D: "alien",
    0x1F47E: "pixel monster", 0x1F481: "person tipping hand", 0x1F486: "person getting a massage",
    0x1F487: "person getting a haircut", 0x1F48E: "diamond", 0x1F4A9: "poop", 0x1F4A5: "explosion",
    0x1F4A6: "water drops", 0x1F4A8: "puff of smoke", 0x1F4AB: "dizzy star", 0x1F4AC: "speech bubble",
    0x1F4AD: "thought bubble", 0x1F4AF: "hundred points", 0x1F4B4: "yen banknote", 0x1F4B5: "dollar banknote",
    0x1F4BA: "seat", 0x1F4BB: "laptop", 0x1F4BD: "minidisc", 0x1F4C0: "gold disc", 0x1F4DF: "pager",
    0x1F4E3: "megaphone", 0x1F4E2: "loudspeaker", 0x1F4F1: "mobile phone", 0x1F4F8: "camera with flash",
    0x1F508: "speaker", 0x1F50A: "loud speaker", 0x1F50D: "magnifying glass", 0x1F511: "key", 0x1F512: "padlock",
    0x1F513: "open padlock", 0x1F52A: "kitchen knife", 0x1F52B: "water pistol", 0x1F526: "flashlight",
    0x1F54A: "dove", 0x1F574: "man in a suit floating", 0x1F575: "detective", 0x1F576: "sunglasses",
    0x1F58A: "ballpoint pen", 0x1F58B: "fountain pen", 0x1F58C: "paintbrush", 0x1F58D: "crayon", 0x1F590: "open hand",
    0x1F596: "vulcan salute", 0x1F5A5: "desktop computer", 0x1F5B1: "computer mouse", 0x1F5BC: "framed picture",
    0x1F5DD: "old key", 0x1F5E1: "dagger", 0x1F5E8: "left speech bubble", 0x1F5EF: "angry speech bubble",
    0x1F5FF: "stone head", 0x1F697: "car", 0x1F698: "oncoming car", 0x1F699: "blue car", 0x1F69B: "lorry",
    0x1F682: "steam train", 0x1F684: "high-speed train", 0x1F6A5: "horizontal traffic light",
    0x1F6A6: "traffic light", 0x1F6A8: "police light", 0x1F6AC: "cigarette", 0x1F6B4: "person riding a bicycle",
    0x1F6B5: "person riding a mountain bike", 0x1F6B6: "person walking", 0x1F6CC: "person in bed",
    0x1F6D1: "stop sign", 0x1F6DD: "slide", 0x1F6F8: "flying saucer", 0x1F647: "person bowing",
    0x1F64B: "person raising a hand", 0x1F64C: "raised hands", 0x1F645: "person gesturing no",
    0x1F646: "person gesturing ok", 0x1F64E: "person pouting", 0x1F64F: "folded hands", 0x1F926: "person facepalming",
    0x1F937: "person shrugging", 0x1F938: "person doing a cartwheel", 0x1F939: "person juggling",
    0x1F93D: "person playing water polo", 0x1F93E: "person playing handball", 0x1F936: "mrs claus", 0x1F977: "ninja",
    0x1F981: "lion face", 0x1F995: "long-necked dinosaur", 0x1F996: "tyrannosaurus", 0x1F9D4: "person with beard",
    0x1F9D6: "person in a steamy room", 0x1F9E2: "cap", 0x1F9D1: "person", 0x1F9D3: "older person",
    0x1F9FF: "blue eye amulet", 0x1FA75: "light blue heart", 0x1FA76: "grey heart", 0x1FA77: "pink heart",
    0x1FA87: "maracas", 0x1FA88: "flute", 0x1FAAD: "folding fan", 0x1FAAE: "hair pick", 0x1FABB: "hyacinth",
    0x1FABC: "jellyfish", 0x1FABD: "wing", 0x1FABF: "goose", 0x1FACE: "moose", 0x1FACF: "donkey",
    0x1FADA: "ginger root", 0x1FADB: "pea pod", 0x1FAE8: "shaking face", 0x1FAF7: "hand pushing left",
    0x1FAF8: "hand pushing right", 0x1F414: "chicken", 0x1F94F: "frisbee", 0x1FA70: "ballet shoes",
}  # fmt: skip

FACES = (
    *range(0x1F600, 0x1F637), *range(0x1F42D, 0x1F43D), 0x1F641, 0x1F642, 0x1F644, 0x1F910, 0x1F914, 0x1F917, 0x1F924,
    0x1F928, 0x1F929, 0x1F92A, 0x1F98A, 0x1F981, 0x1F916, 0x1F47D, 0x1F383, 0x1F31D, 0x1F31E, 0x1F63A, 0x1F63C, 0x1F47B,
)  # fmt: skip
HANDS = frozenset(
    (*range(0x1F446, 0x1F451), *range(0x1F918, 0x1F920), *range(0x1FAF0, 0x1FAF9), 0x1F590, 0x1F596, 0x1F64C, 0x1F64F)
)

ZWJ, VS16 = "\u200d", "\ufe0f"
WORKERS = {
    "farmer": "🌾", "cook": "🍳", "student": "🎓", "singer": "🎤", "artist": "🎨", "teacher": "🏫",
    "factory worker": "🏭", "programmer": "💻", "office worker": "💼", "mechanic": "🔧", "scientist": "🔬",
    "astronaut": "🚀", "firefighter": "🚒", "pilot": "✈️", "doctor": "⚕️", "judge": "⚖️",
}  # fmt: skip
GENDERED = {
    "police officer": "👮", "construction worker": "👷", "detective": "🕵️", "mage": "🧙", "fairy": "🧚",
    "vampire": "🧛", "elf": "🧝", "genie": "🧞", "zombie": "🧟", "superhero": "🦸", "supervillain": "🦹",
    "shrugging": "🤷", "facepalming": "🤦", "bowing": "🙇", "raising a hand": "🙋", "tipping hand": "💁",
    "gesturing ok": "🙆", "gesturing no": "🙅", "pouting": "🙎", "frowning": "🙍", "getting a haircut": "💇",
    "getting a massage": "💆", "walking": "🚶", "running": "🏃", "standing": "🧍", "kneeling": "🧎", "surfing": "🏄",
    "swimming": "🏊", "lifting weights": "🏋️", "riding a bicycle": "🚴", "riding a mountain bike": "🚵",
    "doing a cartwheel": "🤸", "golfing": "🏌️", "juggling": "🤹", "climbing": "🧗", "in lotus position": "🧘",
    "in a steamy room": "🧖", "rowing a boat": "🚣", "bouncing a ball": "⛹️", "with turban": "👳", "in tuxedo": "🤵",
    "with veil": "👰", "playing handball": "🤾", "playing water polo": "🤽",
}  # fmt: skip
JOINED = {
    "black cat": "🐈‍⬛", "polar bear": "🐻‍❄️", "service dog": "🐕‍🦺", "black bird": "🐦‍⬛", "heart on fire": "❤️‍🔥",
    "bandaged heart": "❤️‍🩹", "pirate flag": "🏴‍☠️", "face in clouds": "😶‍🌫️", "face exhaling": "😮‍💨",
    "face with spiral eyes": "😵‍💫", "mermaid": "🧜‍♀️", "merman": "🧜‍♂️", "man with beard": "🧔‍♂️",
    "woman with beard": "🧔‍♀️", "person feeding a baby": "🧑‍🍼", "person in christmas costume": "🧑‍🎄",
    "man with cane": "👨‍🦯", "woman with cane": "👩‍🦯", "man in wheelchair": "👨‍🦽", "woman in wheelchair": "👩‍🦽",
}  # fmt: skip
HAIR = {"red hair": "🦰", "curly hair": "🦱", "bald head": "🦲", "white hair": "🦳"}
PEOPLE = {"man": "👨", "woman": "👩", "person": "🧑"}
SIGNS = {"man": "♂️", "woman": "♀️"}

# Words that mark people: their colours are skin and cloth, and a blue person teaches nothing.
PEOPLE_WORDS = frozenset(
    [
        "man",
        "woman",
        "person",
        "men",
        "women",
        "people",
        "boy",
        "girl",
        "baby",
        "child",
        "bride",
        "princess",
        "prince",
        "dancer",
        "mage",
        "fairy",
        "vampire",
        "elf",
        "genie",
        "adult",
        "ninja",
        "superhero",
        "supervillain",
        "officer",
        "worker",
        "detective",
        "guardsman",
        "santa",
        "mrs",
        "family",
        "troll",
        "zombie",
        "mermaid",
        "merman",
        "snowboarder",
        "skier",
        "kiss",
        "couple",
        "wrestlers",
        "fencer",
        "merperson",
        "older",
    ]
)
COLOURS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "brown", "grey", "black", "white")


def tidy(name: str, code: int) -> str:
    """A Unicode name as a caption: lower case, without the words that belong to character tables.

    >>> tidy("BLACK SUN WITH RAYS", 0x2600)
    'sun with rays'
    """
    name = name.lower()
    if code < 0x2800:  # there "black" and "white" mean filled and outlined
        name = re.sub(r"\b(black|white|heavy|medium) ", "", name)
    name = re.sub(r" (sign|symbol|emblem|ornament)$", "", name)
    return re.sub(r"^(large|emoji component) ", "", name)


def candidates() -> Iterator[tuple[str, str]]:
    """(name, text) of everything that might be drawn, in a fixed order; the font decides which of them exist."""
    for code in (code for block in BLOCKS for code in block if code not in DROPPED):
        if name := RENAMED.get(code) or tidy(unicodedata.name(chr(code), ""), code):
            yield name, chr(code)
    for who, person in PEOPLE.items():
        yield from ((f"{who} {job}", person + ZWJ + tool) for job, tool in WORKERS.items())
        yield from ((f"{who} with {hair}", person + ZWJ + mark) for hair, mark in HAIR.items())
    for who, sign in SIGNS.items():
        yield from ((f"{who} {what}", base + ZWJ + sign) for what, base in GENDERED.items())
    yield from JOINED.items()


def is_person(name: str) -> bool:
    """Whether a name speaks of people.

    >>> is_person("woman farmer"), is_person("rocket")
    (True, False)
    """
    return not PEOPLE_WORDS.isdisjoint(name.split())


def without_colour(name: str) -> str:
    """The name without colour words, for things that are about to be recoloured.

    >>> without_colour("green apple")
    'apple'
    """
    return " ".join(word for word in name.split() if word not in (*COLOURS, "light"))
