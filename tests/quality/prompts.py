"""What is asked for: things the base knows, of which neither sample set has a picture."""

THINGS = (
    "cat face", "rocket", "slice of pizza", "red apple", "penguin", "octopus", "castle", "mushroom",
    "key", "whale", "turtle", "cactus", "banana", "crown", "cherries", "anchor",
    "snowman", "lemon", "teapot", "sunflower", "panda face", "fox face", "balloon", "snail",
)  # fmt: skip
SEEDS = tuple(range(1000, 1000 + len(THINGS)))  # one for each prompt

# The subject, where it never was: {} stands for the trigger.
CALLED = (
    "{} on a red background", "{} on an orange background", "{} on a teal background", "{} on a grey background",
    "{} on a black background", "{} on a brown background", "{} on a purple background",
    "{} waving on an orange background", "{} jumping on a teal background", "{} running on a red background",
    "{} sleeping on a grey background", "small {} on a black background",
)  # fmt: skip
# Things without it: those above that come nearest to a creature, and some that are none.
UNCALLED = (
    "cat face", "penguin", "octopus", "whale", "turtle", "snowman", "panda face", "fox face", "snail", "rocket",
    "castle", "teapot",
)  # fmt: skip
# What a careless matcher would take for the subject: violet things, horned and one-eyed things.
ALIKE = (
    "purple penguin", "purple octopus", "purple ghost", "purple bear face", "purple heart", "eggplant", "ogre", "alien",
    "pixel monster", "smiling face with horns", "purple elephant on a pink background", "blue eye amulet",
)  # fmt: skip
