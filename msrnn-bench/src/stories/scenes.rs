//! The templates; [`super::grammar`] explains their slots.
//!
//! A character is written in full once in a paragraph and by first name or pronoun afterwards, and
//! no paragraph tells the same fact twice: a fact repeated at once could be copied from the last
//! sentence, and would measure nothing.

/// How a story begins.
pub(super) const OPENINGS: &[&str] = &[
    "The town of {town} had lost its {treasure}. \"Whoever finds it,\" said the mayor, \"will get \
     a reward of {reward}!\" These are the people who looked for it.",
    "Long ago, somebody took the {treasure} of {town}. The mayor promised a reward of {reward} to \
     whoever found it. These are the people who looked for it.",
];

/// How a character is introduced, with every attribute stated.
pub(super) const INTRODUCTIONS: &[&str] = &[
    "{A.owner} owned the {A.object}, which had cost {A.price}. {A.He} was {A.age} years old and \
     lived in the {A.home} with {A.his} {A.pet}. {A.He} kept {A.hoard}; {A.his} best friend was \
     {A.friendname}. \"{A.motto},\" {A.he} always said.",
    "The {A.object} belonged to {A.owner}, who had paid {A.price} for it. {A.He} was {A.age} years \
     old, kept {A.hoard}, and lived in the {A.home} with {A.his} {A.pet}. {A.His} best friend was \
     {A.friendname}. \"{A.motto},\" {A.he} always said.",
    "{A.owner} lived in the {A.home} with {A.his} {A.pet}. {A.He} was {A.age} years old and owned \
     the {A.object}, which had cost {A.price}. \"{A.motto},\" {A.he} always said. {A.He} kept \
     {A.hoard}; {A.his} best friend was {A.friendname}.",
];

