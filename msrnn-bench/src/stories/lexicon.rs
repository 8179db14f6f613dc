//! The closed word lists that facts are drawn from.
//!
//! Every list is drawn from uniformly, so a fact is worth the logarithm of the list's length to a
//! reader who has forgotten it, and nothing to one who has not. Words are short and few: a small
//! subword vocabulary should hold most of them whole. A word in two lists would blur which fact is
//! being recalled, so the lists of content words share none.

/// Names of the characters called "she".
pub(super) const WOMEN: &[&str] = &[
    "Mira", "Anna", "Clara", "Dora", "Edda", "Frida", "Greta", "Hilda", "Ida", "Judith", "Kira", "Lena", "Maud",
    "Nora", "Olga", "Petra", "Rosa", "Sara", "Tilda", "Una", "Vera", "Wanda", "Yara", "Zoe", "Alma", "Beth", "Cora",
    "Dinah", "Elsa", "Freya", "Gwen", "Hazel", "Iris", "Jenny", "Katy", "Lucy", "Molly", "Nell", "Orla", "Polly",
    "Ruth", "Sally", "Tess", "Viola", "Willa", "Agnes", "Betty", "Carla", "Della", "Emma", "Flora", "Ginny", "Helen",
    "Ingrid", "Joan", "Kate", "Lily", "Martha", "Nina", "Sonia",
];

/// Names of the characters called "he".
pub(super) const MEN: &[&str] = &[
    "Tobias", "Adam", "Boris", "Carl", "Denis", "Emil", "Felix", "Gus", "Hugo", "Ivan", "Jonas", "Kurt", "Leo", "Max",
    "Nils", "Otto", "Paul", "Quinn", "Rolf", "Sven", "Tom", "Urban", "Victor", "Walt", "Yann", "Zeno", "Abel", "Bruno",
    "Caspar", "Dirk", "Edgar", "Finn", "Georg", "Hans", "Igor", "Jack", "Kit", "Lars", "Milo", "Ned", "Oscar", "Peter",
    "Ralf", "Simon", "Theo", "Ulric", "Vito", "Wilf", "Albert", "Basil", "Cyril", "Dan", "Ernest", "Fritz", "Gilbert",
    "Henry", "Isaac", "Jasper", "Klaus", "Ludwig",
];

/// What condition a thing is in: the first adjective of an object, or that of a dwelling.
pub(super) const QUALITIES: &[&str] = &[
    "chipped", "cracked", "dusty", "crooked", "heavy", "polished", "painted", "rusty", "tiny", "broken", "carved",
    "faded", "hollow", "narrow", "plain", "round", "sturdy", "twisted", "worn", "bent", "bright", "dented", "gilded",
    "humble", "knotted", "mended", "patched", "quaint", "ragged", "shiny", "slender", "smoky", "spotted", "stained",
    "striped", "thin", "wide", "square", "dull", "crude",
];

/// What a thing is made of or painted: the second adjective of an object.
pub(super) const MATERIALS: &[&str] = &[
    "silver", "copper", "brass", "iron", "amber", "ivory", "bronze", "golden", "glass", "oak", "pine", "walnut", "tin",
    "pewter", "jade", "pearl", "steel", "clay", "wicker", "leather",
];

/// What colour a garment or a small thing has.
pub(super) const COLOURS: &[&str] = &[
    "scarlet", "violet", "crimson", "emerald", "azure", "black", "white", "green", "blue", "yellow", "orange",
    "purple", "pink", "gray", "brown", "red",
];

/// Things a character owns.
pub(super) const OBJECTS: &[&str] = &[
    "lantern", "kettle", "flute", "compass", "hammer", "mirror", "clock", "drum", "ladder", "basket", "bottle",
    "candle", "chest", "comb", "cup", "dagger", "fiddle", "goblet", "helmet", "horn", "key", "ladle", "lock", "mask",
    "medal", "needle", "oar", "pan", "pipe", "plate", "pot", "ring", "rod", "saddle", "saw", "shield", "shovel",
    "spoon", "stool", "sword", "table", "thimble", "tray", "trumpet", "urn", "vase", "wagon", "wheel", "whistle",
    "anchor", "anvil", "axe", "barrel", "bell", "bowl", "box", "brush", "bucket", "buckle", "cage", "chain", "chair",
];

/// What a character does for a living.
pub(super) const TRADES: &[&str] = &[
    "baker", "weaver", "miller", "potter", "tailor", "cobbler", "fisher", "hunter", "carter", "mason", "joiner",
    "cooper", "smith", "sailor", "singer", "painter", "dancer", "teacher", "doctor", "farmer", "shepherd", "gardener",
    "brewer", "butcher", "printer", "juggler", "soldier", "clerk", "barber", "piper", "rider", "tinker", "glover",
    "hatter", "tanner", "drummer", "porter", "roofer", "healer", "sculptor",
];