/// What happens in between.
pub(super) const SCENES: &[&str] = &[
    // One character.
    "{when}, {A} unlocked the {A.home} and looked around. The {A.object} was still on the shelf, \
     and so were the {A.hoard}. \"{A.motto},\" {A.he} said.",
    "{when}, {A} counted everything twice: {A.hoard}, no more and no less. Then {A.he} fed {A.his} \
     {A.pet} and cleaned the {A.object}. \"{A.motto}!\" {A.he} sang.",
    "{when}, a stranger came to the {A.home}. \"How much for the {A.object}?\" asked the stranger. \
     \"I paid {A.price}, but it is not for sale,\" said {A}. \"{A.motto}.\"",
    "{A} could not sleep. \"I am {A.age} years old,\" {A.he} told {A.his} {A.pet}, \"and I still \
     do not know who took the {treasure}.\" It was dark outside the {A.home}. \"{A.motto},\" \
     {A.he} said at last.",
    "It rained on the {A.home} all day. {A} sat inside with {A.his} {A.pet} and wrote a letter to \
     {A.friend}. \"{A.motto},\" the letter said.",
    "{when}, {A} opened a new book and wrote: \"I am {A.age} years old, and I live in the \
     {A.home}. I own the {A.object} and {A.hoard}. {A.motto}.\"",
    "\"Where is the {A.pet}?\" cried {A}. {A.He} ran through the {A.home} and looked behind the \
     {A.hoard}. There it was, asleep on the {A.object}!",
    "{when}, {A} had a dream about the {treasure}. It was hidden under the {A.hoard}, and a voice \
     said, \"{A.motto}.\" Then {A.he} woke up in the {A.home} beside {A.his} {A.pet}.",
    "{when}, {A} took the {A.object} to the market of {town}. \"It cost {A.price},\" {A.he} told \
     everyone, \"but the reward is {reward}. {A.motto}!\"",
    "A thief came to the {A.home}, but the {A.pet} was awake. Nothing was lost: not the \
     {A.object}, and not the {A.hoard}. \"{A.motto},\" said {A} (who had slept all night).",
    "A letter came to the {A.home}. It was for {A}, and it was from {A.friend}. \"Is it true that \
     you paid {A.price} for the {A.object}?\" it said.",
    "{when}, {A} painted a sign for the {A.home}. \"{A.motto},\" it said. {A.His} {A.pet} walked \
     over it, of course.",
    "{when}, {A} wanted to sell the {A.hoard}. Nobody in {town} wanted them, so {A.he} took them \
     back to the {A.home} and put them under the {A.object}. \"{A.motto},\" {A.he} said.",
    "The mayor of {town} asked {A} three questions. \"How old are you?\" \"I am {A.age},\" said \
     {A.name}. \"Where do you live?\" \"In the {A.home}.\" \"And what do you own?\" \"The \
     {A.object} and {A.hoard}.\"",
    // A character and the best friend.
    "{when}, {A} went to see {A.friend}. {F.name} was in the {F.home} with the {F.object}. \
     \"{F.motto},\" said {F.name}. \"{A.motto},\" said {A.name}.",
    "{A} had a present for {A.friend}: a new bed for the {F.pet}. They carried it to the {F.home} \
     and set it down beside the {F.hoard}. \"{F.motto}!\" said {F.name}.",
    "{when}, {A} and {A.friend} talked about money. \"The {A.object} cost {A.price},\" said \
     {A.name}. \"And the {F.object} cost {F.price},\" said {F.name}.",
    "{A} lost a game of cards to {A.friend}. \"You may have my {A.hoard},\" said {A.name}. \"Keep \
     them,\" said {F.name}; \"I have {F.hoard}. {F.motto}!\"",
    "\"Who is the best friend of {A}?\" asked the mayor. \"It is {A.friend},\" said a child. \"You \
     can find {F.him} in the {F.home}, with the {F.pet}.\"",
    // Two characters.
    "\"Who owns the {A.object}?\" asked {B}. \"It belongs to {A.owner},\" said the mayor of \
     {town}. \"I own the {B.object},\" said {B.name}. \"{B.motto}.\"",
    "{when}, {A} walked to the {B.home}. {B} was at the door, and so was the {B.pet}. \"Have you \
     seen the {treasure}?\" asked {A.name}. \"I have only the {B.object},\" said {B.name}.",
    "\"Where does {A} live?\" asked {B}. \"In the {A.home},\" said a child. \"You will know it by \
     the {A.pet}.\" \"{B.motto},\" said {B.name}, and went there.",
    "\"How old is {A}?\" asked a stranger. \"{A.name} is {A.age},\" said {B}, \"and I am {B.age}. \
     {B.motto}!\" Then {B.he} went home to the {B.home}.",
    "{when}, {A} wanted to trade the {A.object} for the {B.object}. \"Mine cost {A.price},\" said \
     {A.name}. \"Mine cost {B.price},\" said {B}. \"{B.motto}.\"",
    "{when}, {A} and {B} played cards. {A.name} put down {A.hoard}, and {B.name} put down \
     {B.hoard}. Nobody won. \"{A.motto},\" said {A.name}.",
    "What was it that {A} always said? {B} thought about it all day. Then {B.he} knew: \
     \"{A.motto}!\" And {B.he} told it to {B.his} {B.pet}.",
    "{when}, {A} came to the {B.home} to borrow the {B.object}. \"Bring it back,\" said {B}; \"it \
     cost {B.price}.\" \"{A.motto},\" said {A.name}.",
    "{when}, the {A.pet} ran away and hid in the {B.home}. \"Whose is it?\" asked {B}. \"It is \
     mine,\" said {A}. \"{A.motto}.\"",
    "\"{A.motto},\" said {A}. \"No,\" said {B}. \"{B.motto}.\" They could not agree, and {A.name} \
     walked back to the {A.home}.",
    "{when}, {A} met {B} on the road. \"Is the {treasure} in your house?\" asked {A.name}. \"No,\" \
     said {B.name}. \"In the {B.home} there is only my {B.pet}, and {B.hoard}.\"",
    "Somebody had left the {A.object} at the market. \"Whose is it?\" asked the mayor of {town}. \
     \"It belongs to {A.owner},\" said {B}. \"{B.motto}.\" So they took it back to the {A.home}.",
    "\"What does {A} keep at home?\" asked {B}. \"{A.hoard},\" said a child, \"and the \
     {A.object}.\" \"I would rather have my {B.pet},\" said {B.name}. \"{B.motto}!\"",
    "{when}, {A} and {B} looked for the {treasure} together. They looked in the {A.home}, and they \
     looked in the {B.home}. They found the {A.pet} and the {B.pet}, and nothing else.",
    "{A} was ill, so {B} came to the {A.home} and looked after the {A.pet}. \"You are {A.age} \
     years old,\" said {B.name}. \"Stay in bed! {B.motto}.\"",
    "{when}, {B} found a note in the road. \"{A.motto},\" it said. \"This was written by {A},\" \
     said {B.name}, and took it to the {A.home}.",
    "\"Will you lend me {reward}?\" asked {A}. \"No,\" said {B}, \"but you may have {B.hoard}.\" \
     \"{A.motto},\" said {A.name}, and went home to the {A.pet}.",
    // Three characters.
    "{when}, the mayor of {town} read a list. \"{A}: {A.hoard}. {B}: {B.hoard}. {C}: {C.hoard}.\" \
     The {treasure} was not on it.",
    "\"Who is older,\" asked {A}, \"{B} or {C}?\" The mayor knew: {B.name} was {B.age}, and \
     {C.name} was {C.age}. \"And I am {A.age},\" said {A.name}. \"{A.motto}.\"",
    "{when}, three things stood in the market: the {A.object}, the {B.object} and the {C.object}. \
     The first belonged to {A.owner}, the second to {B.owner}, and the third to {C.owner}.",
    "{when}, {A} took a cart from the {A.home} to the {B.home}, where {B} got in, and then to the \
     {C.home}, where {C} was waiting. \"{C.motto}!\" said {C.name}.",
];

/// How a story ends.
pub(super) const ENDINGS: &[&str] = &[
    "At last, {A} found the {treasure}. It had been in the {B.home} all the time, under the \
     {B.object}! The mayor of {town} paid the reward of {reward}. \"{A.motto},\" said {A.name}. \
     \"{B.motto},\" said {B}.",
    "In the end, the {B.pet} found the {treasure}. It was in the {A.home}, behind the {A.hoard}! \
     The mayor of {town} paid {reward} to {B}. \"{B.motto},\" said {B.name}. \"{A.motto},\" said \
     {A}.",
];