/// What a character wears, as part of an epithet.
pub(super) const GARMENTS: &[&str] = &[
    "hat", "coat", "scarf", "boots", "gloves", "cloak", "belt", "shawl", "apron", "cap", "vest", "socks", "collar",
    "sash", "hood", "slippers",
];

/// Where a character can live.
pub(super) const DWELLINGS: &[&str] = &[
    "mill", "cottage", "tower", "barn", "cabin", "inn", "farm", "chapel", "lodge", "hut", "forge", "bakery", "stable",
    "castle", "manor", "shed", "cellar", "attic", "loft", "tent", "cave", "school", "tavern", "granary", "windmill",
    "library", "workshop", "dairy", "abbey", "palace",
];

/// How a dwelling lies to the landmark it is told by.
pub(super) const NEARNESS: &[&str] = &["beside", "behind", "above", "near", "below", "past"];

/// First halves of landmarks: "Otter Bridge".
pub(super) const LANDMARKS: &[&str] = &[
    "Otter", "Raven", "Fox", "Badger", "Heron", "Owl", "Wolf", "Swan", "Eagle", "Salmon", "Willow", "Maple", "Birch",
    "Cedar", "Elm", "Thorn", "Moss", "Clover", "Stone", "Winter", "Summer", "Frost", "Storm", "Thistle", "Beaver",
    "Falcon", "Barley", "Poppy", "Hawk", "Bear",
];

/// Second halves of landmarks: "Otter Bridge".
pub(super) const TERRAINS: &[&str] = &[
    "Bridge", "Hill", "Lake", "Gate", "Ford", "Wood", "Field", "Marsh", "Cliff", "Bay", "Creek", "Falls", "Ridge",
    "Valley", "Road", "Well", "Moor", "Point", "Pass", "Green",
];

/// Towns and villages.
pub(super) const TOWNS: &[&str] = &[
    "Harrow", "Selby", "Norwick", "Dunmore", "Ashby", "Kelso", "Larkham", "Tilbury", "Wexley", "Barton", "Corby",
    "Dover", "Elmsford", "Farley", "Gorton", "Hexham", "Ipswell", "Jarrow", "Kendal", "Linton", "Melton", "Oakham",
    "Penrith", "Radley", "Stroud", "Thirsk", "Upton", "Varley", "Whitby", "Yarm",
];

/// What mottos are about; mass nouns, so that every motto pattern takes any of them.
pub(super) const STUFF: &[&str] = &[
    "salt", "thunder", "honey", "patience", "sorrow", "bread", "butter", "rain", "snow", "fire", "smoke", "silence",
    "laughter", "music", "wisdom", "gold", "dust", "sleep", "water", "wine", "luck", "courage", "mercy", "hunger",
    "kindness", "trouble", "sunshine", "shadow", "time", "work", "truth", "soap", "sugar", "pepper", "wool", "grass",
    "mud", "sand", "ice", "steam", "wind", "fog", "love", "anger", "pride", "memory", "paper", "ink", "milk", "cheese",
];

/// Patterns of mottos; each `_` is one of [`STUFF`].
pub(super) const MOTTOS: &[&str] = &[
    "Trust _, fear _, follow _",
    "Never trade _ for _ or _",
    "First _, then _, never _",
    "More _, less _, and always _",
    "No _ without _ and _",
    "Give me _, not _ or _",
    "Where _ goes, _ and _ follow",
    "After _ and _ comes _",
];

/// Small things a character keeps many of.
pub(super) const KEEPSAKES: &[&str] = &[
    "coins", "beads", "buttons", "shells", "stamps", "marbles", "pins", "stones", "feathers", "nails", "ribbons",
    "cards", "pebbles", "acorns", "seeds", "tiles", "dolls", "arrows", "letters", "maps", "jars", "bricks", "threads",
    "dice",
];

/// What temper an animal has.
pub(super) const TEMPERS: &[&str] = &[
    "shy", "lazy", "brave", "clever", "gentle", "noisy", "hungry", "sleepy", "proud", "grumpy", "greedy", "jolly",
    "timid", "fierce", "silly", "curious", "quiet", "stubborn", "nervous", "playful",
];

/// Animals a character keeps.
pub(super) const ANIMALS: &[&str] = &[
    "goat", "cat", "dog", "pony", "goose", "hen", "pig", "donkey", "parrot", "rabbit", "turtle", "monkey", "sheep",
    "duck", "mouse", "frog", "crow", "lizard", "ferret", "ox", "mule", "rat", "snail", "spider",
];

/// The days that scenes run through, in order.
pub(super) const DAYS: &[&str] = &["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
